"""Posed views of 3D assets, and the voxels that they show."""
