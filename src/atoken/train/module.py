"""The model together with what its tasks learn: the one module that is wrapped, optimised and saved."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..data.batch import Batch
from ..nn.packed import Packed
from ..pipeline.atoken import AToken
from ..tokens.patch import FRAME_FEATURES, PATCH_FEATURES
from .tasks import Task, bottleneck


class TrainModule(nn.Module):
    """``forward`` turns a batch of a named task into its terms, unweighted scalars by name.

    Parameters that a task adds (the sigmoid loss's scale and bias) are registered under ``extras``, those of a
    recipe's own bottleneck under ``bottleneck``.
    """

    def __init__(self, model: AToken, tasks: Mapping[str, Task], own: object = None) -> None:
        super().__init__()
        self.model = model
        self.tasks = dict(tasks)
        extras = {name: task.extra for name, task in self.tasks.items() if task.extra is not None}
        self.extras = nn.ModuleDict({name.replace(".", "-"): extra for name, extra in extras.items()})
        self.bottleneck = own if isinstance(own, nn.Module) else None

    def forward(self, task: str, batch: Batch) -> dict[str, Tensor]:
        """Terms of one batch."""
        return self.tasks[task](self.model, batch)

    @torch.no_grad()
    def reconstruct(self, packed: Packed) -> Tensor:
        """Patches [N, C] encoded and decoded without noise: fp32 [N, C]."""
        packed = packed.to(self.model.device)
        latents, _ = bottleneck(self.model, self.model.encode_packed(packed, pool=False), None)
        features = FRAME_FEATURES if packed.feats.shape[1] == FRAME_FEATURES else PATCH_FEATURES
        return self.model.decode_packed(packed.with_feats(latents), features=features).float()
