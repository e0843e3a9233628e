"""Vespa's own Java code: its build and its process."""
