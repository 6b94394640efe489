"""The parts of report.py: result files read again, judged, compared and shown."""
