"""Cross-validation: one fold, all of them, and their processes."""
