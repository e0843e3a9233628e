"""Is one ranking better than another: measures, significance, the blend, the ship gate."""
