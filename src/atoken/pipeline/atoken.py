"""``AToken``: images, videos and 3D assets to tokens and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import codec
from ..core.forks import keep_children_working
from ..media.video.frames import Clip
from ..tokenizer.config import ModelConfig
from ..tokenizer.net import TokenizerNet
from ..tokens.made import codes_of, facts_of, latents_of
from ..tokens.stream import TokenFile
from ..tokens.tokens import Tokens
from .bulk import Result, many


class AToken(TokenizerNet):
    """Sources to ``Tokens`` and back. A config alone gives random weights; ``atoken.load`` brings trained ones.

    Threads: any number of them may call one model at once, as long as none changes it (by training, ``to`` or
    ``load_state_dict``): what it remembers between calls is the same whichever thread computes it. A
    ``torch.Generator``, a ``TokenFile``, and an iterator of ``encode_stream``, ``decode_stream`` or ``encode_many``
    belong to one thread at a time. Calls share the threads of torch: many at once are faster only while some read.
    Children that a process forks once it has a model compute with one thread of torch (``core.forks``).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        keep_children_working()

    @torch.no_grad()
    def encode(
        self,
        sources: Any,
        *,
        kind: str | None = None,
        value_range: tuple[float, float] | None = None,
        layout: str | None = None,
        sample: bool = False,
        generator: torch.Generator | None = None,
        token_budget: int = codec.TOKEN_BUDGET,
        spatial_tile: int | None = None,
        fps: float | None = None,
    ) -> Any:
        """Tokens of one source, or a list of tokens for a list of sources of any sizes or for a batch.

        A picture is a path, a PIL image, a uint8 array (HWC) or tensor (CHW), or a float one with its
        ``value_range``; ``layout`` ("HWC" or "CHW") overrides the order of the axes. A video is a path,
        ``atoken.open_video(...)`` or ``atoken.Clip(frames, fps=...)``. A batch is an array or tensor of pictures
        [B, 3, H, W] ([B, H, W, 3] with ``layout="HWC"``), or with ``fps`` (frames a second) of clips [B, 3, T, H, W] or
        [B, T, H, W, 3]; four axes with ``fps`` are one clip. Shapes that may be read in two ways are refused unless
        ``layout`` says which. ``kind`` is "continuous" (the
        posterior's mean, or a draw with ``sample=True`` and an optional ``generator`` on the model's device) or
        "discrete"; by default the first of ``config.kinds``. Large pictures and frames are encoded in tiles of
        ``spatial_tile`` pixels a side (a multiple of 16; 0: whole), by default ``config.spatial_tile``; the tokens keep
        it, so that ``decode`` does the same. Raises ``ValueError`` for bad input.
        """
        options = codec.EncodeOptions(
            self._kind(kind, sample), value_range, layout, sample, generator, token_budget, spatial_tile
        )
        items, many = codec.listed(sources, options, fps)
        _ = self.weights_hash  # counted anew if the weights have changed
        tokens = codec.encode(self, items, options)
        return tokens if many else tokens[0]

    def encode_many(
        self,
        items: Iterable[Any],
        *,
        kind: str | None = None,
        value_range: tuple[float, float] | None = None,
        layout: str | None = None,
        sample: bool = False,
        generator: torch.Generator | None = None,
        spatial_tile: int | None = None,
        token_budget: int = codec.TOKEN_BUDGET,
        read_ahead: int = 4,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[Result]:
        """``Result`` (``key``, ``value``, ``error``) of each of any number of sources, in their order; see ``encode``.

        An item is a source, or a pair of a key and a source; without one the key is the path, or the place among the
        items. Neighbours are computed together up to ``token_budget``, and up to ``read_ahead`` of them are read in
        another thread meanwhile. A source that cannot be read or encoded has its exception as ``error`` and stops no
        other. ``progress`` is called with the number of results so far. The thread ends when the iterator is closed.
        Raises ``ValueError`` for options that no source could have.
        """
        kind = self._kind(kind, sample)
        codec.windows.wanted_tile(self, codec.EncodeOptions(kind, spatial_tile=spatial_tile))
        encode = partial(
            self.encode,
            kind=kind,
            value_range=value_range,
            layout=layout,
            sample=sample,
            generator=generator,
            spatial_tile=spatial_tile,
            token_budget=token_budget,
        )
        return many(items, encode, budget=token_budget, read_ahead=read_ahead, progress=progress)

    @torch.no_grad()
    def decode(
        self,
        tokens: Tokens | Sequence[Tokens],
        *,
        token_budget: int = codec.TOKEN_BUDGET,
        as_tensor: bool = False,
        value_range: tuple[float, float] = (-1.0, 1.0),
    ) -> Any:
        """The picture of one ``Tokens`` as uint8 HWC in its original size, or a list of them for a list.

        Videos become uint8 [T, H, W, 3], as many frames as went in; ``tokens.times`` says when they are shown.
        3D tokens become ``Gaussians`` in the unit cube, whose ``transform`` leads to the asset's frame.

        With ``as_tensor`` pictures are fp32 [3, H, W] and videos fp32 [3, T, H, W], clipped to ``value_range``, on the
        model's device; those of a list are stacked to [B, 3, H, W] or [B, 3, T, H, W], and need one size. Raises
        ``ValueError`` for tokens that another model made or that contradict themselves.
        """
        ours = self.weights_hash
        items: list[Any] = list(tokens) if isinstance(tokens, list | tuple) else [tokens]
        for item in items:
            if not isinstance(item, Tokens):
                raise ValueError(
                    f"decode takes Tokens or a list of them, not {type(item).__name__}; "
                    "atoken.Tokens.load reads a token file, and decode_stream takes the path of a video's"
                )
            if as_tensor and item.modality == "3d":
                raise ValueError("3D tokens decode to Gaussians, which hold tensors already: leave as_tensor out")
            self._check_origin(item, ours)
        results = codec.decode(self, items, codec.DecodeOptions(token_budget, as_tensor, value_range))
        if isinstance(tokens, Tokens):
            return results[0]
        return codec.stacked(results) if as_tensor else results

    def decode_codes(
        self,
        indices: Tensor | np.ndarray,
        *,
        grid: Sequence[int] | None = None,
        fps: float | None = None,
        coords: Tensor | np.ndarray | None = None,
        spatial_tile: int | None = None,
        **options: Any,
    ) -> Any:
        """What indices of any integer dtype stand for that were made elsewhere: [N, G], or a batch [B, N, G].

        ``grid`` is (rows, columns) of a picture, or (steps, rows, columns) of a clip with ``fps``, in row-major order;
        ``coords`` [N, 3] = (x, y, z) are those of voxels on the grid of the Gaussian head. Large grids are decoded in
        tiles as ``encode`` would; ``spatial_tile`` is as there. ``options`` and the result are those of ``decode``, of
        a list for a batch. Raises ``ValueError`` for an index outside of its codebook, and for another grid.
        """
        values = codes_of(indices, self.config)
        facts = facts_of(self, "discrete", grid=grid, fps=fps, coords=coords, spatial_tile=spatial_tile)
        return self._decode_made(values, facts, options)

    def decode_latents(
        self,
        latents: Tensor | np.ndarray,
        *,
        grid: Sequence[int] | None = None,
        fps: float | None = None,
        coords: Tensor | np.ndarray | None = None,
        spatial_tile: int | None = None,
        **options: Any,
    ) -> Any:
        """What latents of any float dtype stand for that were made elsewhere: [N, C], or a batch [B, N, C].

        The rest is as for ``decode_codes``. For gradients use ``decode_packed``.
        """
        values = latents_of(latents, self.config)
        facts = facts_of(self, "continuous", grid=grid, fps=fps, coords=coords, spatial_tile=spatial_tile)
        return self._decode_made(values, facts, options)

    def _decode_made(self, values: Tensor, facts: dict[str, Any], options: dict[str, Any]) -> Any:
        if values.ndim == 3:
            return self.decode([Tokens(values=part, **facts) for part in values], **options)
        return self.decode(Tokens(values=values, **facts), **options)

    def encode_stream(
        self,
        source: Any,
        *,
        kind: str | None = None,
        sample: bool = False,
        generator: torch.Generator | None = None,
        spatial_tile: int | None = None,
    ) -> Iterator[Tokens]:
        """Tokens of a video tile by tile (16 frames), each complete in itself, so that length does not cost memory.

        ``source`` is a path, an ``atoken.open_video`` with its options, or an ``atoken.Clip`` of arrays. Joined, the
        tiles are what ``encode`` gives, bit for bit; ``spatial_tile`` is as there. Raises ``ValueError`` for bad
        input, some of it on the way.
        """
        options = codec.EncodeOptions(
            self._kind(kind, sample), sample=sample, generator=generator, spatial_tile=spatial_tile
        )
        return self._watched(codec.videos.encode_stream(self, source, options))

    def _watched(self, tiles: Iterator[Tokens]) -> Iterator[Tokens]:
        """The tiles, each of them with the hash that the weights have when it is computed."""
        _ = self.weights_hash
        for tile in tiles:
            yield tile
            _ = self.weights_hash  # before the next one is

    def decode_stream(self, tokens: Tokens | TokenFile | str | Path | Iterable[Tokens]) -> Iterator[Clip]:
        """The frames of a video tile by tile, with their times: ``.frames`` uint8 [T, H, W, 3] and ``.times``.

        ``tokens`` is a ``Tokens`` (of which ``tokens.frames(a, b)`` takes a part), the path of a token file, which is
        read step by step, or the tiles of ``encode_stream``. Raises ``ValueError`` for tokens of another model.
        """
        return codec.videos.decode_stream(self, tokens)

    @torch.no_grad()
    def embed(
        self,
        sources: Any,
        *,
        value_range: tuple[float, float] | None = None,
        layout: str | None = None,
        token_budget: int = codec.TOKEN_BUDGET,
        fps: float | None = None,
    ) -> Tensor:
        """Embeddings of sources (see ``encode``): fp32 [B, embed_dim or W] of unit length, on the CPU."""
        options = codec.EncodeOptions(self.config.kinds[0], value_range, layout, token_budget=token_budget)
        return codec.embed(self, codec.listed(sources, options, fps)[0], options)

    def embed_many(
        self,
        items: Iterable[Any],
        *,
        value_range: tuple[float, float] | None = None,
        layout: str | None = None,
        token_budget: int = codec.TOKEN_BUDGET,
        read_ahead: int = 4,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[Result]:
        """``encode_many`` for embeddings: the ``value`` of each result is fp32 [embed_dim or W], on the CPU."""
        embed = partial(self.embed, value_range=value_range, layout=layout, token_budget=token_budget)
        return many(items, embed, budget=token_budget, read_ahead=read_ahead, progress=progress)

    def save_pretrained(self, directory: str | Path, *, storage: str | None = None) -> None:
        """Write config.json and model.safetensors, which ``atoken.load`` reads.

        ``storage="int8"`` keeps the matrices in one byte a weight, which rounds them. Raises ``OSError``.
        """
        from ..weights.files import save_model

        save_model(self, Path(directory), storage)

    def _kind(self, kind: str | None, sample: bool) -> str:
        kind = kind or self.config.kinds[0]
        self.config.check_kind(kind)
        if sample and kind == "discrete":
            raise ValueError("discrete tokens cannot be sampled; only the continuous posterior can")
        return kind
