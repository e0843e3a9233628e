"""The page that people look at: one self-contained HTML file, JSON beside it."""

from ranker.report.page import page

__all__ = ["page"]
