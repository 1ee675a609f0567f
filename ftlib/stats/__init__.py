"""Arrays in, numbers and verdicts out."""
