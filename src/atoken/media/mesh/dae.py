"""COLLADA (.dae), by pycollada: the meshes of its scene, with the colours of the common profile."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from ...core.errors import ReadError, reading
from .asset import Piece, texture_alone, white
from .colours import bytes_of
from .material import ALPHA_CUTOFF, Material, Wrap
from .polygons import triangles_of
from .source import Source

SHADERS = ("constant", "lambert", "phong", "blinn")
LUMINANCE = np.array([0.212671, 0.715160, 0.072169])
"""Of linear RGB, as COLLADA 1.4.1 has it for ``RGB_ZERO``."""
WRAPS = {"MIRROR": "mirror", "CLAMP": "clamp", "BORDER": "clamp"}


def read_dae(source: Source) -> list[Piece]:
    """The triangles of all meshes in the scene, under the transforms of their nodes.

    Meshes of controllers are as they were bound to their joints, and of morphs the base, with a note.
    """
    try:
        import collada
    except ImportError:
        raise ReadError(f"{source.path} needs: pip install 'atoken[mesh]'") from None
    with reading(source.path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        document = collada.Collada(io.BytesIO(source.data), aux_file_loader=_no_file)
        if document.scene is None:
            raise source.error("has no scene: export it again")
        materials: dict[int, tuple[Material, Any]] = {}
        return [piece for mesh in _meshes(source, document) for piece in _pieces(source, mesh, materials)]


def _no_file(name: str) -> bytes:
    raise ValueError("pictures are opened by their names")


def _meshes(source: Source, document: Any) -> Iterator[Any]:
    """The primitives of all geometries and controllers, in place."""
    for geometry in document.scene.objects("geometry"):
        yield from geometry.primitives()
    for controller in document.scene.objects("controller"):
        source.note("its controllers (skin, morph) are not applied: their meshes are as they were modelled")
        geometry = getattr(controller, "geometry", None)
        if geometry is None:
            geometry = controller.original.source_geometry.bind(controller.matrix, controller.materialnodebysymbol)
        yield from geometry.primitives()


def _pieces(source: Source, mesh: Any, materials: dict[int, tuple[Material, Any]]) -> list[Piece]:
    """One primitive: triangles, strips or polygons."""
    if hasattr(mesh, "nlines"):
        source.note("lines are left out")
        return []
    if mesh.original.vertex is None:
        return []
    vertices = np.asarray(mesh.vertex, np.float64)
    corners = np.asarray(mesh.vertex_index, np.int64).reshape(-1)
    counts = getattr(mesh.original, "vcounts", None)
    counts = np.full(len(corners) // 3, 3) if counts is None else np.asarray(counts, np.int64)
    if len(corners) and not 0 <= corners.min() <= corners.max() < len(vertices):
        raise source.error("has a face that names a vertex that does not exist: export it again")
    place, _ = triangles_of(counts, corners, vertices)
    faces = corners[place]
    effect = mesh.material.effect if mesh.material is not None else None
    if id(effect) not in materials:
        materials[id(effect)] = _material(source, effect), effect  # kept, so that its id stays its own
    material, uv = materials[id(effect)][0], None
    if material.mips:
        uv = _coordinates(mesh, effect, place)
        if uv is None:
            source.note("a texture without its texture coordinates is left out")
            material = replace(material, mips=())
    colours = _colours(mesh, place)
    if colours is not None:  # they are of corners
        vertices, faces = vertices[faces].reshape(-1, 3), np.arange(3 * len(faces)).reshape(-1, 3)
    return texture_alone(source, Piece(vertices, faces, uv, colours, [material]))


def _colours(mesh: Any, place: np.ndarray) -> np.ndarray | None:
    """Colours uint8 [3 F, 4] of the corners, or None."""
    inputs = mesh.original.sources.get("COLOR")
    if not inputs:
        return None
    index = np.asarray(mesh.original.index)
    index = index.reshape(-1, index.shape[-1])[:, inputs[0][0]]
    return bytes_of(np.asarray(inputs[0][4].data, np.float32)[index[place].reshape(-1)])


def _coordinates(mesh: Any, effect: Any, place: np.ndarray) -> np.ndarray | None:
    """Texture coordinates [F, 3, 2] of the set that the effect's texture is bound to, the first one otherwise."""
    if not mesh.texcoordset:
        return None
    texture = _texture_of(effect)
    _, wanted = (mesh.inputmap or {}).get(texture.texcoord, (None, None))
    sets = [str(given[3]) for given in mesh.original.sources["TEXCOORD"]]
    number = sets.index(str(wanted)) if str(wanted) in sets else 0
    index = np.asarray(mesh.texcoord_indexset[number], np.int64).reshape(-1)
    return np.asarray(mesh.texcoordset[number], np.float64)[index[place], :2]


