"""A 3D file with the files that it names: what its reader asks for, and what it has to say about it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import numpy as np
from PIL import Image

from ...core.errors import ReadError
from ...core.regular import Folder, is_name, read_regular
from ...core.text import shortened
from ..image.opener import DEFAULT_MAX_PIXELS, check_size, decoding, opened
from ..image.pillow import rgba_of
from .material import mips_of

MOST_TEXELS = 2**29
"""Texels of all textures of one asset: 2.9 GB with their halved sizes."""


class Source:
    """One 3D file: its bytes, the files beside it, its textures, and the notes that become warnings.

    ``data`` are its bytes where they are read already. Raises ``OSError`` where it cannot be opened.
    """

    def __init__(self, path: Path, max_pixels: int = DEFAULT_MAX_PIXELS, data: bytes | None = None) -> None:
        self.path = path
        self.max_pixels = max_pixels
        self.data = read_regular(path) if data is None else data
        self.notes: list[str] = []
        self._folder = Folder(path.parent)
        self._listed: dict[Path, dict[str, str]] = {}
        self._files: dict[Path, bytes] = {}
        self._textures: dict[tuple[object, bool], tuple[np.ndarray, ...]] = {}
        self._texels = 0

    def error(self, what: str) -> ReadError:
        """What says that this file cannot be read: ``what`` follows its name."""
        return ReadError(f"{self.path} {what}")

    def note(self, what: str) -> None:
        """Keep what was read otherwise than the file has it, once, for a warning."""
        line = f"{self.path}: {what}"
        if line not in self.notes:
            self.notes.append(line)

    def beside(self, name: str) -> Path | None:
        """The file that this one names ``name``, or None where there is none.

        Names may be percent-encoded, have backslashes or other upper and lower case, as Windows does not mind, and may
        have lost their folder. Raises ``ReadError`` for one that lies outside of this file's folder, symbolic links
        resolved.
        """
        for spelt in dict.fromkeys((name, unquote(name))):
            clean = spelt.strip().replace("\\", "/")
            if not is_name(clean):
                continue
            for found in self._spelt(clean):
                if not self._folder.holds(found):
                    raise self.error(f"refers to {shortened(name)!r}, outside its folder: refused")
                if os.path.isfile(real := self._folder.real(found)):
                    return Path(real)
        return None

    def _spelt(self, name: str) -> Iterator[str]:
        """Paths that a file ``name`` may have."""
        yield os.path.join(self._folder.path, name)
        for other in dict.fromkeys((name, name.rpartition("/")[2])):
            if (found := self._any_case(other)) is not None:
                yield str(found)

    def _any_case(self, name: str) -> Path | None:
        """The file ``name`` of the folder whatever the case of its letters."""
        place = Path(self._folder.path)
        for part in name.split("/"):
            if part in ("", "."):
                continue
            if place not in self._listed:
                self._listed[place] = {entry.lower(): entry for entry in os.listdir(place)} if place.is_dir() else {}
            found = part if part == ".." else self._listed[place].get(part.lower())
            if found is None:
                return None
            place = place / found
        return place

    def read(self, path: Path) -> bytes:
        """The bytes of a file beside this one; each is read once."""
        if path not in self._files:
            self._files[path] = read_regular(path)
        return self._files[path]

    def texture(self, name: str, *, alpha: bool) -> tuple[np.ndarray, ...]:
        """The texture in the file ``name``, as ``picture`` gives it; none, with a note, where it is missing."""
        path = self.beside(name)
        if path is None:
            self.note(f"{shortened(name)!r} is missing, so what it colours keeps its base colour")
            return ()
        return self.picture(path, f"{self.path}: the texture {shortened(name)!r}", key=path, alpha=alpha)

    def masked(self, name: str | None, mask: str) -> tuple[np.ndarray, ...]:
        """The texture ``name``, white where it is None, with the opacity that the picture ``mask`` has: its alpha, or,
        where it has none and is another file, how bright it is. As ``texture`` where one of them is missing."""
        opacity = self.texture(mask, alpha=True)
        if not opacity:
            return () if name is None else self.texture(name, alpha=True)
        alpha = opacity[0][..., 3]
        if (alpha == 255).all() and (name is None or self.beside(name) != self.beside(mask)):
            alpha = np.asarray(Image.fromarray(opacity[0][..., :3]).convert("L"))
        if name is None:
            return mips_of(np.full((*alpha.shape, 3), 255, np.uint8), alpha)
        texture = self.texture(name, alpha=False)
        if not texture:
            return ()
        height, width = texture[0].shape[:2]
        fitting = Image.fromarray(alpha).resize((width, height), Image.Resampling.BILINEAR)
        return mips_of(texture[0][..., :3], np.asarray(fitting))

    def picture(self, content: Path | bytes, name: str, *, key: object, alpha: bool) -> tuple[np.ndarray, ...]:
        """A texture and its halved sizes, uint8 [h, w, 4]; ``key`` tells it from the others of this asset.

        Without ``alpha`` that of the file is left out. Profiles and orientations do not count, as in glTF 2.0 (section
        3.8.2). Raises ``ReadError`` for another format than those of pictures, above ``max_pixels``, and damage.
        """
        if (key, alpha) not in self._textures:
            with opened(content, name=name, max_pixels=self.max_pixels) as picture, decoding(picture):
                self._textures[key, alpha] = self.loaded(picture.image, name, alpha=alpha, low=picture.low)
        return self._textures[key, alpha]

    def loaded(
        self, image: Image.Image, name: str, *, alpha: bool, low: Image.Image | None = None
    ) -> tuple[np.ndarray, ...]:
        """As ``picture`` for an open one; ``low`` has the lower bytes of 16-bit colours."""
        self.count(image.size, name)
        image.info.pop("icc_profile", None)
        rgba = rgba_of(image, name, self.notes, None, low)
        return mips_of(rgba[..., :3], rgba[..., 3] if alpha else None)

    def count(self, size: tuple[int, int], name: str) -> None:
        """Count a texture of (width, height) that is about to be decoded. Raises ``ReadError`` above the limits."""
        check_size(size, name, self.max_pixels)
        self._texels += size[0] * size[1]
        if self._texels > MOST_TEXELS:
            raise self.error(f"has textures of more than {MOST_TEXELS:,} pixels in all: make them smaller")


def text_of(data: bytes) -> bytes:
    """The lines of a text file as bytes in UTF-8 or what it was written in: no byte order mark, no UTF-16."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace").encode()
    return data.removeprefix(b"\xef\xbb\xbf")


def name_of(text: bytes) -> str:
    """A name in a text file: UTF-8, or Latin-1 where it is not."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")
