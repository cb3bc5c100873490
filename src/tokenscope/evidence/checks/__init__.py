"""One analyser a file; each registers itself in ``evidence.check.CHECKS``."""
