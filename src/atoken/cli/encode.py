"""``atoken encode``, and what ``reconstruct`` shares with it: pictures in batches, each video alone."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..codec.videos import frame_count
from ..media.kinds import modality_of
from ..media.video.source import Video
from ..pipeline import video_files as videos
from ..tokens.patch import PATCH
from ..tokens.stream import TokenFile, open_tokens
from ..tokens.tokens import Tokens
from . import forecast, paths
from .assets import Solid, read_solid
from .command import TOKEN_SUFFIXES, Command
from .report import say
from .settings import EncodeSettings, Encoding
from .sources import is_source

Item = np.ndarray | Solid
"""A picture, uint8 HWC, or a 3D asset."""
Chosen = TypeVar("Chosen", bound=Encoding)


class FromSources(Command[Chosen]):
    """Pictures, videos and 3D files through an encoder."""

    what = "picture, video or 3D file"
    remedy = "; --max-side and --size make pictures and videos smaller"

    def __init__(self, settings: Chosen) -> None:
        super().__init__(settings)
        self.model = self.load(settings.model)
        if settings.tile is not None:
            self.model.config = replace(self.model.config, spatial_tile=settings.tile or None)
        self.kind = settings.kind or self.model.config.kinds[0]
        if self.kind not in self.model.config.kinds:
            known = " and ".join(self.model.config.kinds)
            raise ValueError(
                f"--kind is {self.kind!r}: the weights of {settings.model!r} were trained for {known} tokens"
            )

    def made_with(self, source: Path) -> dict[str, str]:
        """The options that change what is read from a source."""
        return super().made_with(source) | self.settings.made_with(modality_of(source))

    @classmethod
    def wants(cls, path: Path) -> bool:
        """Whether a file in a folder is an input."""
        return is_source(path)

    def extent(self, path: Path) -> forecast.Extent | None:
        """Tokens of a picture or a video."""
        modality = modality_of(path)
        if modality == "3d":
            return None
        if modality == "video":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # said when it is read
                return forecast.video_extent(self.settings.open_video(path), self.model.config)
        return forecast.picture_extent(path, self.settings.picture_size, self.model.config)

    def alone(self, path: Path) -> bool:
        """Whether the file is a video or an animation."""
        return modality_of(path) == "video"

    def read(self, path: Path) -> Item:
        """The picture, or the asset with its voxels."""
        if modality_of(path) == "3d":
            return read_solid(path, self.settings.view_options, self.settings.limit, self.model)
        return self.settings.read_picture(path)

    def count(self, item: Item) -> int:
        """Patches of the picture, or voxels of the asset."""
        if isinstance(item, Solid):
            return len(item.voxels.coords)
        height, width, _ = item.shape
        return -(-height // PATCH[1]) * -(-width // PATCH[2])

    def encode(self, items: Sequence[Item]) -> list[Tokens]:
        """Tokens of each source."""
        sources = [item.voxels if isinstance(item, Solid) else item for item in items]
        tokens: list[Tokens] = self.model.encode(sources, kind=self.kind, token_budget=self.budget)
        return tokens


class Encode(FromSources[EncodeSettings]):
    """Sources to token files."""

    def made_with(self, source: Path) -> dict[str, str]:
        """The options that change the tokens of a source, but for the model and the kind, which the file names."""
        return super().made_with(source) | ({"--latents": self.settings.latents} if self.kind == "continuous" else {})

    @classmethod
    def ending(cls, path: Path, settings: EncodeSettings) -> str:
        """What the name of a file's result has in place of the suffix."""
        return ".atok"

    @classmethod
    def suffixes(cls, path: Path) -> frozenset[str]:
        """Those that the name of a file's result may have."""
        return TOKEN_SUFFIXES

    def speed(self) -> forecast.Speed:
        """Of the encoder."""
        return forecast.measure_speed(self.model, encode=True, decode=False)

    def token_bytes(self) -> int:
        """Two or four for each latent, one and a half for each code."""
        config = self.model.config
        if self.kind == "discrete":
            return 3 * len(config.fsq_levels) // 2
        return config.latent_channels * (2 if self.settings.latents == "float16" else 4)

    def convert(self, source: Path, target: Path) -> int:
        """A video to its token file."""
        frames, video = 0, self.settings.open_video(source)
        expected = forecast.frames_text(video)

        def stored(tile: Tokens) -> Tokens:
            nonlocal frames
            frames += frame_count(tile)
            self.note(source, f"{frames} of {expected} frames")
            return self.stored(tile)

        mention_sound(video)
        return videos.encode(self.model, video, self.kind, target, stored)

    def finished(self, job: paths.Job) -> bool:
        """Whether the result is there; ``ValueError`` where the file is another's or made with other options."""
        target = job.target
        if not target.exists():
            return False
        try:
            tokens = open_tokens(target)
        except ValueError as error:
            raise ValueError(f"{error}; --overwrite writes it again") from None
        if isinstance(tokens, TokenFile):
            tokens.close()
        if (tokens.weights, tokens.kind) != (self.model.weights_hash, self.kind):
            raise ValueError(
                f"{target} holds {tokens.kind} tokens of {tokens.model!r} with weights {tokens.weights[:12]}, not "
                f"{self.kind} ones of {self.model.config.name!r} with weights {self.model.weights_hash[:12]}; "
                "--overwrite replaces it"
            )
        return super().finished(job)

    def compute(self, items: Sequence[Item]) -> Sequence[Any]:
        """Tokens of each source."""
        return self.encode(items)

    def write(self, target: Path, item: Item, result: Any) -> None:
        """Write the token file."""
        self.stored(result).save(target)

    def stored(self, tokens: Tokens) -> Tokens:
        """Tokens in the precision in which they are written."""
        return tokens.half() if self.settings.latents == "float16" else tokens


def mention_sound(video: Video, remedy: str = "") -> None:
    """Warn of sound, which tokens do not hold."""
    if video.facts.audio:
        say(f"warning: {video.path}: its sound ({video.facts.audio}) is not tokenised{remedy}")
