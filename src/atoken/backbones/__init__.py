"""Frozen networks that losses, metrics and teachers share; each normalises its own input."""
