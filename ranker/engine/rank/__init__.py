"""Matching, ranking and grouping of a query."""
