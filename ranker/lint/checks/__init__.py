"""The checks of judged data, a module for each sort."""
