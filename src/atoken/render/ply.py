"""Splat files: the ``.ply`` layout of 3D Gaussian Splatting (Kerbl et al. 2023), which all common viewers read.

One vertex for each Gaussian, its properties all floats: place, an unused normal, ``f_dc_*`` (spherical harmonic of
degree 0), ``opacity`` (before the sigmoid), ``scale_*`` (logarithms) and ``rot_*`` (quaternion w, x, y, z). Viewers
take y to point down, as in photogrammetry; here, as in glTF, it points up. So reading and writing turn by half a turn
about z, as SuperSplat does when it opens a file; that is exact in floats.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..files import atomic_write
from .gaussians import Gaussians

PLACE, NORMAL = ("x", "y", "z"), ("nx", "ny", "nz")
COLOUR, OPACITY = ("f_dc_0", "f_dc_1", "f_dc_2"), ("opacity",)
SCALE, ROTATION = ("scale_0", "scale_1", "scale_2"), ("rot_0", "rot_1", "rot_2", "rot_3")
PROPERTIES = (*PLACE, *NORMAL, *COLOUR, *OPACITY, *SCALE, *ROTATION)
NEEDED = (*PLACE, *COLOUR, *OPACITY, *SCALE, *ROTATION)
LONGEST_HEADER = 65536

_TYPES = {
    **{name: "i1" for name in ("char", "int8")},
    **{name: "u1" for name in ("uchar", "uint8")},
    **{name: "i2" for name in ("short", "int16")},
    **{name: "u2" for name in ("ushort", "uint16")},
    **{name: "i4" for name in ("int", "int32")},
    **{name: "u4" for name in ("uint", "uint32")},
    **{name: "f4" for name in ("float", "float32")},
    **{name: "f8" for name in ("double", "float64")},
}
_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "="}


def write_ply(gaussians: Gaussians, path: str | Path) -> None:
    """Write Gaussians in their asset's own frame as a binary splat file, atomically.

    Raises ``ValueError`` for another suffix or numbers that are not finite, ``OSError`` where it cannot be written.
    """
    if Path(path).suffix.lower() != ".ply":
        raise ValueError(f"{path}: Gaussians are written as .ply")
    data = to_bytes(gaussians)
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def to_bytes(gaussians: Gaussians) -> bytes:
    """The file's bytes. Raises ``ValueError`` for numbers that are not finite."""
    gaussians = gaussians.in_asset_frame().cpu()
    gaussians.check_finite()
    columns = [
        _turn_vectors(gaussians.means),
        torch.zeros(len(gaussians), 3),
        gaussians.sh,
        gaussians.logits[:, None],
        gaussians.log_scales,
        _turn_to_file(gaussians.rotations),
    ]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(gaussians)}"]
    header += [*(f"property float {name}" for name in PROPERTIES), "end_header", ""]
    return "\n".join(header).encode() + torch.cat(columns, 1).numpy().astype("<f4").tobytes()


def read_ply(path: str | Path) -> Gaussians:
    """Gaussians of a splat file, text or binary: the exact inverse of ``write_ply`` up to the transform.

    Colours that depend on the direction are left out, with a warning. Raises ``FileNotFoundError``, or ``ValueError``
    for a file that is truncated, no splat, or holds NaN.
    """
    path = Path(path)
    data = path.read_bytes()
    order, count, fields, start = _parse_header(data, path)
    missing = [name for name in NEEDED if name not in fields]
    if missing:
        packed = "packed_position" in fields
        reason = "a compressed splat: save it uncompressed" if packed else f"no splat: it has no {missing[0]}"
        raise ValueError(f"{path} is {reason}")
    table = _read_table(data[start:], order, count, fields, path)
    rest = sum(name.startswith("f_rest_") for name in fields)
    if rest and any(bool(table[name].any()) for name in fields if name.startswith("f_rest_")):
        warnings.warn(f"{path}: colours are taken without the {rest} numbers of their directions", stacklevel=2)
    try:
        gaussians = Gaussians(
            means=_turn_vectors(_columns(table, PLACE)),
            log_scales=_columns(table, SCALE),
            rotations=_turn_from_file(_columns(table, ROTATION)),
            logits=_columns(table, OPACITY)[:, 0],
            sh=_columns(table, COLOUR),
        )
        gaussians.check_finite()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return gaussians


def is_splat(path: str | Path) -> bool:
    """Whether the file at ``path`` begins like a splat ``.ply``, as opposed to a mesh or a point cloud."""
    with open(path, "rb") as file:
        head = file.read(LONGEST_HEADER)
    return head.startswith(b"ply") and all(f" {name}\n".encode() in head.replace(b"\r", b"") for name in NEEDED)


def _turn_vectors(vectors: Tensor) -> Tensor:
    return vectors * vectors.new_tensor([-1.0, -1.0, 1.0])


def _turn_to_file(rotations: Tensor) -> Tensor:
    w, x, y, z = rotations.unbind(-1)
    return torch.stack([-z, -y, x, w], -1)  # (0, 0, 0, 1) times the quaternion


def _turn_from_file(rotations: Tensor) -> Tensor:
    w, x, y, z = rotations.unbind(-1)
    return torch.stack([z, y, -x, -w], -1)  # (0, 0, 0, -1) times the quaternion


def _columns(table: np.ndarray, names: Sequence[str]) -> Tensor:
    return torch.from_numpy(np.stack([table[name].astype(np.float32) for name in names], 1))


def _parse_header(data: bytes, path: Path) -> tuple[str, int, dict[str, str], int]:
    """Byte order, vertices, property types by name, and where the table starts. Vertices must come first."""
    end = data.find(b"end_header", 0, LONGEST_HEADER)
    line_end = data.find(b"\n", end)
    if not data.startswith(b"ply") or end < 0 or line_end < 0:
        raise ValueError(f"{path} is no PLY file" if data else f"{path} is empty (0 bytes)")
    lines = [line.split() for line in data[:end].decode("ascii", "replace").splitlines()]
    order, count, fields, element = "", -1, {}, ""
    for words in lines:
        if words[:1] == ["format"] and len(words) > 1:
            order = words[1]
        elif words[:1] == ["element"] and len(words) == 3:
            element = words[1]
            if element != "vertex" and count < 0:
                raise ValueError(f"{path} is no splat: it begins with {element!r}")
            if element == "vertex":
                count = int(words[2]) if words[2].isdecimal() else -1
        elif words[:1] == ["property"] and element == "vertex":
            if len(words) != 3 or words[1] not in _TYPES:
                raise ValueError(f"{path} is no splat: its vertices have {' '.join(words)!r}")
            fields[words[2]] = words[1]
    if order not in _ORDERS or count < 0:
        raise ValueError(f"{path} is a PLY file with a damaged header")
    return order, count, fields, line_end + 1


def _read_table(data: bytes, order: str, count: int, fields: dict[str, str], path: Path) -> np.ndarray:
    kind = np.dtype([(name, _ORDERS[order] + _TYPES[form]) for name, form in fields.items()])
    if order == "ascii":
        rows = [line.split() for line in data.decode("ascii", "replace").splitlines()[:count]]
        whole = len(rows) == count and all(len(row) == len(fields) for row in rows)
        try:
            return np.array([tuple(map(float, row)) for row in rows] if whole else None, kind)
        except (TypeError, ValueError):
            raise ValueError(f"{path} is truncated or damaged: {count} Gaussians were announced") from None
    if len(data) < count * kind.itemsize:
        found = len(data) // kind.itemsize
        raise ValueError(f"{path} is truncated: {count} Gaussians were announced, {found} are there")
    return np.frombuffer(data, kind, count)
