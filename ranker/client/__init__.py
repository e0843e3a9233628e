"""The HTTP client: requests as values, and one connection to a server."""
