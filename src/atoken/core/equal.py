"""Equality of dataclasses that hold tensors, where the ``==`` of the fields would give tensors of truth values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch


def equal_fields(a: Any, b: object) -> bool:
    """Whether two dataclass objects have one type and equal fields: tensors, alone or in a
    table, are equal in dtype, shape and all values.

    Tensors on different devices are not equal. NaN equals nothing, itself included.
    """
    names = [field.name for field in dataclasses.fields(a)]
    return type(a) is type(b) and all(_equal(getattr(a, name), getattr(b, name)) for name in names)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)
    if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
        return False
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    return bool(a == b)
