"""The parts of run_all.py: which scripts run, with which options, in which order and folder."""
