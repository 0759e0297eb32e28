"""The ``.atok`` token file: a safetensors file with a versioned header and a checksum (docs/tokens.md)."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from ..core.errors import ReadError, reading
from ..core.files import atomic_write
from ..core.regular import open_regular, read_regular
from ..core.text import shortened
from ..nn.packed import dense_coords
from .checks import check_values
from .header import TokenHeader, check_version
from .tokens import Tokens

LARGEST_HEADER = 100_000_000
"""Bytes, as in safetensors itself."""
BLOCK = 1 << 20
CHECKSUM = b'"checksum":"'
BLANK = b"0" * 64
MISMATCH = "the file is damaged: its checksum does not match its contents"

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "I32": torch.int32,
}
"""Dtypes of the tensors in token files, by their names in safetensors."""
NAMES = {dtype: name for name, dtype in DTYPES.items()}


def pack_12bit(codes: Tensor) -> Tensor:
    """Codes 0 ... 4095, uint16 [N, G] with even G -> uint8 [N, G * 3 / 2]: two codes in three bytes, low bits first."""
    pairs = codes.numpy().astype(np.uint32).reshape(len(codes), -1, 2)
    joined = pairs[..., 0] | pairs[..., 1] << 12
    bytes_ = np.stack([joined & 255, joined >> 8 & 255, joined >> 16], -1).astype(np.uint8)
    return torch.from_numpy(bytes_.reshape(len(codes), -1))


def unpack_12bit(packed: Tensor) -> Tensor:
    """The inverse of ``pack_12bit``: uint8 [N, G * 3 / 2] -> uint16 [N, G]."""
    triples = packed.numpy().astype(np.uint32).reshape(len(packed), -1, 3)
    joined = triples[..., 0] | triples[..., 1] << 8 | triples[..., 2] << 16
    return torch.from_numpy(np.stack([joined & 4095, joined >> 12], -1).astype(np.uint16).reshape(len(packed), -1))


def write_tokens(tokens: Tokens, path: Path) -> None:
    """Write ``tokens`` to ``path`` under a temporary name and rename it. Raises ``OSError`` or ``ValueError``."""
    data = to_bytes(tokens)
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def read_tokens(path: Path) -> Tokens:
    """Read a token file; ``ReadError`` with one sentence where it is damaged, newer or not ours."""
    data = read_regular(path)
    try:
        return from_bytes(data)
    except ValueError as error:
        raise ReadError(f"{path}: {error}") from None


def read_modality(path: Path) -> str | None:
    """The modality that the header of a token file names, without reading the rest; None where there is no header."""
    try:
        return str(_peeked(path)["__metadata__"]["modality"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def peek(path: Path) -> tuple[dict[str, str], int]:
    """The header of a token file as it stands, and how many tokens it announces; nothing is checked.

    Raises ``ReadError`` for what has none, and ``OSError``.
    """
    with reading(path):
        header = _peeked(path)
        facts = dict(header["__metadata__"])
        return facts, int(header[values_name(facts["kind"])]["shape"][0])


def _peeked(path: Path) -> Any:
    with open_regular(path) as file:
        return read_header(file)[0]


def to_bytes(
    tokens: Tokens, facts: Mapping[str, str] | None = None, extras: Mapping[str, Tensor] | None = None
) -> bytes:
    """The file's bytes, the same for equal tokens. Coordinates are stored only where they are not the full grid.

    ``facts`` and ``extras`` are metadata and tensors of one's own, which readers of the format leave out. Raises
    ``ValueError`` for tokens that were changed in place into such that no reader would take.
    """
    check_values(tokens.values, tokens.kind, tokens.fsq)
    tensors = {values_name(tokens.kind): stored_values(tokens)}
    if not torch.equal(tokens.coords, dense_coords(tokens.grid)):
        tensors["coords"] = tokens.coords.contiguous()
    if tokens.times is not None:
        tensors["times"] = tokens.times.contiguous()
    tensors |= extras or {}
    parts = [bytes_of(tensor) for tensor in tensors.values()]
    shapes = {name: (tensor.dtype, list(tensor.shape)) for name, tensor in tensors.items()}
    head = head_of({**tokens.to_metadata(), **(facts or {})}, shapes)
    head = head.ljust(-(-len(head) // 8) * 8)
    return sealed(b"".join([len(head).to_bytes(8, "little"), head, *parts]))


def head_of(metadata: dict[str, str], shapes: dict[str, tuple[torch.dtype, list[int]]]) -> bytes:
    """The JSON header of a safetensors file whose tensors follow each other in this order; the checksum is blank.

    safetensors itself writes the metadata in the order of a hash map, another in each process.
    """
    header: dict[str, Any] = {"__metadata__": {**metadata, "checksum": BLANK.decode()}}
    end = 0
    for name, (dtype, shape) in shapes.items():
        start, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": NAMES[dtype], "shape": shape, "data_offsets": [start, end]}
    return json.dumps(header, separators=(",", ":")).encode()


def bytes_of(tensor: Tensor) -> bytes:
    """The numbers of a CPU tensor of at least one dimension, little-endian in row-major order."""
    return np.ascontiguousarray(tensor.contiguous().view(torch.uint8).numpy()).tobytes()


def values_name(kind: str) -> str:
    """Name of the tensor that holds the values of tokens of that kind."""
    return "codes" if kind == "discrete" else "latents"


def stored_values(tokens: Tokens) -> Tensor:
    """The values as they are stored: latents, codes in 12 bits where all fit and are even in number, or uint16."""
    if tokens.kind != "discrete":
        return tokens.values.cpu().contiguous()
    packed = len(tokens.fsq) % 2 == 0 and all(math.prod(group) <= 4096 for group in tokens.fsq)
    return pack_12bit(tokens.values) if packed else tokens.values.contiguous()


def sealed(data: bytes) -> bytes:
    """The file with its checksum in place of the blank one."""
    digest, at = checksum(io.BytesIO(data))
    return data[:at] + digest + data[at + len(digest) :]


def check_sealed(file: IO[bytes]) -> None:
    """Raise ``ValueError`` unless the checksum is that of the file, every byte of it."""
    digest, at = checksum(file)
    file.seek(at)
    if file.read(len(digest)) != digest:
        raise ValueError(MISMATCH)


def checksum(file: IO[bytes]) -> tuple[bytes, int]:
    """SHA-256 over the whole file with the checksum's own digits as zeros, in hexadecimal, and where they stand."""
    file.seek(0)
    _, start = read_header(file)
    file.seek(0)
    head = file.read(start)
    at = head.find(CHECKSUM) + len(CHECKSUM)
    if at < len(CHECKSUM):
        raise ValueError(MISMATCH)
    digest = hashlib.sha256(head[:at] + BLANK + head[at + len(BLANK) :])
    while block := file.read(BLOCK):
        digest.update(block)
    return digest.hexdigest().encode(), at


