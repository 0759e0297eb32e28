"""Trained weights: ours, released ones, and the nano model that comes with the package."""
