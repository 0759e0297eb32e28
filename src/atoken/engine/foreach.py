"""The one place that calls torch's private operations on lists of tensors (``torch._foreach_*``)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor


def foreach(operation: str, tensors: Sequence[Tensor], *others: Any, **scalars: float) -> list[Tensor]:
    """``tensor.operation(...)`` of each tensor, in one kernel where this version of torch has it.

    ``others`` are lists with one tensor for each of ``tensors``, or numbers for all; a name that ends in "_" works in
    place.
    """
    fused = getattr(torch, f"_foreach_{operation}", None)
    if fused is not None:
        return list(fused(tensors, *others, **scalars) or tensors)
    columns = [[other] * len(tensors) if isinstance(other, int | float) else other for other in others]
    rows = zip(tensors, *columns, strict=True)
    return [getattr(tensor, operation)(*row, **scalars) for tensor, *row in rows]


def local(tensors: Iterable[Tensor]) -> list[Tensor]:
    """This rank's part of each tensor: itself, unless it is sharded. Without gradients."""
    with torch.no_grad():
        return [tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in tensors]
