"""Sources of training data as data; each part of a recipe."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..core.hooks import HookConfig
from ..core.text import shortened
from ..tokens.patch import PATCH


@dataclass(frozen=True)
class CropsConfig:
    """Random square crops of a memory-mapped collection of pictures; every batch has crops of one size."""

    path: str
    """Folder with ``train.bin`` and ``train.json`` (recipes/nano/data.py writes them)."""
    sizes: tuple[int, ...] = (128,)
    """Sides in pixels, multiples of 16; each batch draws one."""
    shares: tuple[float, ...] = (1.0,)
    """How often each size is drawn."""
    flat_below: float = 8.0
    """Crops whose grey levels deviate less than this (of 255) are drawn anew, three times in four."""

    def __post_init__(self) -> None:
        if len(self.sizes) != len(self.shares) or any(size % PATCH[1] or size <= 0 for size in self.sizes):
            raise ValueError("train config: sizes of crops need one share each and must be multiples of 16")


@dataclass(frozen=True)
class ClipsConfig:
    """Square clips made from photographs (data/synthetic_video.py), and of packed real videos; batch n is the same
    in every run, and has clips of one size and length."""

    path: str
    """Folder with the photographs, as for crops."""
    cutouts: str | None = None
    """Folder with ``cutouts.bin`` and ``cutouts.json``, objects that move across (recipes/nano/captions.py)."""
    videos: str | None = None
    """Folder with real videos as ``train.bin`` and ``train.json`` (recipes/nano/videos.py)."""
    real: float = 0.5
    """Share of clips of real videos, where there are ``videos``."""
    sizes: tuple[int, ...] = (128,)
    """Sides in pixels, multiples of 16; each batch draws one."""
    shares: tuple[float, ...] = (1.0,)
    """How often each size is drawn."""
    frames: tuple[int, ...] = (8, 16)
    """Lengths, multiples of 4; each batch draws one."""
    flat_below: float = 8.0
    """As for crops, of the photographs."""

    def __post_init__(self) -> None:
        if len(self.sizes) != len(self.shares) or any(size % PATCH[1] or size <= 0 for size in self.sizes):
            raise ValueError("train config: sizes of clips need one share each and must be multiples of 16")
        if not self.frames or any(count % PATCH[0] or count <= 0 for count in self.frames) or not 0 <= self.real <= 1:
            raise ValueError("train config: frames of clips must be multiples of 4, and real between 0 and 1")


@dataclass(frozen=True)
class CutoutsConfig:
    """Single objects with captions, laid on photographs or plain colours."""

    path: str
    """Folder with ``cutouts.bin`` and ``cutouts.json`` (recipes/nano/captions.py writes them)."""
    grounds: str | None = None
    """Collection of pictures, as for crops, that grounds are taken from; None: plain colours alone."""
    plain: float = 0.5
    """Share of plain grounds where there are others."""
    size: int = 128
    """Side of the pictures in pixels, a multiple of 16."""
    kinds: tuple[str, ...] = ()
    """Kinds of objects that are taken; none named: all."""

    def __post_init__(self) -> None:
        if self.size % PATCH[1] or self.size <= 0 or not 0 <= self.plain <= 1:
            raise ValueError("train config: cutouts need a size that is a multiple of 16, and plain between 0 and 1")


@dataclass(frozen=True)
class ShardsConfig:
    """WebDataset shards of pictures, videos or voxels, each with its caption (``atoken data pack`` writes them)."""

    shards: tuple[str, ...]
    """Folders of .tar files, files, or addresses; braces such as ``{000..099}`` count."""
    resolution: tuple[int, int] = (64, 512)
    """Range of the shorter side in pixels: each sample is scaled down to one drawn between the lower bound and its own
    size or the upper bound, whichever is less, and never up."""
    frames: tuple[int, int] = (16, 32)
    """Fewest and most frames of a clip; multiples of 4 are taken."""
    strides: tuple[int, int] = (1, 3)
    """Every how manieth frame a clip takes."""
    voxels: int = 64
    """Voxels along a side of an asset."""
    views: int = 0
    """Pictures of each asset that renderings of the Gaussian head are compared with; 0: no losses on renderings."""
    view_size: int = 128
    """Side in pixels of the square that is cut out of each."""
    buffer: int = 256
    """Samples of one shard held at once to be shuffled."""
    workers: int = 2
    """Processes that read and decode; 0 reads in the trainer's own thread."""

    def __post_init__(self) -> None:
        for name in ("resolution", "frames", "strides"):
            low, high = getattr(self, name)
            if not 1 <= low <= high:
                raise ValueError(f"train config: {name} must be an ascending range, not {[low, high]}")
        if self.resolution[0] < PATCH[1] or self.frames[0] < PATCH[0]:
            raise ValueError("train config: resolution must start at 16 pixels or more, frames at 4 or more")
        if not self.shards or self.buffer < 1 or self.workers < 0:
            raise ValueError("train config: shards must name some, buffer be positive, workers not negative")
        if self.voxels < 1 or self.views < 0 or self.view_size < 1:
            raise ValueError("train config: voxels and view_size of shards must be positive, views not negative")

    def runs_code(self) -> Iterator[str]:
        """Shards that are read by running a program."""
        yield from (f"shards {shortened(name)!r} would run a program" for name in self.shards if is_command(name))


