"""The container of a glTF file: GLB or JSON, buffers and buffer views."""

from __future__ import annotations

import base64
import json
import re
from urllib.parse import unquote_to_bytes

import numpy as np

from ....core.errors import reading
from ....core.text import shortened
from ..source import Source
from .extensions import MESHOPT, check_extensions, decode_meshopt, is_installed
from .fields import Fields

MAGIC, JSON_CHUNK, BINARY_CHUNK = b"glTF", b"JSON", b"BIN\0"


class Container:
    """The JSON of a glTF file and the bytes that it refers to. Raises ``ReadError`` for what is no glTF 2.0."""

    def __init__(self, source: Source) -> None:
        self.source = source
        text, self._binary = _chunks(source) if source.data[:4] == MAGIC else (source.data, None)
        with reading(source.path):
            encoding = json.detect_encoding(text)
            parsed = json.loads(text.decode(encoding, "replace").rstrip(" \0\r\n\t"))
        self.top = Fields(source, parsed, "")
        version = self.top.fields("asset").text("version", "2.0")
        if not version.startswith("2"):
            raise source.error(f"is glTF {shortened(version)}: convert it to glTF 2.0 (gltf-pipeline, Blender)")
        check_extensions(self.top)
        self._buffers: dict[int, np.ndarray] = {}
        self._views: dict[int, np.ndarray] = {}
        for index in range(len(self.top.each("buffers"))):
            if "uri" in self.top.entry("buffers", index):
                self.buffer(index)  # a missing one is said whether or not something is drawn of it

    @property
    def size(self) -> int:
        """Bytes of the file and of its buffers."""
        return len(self.source.data) + sum(len(buffer) for buffer in self._buffers.values())

    def required(self, extension: str) -> bool:
        """Whether the file cannot be read without the extension."""
        return extension in self.top.each("extensionsRequired")

    def uri(self, text: str, what: str) -> bytes | None:
        """The bytes behind a URI, of this file's folder or written into it; None where the file is missing."""
        data = re.match(r"data:([^,]*),", text[:256], re.IGNORECASE)
        if data:
            body = text[data.end() :]
            if not data[1].lower().rstrip().endswith(";base64"):
                return unquote_to_bytes(body)
            with reading(self.source.path):
                return base64.b64decode(unquote_to_bytes(body) if "%" in body else body)
        path = self.source.beside(text)
        if path is None:
            return None
        with reading(self.source.path):
            return self.source.read(path)

    def buffer(self, index: int) -> np.ndarray:
        """Buffer ``index``, uint8, of the length that the file says."""
        if index not in self._buffers:
            fields = self.top.entry("buffers", index)
            length = fields.whole("byteLength")
            if "uri" in fields:
                content = self.uri(fields.text("uri"), "buffer")
                if content is None:
                    name = shortened(fields.text("uri"))
                    raise self.source.error(f"needs {name!r}, which is missing: put it into the same folder")
            else:
                content = self._binary if index == 0 else None
            if content is None or len(content) < length:
                have = 0 if content is None else len(content)
                raise self.source.error(
                    f"is cut short: {have} of {length} bytes of buffers[{index}]: download it again"
                )
            self._buffers[index] = np.frombuffer(content, np.uint8, length)
        return self._buffers[index]

    def view(self, index: int) -> np.ndarray:
        """The bytes of buffer view ``index``, uint8, decompressed."""
        if index not in self._views:
            fields = self.top.entry("bufferViews", index)
            meshopt = fields.extension(MESHOPT)
            if meshopt is not None and (self._needs(meshopt, fields)):
                self._views[index] = decode_meshopt(meshopt, self._part(meshopt))
            else:
                self._views[index] = self._part(fields)
        return self._views[index]

    def _needs(self, meshopt: Fields, fields: Fields) -> bool:
        """Whether a view must be decompressed: its decoder is there, or the uncompressed bytes are not."""
        if is_installed(MESHOPT) or self.required(MESHOPT):
            return True
        buffer = self.top.entry("buffers", fields.whole("buffer"))
        return "uri" not in buffer and buffer.extension(MESHOPT) is not None

    def _part(self, fields: Fields) -> np.ndarray:
        buffer = self.buffer(fields.whole("buffer"))
        offset, length = fields.whole("byteOffset", 0), fields.whole("byteLength")
        if offset + length > len(buffer):
            raise self.source.error(f"is damaged: {fields.where} reaches beyond its buffer; export it again")
        return buffer[offset : offset + length]


def _chunks(source: Source) -> tuple[bytes, bytes | None]:
    """The JSON and the binary chunk of a GLB, in any order, and among others."""
    data = source.data
    version = int.from_bytes(data[4:8], "little")
    if version != 2:
        raise source.error(f"is GLB {version}: convert it to glTF 2.0 (gltf-pipeline, Blender)")
    if int.from_bytes(data[8:12], "little") > len(data):
        raise source.error(
            f"is cut short: {len(data)} of {int.from_bytes(data[8:12], 'little')} bytes: download it again"
        )
    found: dict[bytes, bytes] = {}
    place = 12
    while place + 8 <= len(data):
        length, kind = int.from_bytes(data[place : place + 4], "little"), data[place + 4 : place + 8]
        found.setdefault(kind, data[place + 8 : place + 8 + length])
        place += 8 + length
    if JSON_CHUNK not in found:
        raise source.error("is damaged: a .glb without its JSON; save or download it again")
    return found[JSON_CHUNK], found.get(BINARY_CHUNK)
