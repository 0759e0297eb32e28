"""Posed views of 3D assets, and the voxels that they show."""

from ...core.moved import from_its_home

__getattr__ = from_its_home(__name__)
