"""Frozen dataclasses from plain values, as JSON and YAML give them: a typo or a wrong type raises."""

from __future__ import annotations

import dataclasses
import reprlib
import sys
import types
from collections.abc import Mapping
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from .text import shortened

Config = TypeVar("Config")


def from_mapping(cls: type[Config], values: Mapping[str, Any], where: str) -> Config:
    """Build the frozen dataclass ``cls`` from plain values (JSON, YAML), nested dataclasses included.

    Raises ``ValueError`` that names ``where`` and the key, for an unknown key, a missing key or a wrong type.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{where}: expected a table of keys, found {type(values).__name__}")
    assert dataclasses.is_dataclass(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    if unknown := sorted(set(values) - set(fields), key=str):
        raise ValueError(f"{where}: unknown key {shortened(repr(unknown[0]))}; the keys are {', '.join(fields)}")
    hints = get_type_hints(cls)
    missing, present = dataclasses.MISSING, {}
    for name, field in fields.items():
        if name in values:
            present[name] = _checked(values[name], hints[name], f"{where}, key {name!r}")
        elif field.default is missing and field.default_factory is missing:
            raise ValueError(f"{where}: key {name!r} is missing")
    return cls(**present)


_QUOTED = reprlib.Repr()
"""Values of any size and depth in a sentence: repr of a table of aliases may be endless."""
_QUOTED.maxstring = _QUOTED.maxother = 80


def _checked(value: Any, hint: Any, where: str) -> Any:
    """``value`` as the type ``hint``: lists become tuples, whole numbers become floats, nothing else is converted."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _checked(value, next(arg for arg in args if arg is not type(None)), where)
    if origin is tuple and isinstance(value, list | tuple):
        inner = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        if len(inner) == len(value):
            return tuple(_checked(v, t, f"{where}[{i}]") for i, (v, t) in enumerate(zip(value, inner, strict=True)))
    elif origin is dict and isinstance(value, Mapping) and all(type(key) is str for key in value):
        return dict(value)
    elif isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return from_mapping(hint, value, where)
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if abs(value) <= sys.float_info.max:  # no NaN, no infinity, no integer beyond
            return float(value)
    elif isinstance(hint, type) and type(value) is hint:
        return value
    raise ValueError(f"{where}: expected {getattr(hint, '__name__', hint)}, found {shortened(_QUOTED.repr(value))}")
