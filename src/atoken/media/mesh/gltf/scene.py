"""The scene of a glTF file: nodes with their transforms, instances, skins and meshes as posed in the file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ....core.errors import ReadError
from ..asset import Piece
from ..material import to_srgb
from ..source import Source
from .accessors import as_floats
from .container import Container
from .extensions import INSTANCING
from .fields import Fields
from .looks import Look, Looks
from .primitives import Shape, read_shape

FEW, MANY = 2**22, 2**25
"""Triangles and points that any scene may have, and the most; between them, as many as the file has bytes, for
instances make many of few bytes."""


def read_gltf(source: Source) -> list[Piece]:
    """All triangles and points of the file's scene (the first one where it names none), in the pose of its nodes."""
    return _Scene(Container(source)).pieces()


class _Scene:
    def __init__(self, container: Container) -> None:
        self.container = container
        self.top = container.top
        self.looks = Looks(container)
        self.nodes = [self.top.entry("nodes", index) for index in range(len(self.top.each("nodes")))]
        self.children = [node.wholes("children") for node in self.nodes]
        self.world = self._matrices()
        self.triangles = 0
        self.most = min(max(FEW, container.size), MANY)

    def error(self, what: str) -> ReadError:
        return self.container.source.error(what)

    def pieces(self) -> list[Piece]:
        found: list[Piece] = []
        for index in self._shown():
            node = self.nodes[index]
            if "mesh" in node:
                found += self._mesh(node, self.world[index])
        return found

    def _matrices(self) -> dict[int, np.ndarray]:
        """World matrices [4, 4] of all nodes, from their roots on. Raises ``ReadError`` for what is no tree."""
        parents: dict[int, int] = {}
        for parent, children in enumerate(self.children):
            for child in children:
                if child >= len(self.nodes) or child in parents:
                    raise self.error(f"is damaged: nodes[{child}] does not exist or has two parents; export it again")
                parents[child] = parent
        world: dict[int, np.ndarray] = {}
        waiting = [index for index in range(len(self.nodes)) if index not in parents]
        while waiting:
            index = waiting.pop()
            local = _local(self.nodes[index])
            with np.errstate(over="ignore", invalid="ignore"):
                world[index] = world[parents[index]] @ local if index in parents else local
            waiting += self.children[index]
        if len(world) < len(self.nodes):
            raise self.error("is damaged: its nodes go round in a circle; export it again")
        return world

    def _shown(self) -> list[int]:
        """The nodes of the scene, in the order of its tree."""
        if self.top.each("scenes"):
            roots = self.top.entry("scenes", self.top.whole("scene", 0)).wholes("nodes")
        else:
            roots = [index for index in range(len(self.nodes)) if not any(index in c for c in self.children)]
        shown: dict[int, None] = {}
        waiting = roots[::-1]
        while waiting:
            index = waiting.pop()
            if index >= len(self.nodes):
                raise self.error(f"is damaged: its scene has nodes[{index}], which does not exist; export it again")
            if index not in shown:
                shown[index] = None
                waiting += self.children[index][::-1]
        return list(shown)

    def _mesh(self, node: Fields, world: np.ndarray) -> list[Piece]:
        mesh = self.top.entry("meshes", node.whole("mesh"))
        weights = (node if "weights" in node else mesh).numbers("weights", [])
        places = self._instances(node, world)
        found = []
        for number, primitive in enumerate(mesh.each("primitives")):
            fields = Fields(self.container.source, primitive, f"{mesh.where}.primitives[{number}]")
            look = self.looks.of(fields)
            shape = read_shape(self.container, fields, weights, look.coordinates)
            if shape is None:
                continue
            self.triangles += max(len(shape.faces), len(shape.positions)) * len(places)
            if self.triangles > self.most:
                raise self.error(f"has more than {self.most:,} triangles or points with its instances: simplify it")
            skinned = self._skinned(node, shape)
            if skinned is not None:
                found.append(self._piece(shape, skinned, look))
            else:
                found.append(self._piece(_repeated(shape, len(places)), _moved(shape.positions, places), look))
        return found

    def _piece(self, shape: Shape, vertices: np.ndarray, look: Look) -> Piece:
        material, uv = look.material, None
        if not len(shape.faces):
            return Piece(vertices, shape.faces, colours=_of_points(shape, look, len(vertices)))
        if material.mips and shape.uv is None:
            self.container.source.note("a texture without its texture coordinates is left out")
            material = replace(material, mips=())
        if material.mips and shape.uv is not None:
            uv = look.placed(shape.uv)[shape.faces]
        colours = None if shape.colours is None else (shape.colours * 65535).round().astype(np.uint16)
        return Piece(vertices, shape.faces, uv, colours, [material])

    def _instances(self, node: Fields, world: np.ndarray) -> np.ndarray:
        """World matrices [n, 4, 4] of a node's mesh: one, or that of each instance."""
        instancing = node.extension(INSTANCING)
        if instancing is None:
            return world[None]
        attributes = instancing.fields("attributes")
        parts = {
            name: as_floats(self.container, attributes.whole(name)).astype(np.float64)
            for name in ("TRANSLATION", "ROTATION", "SCALE")
            if name in attributes
        }
        counts = {len(values) for values in parts.values()}
        widths = {"TRANSLATION": 3, "ROTATION": 4, "SCALE": 3}
        if len(counts) != 1 or any(values.shape[1] != widths[name] for name, values in parts.items()):
            raise self.error(f"is damaged: {instancing.where} has attributes of unlike numbers; export it again")
        count = counts.pop()
        local = _composed(
            parts.get("TRANSLATION", np.zeros((count, 3))),
            parts.get("ROTATION", np.tile([0.0, 0, 0, 1], (count, 1))),
            parts.get("SCALE", np.ones((count, 3))),
        )
        return np.asarray(world @ local)

    def _skinned(self, node: Fields, shape: Shape) -> np.ndarray | None:
        """Positions as their joints move them, whatever the node's own transform (glTF 2.0, section 3.7.3.3)."""
        if "skin" not in node or shape.joints is None or shape.weights is None:
            return None
        skin = self.top.entry("skins", node.whole("skin"))
        joints = skin.wholes("joints")
        if not joints or max(joints) >= len(self.nodes):
            raise self.error(f"is damaged: {skin.where} has joints that do not exist; export it again")
        matrices = np.stack([self.world[joint] for joint in joints])
        if "inverseBindMatrices" in skin:
            inverse = as_floats(self.container, skin.whole("inverseBindMatrices"))
            if inverse.shape[1] != 16 or len(inverse) < len(joints):
                raise self.error(f"is damaged: {skin.where} has too few inverse bind matrices; export it again")
            matrices = matrices @ inverse[: len(joints)].reshape(-1, 4, 4).swapaxes(1, 2)
        if shape.joints.shape != shape.weights.shape or len(shape.joints) != len(shape.positions):
            raise self.error(f"is damaged: {skin.where} moves a mesh whose joints and weights differ; export it again")
        shares = shape.weights / np.where((total := shape.weights.sum(1, keepdims=True)) > 0, total, 1)
        shares[total[:, 0] <= 0, 0] = 1  # without weights it hangs on its first joint
        if (shape.joints[shares > 0] >= len(joints)).any():
            raise self.error(f"is damaged: a mesh names a joint that {skin.where} does not have; export it again")
        blended = np.zeros((len(shape.positions), 3, 4))
        for column in range(shares.shape[1]):
            joint = np.where(shares[:, column] > 0, shape.joints[:, column], 0)
            blended += matrices[joint, :3] * shares[:, column, None, None]
        return np.einsum("vij,vj->vi", blended[:, :, :3], shape.positions) + blended[:, :, 3]


