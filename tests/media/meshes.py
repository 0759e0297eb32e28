"""Small 3D files for tests: a builder of glTF, pictures as bytes, and what an asset looks like."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from atoken.media.mesh import Asset
from atoken.media.views.cameras import orbit
from atoken.media.views.views import render_views

FRONT = orbit(torch.tensor([[0.0, 0, 1]]), fov=40, size=64, distance=3)
RED, GREEN, BLUE, YELLOW = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)
CORNERS = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32)
"""A plate of side 2 that faces +z."""
PLATE_UV = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)
"""Its texture coordinates as glTF has them, v down."""
QUAD = np.array([0, 1, 2, 0, 2, 3], np.uint16)
COMPONENTS = {"int8": 5120, "uint8": 5121, "int16": 5122, "uint16": 5123, "uint32": 5125, "float32": 5126}


def quarters(side: int = 64) -> np.ndarray:
    """Red and green above blue and yellow, uint8 [side, side, 3]."""
    picture = np.zeros((side, side, 3), np.uint8)
    half = side // 2
    picture[:half, :half], picture[:half, half:] = RED, GREEN
    picture[half:, :half], picture[half:, half:] = BLUE, YELLOW
    return picture


def encoded(array: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """A picture file of an array."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


class Glb:
    """A glTF file in the making: ``json`` may be changed at will before ``save``."""

    def __init__(self) -> None:
        self.json: dict[str, Any] = {
            "asset": {"version": "2.0"},
            "scene": 0,
            "scenes": [{"nodes": [0]}],
            "nodes": [{"mesh": 0}],
            "bufferViews": [],
            "accessors": [],
            "meshes": [],
        }
        self.binary = bytearray()

    def view(self, data: bytes, **more: Any) -> int:
        """A buffer view of these bytes."""
        self.binary += bytes(-len(self.binary) % 4)
        self.json["bufferViews"].append({"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(data), **more})
        self.binary += data
        return len(self.json["bufferViews"]) - 1

    def accessor(self, array: np.ndarray, kind: str | None = None, **more: Any) -> int:
        """An accessor of an array [n] or [n, k] in a view of its own."""
        kind = kind or {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}[array[0].size]
        size = array.itemsize * array[0].size
        stride = -(-size // 4) * 4 if kind.startswith("VEC") else size
        rows = np.zeros((len(array), stride), np.uint8)
        rows[:, :size] = np.ascontiguousarray(array).reshape(len(array), -1).view(np.uint8)
        view = self.view(rows.tobytes(), **({} if stride == size else {"byteStride": stride}))
        return self.of_view(view, len(array), array.dtype, kind, **more)

    def of_view(self, view: int | None, count: int, dtype: Any, kind: str, **more: Any) -> int:
        """An accessor of a view that is there already, or of none."""
        given = {} if view is None else {"bufferView": view}
        self.json["accessors"].append(
            {**given, "count": count, "componentType": COMPONENTS[np.dtype(dtype).name], "type": kind, **more}
        )
        return len(self.json["accessors"]) - 1

    def plate(self, positions: np.ndarray = CORNERS, indices: np.ndarray = QUAD, **attributes: int) -> dict[str, Any]:
        """A mesh of one primitive, which is returned."""
        primitive = {
            "attributes": {"POSITION": self.accessor(positions), **attributes},
            "indices": self.accessor(indices),
        }
        self.json["meshes"].append({"primitives": [primitive]})
        return primitive

    def texture(self, data: bytes, mime: str = "image/png", **more: Any) -> int:
        """A texture of an encoded picture."""
        self.json.setdefault("images", []).append({"bufferView": self.view(data), "mimeType": mime})
        self.json.setdefault("textures", []).append({"source": len(self.json["images"]) - 1, **more})
        return len(self.json["textures"]) - 1

    def material(self, **fields: Any) -> int:
        """A material."""
        self.json.setdefault("materials", []).append(fields)
        return len(self.json["materials"]) - 1

    def textured(self, picture: bytes, uv: np.ndarray = PLATE_UV, info: Any = None, **fields: Any) -> dict[str, Any]:
        """A plate with that picture on it; its primitive is returned."""
        index = self.texture(picture)
        primitive = self.plate(TEXCOORD_0=self.accessor(uv.astype(np.float32)))
        base = {"baseColorTexture": {"index": index, **(info or {})}}
        primitive["material"] = self.material(pbrMetallicRoughness=base, **fields)
        return primitive

    def chunks(self, text: bytes | None = None) -> list[tuple[bytes, bytes]]:
        """The chunks of the GLB: JSON and bytes."""
        if self.binary and "buffers" not in self.json:
            self.json["buffers"] = [{"byteLength": len(self.binary)}]
        text = json.dumps(self.json).encode() if text is None else text
        return [
            (b"JSON", text + b" " * (-len(text) % 4)),
            (b"BIN\0", bytes(self.binary) + bytes(-len(self.binary) % 4)),
        ]

    def save(self, path: Path, chunks: list[tuple[bytes, bytes]] | None = None) -> Path:
        """Write the file."""
        chunks = self.chunks() if chunks is None else chunks
        body = b"".join(struct.pack("<I", len(data)) + kind + data for kind, data in chunks)
        path.write_bytes(b"glTF" + struct.pack("<II", 2, 12 + len(body)) + body)
        return path


def area(asset: Asset) -> float:
    """Area of all faces in the file's own units."""
    corners = asset.vertices[asset.faces].astype(np.float64)
    crossed = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return float(np.linalg.norm(crossed, axis=1).sum() / 2 * asset.transform[0][0] ** 2)


def box_of(asset: Asset) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner in the file's own frame, of what is used."""
    matrix = np.array(asset.transform)
    used = asset.vertices if asset.is_cloud else asset.vertices[np.unique(asset.faces)]
    points = used @ matrix[:3, :3].T + matrix[:3, 3]
    return points.min(0), points.max(0)


def colours_of(asset: Asset) -> set[tuple[int, int, int]]:
    """Colours that cover at least a twentieth of what is seen from the front."""
    views = render_views(asset, FRONT, light="none")
    seen, counts = np.unique(views.colour[views.mask], axis=0, return_counts=True)
    return {tuple(map(int, colour)) for colour in seen[counts > counts.sum() / 20]}


def colour_at(asset: Asset, x: float, y: float) -> tuple[int, int, int]:
    """The colour seen from the front at (x, y), 0 ... 1 to the right and down across what is seen."""
    views = render_views(asset, FRONT, light="none")
    rows, columns = np.flatnonzero(views.mask[0].any(1)), np.flatnonzero(views.mask[0].any(0))
    row = rows[0] + y * (rows[-1] - rows[0])
    column = columns[0] + x * (columns[-1] - columns[0])
    return tuple(map(int, views.colour[0, round(row), round(column)]))
