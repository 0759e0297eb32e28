"""Tasks: each turns a batch into its terms, a dict of unweighted scalars. The recipe's ``loss`` weighs them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..model.tokenizer import AToken, Encoded
from ..objectives.reconstruction import l1, log_mse
from ..tokens import Packed
from .batch import Batch
from .config import LossConfig, TrainConfig

PixelTerms = Callable[[list[Tensor], list[Tensor]], dict[str, Tensor]]
"""Pictures and their originals, each fp32 [3, H, W] in [-1, 1], to unweighted terms."""


def bottleneck(model: AToken, encoded: Encoded, seed: int | None) -> tuple[Tensor, Tensor | None]:
    """What the decoder reads, fp32 [N, C], and the KL divergence [N] of a continuous model.

    Codes with straight-through gradients for a discrete model; a draw from the posterior, or its mean without a seed,
    for a continuous one.
    """
    posterior = encoded.posterior
    if model.config.kinds[0] == "discrete":
        return model.fsq(posterior.mode()), None
    if seed is None:
        return posterior.mode(), posterior.kl()
    generator = torch.Generator(encoded.moments.device).manual_seed(seed)
    return posterior.sample(generator), posterior.kl()


class Task:
    """What one batch teaches. ``extra`` holds parameters of its own, if it has any."""

    extra: nn.Module | None = None

    def __call__(self, model: AToken, batch: Batch) -> dict[str, Tensor]:
        """Unweighted terms of a batch, each a scalar."""
        raise NotImplementedError


class Reconstruction(Task):
    """Encode, round or draw, decode, compare: L1 on the patches of any modality (paper Eq. 6), means over numbers.

    ``pixel_terms`` adds terms on whole pictures, such as the perceptual ones, for the images of a batch.
    """

    def __init__(self, loss: LossConfig, pixel_terms: PixelTerms | None = None) -> None:
        self.loss, self.pixel_terms = loss, pixel_terms

    def __call__(self, model: AToken, batch: Batch) -> dict[str, Tensor]:
        """Terms l1, log_mse, kl and those of ``pixel_terms``, as far as they weigh anything."""
        packed = batch.packed.to(model.device)
        latents, kl = bottleneck(model, model.encode_packed(packed, pool=False), batch.seed)
        patches = model.decode_packed(Packed(latents, packed.coords), features=packed.feats.shape[1]).float()
        valid = batch.valid(patches)
        real = (patches, packed.feats) if valid is None else (patches[valid], packed.feats[valid])
        terms = {"l1": l1(*real)}
        if self.loss.log_mse:
            terms["log_mse"] = log_mse(patches, packed.feats, packed.coords[:, 0].long())
        if kl is not None:
            terms["kl"] = kl.mean()
        if self.pixel_terms is not None and (originals := batch.pictures(packed.feats)):
            terms |= self.pixel_terms(batch.pictures(patches), originals)
        return terms


def build_tasks(config: TrainConfig, device: str) -> dict[str, Task]:
    """The recipe's tasks by name. Raises ``ValueError`` for one that has no objective here."""
    tasks: dict[str, Task] = {}
    for task in config.tasks:
        if not task.task.endswith("reconstruction"):
            raise ValueError(f"the task {task.task} is not built yet")
        tasks[task.task] = Reconstruction(config.loss)
    return tasks
