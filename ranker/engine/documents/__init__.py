"""A stored document, and the operations that change it."""
