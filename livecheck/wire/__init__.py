"""Requests and what became of them: sent and timed at the wire, read, and counted."""
