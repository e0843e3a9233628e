"""The checks of judged data, one module for each sort."""
