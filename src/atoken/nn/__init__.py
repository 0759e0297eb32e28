"""Layers for any network over packed tokens. They know no file, medium or task."""
