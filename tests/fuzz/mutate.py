"""Mutations of files: of their bytes, of their text, and of the JSON inside them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import numpy as np

Rng = np.random.Generator
Files = dict[str, bytes]
"""A case: names and contents; the first is what is read, the others lie beside it."""

TEXTS = (".obj", ".mtl", ".off", ".gltf", ".dae", ".yaml", ".json")
EDGES = [0, 1, 2, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1]
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 3, 255, 4096, 2**31, -(2**31), 2**63, 2**64, 10**400, 0.5, -0.0, 1e-300, 1e300),
    *(float("nan"), float("inf"), -float("inf"), "", "x", "x" * 5000, "../../../etc/passwd", "/dev/zero", "\x1b[31m\n"),
    *("\ud800", "1", "nan", "file:///etc/passwd", "pipe:id", [], {}, [[]], [0], [1, 2, 3], {"a": 1}, [0] * 1000),
]
WORDS = [
    *("0", "-1", "nan", "inf", "1e999", "99999999999999999999", "2147483648", "x" * 3000, "", "../..", "/dev/zero"),
    *(
        "!!binary x",
        "!!timestamp x",
        "!!python/object:os.system",
        "&a [*a, *a]",
        "[" * 5000,
        "{" * 500,
        "\x00",
        "- " * 99,
    ),
]


def of_bytes(data: bytes, other: bytes, rng: Rng) -> bytes:
    """One to four changes; ``other`` is a file of the same kind to take pieces from."""
    for _ in range(int(rng.integers(1, 5))):
        change = BYTE_CHANGES[rng.integers(len(BYTE_CHANGES))]
        data = change(bytearray(data or b"\0"), other or b"\0", rng)
    return data


def _flip(data: bytearray, _: bytes, rng: Rng) -> bytes:
    for _ in range(int(rng.integers(1, 9))):
        data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
    return bytes(data)


def _overwrite(data: bytearray, _: bytes, rng: Rng) -> bytes:
    at = int(rng.integers(len(data)))
    length = int(rng.integers(1, 17))
    data[at : at + length] = rng.bytes(len(data[at : at + length]))
    return bytes(data)


def _edge(data: bytearray, _: bytes, rng: Rng) -> bytes:
    size = int(rng.choice([1, 2, 4, 8]))
    value = EDGES[rng.integers(len(EDGES))] % 256**size
    at = int(rng.integers(len(data)))
    data[at : at + size] = value.to_bytes(size, "big" if rng.integers(2) else "little")[: len(data) - at]
    return bytes(data)


def _cut(data: bytearray, _: bytes, rng: Rng) -> bytes:
    return bytes(data[: rng.integers(len(data))])


def _remove(data: bytearray, _: bytes, rng: Rng) -> bytes:
    at = int(rng.integers(len(data)))
    return bytes(data[:at] + data[at + int(rng.integers(1, 65)) :])


def _repeat(data: bytearray, _: bytes, rng: Rng) -> bytes:
    at, size = int(rng.integers(len(data))), int(rng.integers(1, 257))
    return bytes(data[: at + size] + data[at:])


def _insert(data: bytearray, _: bytes, rng: Rng) -> bytes:
    at = int(rng.integers(len(data) + 1))
    return bytes(data[:at]) + rng.bytes(int(rng.integers(1, 17))) + bytes(data[at:])


def _splice(data: bytearray, other: bytes, rng: Rng) -> bytes:
    at, size = int(rng.integers(len(other))), int(rng.integers(1, 513))
    place = int(rng.integers(len(data)))
    return bytes(data[:place]) + other[at : at + size] + bytes(data[place + size * int(rng.integers(2)) :])


BYTE_CHANGES: list[Callable[[bytearray, bytes, Rng], bytes]] = [
    *(_flip, _flip, _overwrite, _edge, _edge, _cut, _remove, _repeat, _insert, _splice),
]


def of_text(data: bytes, rng: Rng) -> bytes:
    """Words replaced, lines removed, repeated and exchanged."""
    lines = data.decode("latin-1").split("\n")
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(len(lines)))
        change = int(rng.integers(5))
        if change == 0:
            del lines[at : at + int(rng.integers(1, 4))]
        elif change == 1:
            lines.insert(at, lines[rng.integers(len(lines))] if lines else "")
        elif change == 2:
            lines.insert(at, WORDS[rng.integers(len(WORDS))])
        else:
            words = lines[at].split(" ")
            words[rng.integers(len(words))] = WORDS[rng.integers(len(WORDS))]
            lines[at] = " ".join(words)
        lines = lines or [""]
    return "\n".join(lines).encode("latin-1")


def of_json(value: Any, rng: Rng) -> Any:
    """A copy with one to three changed, removed, added or doubled entries."""
    value = copy.deepcopy(value)
    for _ in range(int(rng.integers(1, 4))):
        owners = _owners(value)
        if not owners:
            return VALUES[rng.integers(len(VALUES))]
        owner = owners[rng.integers(len(owners))]
        keys = list(owner) if isinstance(owner, dict) else list(range(len(owner)))
        key, change = keys[rng.integers(len(keys))], int(rng.integers(6))
        if change == 0:
            del owner[key]
        elif change == 1:
            owner[key] = copy.deepcopy(owner[keys[rng.integers(len(keys))]])
        elif change == 2 and isinstance(owner, dict):
            owner[f"{key}x"] = owner[key]
        elif change == 3 and isinstance(owner[key], int | float) and not isinstance(owner[key], bool):
            owner[key] = owner[key] * int(rng.choice([-1, 2, 3, 1000])) + int(rng.integers(-2, 3))
        elif change == 4 and isinstance(owner[key], str) and owner[key][:1] in ("[", "{"):
            owner[key] = json.dumps(of_json(json.loads(owner[key]), rng))
        else:
            owner[key] = copy.deepcopy(VALUES[rng.integers(len(VALUES))])
    return value


def _owners(value: Any) -> list[Any]:
    """All dicts and lists in ``value`` that have entries."""
    found = [value] if isinstance(value, dict | list) and value else []
    for entry in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        found += _owners(entry)
    return found


def to_json(value: Any) -> bytes:
    """JSON with NaN and infinity as Python writes them; lone surrogates are escaped."""
    return json.dumps(value, separators=(",", ":")).encode()


def of_files(files: Files, other: Files, rng: Rng) -> Files:
    """A change of the first file, or more seldom of one beside it."""
    name = list(files)[int(rng.integers(len(files))) if rng.integers(3) == 0 else 0]
    pieces = next(iter(other.values()))
    text = name.endswith(TEXTS) or files[name][:9] == b"ply\nforma"
    changed = of_text(files[name], rng) if text and rng.integers(2) else of_bytes(files[name], pieces, rng)
    return {**files, name: changed}
