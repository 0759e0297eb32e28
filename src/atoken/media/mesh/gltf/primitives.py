"""Primitives of a glTF mesh: attributes, Draco, morph targets, and triangles of every mode."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .accessors import as_floats, read_accessor
from .container import Container
from .extensions import DRACO, decode_draco, is_installed
from .fields import Fields

POINTS, TRIANGLES, STRIP, FAN = 0, 4, 5, 6


@dataclass
class Shape:
    """A primitive in its mesh's own frame, in the pose of its morph targets."""

    positions: np.ndarray
    """float64 [V, 3]."""
    faces: np.ndarray
    """int64 [F, 3]; [0, 3] for points."""
    uv: np.ndarray | None
    """[V, 2], v down."""
    colours: np.ndarray | None
    """Linear light and alpha, [V, 4] in 0 ... 1."""
    joints: np.ndarray | None
    """Integers [V, 4k], and ``weights`` [V, 4k]."""
    weights: np.ndarray | None


class Attributes:
    """The attributes of one primitive, of accessors or of Draco's data."""

    def __init__(self, container: Container, primitive: Fields) -> None:
        self.container = container
        self.accessors = primitive.fields("attributes")
        self.decoded: dict[str, np.ndarray] = {}
        self.indices: np.ndarray | None = None
        draco = primitive.extension(DRACO)
        if draco is not None and "POSITION" in self.accessors and self._must_decode():
            data, faces = decode_draco(draco, container.view(draco.whole("bufferView")))
            numbers = draco.fields("attributes")
            for name in numbers.values:
                if numbers.whole(name) not in data:
                    raise container.source.error(f"is damaged: {numbers.where} has no {name[:40]}; export it again")
                self.decoded[name] = data[numbers.whole(name)]
            self.indices = None if faces is None else faces.ravel().astype(np.int64)

    def _must_decode(self) -> bool:
        position = self.container.top.entry("accessors", self.accessors.whole("POSITION"))
        return is_installed(DRACO) or self.container.required(DRACO) or "bufferView" not in position

    def __contains__(self, name: str) -> bool:
        return name in self.accessors

    def floats(self, name: str, *, normalized: bool | None = None) -> np.ndarray:
        """An attribute as floats, [V, k]."""
        index = self.accessors.whole(name)
        if name not in self.decoded:
            return as_floats(self.container, index, normalized=normalized)
        values = self.decoded[name]
        if normalized is None:
            normalized = self.container.top.entry("accessors", index).values.get("normalized") is True
        if normalized and values.dtype.kind in "iu":
            values = np.maximum(values / np.iinfo(values.dtype).max, -1)
        return values.reshape(len(values), -1)

    def whole(self, name: str) -> np.ndarray:
        """An attribute of integers, int64 [V, k]."""
        values = self.decoded.get(name)
        return (read_accessor(self.container, self.accessors.whole(name)) if values is None else values).astype(
            np.int64
        )


