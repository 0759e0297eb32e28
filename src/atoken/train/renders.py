"""What the Gaussian head learns from: renderings of decoded assets against pictures of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..data.batch import Sample
from ..gaussians.raster.rasterize import render
from ..losses.render import Perceptual, render_loss
from ..nn.packed import Packed
from ..tokenizer.gaussian_head import GaussianDecoder


class RenderTerms:
    """The terms render_l1, render_structure, with a ``distance`` render_perceptual, and with a weight ``log_error``
    render_log_mse (losses/render.py)."""

    def __init__(self, distance: Perceptual | None = None, log_error: float = 0.0) -> None:
        self.distance, self.log_error = distance, log_error

    def __call__(
        self, head: GaussianDecoder, patches: Tensor, packed: Packed, samples: Sequence[Sample]
    ) -> dict[str, Tensor]:
        """Terms of decoded patches [N, 768]; none where a sample has no pictures to compare with."""
        targets = [sample.views for sample in samples if sample.views is not None]
        if len(targets) < len(samples):
            return {}
        gaussians = head(patches, packed.coords[:, [0, 2, 3, 4]])
        with torch.autocast(patches.device.type, enabled=False):
            parts = gaussians.split([count * head.config.per_voxel for count in packed.lengths])
            pictures = [render(part, t.cameras).rgb for part, t in zip(parts, targets, strict=True)]
            references = torch.cat([t.pictures for t in targets]).to(patches.device)
            terms = render_loss(torch.cat(pictures), references, self.distance, self.log_error)
        return {f"render_{name}": term for name, term in terms.items()}
