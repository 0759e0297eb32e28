"""What a task is given: samples of any modality and size, packed up to a token budget."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.batching import within_budget
from ..media.patchify import patches_to_image
from ..media.views.cameras import Cameras
from ..nn.packed import Packed
from ..tokens.patch import FRAME_FEATURES


@dataclass(frozen=True, eq=False)
class Targets:
    """What an asset looks like, for the losses on renderings."""

    pictures: Tensor
    """fp32 [V, 3, H, W] in [0, 1], on black."""
    cameras: Cameras


@dataclass(frozen=True, eq=False)
class Sample:
    """One picture, clip or asset as patches, with what belongs to it."""

    modality: str
    """"image", "video" or "3d"."""
    feats: Tensor
    """fp32 [n, 768] (frame 0 alone) or [n, 3072], in [-1, 1]."""
    coords: Tensor
    """int32 [n, 4] = (t, x, y, z)."""
    grid: tuple[int, int, int, int]
    """Patches along t, x, y, z."""
    caption: str | None = None
    scores: Tensor | None = None
    """A teacher's scores of the picture over its texts, fp32 [T], where they are known beforehand."""
    views: Targets | None = None
    """3D: pictures of the asset, where the Gaussian head is to learn from them."""
    name: str | None = None
    """What its file is called, where one sample comes from one file."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Packed samples, and where the feed that they came from stands after them."""

    packed: Packed
    """feats [N, 768], or [N, 3072] where any sample moves."""
    samples: tuple[Sample, ...]
    """What the packed tokens belong to, in order, without their own copies of the patches."""
    seed: int = 0
    """Of the posterior's noise."""
    cursor: dict[str, Any] = field(default_factory=dict)

    def __reduce__(self) -> tuple[Any, ...]:
        """Packed tensors go between processes in shared memory, those of single samples, hundreds, by value."""
        return _joined, (self.packed, pickle.dumps((self.samples, self.seed, self.cursor)))

    def pinned(self) -> Batch:
        """The same batch with its packed tensors in pinned memory."""
        return replace(self, packed=Packed(self.packed.feats.pin_memory(), self.packed.coords.pin_memory()))

    @property
    def captions(self) -> list[str]:
        """The samples' captions. Raises ``ValueError`` where one has none."""
        texts = [sample.caption for sample in self.samples]
        if None in texts:
            raise ValueError("a task about text needs a caption with every sample")
        return [text for text in texts if text is not None]

    @property
    def scores(self) -> Tensor | None:
        """The teacher's scores, fp32 [B, T], where every sample has them."""
        scores = [sample.scores for sample in self.samples if sample.scores is not None]
        return torch.stack(scores) if len(scores) == len(self.samples) else None

    def pictures(self, patches: Tensor) -> list[Tensor]:
        """The images of ``patches`` [N, C >= 768], each fp32 [3, H, W]; samples of other modalities are left out."""
        parts = patches[:, :FRAME_FEATURES].split(self.packed.lengths)
        return [
            patches_to_image(part, sample.grid, (0, 0, sample.grid[1] * 16, sample.grid[2] * 16))
            for part, sample in zip(parts, self.samples, strict=True)
            if sample.modality == "image"
        ]

    def valid(self, patches: Tensor) -> Tensor | None:
        """Which numbers of patches [N, C] mean anything, [N, C]; None where all do. Images have frame 0 alone."""
        if patches.shape[1] == FRAME_FEATURES or all(sample.feats.shape[1] > FRAME_FEATURES for sample in self.samples):
            return None
        widths = torch.tensor([sample.feats.shape[1] for sample in self.samples], device=patches.device)
        number = torch.arange(patches.shape[1], device=patches.device)
        return number < widths[self.packed.coords[:, 0].long().to(patches.device), None]


@dataclass(frozen=True, eq=False)
class TensorBatch:
    """A batch of tensors by name, for models that need no more."""

    tensors: dict[str, Tensor]
    seed: int = 0
    """Of what the model draws at random for it."""
    cursor: dict[str, Any] = field(default_factory=dict)

    def pinned(self) -> TensorBatch:
        """The same batch in pinned memory."""
        return replace(self, tensors={name: tensor.pin_memory() for name, tensor in self.tensors.items()})

    def to(self, device: str | torch.device) -> dict[str, Tensor]:
        """The tensors on ``device``, without waiting for copies from pinned memory."""
        return {name: tensor.to(device, non_blocking=True) for name, tensor in self.tensors.items()}


def _joined(packed: Packed, rest: bytes) -> Batch:
    return Batch(packed, *pickle.loads(rest))


def pack(samples: Sequence[Sample], seed: int = 0, cursor: dict[str, Any] | None = None) -> Batch:
    """Join samples of any modality; still ones are padded with grey frames only where they meet moving ones."""
    width = max(sample.feats.shape[1] for sample in samples)
    padded = [(F.pad(sample.feats, (0, width - sample.feats.shape[1])), sample.coords) for sample in samples]
    empty = {each: samples[0].feats.new_empty(0, each) for each in {sample.feats.shape[1] for sample in samples}}
    emptied = tuple(replace(sample, feats=empty[sample.feats.shape[1]]) for sample in samples)
    return Batch(Packed.cat(padded), emptied, seed, cursor or {})


def fill(
    samples: Iterable[tuple[Sample, dict[str, Any]]], budget: int, most: int | None = None
) -> Iterator[tuple[list[Sample], dict[str, Any]]]:
    """Lists of samples of at most ``budget`` tokens and ``most`` samples, each with the cursor after its last sample.

    The sample that no longer fits opens the next list, so the order is kept and nothing is lost. Raises ``ValueError``
    for a sample that is larger than the budget by itself.
    """

    def tokens(read: tuple[Sample, dict[str, Any]]) -> int:
        count = len(read[0].coords)
        if count > budget:
            raise ValueError(
                f"a sample has {count} tokens, and the task's budget is {budget}: raise it or the lower one"
            )
        return count

    for batch in within_budget(samples, tokens, budget, most):
        yield [sample for sample, _ in batch], batch[-1][1]
