"""Evidence: checks of code, gates over intervals, reports. Knows no model."""
