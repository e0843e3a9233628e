"""Documents on disk, and the index derived from them."""
