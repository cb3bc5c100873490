"""One form of report a file; each registers itself in ``evidence.report.WRITERS``."""
