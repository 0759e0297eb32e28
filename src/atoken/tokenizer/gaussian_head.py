"""The head for 3D: decoded voxels to Gaussians, by a small transformer in shifted windows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, groupby

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..gaussians.types import SH_C0, Gaussians
from ..nn.block import Mlp
from ..nn.layout import Spans
from ..nn.norm import RMSNorm
from ..tokens.patch import FRAME_FEATURES
from .config import GaussianConfig

SOFT_CAP = 30.0
"""Attention logits s become 30 tanh(s / 30)."""
REACH = 1.5
"""A Gaussian's mean stays in a cube of this many voxels about the centre of its own."""
MIN_SCALE = 9e-4
"""Smallest standard deviation, in edges of the unit cube."""
ROTATION_GAIN = 0.1
CHANNELS = {"means": 3, "colours": 3, "scales": 3, "rotations": 4, "opacities": 1}
"""Numbers of each Gaussian, in the order of the output layer, which keeps each kind together."""


@dataclass(frozen=True)
class Windows:
    """Voxels grouped by window, windows sorted by how many voxels they hold."""

    order: Tensor
    """int64 [N], the input index of each voxel in window order."""
    inverse: Tensor
    spans: Spans

    @classmethod
    def of(cls, coords: Tensor, window: int, shift: int) -> Windows:
        """Windows of coords int [N, 4] = (sample, x, y, z), whose borders lie ``shift`` voxels before multiples."""
        key = torch.cat([coords[:, :1], (coords[:, 1:] + shift) // window], 1)
        _, segment, counts = torch.unique(key, dim=0, return_inverse=True, return_counts=True)
        order = torch.argsort(counts[segment] * len(counts) + segment, stable=True)
        lengths = counts.sort().values.tolist()
        return cls(order, order.argsort(), Spans.of(lengths, lengths, coords.device))

    @cached_property
    def padded(self) -> tuple[tuple[Tensor, Tensor, Tensor], ...]:
        """Windows of like length together: places in window order int64 [W, L], which of them are voxels' [W, L], and
        the numbers int64 [n] of those.

        L is a power of two below twice the windows' own lengths, so there are few groups whatever the lengths.
        """
        lengths = [length for count, length, _ in self.spans.runs for _ in range(count)]
        starts = [0, *accumulate(lengths)]
        groups = []
        for bits, group in groupby(range(len(lengths)), key=lambda window: (lengths[window] - 1).bit_length()):
            windows = list(group)
            table = torch.tensor([[starts[w], lengths[w]] for w in windows]).to(self.order.device)  # [W, 2]
            place = torch.arange(2**bits, device=self.order.device)
            inside = place < table[:, 1:]
            groups.append((torch.where(inside, table[:, :1] + place, 0), inside, inside.flatten().nonzero()[:, 0]))
        return tuple(groups)


class WindowAttention(nn.Module):
    """Self-attention inside windows, without positions, with soft-capped logits."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(width, 3 * width, bias=False)
        self.to_out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, windows: Windows) -> Tensor:
        """x [N, W] in input order -> [N, W]."""
        qkv = self.to_qkv(x)[windows.order].unflatten(1, (3, self.heads, -1))  # [N, 3W] -> [N, 3, H, D]
        attend = self._few_launches if x.is_cuda else self._no_padding
        return self.to_out(attend(qkv, windows)[windows.inverse])

    @staticmethod
    def _no_padding(qkv: Tensor, windows: Windows) -> Tensor:
        """Attention of qkv [N, 3, H, D] in window order, one call for each length: [N, H * D]."""
        outputs, at = [], 0
        for count, length, _ in windows.spans.runs:
            run = qkv[at : at + count * length].unflatten(0, (count, length))
            q, k, v = run.permute(2, 0, 3, 1, 4).unbind(0)  # 3 x [count, H, length, D]
            logits = (q @ k.transpose(-1, -2)).float() / q.shape[-1] ** 0.5
            weights = (SOFT_CAP * torch.tanh(logits / SOFT_CAP)).softmax(-1).to(v.dtype)
            outputs.append((weights @ v).transpose(1, 2).flatten(0, 1).flatten(1))  # [count * length, W]
            at += count * length
        return torch.cat(outputs)

    @staticmethod
    def _few_launches(qkv: Tensor, windows: Windows) -> Tensor:
        """The same with few kernels, windows of like length padded."""
        outputs = []
        for places, inside, real in windows.padded:
            rows = qkv.index_select(0, places.flatten()).unflatten(0, places.shape)
            q, k, v = rows.permute(2, 0, 3, 1, 4).unbind(0)  # 3 x [W, H, L, D]
            logits = (q @ k.transpose(-1, -2)).float() / q.shape[-1] ** 0.5
            logits = (SOFT_CAP * torch.tanh(logits / SOFT_CAP)).masked_fill(~inside[:, None, None], -torch.inf)
            out = (logits.softmax(-1).to(v.dtype) @ v).transpose(1, 2).flatten(2).flatten(0, 1)  # [W * L, H * D]
            outputs.append(out.index_select(0, real))
        return torch.cat(outputs)


class WindowBlock(nn.Module):
    """One block of the head: RMSNorm, window attention, RMSNorm, MLP, without biases."""

    def __init__(self, config: GaussianConfig) -> None:
        super().__init__()
        self.norm1 = RMSNorm(config.width)
        self.attn = WindowAttention(config.width, config.heads)
        self.norm2 = RMSNorm(config.width)
        self.mlp = Mlp(config.width, config.mlp_width, bias=False)

    def forward(self, x: Tensor, windows: Windows) -> Tensor:
        """x [N, W] -> [N, W]."""
        x = x + self.attn(self.norm1(x), windows)
        return x + self.mlp(self.norm2(x))


class Surroundings(nn.Module):
    """Which voxels of the cube around each voxel are occupied, through a small network that adds nothing at first."""

    def __init__(self, config: GaussianConfig) -> None:
        super().__init__()
        self.reach, self.size = config.neighbours, config.resolution
        self.up = nn.Linear((2 * self.reach + 1) ** 3, config.mlp_width)
        self.down = nn.Linear(config.mlp_width, config.width, bias=False)
        nn.init.zeros_(self.down.weight)

    def forward(self, coords: Tensor) -> Tensor:
        """coords int64 [N, 4] = (sample, x, y, z) -> [N, W]."""
        return self.down(F.gelu(self.up(occupancy(coords, self.reach, self.size).to(self.up.weight.dtype))))


def occupancy(coords: Tensor, reach: int, size: int) -> Tensor:
    """Which voxels of the cube of 2 R + 1 around each are occupied: bool [N, (2 R + 1)³], x slowest, z fastest.

    coords int64 [N, 4] = (sample, x, y, z), of a grid of ``size`` voxels a side; outside of it nothing is.
    """
    side = size + 2 * reach
    grid = torch.zeros(int(coords[:, 0].max()) + 1, side, side, side, dtype=torch.bool, device=coords.device)
    sample, x, y, z = (coords + coords.new_tensor([0, reach, reach, reach])).unbind(1)
    grid[sample, x, y, z] = True
    steps = torch.arange(-reach, reach + 1, device=coords.device)
    steps = torch.cartesian_prod(steps, steps, steps)  # [(2 R + 1)³, 3]
    place = ((sample * side + x) * side + y) * side + z  # [N]
    around = (steps[:, 0] * side + steps[:, 1]) * side + steps[:, 2]
    return grid.flatten()[place[:, None] + around]


class GaussianDecoder(nn.Module):
    """Decoded voxels to ``per_voxel`` Gaussians each, which start alike, all over every voxel."""

    offset_perturbation: Tensor

    def __init__(self, config: GaussianConfig) -> None:
        super().__init__()
        self.config = config
        self.input_layer = nn.Linear(FRAME_FEATURES, config.width, bias=False)
        self.surroundings = Surroundings(config) if config.neighbours else None
        self.blocks = nn.ModuleList(WindowBlock(config) for _ in range(config.depth))
        self.out_layer = nn.Linear(config.width, config.per_voxel * sum(CHANNELS.values()))
        self.register_buffer("offset_perturbation", first_offsets(config))
        nn.init.zeros_(self.out_layer.weight)
        nn.init.zeros_(self.out_layer.bias)

    def forward(self, feats: Tensor, coords: Tensor) -> Gaussians:
        """Gaussians of voxels: feats [N, 768] in [-1, 1], coords int [N, 4] = (sample, x, y, z).

        The ``per_voxel`` Gaussians of a voxel follow each other, voxels keep their order. fp32, in the unit cube,
        differentiable. Raises ``ValueError`` for a voxel outside the grid.
        """
        if bool((coords[:, 1:].amax() >= self.config.resolution) | (coords.amin() < 0)):
            raise ValueError(f"voxels must lie in 0 ... {self.config.resolution - 1} along each axis")
        coords = coords.to(feats.device).long()
        window = self.config.window
        windows = [Windows.of(coords, window, shift) for shift in (0, window // 2)]
        x = self.input_layer(feats.to(self.input_layer.weight.dtype))
        x = x + sinusoidal(coords[:, 1:], self.config.width).to(x.dtype)
        if self.surroundings is not None:
            x = x + self.surroundings(coords)
        for index, block in enumerate(self.blocks):
            x = block(x, windows[index % 2])
        x = F.layer_norm(x.float(), x.shape[-1:], eps=1e-5).to(x.dtype)
        gaussians = self._read(self.out_layer(x).float(), coords[:, 1:])
        if not self.config.residual:
            return gaussians
        tint = feats.float().unflatten(1, (-1, 3)).mean(1) / (2 * SH_C0)  # [N, 768] -> [N, 3]
        return replace(gaussians, sh=gaussians.sh + tint.repeat_interleave(self.config.per_voxel, 0))

    def _read(self, numbers: Tensor, voxels: Tensor) -> Gaussians:
        """The output layer's numbers [N, K * 14] as Gaussians."""
        count, size = self.config.per_voxel, self.config.resolution
        parts = numbers.split([count * channels for channels in CHANNELS.values()], -1)
        offset, colour, scale, rotation, opacity = (
            part.unflatten(-1, (count, -1))
            for part in parts  # [N, K, 1, 3 or 4]
        )
        centre = (voxels.float()[:, None] + 0.5) / size
        offset = torch.tanh(offset + self.offset_perturbation.float()) * (REACH / 2 / size)
        scale = F.softplus(scale + _inverse_softplus(self.config.scale)).square() + MIN_SCALE**2
        turn = rotation * ROTATION_GAIN + rotation.new_tensor([1.0, 0, 0, 0])
        return Gaussians(
            means=(centre + offset - 0.5).flatten(0, 1),
            log_scales=scale.log().flatten(0, 1) / 2,
            rotations=F.normalize(turn, dim=-1).flatten(0, 1),
            logits=(opacity + _logit(self.config.opacity)).flatten(),
            sh=colour.flatten(0, 1),
        )


def sinusoidal(voxels: Tensor, width: int) -> Tensor:
    """Positions fp32 [N, width] of voxels [N, 3]: per axis W // 6 sines, then as many cosines; zeros at the end."""
    count = width // 6
    frequencies = 10000 ** (-torch.arange(count, device=voxels.device, dtype=torch.float32) / count)
    angles = voxels.float()[..., None] * frequencies  # [N, 3, count]
    positions = torch.cat([angles.sin(), angles.cos()], -1).flatten(1)
    return F.pad(positions, (0, width - positions.shape[1]))


def first_offsets(config: GaussianConfig) -> Tensor:
    """Where the Gaussians of each voxel start, before tanh: fp32 [K, 3], the same in every model of that config."""
    with torch.device("cpu"):  # arithmetic on the meta device would import torch's compiler, which takes seconds
        offsets = torch.atanh(hammersley(config.per_voxel) / REACH)
    return offsets.to(torch.get_default_device())


def hammersley(count: int) -> Tensor:
    """The Hammersley set of ``count`` points in three dimensions, fp32 [count, 3] in [-1, 1)."""
    points = [[index / count, _radical_inverse(index, 2), _radical_inverse(index, 3)] for index in range(count)]
    return torch.tensor(points) * 2 - 1


def _radical_inverse(index: int, base: int) -> float:
    value, unit = 0.0, 1.0 / base
    while index:
        index, digit = divmod(index, base)
        value, unit = value + digit * unit, unit / base
    return value


def _inverse_softplus(value: float) -> float:
    return float(torch.tensor(value).expm1().log())


def _logit(value: float) -> float:
    return float(torch.tensor(value).logit())
