"""Feature loss: two pictures compared place by place in the last features of an image-text tower."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def feature_distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean over pictures and places of ``1 - cos`` between feature vectors a, b [B, C, h, w]: a scalar in 0 ... 2.

    The paper names a "CLIP perceptual" term without saying which feature or distance; this one does not depend on the
    scale of the features.
    """
    a, b = (x.float() if x.element_size() < 4 else x for x in (a, b))
    return (1 - F.cosine_similarity(a, b, dim=1)).mean()
