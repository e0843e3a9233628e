"""The report: one self-contained HTML page, and the same as JSON."""

from ranker.report.page import page

__all__ = ["page"]
