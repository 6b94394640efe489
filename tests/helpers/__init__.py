"""What several tests use: scripts as an operator runs them, servers, saved results."""
