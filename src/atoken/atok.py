"""The ``.atok`` token file: a safetensors file with a versioned header and a checksum (docs/tokens.md)."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from .checks import check_facts, check_tokens
from .files import atomic_write
from .tokens import Tokens, dense_coords

VERSION = 1
LONGEST_HEADER = 1 << 20
CHECKSUM = b'"checksum":"'
BLANK = b"0" * 64
MISMATCH = "the file is damaged: its checksum does not match its contents"


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
    """Read a token file; ``ValueError`` with one sentence where it is damaged, newer or not ours."""
    try:
        return from_bytes(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_modality(path: Path) -> str | None:
    """The modality that the header of a token file names, without reading the rest; None where there is no header."""
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, LONGEST_HEADER)))
        return str(header["__metadata__"]["modality"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def to_bytes(tokens: Tokens) -> bytes:
    """The file's bytes. Coordinates are stored only where they are not the full grid in row-major order.

    Raises ``ValueError`` for tokens that contradict themselves, which no reader would take.
    """
    check_tokens(tokens)
    tensors = {values_name(tokens.kind): stored_values(tokens)}
    if not torch.equal(tokens.coords, dense_coords(tokens.grid)):
        tensors["coords"] = tokens.coords.to(torch.int32).contiguous()
    if tokens.times is not None:
        tensors["times"] = tokens.times.to(torch.float64).contiguous()
    return sealed(safetensors.torch.save(tensors, metadata_of(tokens)))


def metadata_of(tokens: Tokens) -> dict[str, str]:
    """The header, with a blank checksum."""
    header = {
        "format": "atok",
        "version": VERSION,
        "modality": tokens.modality,
        "kind": tokens.kind,
        "model": tokens.model,
        "weights": tokens.weights,
        "grid": tokens.grid,
        "size": tokens.size,
        "box": tokens.box,
        "value_range": tokens.value_range,
        "checksum": BLANK.decode(),
    }
    if tokens.kind == "discrete":
        header["fsq"] = tokens.fsq
    if tokens.first_frame:
        header["first_frame"] = tokens.first_frame
    if tokens.transform is not None:
        header["transform"] = tokens.transform
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in header.items()}


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
    at = data.index(CHECKSUM) + len(CHECKSUM)
    return data[:at] + hashlib.sha256(data).hexdigest().encode() + data[at + 64 :]


def from_bytes(data: bytes) -> Tokens:
    """The inverse of ``to_bytes``. Raises ``ValueError``."""
    header, tensors = _parse(data)
    check_version(header)
    _verify(data)
    stored = tensors.get(values_name(header.get("kind", "")))
    if stored is None or stored.ndim != 2:
        raise ValueError("the tokens are missing or no matrix")
    facts = facts_of(header, tensors.get("times"), len(stored))
    coords = tensors.get("coords")
    if coords is None:
        if math.prod(facts.grid) != len(stored):  # a grid without its tokens may be larger than memory
            raise ValueError(f"{len(stored)} tokens do not fill the grid {facts.grid}, and have no coords")
        coords = dense_coords(facts.grid)
    tokens = replace(facts, values=unpacked(facts, stored), coords=coords)
    check_tokens(tokens)
    return tokens


def check_version(header: dict[str, str]) -> None:
    """Raise ``ValueError`` where the header is not that of a token file, or of a newer one."""
    version = header.get("version", "")
    if header.get("format") != "atok":
        raise ValueError("not a token file: a safetensors file without the atok header")
    if not version.isdecimal():
        raise ValueError(f"the header is not complete (version {version!r})")
    if int(version) > VERSION:
        raise ValueError(f"written by a newer version of the format ({version}; this one reads up to {VERSION})")


def facts_of(header: dict[str, str], times: Tensor | None, count: int) -> Tokens:
    """What the metadata say of ``count`` tokens, themselves left out, once it fits together. Raises ``ValueError``."""
    try:
        facts = _facts(header, times)
    except (KeyError, TypeError, RecursionError, json.JSONDecodeError) as error:
        raise ValueError(f"the header is not complete ({error})") from None
    check_facts(facts, count)
    return facts


def unpacked(facts: Tokens, stored: Tensor) -> Tensor:
    """The inverse of ``stored_values``."""
    packed = facts.kind == "discrete" and stored.dtype == torch.uint8 and 2 * stored.shape[1] == 3 * len(facts.fsq)
    return unpack_12bit(stored) if packed else stored


def _parse(data: bytes) -> tuple[dict[str, str], dict[str, Tensor]]:
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or data[8:9] != b"{":
        raise ValueError("not a token file" if data else "the file is empty")
    try:
        header = json.loads(data[8 : 8 + length]).get("__metadata__") or {}
        return header, safetensors.torch.load(data)
    except (SafetensorError, ValueError, AttributeError, RecursionError):
        raise ValueError("the file is truncated or damaged") from None
    except KeyError as error:
        raise ValueError(f"the file holds tensors of {error.args[0]}, which token files do not have") from None


def _verify(data: bytes) -> None:
    """The checksum covers every byte of the file, with its own 64 digits read as zeros."""
    at = data.find(CHECKSUM) + len(CHECKSUM)
    digest = data[at : at + 64]
    if at < len(CHECKSUM) or hashlib.sha256(data[:at] + BLANK + data[at + 64 :]).hexdigest().encode() != digest:
        raise ValueError(MISMATCH)


def _facts(header: dict[str, str], times: Tensor | None) -> Tokens:
    def numbers(key: str) -> tuple[Any, ...]:
        return tuple(json.loads(header[key]))

    return Tokens(
        kind=header["kind"],
        values=torch.zeros(0, 0),
        coords=torch.zeros(0, 4, dtype=torch.int32),
        grid=numbers("grid"),
        size=numbers("size"),
        box=numbers("box"),
        model=header["model"],
        weights=header["weights"],
        modality=header["modality"],
        value_range=numbers("value_range"),
        **({"fsq": tuple(map(tuple, numbers("fsq")))} if header["kind"] == "discrete" else {}),
        times=times,
        first_frame=json.loads(header.get("first_frame", "0")),
        transform=tuple(map(tuple, numbers("transform"))) if "transform" in header else None,
    )
