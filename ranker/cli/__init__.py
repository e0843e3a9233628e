"""The command line: thin verbs over the library, the only place that prints or exits."""

from ranker.cli.app import main

__all__ = ["main"]
