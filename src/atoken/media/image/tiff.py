"""Pillow's TIFF, mended where it reads pixels wrongly, and with words for what it does not read."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    COMPRESSION,
    COMPRESSION_INFO,
    EXTRASAMPLES,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    SAMPLEFORMAT,
    SAMPLESPERPIXEL,
)

_DNG_VERSION = 50706
_WEBP = 50001
_NAMES = {34712: "JPEG 2000", 34887: "LERC", _WEBP: "WebP", 50002: "JPEG XL", 52546: "JPEG XL"}
"""Compressions by their numbers."""
_BIG_BIG_ENDIAN = b"MM\0+"
_SIXTEEN = (16, 16)
_RGBA: dict[int, object] = {
    BITSPERSAMPLE: (8, 8, 8, 8),
    SAMPLESPERPIXEL: 4,
    PHOTOMETRIC_INTERPRETATION: 2,
    EXTRASAMPLES: (2,),
}
"""The tags of four bytes a pixel, as two of 16 bits are."""
_ASSOCIATED, _UNASSOCIATED = 1, 2


class Unread(SyntaxError):
    """A sound file of a kind that is not read; the message says which."""


class Tiff(TiffImagePlugin.TiffImageFile):
    """Pillow's TIFF with three faults mended.

    Planes apart go through libtiff also where they are not compressed: Pillow's own code for them reads half of each
    plane of 16 bits, and fails for some kinds of alpha. White that is zero in 16 bits, for which it has no mode in
    big-endian files, is left to ``pillow.py``. Grey and alpha of 16 bits, for which it has none, are decoded as four
    bytes a pixel.
    """

    _pairs = False
    """Whether the picture is grey with a second value, both of 16 bits."""

    @property
    def _compression(self) -> str:
        return self._named

    @_compression.setter
    def _compression(self, value: str) -> None:  # Pillow asks whether it is "raw", and else takes libtiff
        apart = self.tag_v2.get(PLANAR_CONFIGURATION) == 2
        self._named = "none" if apart and value == "raw" else value

    def _open(self) -> None:
        assert self.fp is not None
        head = self.fp.read(len(_BIG_BIG_ENDIAN))
        self.fp.seek(0)
        if head == _BIG_BIG_ENDIAN:  # Pillow takes it for a small one
            raise Unread("a BigTIFF with the upper byte first")
        super()._open()

    def _setup(self) -> None:
        tags: Any = self.tag_v2
        compression = tags.get(COMPRESSION, 1)
        if compression not in COMPRESSION_INFO or compression == _WEBP:  # for which Pillow's libtiff has no decoder
            raise Unread(f"a TIFF compressed as {_NAMES.get(compression, f'number {compression}')}")
        bits, photometric = tags.get(BITSPERSAMPLE, (1,)), tags.get(PHOTOMETRIC_INTERPRETATION)
        self._pairs = (
            (bits, tags.get(SAMPLESPERPIXEL)) == (_SIXTEEN, 2)
            and photometric in (0, 1)
            and set(tags.get(SAMPLEFORMAT, (1,))) == {1}
            and tags.get(PLANAR_CONFIGURATION, 1) == 1
        )
        borrowed: dict[int, object] = {PHOTOMETRIC_INTERPRETATION: 1} if (bits, photometric) == ((16,), 0) else {}
        borrowed = _RGBA if self._pairs else borrowed
        kept = {tag: tags.get(tag) for tag in borrowed}
        for tag, value in borrowed.items():
            tags[tag] = value
        try:
            super()._setup()
        except SyntaxError as error:
            raise Unread(f"a TIFF of {len(bits)} samples of {max(bits)} bits") from error
        finally:
            for tag, value in kept.items():
                if value is None:
                    del tags[tag]
                else:
                    tags[tag] = value
        if _DNG_VERSION in tags:
            raise Unread("a camera's raw file, of which this is a preview")
        if self.mode in ("LA", "La", "PA") and self._planar_configuration == 2:
            raise Unread("a TIFF with alpha in a plane apart from grey")
        if self._pairs:
            self._mode = "LA"

    def load(self) -> Any:
        """Decode the pixels."""
        if not self._pairs or not self.tile:
            return super().load()
        self._mode = "RGBA"
        little = np.little_endian if self.use_load_libtiff else self.tag_v2.prefix == b"II"
        extra = self.tag_v2.get(EXTRASAMPLES, (0,))[0]
        white_is_zero = self.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0
        super().load()
        pairs = np.frombuffer(self.tobytes(), "<u2" if little else ">u2").reshape(self.height, self.width, 2)
        parts = np.empty(pairs.shape, np.uint8)
        for row, values in enumerate(pairs):  # one at a time, for want of memory
            parts[row] = (values.astype(np.uint32) + 128) // 257
        del pairs, values
        if white_is_zero:
            np.subtract(255, parts[..., 0], out=parts[..., 0])
        if extra not in (_ASSOCIATED, _UNASSOCIATED):
            parts[..., 1] = 255
        made = Image.frombytes("La" if extra == _ASSOCIATED else "LA", self.size, parts.tobytes())
        self.im, self._mode = made.im, made.mode
        return super().load()