def _texture_of(effect: Any) -> Any:
    """The texture of its own colour: diffuse, or emission where the shader is ``constant``."""
    colour = effect.emission if effect.shadingtype == "constant" and effect.diffuse is None else effect.diffuse
    return colour if hasattr(colour, "sampler") else None


def _material(source: Source, effect: Any) -> Material:
    if effect is None:
        return white()
    shader = next((e for e in effect.xmlnode.iter() if str(e.tag).rpartition("}")[2] in SHADERS), None)
    constant = effect.shadingtype == "constant" and effect.diffuse is None
    if not constant and (hasattr(effect.emission, "sampler") or (_four(effect.emission)[:3] > 0).any()):
        source.note("light that materials give off (emission) is left out")
    factor, wrap = np.ones(4, np.float32), Wrap()
    mips: tuple[np.ndarray, ...] = ()
    texture, colour = _texture_of(effect), effect.emission if constant else effect.diffuse
    if texture is not None:
        mips = source.texture(str(texture.sampler.surface.image.path), alpha=False)
        sampler = texture.sampler.xmlnode
        wrap = Wrap(_wrap(sampler, "wrap_s"), _wrap(sampler, "wrap_t"))
    elif colour is not None:
        factor[:3] = np.clip(_four(colour)[:3], 0, 1)  # its alpha means nothing
    factor[3] = 1 if shader is None else _opacity(source, shader)
    return Material(factor, False, mips, ALPHA_CUTOFF if factor[3] < 1 else None, wrap)


def _four(colour: Any) -> np.ndarray:
    """A colour, black where there is none: float [4]."""
    return np.nan_to_num(np.array([*([] if colour is None else colour), 0, 0, 0, 0][:4], np.float64))


def _wrap(sampler: Any, axis: str) -> str:
    found = None if sampler is None else sampler.find(f".//{{*}}{axis}")
    return WRAPS.get((found.text or "").strip() if found is not None else "", "repeat")


def _opacity(source: Source, shader: Any) -> float:
    """Of COLLADA 1.4.1, chapter 7, "Determining Transparency"; 1 where nothing says it."""
    colour, amount = shader.find("{*}transparent"), shader.find("{*}transparency")
    if colour is None and amount is None:
        return 1.0
    if colour is not None and colour.find("{*}texture") is not None:
        source.note("a texture of transparency is left out")
        return 1.0
    mode = "A_ONE" if colour is None else colour.get("opaque", "A_ONE")
    *rgb, alpha = [*(np.ones(4) if colour is None else _numbers(colour)), 1.0, 1.0, 1.0, 1.0][:4]
    share = float(LUMINANCE @ rgb) if mode.startswith("RGB") else alpha
    share *= float([*_numbers(amount), 1.0][0]) if amount is not None else 1.0
    opacity = float(np.clip(1 - share if mode.endswith("ZERO") else share, 0, 1))
    if opacity == 0:
        source.note("a material has an opacity of 0, which some writers mean as opaque: it is taken so")
        return 1.0
    return opacity


def _numbers(element: Any) -> np.ndarray:
    """The finite numbers of a ``color`` or ``float`` in an element."""
    for child in element:
        try:
            return np.nan_to_num(np.array([float(word) for word in (child.text or "").split()]))
        except ValueError:
            continue
    return np.zeros(0)
