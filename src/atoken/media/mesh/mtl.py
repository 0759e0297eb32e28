"""Material libraries of OBJ files (.mtl), as their specification and the common writers have them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .material import ALPHA_CUTOFF, Material, Wrap
from .source import Source, name_of, text_of

OPTIONS = {
    "-blendu": 1,
    "-blendv": 1,
    "-bm": 1,
    "-boost": 1,
    "-cc": 1,
    "-clamp": 1,
    "-colorspace": 1,
    "-imfchan": 1,
    "-mm": 2,
    "-o": 3,
    "-s": 3,
    "-t": 3,
    "-texres": 1,
    "-type": 1,
}
"""Options of a texture and how many values they have; ``-o``, ``-s`` and ``-t`` may have fewer."""


@dataclass
class ObjMaterial:
    """A material and how it moves the texture coordinates: ``uv * scale + offset``."""

    material: Material
    scale: np.ndarray = field(default_factory=lambda: np.ones(2))
    offset: np.ndarray = field(default_factory=lambda: np.zeros(2))


def read_library(source: Source, name: str) -> dict[str, ObjMaterial]:
    """The materials of the library ``name`` beside ``source``; none, with a note, where it is missing."""
    path = source.beside(name)
    if path is None:
        source.note(f"{name!r} is missing, so what it colours is white")
        return {}
    statements: dict[str, dict[str, bytes]] = {}
    current: dict[str, bytes] = {}
    for line in text_of(source.read(path)).replace(b"\\\r\n", b" ").replace(b"\\\n", b" ").splitlines():
        key, _, value = line.strip().replace(b"\t", b" ").partition(b" ")
        if key.lower() == b"newmtl":
            current = statements.setdefault(name_of(value.strip()), {})
        elif key and value.strip():
            current[key.lower().decode("ascii", "replace")] = value.strip()
    return {name: _material(source, name, values) for name, values in statements.items()}


def _material(source: Source, name: str, values: dict[str, bytes]) -> ObjMaterial:
    colour = _colour(source, name, values.get("kd"))
    colour[3] = _opacity(source, name, values)
    texture, mask = (values.get(key) for key in ("map_kd", "map_d"))
    shown = mask if texture is None else texture
    if shown is None:
        return ObjMaterial(Material(colour, False, (), ALPHA_CUTOFF if colour[3] < 1 else None))
    if texture is not None and colour[:3].max() < 0.05:
        colour[:3] = 1  # exporters of textured OBJ often leave Kd black, and readers ignore it then
    options, file = texture_statement(name_of(shown), lambda named: source.beside(named) is not None)
    if mask is None:
        mips = source.texture(file, alpha=True)
    else:
        _, opacity = texture_statement(name_of(mask), lambda named: source.beside(named) is not None)
        mips = source.masked(None if texture is None else file, opacity)
    wrap = Wrap("clamp", "clamp") if options.get("-clamp", ["off"])[0].lower() == "on" else Wrap()
    return ObjMaterial(
        Material(colour, False, mips, ALPHA_CUTOFF if mips or colour[3] < 1 else None, wrap),
        _pair(options.get("-s", []), 1.0),
        _pair(options.get("-o", []), 0.0),
    )


def _colour(source: Source, name: str, value: bytes | None) -> np.ndarray:
    """Kd as float32 [4]; white where it is missing or no RGB, as a library's placeholder would be no colour."""
    colour = np.ones(4, np.float32)
    parts = value.split() if value is not None else []
    numbers = [number for number in map(_number, parts[:3]) if number is not None]
    if value is None or len(numbers) < min(len(parts), 3):
        if value is not None:
            source.note(f"the material {name!r} has a Kd that is no RGB ({name_of(value)[:40]!r}), so it is white")
        return colour
    colour[:3] = numbers if len(numbers) == 3 else numbers[0]  # one number is grey
    if colour[:3].max() > 1 or colour[:3].min() < 0:
        source.note(f"the material {name!r} has a Kd outside of 0 ... 1: it is cut to that")
    return np.clip(colour, 0, 1)


def _opacity(source: Source, name: str, values: dict[str, bytes]) -> float:
    """``d``, or where it is missing 1 - ``Tr``; 1 where neither is a number of 0 ... 1."""
    for key in ("d", "tr"):
        number = _number(values[key].split()[-1]) if key in values else None
        if number is None:
            continue
        if key == "tr" and number == 1:
            source.note(f"the material {name!r} has Tr 1, which some writers mean as opaque: it is taken so")
            return 1.0
        return float(np.clip(number if key == "d" else 1 - number, 0, 1))
    return 1.0


def _number(text: bytes | str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _pair(values: list[str], default: float) -> np.ndarray:
    numbers = [_number(value) for value in values[:2]]
    return np.array([default if n is None else n for n in (*numbers, None, None)[:2]], np.float64)


def texture_statement(text: str, exists: Callable[[str], bool]) -> tuple[dict[str, list[str]], str]:
    """Options and file name of a ``map_`` statement; a name that ``exists`` is one whatever it looks like."""
    options: dict[str, list[str]] = {}
    rest = text.strip()
    while rest.startswith("-") and not exists(unquoted(rest)):
        option, _, rest = rest.partition(" ")
        most = OPTIONS.get(option.lower(), 0)
        values = options.setdefault(option.lower(), [])
        numeric = option.lower() in ("-o", "-s", "-t")
        while len(values) < most and rest.strip():
            value, _, after = rest.strip().partition(" ")
            if not after.strip() or (numeric and _number(value) is None):
                break
            values.append(value)
            rest = after
        rest = rest.strip()
    if "#" in rest and not exists(unquoted(rest)):  # a comment behind it
        rest = rest.partition(" #")[0]
    return options, unquoted(rest)


def unquoted(name: str) -> str:
    """A file's name without the quotes around it or the backslashes before its spaces."""
    name = name.strip()
    if len(name) > 1 and name[0] == name[-1] and name[0] in "\"'":
        return name[1:-1]
    return name.replace("\\ ", " ")