def _local(node: Fields) -> np.ndarray:
    """Matrix [4, 4] of a node's own transform."""
    if "matrix" in node:
        return node.numbers("matrix", np.eye(4).ravel().tolist()).reshape(4, 4).T
    translation, rotation = node.numbers("translation", [0, 0, 0]), node.numbers("rotation", [0, 0, 0, 1])
    return _composed(translation[None], rotation[None], node.numbers("scale", [1, 1, 1])[None])[0]


def _composed(translation: np.ndarray, rotation: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Matrices [n, 4, 4] of translations [n, 3], quaternions [n, 4] (x, y, z, w) and scales [n, 3]."""
    length = np.linalg.norm(rotation, axis=1, keepdims=True)
    x, y, z, w = np.where(length > 0, rotation / np.where(length > 0, length, 1), [0.0, 0, 0, 1]).T
    turned = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    matrices = np.tile(np.eye(4), (len(scale), 1, 1))
    matrices[:, :3, :3] = np.moveaxis(turned, 2, 0) * scale[:, None]
    matrices[:, :3, 3] = translation
    return matrices


def _moved(positions: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """Positions [V, 3] under each of the matrices [n, 4, 4], one behind the other: [n * V, 3]."""
    with np.errstate(over="ignore", invalid="ignore"):
        moved = positions @ matrices[:, :3, :3].swapaxes(1, 2) + matrices[:, None, :3, 3]
    return moved.reshape(-1, 3)  # (n, V, 3) to (n * V, 3)


def _repeated(shape: Shape, count: int) -> Shape:
    """``count`` of a shape, one behind the other; its positions stay those of one."""
    if count == 1:
        return shape
    starts = np.arange(count)[:, None, None] * len(shape.positions)
    return replace(
        shape,
        faces=(shape.faces + starts).reshape(-1, 3),
        uv=None if shape.uv is None else np.tile(shape.uv, (count, 1)),
        colours=None if shape.colours is None else np.tile(shape.colours, (count, 1)),
    )


def _of_points(shape: Shape, look: Look, count: int) -> np.ndarray | None:
    """Colours uint8 [count, 4] of points, sRGB: vertex colours times the material's factor."""
    if shape.colours is None and (look.material.factor == 1).all():
        return None
    tint = np.ones((count, 4)) if shape.colours is None else shape.colours
    colours = tint * look.material.factor
    colours[:, :3] = to_srgb(colours[:, :3])
    return np.clip(colours * 255, 0, 255).round().astype(np.uint8)
