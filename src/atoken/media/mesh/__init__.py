"""3D files of seven formats: ``read_asset``."""

from .asset import Asset
from .read import MAX_FACES, read_asset

__all__ = ["MAX_FACES", "Asset", "read_asset"]