def read_header(file: IO[bytes]) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, and where its data begin. Raises ``ValueError``."""
    start = file.read(9)
    length = int.from_bytes(start[:8], "little")
    if len(start) < 9 or start[8:] != b"{":
        raise ValueError("not a token file" if start else "the file is empty")
    text = b"{" + file.read(min(length, LARGEST_HEADER) - 1)
    try:
        header = json.loads(text)
        if len(text) != length or not isinstance(header, dict):
            raise ValueError
    except (ValueError, RecursionError):
        raise ValueError("the file is truncated or damaged") from None
    return header, 8 + length


def from_bytes(data: bytes) -> Tokens:
    """The inverse of ``to_bytes``. Raises ``ValueError``."""
    return tokens_of(*read_parts(data))


def read_parts(data: bytes) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a whole token file, as they are stored. Raises ``ValueError`` where it is damaged."""
    header, _ = read_header(io.BytesIO(data))
    try:
        tensors = safetensors.torch.load(data)
    except SafetensorError:
        raise ValueError("the file is truncated or damaged") from None
    except KeyError as error:
        raise ValueError(
            f"the file holds tensors of {shortened(error.args[0])}, which token files do not have"
        ) from None
    metadata = header.get("__metadata__") or {}
    check_version(metadata)
    check_sealed(io.BytesIO(data))
    return metadata, tensors


def tokens_of(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> Tokens:
    """The tokens out of the parts of a token file. Raises ``ValueError`` where they contradict each other."""
    stored = tensors.get(values_name(metadata.get("kind", "")))
    if stored is None or stored.ndim != 2:
        raise ValueError("the tokens are missing or no matrix")
    header = TokenHeader.from_metadata(metadata, tensors.get("times"))
    coords = tensors.get("coords")
    if coords is None:
        if math.prod(header.grid) != len(stored):  # a grid without its tokens may be larger than memory
            raise ValueError(f"{len(stored)} tokens do not fill the grid {shortened(header.grid)}, and have no coords")
        coords = dense_coords(header.grid)
    return Tokens(**vars(header), values=unpacked(header, stored), coords=coords)


def unpacked(header: TokenHeader, stored: Tensor) -> Tensor:
    """The inverse of ``stored_values``."""
    packed = header.kind == "discrete" and stored.dtype == torch.uint8 and 2 * stored.shape[1] == 3 * len(header.fsq)
    return unpack_12bit(stored) if packed else stored
