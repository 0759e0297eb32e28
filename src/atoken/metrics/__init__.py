"""Measures of what came back: pure functions of arrays, one file each."""