def read_shape(container: Container, primitive: Fields, weights: np.ndarray, coordinates: int) -> Shape | None:
    """A primitive under the morph ``weights``, with the texture ``coordinates`` of that number.

    None where it has no positions, as the specification asks, or only lines, which are noted.
    """
    mode = primitive.whole("mode", TRIANGLES)
    if mode not in (POINTS, TRIANGLES, STRIP, FAN):
        if mode > FAN:
            raise container.source.error(f"is damaged: {primitive.where} has the mode {mode}; export it again")
        container.source.note("lines are left out")
        return None
    attributes = Attributes(container, primitive)
    if "POSITION" not in attributes:
        return None
    positions = attributes.floats("POSITION")
    count = len(positions)
    if positions.shape[1] != 3:
        raise container.source.error(f"is damaged: {primitive.where} has positions that are no VEC3; export it again")
    indices = _indices(container, primitive, attributes, count)
    faces = np.zeros((0, 3), np.int64) if mode == POINTS else faces_of(indices, mode)
    used = np.unique(indices if mode == POINTS else faces)
    # many primitives may share the vertices of all, and points are those that are named
    compact = len(used) < (count if mode == POINTS else count // 2)
    if compact:
        faces = np.searchsorted(used, faces)

    def read(name: str, **options: bool) -> np.ndarray | None:
        if name not in attributes:
            return None
        values = attributes.floats(name, **options)
        if len(values) != count:
            raise container.source.error(f"is damaged: {primitive.where} has {len(values)} of {count} {name[:40]}")
        values = values[used] if compact else values
        return _morphed(container, primitive, name, values, weights, used if compact else None)

    position = read("POSITION")
    assert position is not None
    joints, shares = _sets(attributes, "JOINTS_"), _sets(attributes, "WEIGHTS_")
    if joints is not None and compact:
        joints = joints[used]
    if shares is not None and compact:
        shares = shares[used]
    return Shape(
        position.astype(np.float64),
        faces,
        read(f"TEXCOORD_{coordinates}"),
        _colours(read("COLOR_0", normalized=True)),
        None if joints is None else joints.astype(np.int64),
        shares,
    )


def _indices(container: Container, primitive: Fields, attributes: Attributes, count: int) -> np.ndarray:
    if attributes.indices is not None:
        indices = attributes.indices
    elif "indices" in primitive:
        stored = read_accessor(container, primitive.whole("indices"))
        if stored.dtype.kind != "u" or stored.shape[1] != 1:
            raise container.source.error(f"is damaged: {primitive.where} has indices that are no unsigned integers")
        indices = stored[:, 0].astype(np.int64)
    else:
        indices = np.arange(count)
    if len(indices) and indices.max() >= count:
        raise container.source.error("has a face that names a vertex that does not exist: export it again")
    return indices


def faces_of(indices: np.ndarray, mode: int) -> np.ndarray:
    """Triangles [F, 3] of indices in the mode of a list, a strip or a fan; those without an area are left out."""
    if mode == TRIANGLES:
        return indices[: len(indices) // 3 * 3].reshape(-1, 3)
    count = max(len(indices) - 2, 0)
    steps = np.arange(count)
    if mode == FAN:
        faces = np.stack([np.zeros(count, np.int64), steps + 1, steps + 2], 1)
    else:
        odd = steps % 2
        faces = np.stack([steps, steps + 1 + odd, steps + 2 - odd], 1)
    faces = indices[faces]
    a, b, c = faces.T
    return faces[(a != b) & (b != c) & (c != a)]


def _morphed(
    container: Container,
    primitive: Fields,
    name: str,
    values: np.ndarray,
    weights: np.ndarray,
    used: np.ndarray | None,
) -> np.ndarray:
    """``values`` with what the morph targets add, each times its weight."""
    for number, target in enumerate(primitive.each("targets")[: len(weights)]):
        fields = Fields(container.source, target, f"{primitive.where}.targets[{number}]")
        if not weights[number] or name not in fields:
            continue
        added = as_floats(container, fields.whole(name), normalized=True if name.startswith("COLOR") else None)
        added = added if used is None or len(added) <= used.max(initial=-1) else added[used]
        if added.shape != values.shape:
            raise container.source.error(f"is damaged: {fields.where} has another number of {name[:40]} than its mesh")
        values = values + weights[number] * added
    return values


def _sets(attributes: Attributes, prefix: str) -> np.ndarray | None:
    """All numbered attributes of one kind side by side, [V, 4k]."""
    parts: list[np.ndarray] = []
    while f"{prefix}{len(parts)}" in attributes:
        name = f"{prefix}{len(parts)}"
        parts.append(attributes.whole(name) if prefix == "JOINTS_" else attributes.floats(name))
    return np.concatenate(parts, 1) if parts and len({len(part) for part in parts}) == 1 else None


def _colours(values: np.ndarray | None) -> np.ndarray | None:
    if values is None or values.shape[1] not in (3, 4):
        return None
    colours = np.ones((len(values), 4), np.float32)
    colours[:, : values.shape[1]] = np.clip(np.nan_to_num(values), 0, 1)
    return colours
