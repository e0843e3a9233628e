"""The parity of backends: they must compute the same score for the same pair."""
