"""Terms and BM25 as Vespa computes them, and near-duplicate texts."""
