"""The run itself: options, settings, credentials, checks, the screen and the result files."""
