"""Metrics and the protocols they are measured by."""
