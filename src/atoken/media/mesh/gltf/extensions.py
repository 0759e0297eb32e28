"""What of glTF's extensions is read, and the decoders of compressed data, each of a package of its own."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from ....core.errors import ReadError, reading
from .fields import Fields


@dataclass(frozen=True)
class Extension:
    """What is done with an extension, and the package that it needs (extra ``gltf``), if any."""

    meaning: str
    package: str | None = None
    """Name to import."""
    remedy: str = "export it without"


DRACO, MESHOPT, BASISU = "KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_texture_basisu"
GLOSSINESS, INSTANCING = "KHR_materials_pbrSpecularGlossiness", "EXT_mesh_gpu_instancing"
TRANSFORM, WEBP, AVIF = "KHR_texture_transform", "EXT_texture_webp", "EXT_texture_avif"
_UNPACK = "decompress it with gltf-transform or gltfpack"

EXTENSIONS = {
    "KHR_mesh_quantization": Extension("attributes of all integer types"),
    TRANSFORM: Extension("offset, rotation, scale and texCoord of the base colour"),
    INSTANCING: Extension("each instance is drawn"),
    WEBP: Extension("the WebP is taken"),
    AVIF: Extension("the AVIF is taken"),
    "KHR_materials_unlit": Extension("the base colour, as without it: nothing is lit"),
    GLOSSINESS: Extension("the diffuse colour is the base colour"),
    DRACO: Extension("decoded", "DracoPy", _UNPACK),
    MESHOPT: Extension("decoded, with its filters", "meshopt", _UNPACK),
    BASISU: Extension("the KTX2 is decoded", "opengl_basisu", "convert its textures to PNG with gltf-transform"),
}
"""All extensions that are read. Any other is refused where the file requires it, and warned of where it is used."""


def check_extensions(top: Fields) -> None:
    """Refuse what the file requires and is not read, and note what it uses and is not read."""
    required = [name for name in top.each("extensionsRequired") if name not in EXTENSIONS]
    if required:
        raise top.source.error(f"needs {required[0]!s:.80}, which is not read: export it without, or flatten it")
    used = sorted({str(name)[:80] for name in top.each("extensionsUsed")} - set(EXTENSIONS))
    if used:
        more = f" and {len(used) - 6} more" if len(used) > 6 else ""
        top.source.note(f"{', '.join(used[:6])}{more} not read, so what it means is left out")


def is_installed(name: str) -> bool:
    """Whether what the extension ``name`` needs can be imported."""
    package = EXTENSIONS[name].package
    return package is None or find_spec(package) is not None


def _decoder(fields: Fields, name: str) -> Any:
    extension = EXTENSIONS[name]
    assert extension.package is not None
    try:
        return importlib.import_module(extension.package)
    except ImportError:
        raise fields.source.error(
            f"needs {name}: pip install 'atoken[gltf]' (or {extension.package}), or {extension.remedy}"
        ) from None


def _damaged(fields: Fields, name: str, what: str) -> ReadError:
    return fields.source.error(
        f"needs {name}, whose data is damaged ({what}): {EXTENSIONS[name].remedy}, or export it again"
    )


def decode_draco(fields: Fields, data: np.ndarray) -> tuple[dict[int, np.ndarray], np.ndarray | None]:
    """Attributes [V, k] by their unique identifiers, and faces uint32 [F, 3], None for points, of Draco's bytes."""
    draco = _decoder(fields, DRACO)
    with reading(f"{fields.source.path} (its {DRACO})", EXTENSIONS[DRACO].remedy):
        mesh = draco.decode(data.tobytes())
        attributes = {item["unique_id"]: np.asarray(item["data"]) for item in mesh.attributes}
        faces = getattr(mesh, "faces", None)
    if not attributes:
        raise _damaged(fields, DRACO, "no attributes")
    return attributes, None if faces is None else np.asarray(faces).reshape(-1, 3)


def decode_meshopt(fields: Fields, data: np.ndarray) -> np.ndarray:
    """The bytes of a buffer view that the extension object ``fields`` describes."""
    meshopt = _decoder(fields, MESHOPT)
    count, stride, mode = fields.whole("count"), fields.whole("byteStride"), fields.text("mode")
    named = fields.text("filter", "NONE")
    # the densest codes are about one byte for 16 vertices a channel, and for a triangle
    if count * stride > 4096 * (len(data) + 16):
        raise _damaged(fields, MESHOPT, f"{count} elements in {len(data)} bytes")
    with reading(f"{fields.source.path} (its {MESHOPT})", EXTENSIONS[MESHOPT].remedy):
        decoded = meshopt.decode_gltf_buffer(data.tobytes(), count, stride, mode, None if named == "NONE" else named)
    return np.ascontiguousarray(decoded).view(np.uint8).ravel()


def decode_ktx2(fields: Fields, data: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """RGB uint8 [h, w, 3] and alpha uint8 [h, w], None where there is none, of a KTX2 file."""
    basisu = _decoder(fields, BASISU)
    with reading(name, EXTENSIONS[BASISU].remedy):
        texture = basisu.open(data.tobytes())
        fields.source.count((texture.width, texture.height), name)
        rgba = np.asarray(texture.transcode("rgba8").data)
    return rgba[..., :3], rgba[..., 3] if texture.has_alpha else None
