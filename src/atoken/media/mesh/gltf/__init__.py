"""glTF 2.0, read by its specification from the file's own JSON: ``read_gltf``."""

from .scene import read_gltf

__all__ = ["read_gltf"]
