"""Distillation of a teacher's picture-text similarities (paper Eq. 7)."""

from __future__ import annotations

import torch
from torch import Tensor

TEMPERATURE = 2.0
AXES = ("texts", "both")


def similarity(images: Tensor, texts: Tensor, log_scale: Tensor | float) -> Tensor:
    """``exp(log_scale) * cos`` of unit vectors images [B, D] and texts [T, D]: fp32 [B, T], inside autocast, too.

    bf16 products would be wrong by 0.2 at the released scale of 127, and so would be the gradients of small losses.
    """
    with torch.autocast(images.device.type, enabled=False):
        return at_least_fp32(images) @ at_least_fp32(texts).t() * torch.as_tensor(log_scale, device=images.device).exp()


def at_least_fp32(x: Tensor) -> Tensor:
    """``x``, in fp32 where it has fewer bits."""
    return x.float() if x.element_size() < 4 else x


def distillation(teacher: Tensor, student: Tensor, *, temperature: float = TEMPERATURE, axis: str = "texts") -> Tensor:
    """``KL(softmax(teacher / t) || softmax(student / t))`` of scores [B, T] of B pictures and T texts: a scalar.

    With ``axis`` "texts" the softmax of a picture runs over the texts, and the divergence is a mean over pictures;
    "both" averages it with the same over pictures, mean over texts. Scores are logits: cosines times the teacher's and
    the student's scale (the released models have exp(4.8438) = 127), since cosines over a temperature of 2 are almost
    uniform. The paper leaves both open. Raises ``ValueError`` for shapes that differ or another axis.
    """
    if teacher.shape != student.shape or teacher.ndim != 2:
        raise ValueError(f"scores need one shape [B, T], not {list(teacher.shape)} and {list(student.shape)}")
    if axis not in AXES:
        raise ValueError(f"the softmax runs over {' or '.join(AXES)}, not {axis!r}")
    teacher, student = at_least_fp32(teacher.detach()) / temperature, at_least_fp32(student) / temperature
    loss = _divergence(teacher, student)
    if axis == "texts":
        return loss
    return (loss + _divergence(teacher.t(), student.t())) / 2


def _divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """Mean over rows of the divergence of the rows' softmaxes."""
    log_p, log_q = teacher.log_softmax(-1), student.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1).mean()
