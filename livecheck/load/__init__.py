"""The parts of benchmark.py: which levels, when requests are sent, what the gateway adds."""
