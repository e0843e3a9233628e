"""A query: its parameters, YQL and what they ask for."""
