"""The engine's pages: requests in, JSON out."""
