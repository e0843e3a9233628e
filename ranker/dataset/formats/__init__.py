"""The forms in which judged data is read, one module a format."""
