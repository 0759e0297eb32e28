"""Reading and writing pictures."""

from ...core.moved import from_its_home

__getattr__ = from_its_home(__name__)
