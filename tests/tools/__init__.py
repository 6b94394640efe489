"""Programs to run by hand: they measure, compare or soak, and are not collected by pytest."""
