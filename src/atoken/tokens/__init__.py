"""Tokens, their header, and the files that hold them."""
