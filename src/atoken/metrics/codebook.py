"""How much of a codebook is used: the share of codes that occur, and the perplexity, group by group."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..nn.fsq import check_indices


class CodebookUse:
    """Counts of the codes of each group; constant memory."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.counts = [torch.zeros(size, dtype=torch.int64) for size in sizes]

    def update(self, codes: Tensor) -> None:
        """Add integer codes [N, G]. Raises ``ValueError`` for another number of groups or a code outside its book."""
        if codes.ndim != 2 or codes.shape[1] != len(self.counts):
            raise ValueError(f"codes must be [N, {len(self.counts)}], not {list(codes.shape)}")
        codes = codes.long().cpu()
        check_indices(codes, list(map(len, self.counts)))
        for counts, column in zip(self.counts, codes.unbind(1), strict=True):
            counts += torch.bincount(column, minlength=len(counts))

    def merge(self, other: CodebookUse) -> None:
        """Add what another shard or rank has counted."""
        for counts, more in zip(self.counts, other.counts, strict=True):
            counts += more

    @property
    def total(self) -> int:
        """Tokens counted."""
        return int(self.counts[0].sum())

    def used(self) -> list[float]:
        """Share of each group's codes that occurred at least once, 0 ... 1."""
        return [float((counts > 0).double().mean()) for counts in self.counts]

    def perplexity(self) -> list[float]:
        """exp of the entropy of each group's codes: from 1 (one code) to the size of the book (all equally often)."""
        shares = [counts.double() / counts.sum() for counts in self.counts]
        return [float(torch.special.entr(share).sum().exp()) for share in shares]