@dataclass(frozen=True)
class AssetsConfig:
    """The folder of packed assets that recipes/nano/furniture.py writes; batch n is the same in every run."""

    path: str
    split: str = "train"
    voxels: int = 32
    """Voxels along a side of an asset."""
    views: int = 2
    """Pictures of each asset that renderings of the Gaussian head are compared with; 0: no losses on renderings."""
    view_size: int = 128
    """Side in pixels of the square that is cut out of each."""

    def __post_init__(self) -> None:
        if self.voxels < 1 or self.views < 0 or self.view_size < 1:
            raise ValueError("train config: voxels and view_size of assets must be positive, views not negative")


@dataclass(frozen=True)
class TurnConfig:
    """How often a task has its turn."""

    task: str
    """Its name, which also seeds what is drawn for it."""
    ratio: float | None = None
    """Share in the round robin, relative to the other tasks (Table 2); None: the task joins every step."""
    accumulate: int = 1
    """Batches of one step, whose gradients are averaged."""

    def __post_init__(self) -> None:
        if self.accumulate < 1 or (self.ratio is not None and not 0 < self.ratio < math.inf):
            raise ValueError(f"train config: accumulate and ratio of {self.task} must be positive")


@dataclass(frozen=True)
class FeedConfig(TurnConfig):
    """What one task is fed with, and how often it has its turn."""

    tokens: int = field(kw_only=True)
    """Most tokens of one batch on one rank."""
    samples: int | None = None
    """Most samples of one batch; None: as many as fit into ``tokens``."""
    workers: int = 0
    """Processes that prepare batches of crops, clips, cutouts and assets; 0: a thread of the trainer. Shards have their
    own."""
    crops: CropsConfig | None = None
    clips: ClipsConfig | None = None
    cutouts: CutoutsConfig | None = None
    shards: ShardsConfig | None = None
    assets: AssetsConfig | None = None
    feed: HookConfig | None = None
    """A data source of your own: called with ``tokens`` and a seed (a tuple of whole numbers), it has a method
    ``batch(number)`` that returns the same ``Batch`` in every run."""

    @property
    def about_text(self) -> bool:
        """Whether every sample needs a caption."""
        return False

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.tokens, 1 if self.samples is None else self.samples) < 1:
            raise ValueError(f"train config: tokens and samples of {self.task} must be positive")
        if self.workers < 0 or (self.workers and self.shards is not None):
            raise ValueError(f"train config: workers of {self.task} must be 0 or more, and those of shards stand there")
        sources = (self.crops, self.clips, self.cutouts, self.assets, self.shards, self.feed)
        if sum(source is not None for source in sources) != 1:
            raise ValueError(f"train config: {self.task} needs one of crops, clips, cutouts, assets, shards and feed")


SCHEMES = ("http://", "https://")
"""Addresses of shards that are read as they are; those of others are for a program (gsutil, aws) to fetch."""


def is_command(shards: str) -> bool:
    """Whether a name of shards makes a program run: ``pipe:COMMAND``, and addresses of other ``SCHEMES``."""
    return shards.startswith("pipe:") or ("://" in shards and not shards.startswith((*SCHEMES, "file://")))
