"""The networks: base models, their computation, losses, adapters, interchange."""
