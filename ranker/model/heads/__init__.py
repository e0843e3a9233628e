"""Heads of cross-encoders other than that of a sequence classification with one label."""
