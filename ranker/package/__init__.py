"""Bundle to Vespa application: schema, rank profiles, archive."""
