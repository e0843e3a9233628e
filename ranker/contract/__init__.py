"""The token contract: what the model sees of a query and a document."""
