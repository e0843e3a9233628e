"""What Vespa does around a search node: deployments, sessions, the config server."""
