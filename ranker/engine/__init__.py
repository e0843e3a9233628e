"""The embedded engine."""

from ranker.engine.server import serve

__all__ = ["serve"]
