"""The command line: thin verbs over the library, the only place that prints or exits."""

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; the exit statuses are those of `ranker.cli.app.main`."""
    try:
        # Imported here, so that Ctrl-C while it loads prints no traceback.
        from ranker.cli.app import main as run
    except KeyboardInterrupt:
        return 130
    return run(arguments)
