"""The EfficientNet-Lite architecture (arXiv 1905.11946, without squeeze-and-excitation and with ReLU6), frozen.

Written for speed at inference: batch norms are folded into the convolutions before them, and the work stops at the
last layer that is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .network import FrozenNetwork

STAGES = (
    *((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80)),
    *((3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)),
)
"""Repeats, kernel, stride, expansion and output channels of the seven stages, before scaling (Table 1 there)."""
STEM, HEAD = 32, 1280
LAYERS = ("stem", *(f"stage{index + 1}" for index in range(len(STAGES))), "head")
BATCH_NORM_EPS = 1e-3
MEAN = (127 / 255,) * 3
STD = (128 / 255,) * 3
"""(pixel - 127) / 128, as the Lite weights were trained."""


class FoldedConv(nn.Module):
    """Convolution with bias, "same" padding as TensorFlow does it (surplus at the right and bottom), ReLU6 or not."""

    def __init__(self, weight: Tensor, bias: Tensor, stride: int, groups: int, *, relu6: bool) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.kernel, self.stride, self.groups, self.relu6 = weight.shape[-1], stride, groups, relu6

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> [B, C', ceil(H / stride), ceil(W / stride)]."""
        weight, bias = self.get_buffer("weight"), self.get_buffer("bias")
        height, width = (self._surplus(length) for length in x.shape[-2:])
        if self.stride > 1:
            x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
            conv = _strided_depthwise if self.groups > 1 else F.conv2d
            x = conv(x, weight, bias, self.stride, groups=self.groups)
        else:
            x = F.conv2d(x, weight, bias, padding=self.kernel // 2, groups=self.groups)
        return F.hardtanh(x, 0.0, 6.0) if self.relu6 else x

    def _surplus(self, length: int) -> int:
        return max((math.ceil(length / self.stride) - 1) * self.stride + self.kernel - length, 0)


class _StridedDepthwise(torch.autograd.Function):
    """``conv2d`` of stride > 1, one filter a channel, without padding; gradients for the input alone.

    The gradient is a convolution of stride 1 over the outputs spread apart: oneDNN has no fast kernel for the direct
    form in bf16 (30 times slower than this for 8 x 672 x 14 x 14).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: int, groups: int) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.stride, ctx.shape = stride, x.shape
        return F.conv2d(x, weight, bias, stride, groups=groups)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        (grad,), (weight,) = grads, ctx.saved_tensors
        (batch, channels, height, width), border = ctx.shape, weight.shape[-1] - 1
        spread = grad.new_empty(batch, channels, height + border, width + border)
        spread = spread.contiguous(memory_format=torch.channels_last).zero_()
        rows, columns = (border + (n - 1) * ctx.stride + 1 for n in grad.shape[-2:])
        spread[:, :, border : rows : ctx.stride, border : columns : ctx.stride] = grad
        return F.conv2d(spread, weight.flip(-2, -1), groups=channels), None, None, None, None


def _strided_depthwise(x: Tensor, weight: Tensor, bias: Tensor, stride: int, groups: int) -> Tensor:
    out = _StridedDepthwise.apply(x, weight, bias, stride, groups)
    assert isinstance(out, Tensor)
    return out


class EfficientNetLite(FrozenNetwork):
    """Seven stages of inverted bottlenecks, from a state dict of the package efficientnet-lite-pytorch.

    The layers are ``stem``, ``stage1`` ... ``stage7`` and ``head``; ``layers`` may choose some, in any order. Weights
    are kept in ``dtype`` and channels last: bf16 is several times faster on a CPU that has it, with features within 6 %
    and gradients that point where those of fp32 do within 45 degrees (through 14 layers of clipped activations).
    Raises ``ValueError`` where the state dict is of another architecture.
    """

    def __init__(
        self,
        name: str,
        state: dict[str, Tensor],
        weights_hash: str,
        *,
        width: float,
        depth: float,
        size: int,
        layers: tuple[str, ...] = LAYERS,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(name, weights_hash, MEAN, STD)
        self.layers = self._checked(layers)
        self.size, self.dtype = size, dtype
        fold = _Folder(name, state, dtype)
        self.stem = fold("_conv_stem", "_bn0", stride=2)
        self.stages = nn.ModuleList()
        block, channels = 0, STEM
        for index, (repeats, kernel, stride, expansion, out) in enumerate(STAGES):
            out = max(8, round_to_8(out * width))
            count = repeats if index in (0, len(STAGES) - 1) else math.ceil(repeats * depth)
            stage = nn.ModuleList()
            for step in range(count):
                convs = fold.block(block, expansion != 1, stride if step == 0 else 1)
                expected = (channels * expansion, kernel, out)
                found = (convs[-2].groups, convs[-2].kernel, convs[-1].get_buffer("weight").shape[0])
                if found != expected:
                    raise ValueError(f"{name}: block {block} is {found} where the architecture has {expected}")
                stage.append(nn.Sequential(*convs))
                block, channels = block + 1, out
            self.stages.append(stage)
        self.head = fold("_conv_head", "_bn1")
        self.register_buffer("fc_weight", fold.take("_fc.weight").to(dtype))
        self.register_buffer("fc_bias", fold.take("_fc.bias").to(dtype))
        self.freeze()

    def features(self, images: Tensor, layers: tuple[str, ...] = ()) -> list[Tensor]:
        """Outputs of ``layers`` (``self.layers`` unless given) for images [B, 3, H, W] in [-1, 1]."""
        wanted = self._checked(layers) or self.layers
        found = {}
        for layer, x in self._run(images):
            if layer in wanted:
                found[layer] = x
            if len(found) == len(set(wanted)):
                break
        return [found[layer] for layer in wanted]

    def embedding(self, images: Tensor) -> Tensor:
        """Average of the head over the picture: [B, 1280]."""
        (head,) = self.features(images, ("head",))
        return head.mean((-2, -1))

    def logits(self, images: Tensor) -> Tensor:
        """Scores of the 1000 ImageNet classes: [B, 1000]."""
        return F.linear(self.embedding(images), self.get_buffer("fc_weight"), self.get_buffer("fc_bias"))

    def _checked(self, layers: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [layer for layer in layers if layer not in LAYERS]:
            raise ValueError(f"{self.name} has no layer {unknown[0]!r}; its layers are {', '.join(LAYERS)}")
        return layers

    def _run(self, images: Tensor) -> Iterator[tuple[str, Tensor]]:
        x = self.normalise(images).to(self.dtype).contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, enabled=False):
            x = self.stem(x)
            yield "stem", x
            for index, stage in enumerate(self.stages):
                assert isinstance(stage, nn.ModuleList)
                for block in stage:
                    y = block(x)
                    x = x + y if y.shape == x.shape else y
                yield f"stage{index + 1}", x
            yield "head", self.head(x)


class _Folder:
    """Takes convolutions out of a state dict, with the batch norm behind each folded in."""

    def __init__(self, name: str, state: dict[str, Tensor], dtype: torch.dtype) -> None:
        self.name, self.state, self.dtype = name, state, dtype

    def take(self, key: str) -> Tensor:
        if key not in self.state:
            raise ValueError(f"{self.name}: the weights have no {key}")
        return self.state[key].float()

    def __call__(
        self, conv: str, norm: str, stride: int = 1, *, depthwise: bool = False, relu6: bool = True
    ) -> FoldedConv:
        weight = self.take(f"{conv}.weight")
        gain = self.take(f"{norm}.weight") / (self.take(f"{norm}.running_var") + BATCH_NORM_EPS).sqrt()
        bias = self.take(f"{norm}.bias") - self.take(f"{norm}.running_mean") * gain
        weight = (weight * gain.view(-1, 1, 1, 1)).to(self.dtype).contiguous(memory_format=torch.channels_last)
        return FoldedConv(weight, bias.to(self.dtype), stride, len(weight) if depthwise else 1, relu6=relu6)

    def block(self, index: int, expand: bool, stride: int) -> list[FoldedConv]:
        prefix = f"_blocks.{index}"
        convs = [self(f"{prefix}._expand_conv", f"{prefix}._bn0")] if expand else []
        convs.append(self(f"{prefix}._depthwise_conv", f"{prefix}._bn1", stride, depthwise=True))
        return [*convs, self(f"{prefix}._project_conv", f"{prefix}._bn2", relu6=False)]


def round_to_8(channels: float) -> int:
    """The nearest multiple of 8, the next one where that would lose more than a tenth (as EfficientNet scales)."""
    rounded = int(channels + 4) // 8 * 8
    return rounded if rounded >= 0.9 * channels else rounded + 8
