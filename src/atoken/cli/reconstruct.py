"""``atoken reconstruct``: sources through tokens and back, and how close they come."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..media.image.files import write_image
from ..media.kinds import modality_of
from ..metrics.psnr import psnr
from ..pipeline import video_files as videos
from . import forecast
from .assets import Solid, write_comparison
from .command import PICTURE_SUFFIXES
from .encode import FromSources, Item, mention_sound
from .report import show_table
from .settings import MOVIE_SUFFIXES, ReconstructSettings

RECONSTRUCTED = ".reconstructed"


class Reconstruct(FromSources[ReconstructSettings]):
    """Pictures to pictures, videos to videos, 3D to views, by way of tokens."""

    def __init__(self, settings: ReconstructSettings) -> None:
        super().__init__(settings)
        self.rows: list[tuple[str, str, int, float]] = []

    def made_with(self, source: Path) -> dict[str, str]:
        """The options that change the result of a source; it is no token file, so the model is one of them."""
        made = {"--model": f"{self.model.config.name} ({self.model.weights_hash[:12]})", "--kind": self.kind}
        if modality_of(source) == "video":
            chosen = {"--lossless": self.settings.lossless, "--keep-audio": self.settings.keep_audio}
            made |= {name: "True" for name, value in chosen.items() if value}
        return super().made_with(source) | made

    @classmethod
    def wants(cls, path: Path) -> bool:
        """Whether a file in a folder is an input: the results of an earlier run are not."""
        return super().wants(path) and not path.stem.endswith(RECONSTRUCTED)

    @classmethod
    def ending(cls, path: Path, settings: ReconstructSettings) -> str:
        """What the name of a file's result has in place of the suffix."""
        return RECONSTRUCTED + settings.suffix(modality_of(path))

    @classmethod
    def suffixes(cls, path: Path) -> frozenset[str]:
        """Those that the name of a file's result may have."""
        modality = modality_of(path)
        return {"video": MOVIE_SUFFIXES, "3d": PICTURE_SUFFIXES | MOVIE_SUFFIXES}.get(modality, PICTURE_SUFFIXES)

    def convert(self, source: Path, target: Path) -> int:
        """A video to a video by way of tokens, and its row of the table."""
        settings = self.settings
        video = settings.open_video(source)
        if not settings.keep_audio:
            mention_sound(video, "; --keep-audio copies it")
        made = videos.reconstruct(
            self.model, video, self.kind, target, settings.lossless, settings.keep_audio, self.note
        )
        height, width = video.frame_size
        self.rows.append((str(target), f"{made.frames} x {width}x{height}", made.tokens, made.psnr))
        return made.tokens

    def speed(self) -> forecast.Speed:
        """Of encoder and decoder."""
        return forecast.measure_speed(self.model, encode=True, decode=True)

    def compute(self, items: Sequence[Item]) -> Sequence[Any]:
        """The reconstructions: uint8 HWC, or Gaussians."""
        results: list[Any] = self.model.decode(self.encode(items), token_budget=self.budget)
        return results

    def write(self, target: Path, item: Item, result: Any) -> None:
        """Write the picture, or views of an asset beside those of its Gaussians, and keep its row of the table."""
        if isinstance(item, Solid):
            size, score = f"{len(item.views.cameras)} views", write_comparison(target, item.views, result)
        else:
            write_image(target, result)
            size, score = f"{item.shape[1]}x{item.shape[0]}", psnr(result, item)
        self.rows.append((str(target), size, self.count(item), score))

    def conclude(self) -> None:
        """Print the table of PSNR, with the mean where there are several."""
        rows = [(name, size, tokens, f"{score:.2f}") for name, size, tokens, score in self.rows]
        if len(rows) > 1:
            scores, tokens = [row[3] for row in self.rows], sum(row[2] for row in self.rows)
            rows.append(("mean", "", round(tokens / len(rows)), f"{np.mean(scores):.2f}"))
        if rows:
            show_table(("file", "size", "tokens", "PSNR dB"), rows)
