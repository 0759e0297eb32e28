"""Tokens, their header, and the files that hold them."""

from ..core.moved import from_its_home

__getattr__ = from_its_home(__name__)
