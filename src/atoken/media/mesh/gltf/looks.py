"""Materials of a glTF file: base colour, its texture with sampler and transform, and how alpha counts."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from ..asset import white
from ..material import ALPHA_CUTOFF, Material, Wrap, mips_of
from .container import Container
from .extensions import AVIF, BASISU, GLOSSINESS, TRANSFORM, WEBP, decode_ktx2, is_installed
from .fields import Fields

WRAPS = {10497: "repeat", 33071: "clamp", 33648: "mirror"}
NEAREST = 9728
KTX2 = b"\xabKTX 20\xbb\r\n\x1a\n"


@dataclass(frozen=True)
class Look:
    """A material and where its texture lies."""

    material: Material
    coordinates: int = 0
    """Which set of texture coordinates."""
    transform: np.ndarray | None = None
    """[2, 3], applied to (u, v, 1) with v down, or None."""

    def placed(self, uv: np.ndarray) -> np.ndarray:
        """Texture coordinates [n, 2] of the file as this package has them: transformed, v up."""
        uv = uv[:, :2].astype(np.float64)
        if self.transform is not None:
            uv = uv @ self.transform[:, :2].T + self.transform[:, 2]
        return np.stack([uv[:, 0], 1 - uv[:, 1]], 1)


class Looks:
    """The looks of all materials of a file, each made once."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._looks: dict[int | None, Look] = {None: Look(white(linear=True))}

    def of(self, primitive: Fields) -> Look:
        """The look of a primitive; white where it has no material."""
        index = primitive.whole("material") if "material" in primitive else None
        if index not in self._looks:
            assert index is not None
            self._looks[index] = self._look(self._container.top.entry("materials", index))
        return self._looks[index]

    def _look(self, fields: Fields) -> Look:
        gloss = fields.extension(GLOSSINESS)
        base = fields.fields("pbrMetallicRoughness") if gloss is None else gloss
        colour, texture = (
            ("baseColorFactor", "baseColorTexture") if gloss is None else ("diffuseFactor", "diffuseTexture")
        )
        factor = np.clip(base.numbers(colour, [1, 1, 1, 1]), 0, 1).astype(np.float32)
        mode = fields.text("alphaMode", "OPAQUE").upper()
        if mode not in ("OPAQUE", "MASK", "BLEND"):
            raise fields.source.error(f"is damaged: {fields.where} has the alphaMode {mode[:20]!r}; export it again")
        cutoff = {"OPAQUE": None, "BLEND": ALPHA_CUTOFF, "MASK": fields.number("alphaCutoff", ALPHA_CUTOFF)}[mode]
        if fields.numbers("emissiveFactor", [0, 0, 0]).any():
            self._container.source.note("light that materials give off (emissiveFactor) is left out")
        look = Look(Material(factor, True, (), cutoff))
        return self._textured(look, base.fields(texture)) if texture in base else look

    def _textured(self, look: Look, info: Fields) -> Look:
        texture = self._container.top.entry("textures", info.whole("index"))
        mips = self._mips(texture, alpha=look.material.cutoff is not None)
        wrap = self._wrap(texture)
        moved = info.extension(TRANSFORM)
        coordinates, transform = info.whole("texCoord", 0), None
        if moved is not None:
            coordinates = moved.whole("texCoord", coordinates)
            transform = _transform(moved)
        return Look(replace(look.material, mips=mips, wrap=wrap), coordinates, transform)

    def _wrap(self, texture: Fields) -> Wrap:
        if "sampler" not in texture:
            return Wrap()
        sampler = self._container.top.entry("samplers", texture.whole("sampler"))
        modes = [sampler.whole(key, 10497) for key in ("wrapS", "wrapT")]
        if any(mode not in WRAPS for mode in modes):
            raise sampler.source.error(
                f"is damaged: {sampler.where} wraps as {modes}, none of glTF 2.0; export it again"
            )
        return Wrap(WRAPS[modes[0]], WRAPS[modes[1]], sampler.whole("magFilter", 0) == NEAREST)

    def _mips(self, texture: Fields, *, alpha: bool) -> tuple[np.ndarray, ...]:
        source = self._container.source
        image = self._image(texture)
        if image is None:
            source.note(f"{texture.where} has no picture that can be read, so what it colours keeps its base colour")
            return ()
        name = f"{source.path}: the texture {image.where}"
        if "bufferView" in image:
            content = self._container.view(image.whole("bufferView")).tobytes()
        else:
            uri = image.text("uri")
            if uri[:5].lower() != "data:" and not uri.lower().endswith(".ktx2"):
                return source.texture(uri, alpha=alpha)
            read = self._container.uri(uri, "image")
            if read is None:
                source.note(f"{uri[:80]!r} is missing, so what it colours keeps its base colour")
                return ()
            content = read
        if content.startswith(KTX2):
            rgb, opacity = decode_ktx2(image, np.frombuffer(content, np.uint8), name)
            return mips_of(rgb, opacity if alpha else None)
        return source.picture(content, name, key=image.where, alpha=alpha)

    def _image(self, texture: Fields) -> Fields | None:
        """The picture of a texture: that of an extension where it can be read, or else the plain one."""
        basisu = texture.extension(BASISU)
        if basisu is not None and (is_installed(BASISU) or self._container.required(BASISU) or "source" not in texture):
            return self._container.top.entry("images", basisu.whole("source"))
        others = (texture.extension(name) for name in (AVIF, WEBP))
        chosen = next((other for other in others if other is not None), texture)
        return self._container.top.entry("images", chosen.whole("source")) if "source" in chosen else None


def _transform(moved: Fields) -> np.ndarray:
    """Matrix [2, 3] of KHR_texture_transform: scaled, turned counter-clockwise as seen (v is down), moved."""
    (u, v), (across, down) = moved.numbers("offset", [0, 0]), moved.numbers("scale", [1, 1])
    sine, cosine = math.sin(moved.number("rotation", 0)), math.cos(moved.number("rotation", 0))
    return np.array([[cosine * across, sine * down, u], [-sine * across, cosine * down, v]])
