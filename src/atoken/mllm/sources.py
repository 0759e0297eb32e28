"""Files, arrays and stored tokens as what the language model looks at: patches or states, and where they are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..codec.assets import read_any
from ..codec.videos import frames_of
from ..core.text import shortened
from ..media.image.files import read_image
from ..media.kinds import modality_of
from ..media.patchify import ONE_FRAME, patchify
from ..media.pixels import to_array, to_pixels, to_uint8
from ..media.video.frames import Clip, Frame, resized
from ..media.views.packed import to_patches
from ..nn.packed import dense_coords
from ..tokens.patch import PATCH
from ..tokens.samples import TokenSample
from ..tokens.tokens import Tokens
from .layout import Geometry, LayoutConfig, frame_size, picture_size

TOKEN_SUFFIX = ".atok"
KEPT = 4
"""Frames that are in memory while a clip is read, as a multiple of those that are looked at."""
INPUTS = ("hidden", "latents", "codes")
"""What of the tower's tokens the projector reads: states before the latent projection, latents, or FSQ codes."""
HIDDEN = "hidden"
"""Name of the extra tensor of a token shard's sample that holds its hidden states."""


@dataclass(frozen=True, eq=False)
class Visual:
    """One source: its patches, or what the tower made of them."""

    geometry: Geometry
    patches: Tensor | None = None
    """uint8 [N * frames_per_token, 768]: each token's frames, each (row, column, RGB)."""
    states: Tensor | None = None
    """float [N, C] hidden states or latents, or int64 [N, G] codes."""
    times: tuple[float, ...] = ()
    """When each step of a clip begins, in seconds."""


@dataclass(frozen=True)
class Reader:
    """How sources are read. ``weights`` is the hash of the tokenizer whose stored tokens are taken."""

    layout: LayoutConfig
    inputs: str
    weights: str

    def __post_init__(self) -> None:
        if self.inputs not in INPUTS:
            raise ValueError(f"inputs is {shortened(self.inputs)!r}: give one of {', '.join(INPUTS)}")

    def read(self, source: Any) -> Visual:
        """A path (of a token file, too), an array, a PIL image, a clip, a 3D source, ``Tokens`` or a ``TokenSample``.

        Raises ``ValueError`` or ``OSError`` with one sentence where it cannot be read, or was made by another model.
        """
        if isinstance(source, Visual):
            return source
        if isinstance(source, str | os.PathLike) and Path(source).suffix == TOKEN_SUFFIX:
            source = Tokens.load(Path(source))
        if isinstance(source, Tokens | TokenSample):
            return self._stored(source)
        return visual_of(prepare(source, self.layout), self.layout)

    def _stored(self, source: Tokens | TokenSample) -> Visual:
        tokens = source.tokens if isinstance(source, TokenSample) else source
        if tokens.weights != self.weights:
            raise ValueError(
                f"the tokens were made by {shortened(tokens.model)!r} with weights {shortened(tokens.weights[:12])}, "
                f"and the language model reads tokens of weights {self.weights[:12]}"
            )
        if tokens.modality == "video" and self.layout.frames_per_token == 1:
            raise ValueError(
                "stored tokens of a clip hold four frames each, and this model reads its frames one by one: give the "
                "clip itself, or a model with frames_per_token 4"
            )
        times = () if tokens.times is None else tuple(tokens.times.tolist()[:: PATCH[0]])
        geometry = Geometry(tokens.modality, tokens.grid, tokens.coords)
        return Visual(geometry, states=self._states(source, tokens), times=times)

    def _states(self, source: Tokens | TokenSample, tokens: Tokens) -> Tensor:
        if self.inputs == "hidden":
            extras = source.extras if isinstance(source, TokenSample) else {}
            if HIDDEN not in extras:
                raise ValueError(f"the model reads hidden states, and the stored tokens have no extra {HIDDEN!r}")
            return extras[HIDDEN]
        if self.inputs == "codes":
            return tokens.codes.to(torch.int64)
        if tokens.kind != "continuous":
            raise ValueError("the model reads latents, and the stored tokens are codes")
        return tokens.values.float()


def prepare(source: Any, layout: LayoutConfig) -> Any:
    """A source as the tower sees it, for ``AToken.encode`` too: pictures within the pixel budget, clips of as many
    frames as are looked at and of a size that fits, 3D as it is read.
    """
    modality = modality_of(source)
    if modality == "3d":
        return read_any(source)
    return _picture(source, layout) if modality == "image" else _clip(source, layout)


def visual_of(prepared: Any, layout: LayoutConfig) -> Visual:
    """Patches of what ``prepare`` returned."""
    if isinstance(prepared, np.ndarray):
        patches = patchify(torch.from_numpy(np.ascontiguousarray(prepared))[None], ONE_FRAME)
        return Visual(_dense("image", patches), _flat(patches))
    if isinstance(prepared, Clip):
        frames, times = torch.from_numpy(np.stack(list(prepared.frames))), prepared.times or ()
        patches = patchify(frames, (layout.frames_per_token, *PATCH[1:]))
        return Visual(_dense("video", patches), _flat(patches), times=tuple(times[:: layout.frames_per_token]))
    feats, coords, geometry = to_patches(prepared, layout.resolution)
    return Visual(Geometry("3d", geometry["grid"], coords), to_uint8(feats))


def _dense(modality: str, patches: Tensor) -> Geometry:
    steps, rows, columns, _ = patches.shape
    grid = (steps, rows, columns, 1)
    return Geometry(modality, grid, dense_coords(grid))


def _flat(patches: Tensor) -> Tensor:
    """uint8 [..., F] -> [N, 768]: the frames of a patch follow each other."""
    return patches.reshape(-1, 3 * PATCH[1] * PATCH[2])


def _picture(source: Any, layout: LayoutConfig) -> np.ndarray:
    array = to_array(to_pixels(source)) if isinstance(source, np.ndarray | Tensor) else read_image(source)
    height, width = picture_size(array.shape[0], array.shape[1], layout)
    if (height, width) == array.shape[:2]:
        return array
    return np.array(Image.fromarray(array).resize((width, height), Image.Resampling.BICUBIC))


def _clip(source: Any, layout: LayoutConfig) -> Clip:
    """Frames in equal distances but for rounding, at most those that are looked at.

    Of a long clip at most ``KEPT`` times as many are in memory, in the size that they are looked at in.
    """
    wanted = layout.steps * layout.frames_per_token
    kept: list[Frame] = []
    shape, stride, size = None, 1, None
    for index, frame in enumerate(frames_of(source)):
        if shape not in (None, frame.pixels.shape):
            raise ValueError(f"the frames of {shortened(source)} have several sizes: cut the video there")
        shape = frame.pixels.shape
        if index % stride:
            continue
        if size is None and len(kept) == wanted:  # the number of steps, and with it the size, is known
            size = frame_size(shape[0], shape[1], layout.steps, layout)
            kept = list(resized(kept, size))
        kept += [frame] if size is None else resized([frame], size)
        if len(kept) == KEPT * wanted:
            kept, stride = kept[::2], 2 * stride
    if shape is None:
        raise ValueError(f"{shortened(source)} has no frames")
    if len(kept) > wanted:
        kept = [kept[(2 * place + 1) * len(kept) // (2 * wanted)] for place in range(wanted)]
    size = size or frame_size(shape[0], shape[1], -(-len(kept) // layout.frames_per_token), layout)
    frames = list(resized(kept, size))
    return Clip([frame.pixels for frame in frames], times=[frame.time for frame in frames])
