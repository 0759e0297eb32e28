"""``atoken decode``: token files to pictures, videos and splats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..gaussians.types import Gaussians
from ..media.image.files import write_image
from ..pipeline import video_files as videos
from ..pipeline.atoken import AToken
from ..tokens.file import peek, read_modality
from ..tokens.stream import TokenFile
from ..tokens.tokens import Tokens
from ..weights.config import list_models
from . import forecast
from .assets import write_gaussians
from .command import PICTURE_SUFFIXES, SOLID_SUFFIXES, TOKEN_SUFFIXES, Command
from .settings import MOVIE_SUFFIXES, DecodeSettings


class Decode(Command[DecodeSettings]):
    """Token files to pictures, videos and splats."""

    what = "token file"

    def __init__(self, settings: DecodeSettings) -> None:
        super().__init__(settings)
        self.models: dict[str, AToken] = {}
        if settings.model is not None:
            self.models[""] = self.load(settings.model)

    def model_of(self, name: str, path: Path | None = None) -> AToken:
        """The model of the options, or the shipped one that a token file names. Raises ``ValueError`` without one."""
        key = name if self.settings.model is None else ""
        if key not in self.models:
            if name not in list_models():
                shipped = ", ".join(list_models())
                where = f"{path}: " if path else ""
                raise ValueError(f"{where}made by {name!r}, which does not ship (those are {shipped}): give --model")
            self.models[key] = self.load(name)
        return self.models[key]

    def made_with(self, source: Path) -> dict[str, str]:
        """The options that change what tokens give."""
        lossless = {"--lossless": "True"} if self.settings.lossless and read_modality(source) == "video" else {}
        return super().made_with(source) | lossless

    @classmethod
    def wants(cls, path: Path) -> bool:
        """Whether a file in a folder is an input."""
        return path.suffix.lower() in TOKEN_SUFFIXES

    @classmethod
    def ending(cls, path: Path, settings: DecodeSettings) -> str:
        """What the name of a file's result has in place of the suffix."""
        modality = read_modality(path)
        return ".ply" if modality == "3d" else settings.suffix(modality)

    @classmethod
    def suffixes(cls, path: Path) -> frozenset[str]:
        """Those that the name of a file's result may have."""
        return {"video": MOVIE_SUFFIXES, "3d": SOLID_SUFFIXES}.get(read_modality(path) or "", PICTURE_SUFFIXES)

    def extent(self, path: Path) -> forecast.Extent | None:
        """Tokens of a file, by its header, and how many the decoder sees together."""
        facts, tokens = peek(path)
        return forecast.token_extent(facts, tokens, self.model_of(facts["model"], path).config)

    def speed(self) -> forecast.Speed:
        """Of the decoder."""
        return forecast.measure_speed(next(iter(self.models.values())), encode=False, decode=True)

    def alone(self, path: Path) -> bool:
        """Whether the tokens are those of a video."""
        return read_modality(path) == "video"

    def convert(self, source: Path, target: Path) -> int:
        """The tokens of a video to a video file."""
        with TokenFile(source) as tokens:
            model = self.model_of(tokens.model, source)
        return videos.decode(model, source, target, self.settings.lossless, self.note)

    def read(self, path: Path) -> Tokens:
        """The tokens."""
        return Tokens.load(path)

    def count(self, item: Tokens) -> int:
        """Number of tokens."""
        return len(item)

    def compute(self, items: Sequence[Tokens]) -> Sequence[np.ndarray | Gaussians]:
        """The pictures, uint8 HWC, or Gaussians."""
        results: dict[int, np.ndarray | Gaussians] = {}
        for name in dict.fromkeys(item.model for item in items):
            of_it = [index for index, item in enumerate(items) if item.model == name]
            made = self.model_of(name).decode([items[index] for index in of_it], token_budget=self.budget)
            results.update(zip(of_it, made, strict=True))
        return [results[index] for index in range(len(items))]

    def write(self, target: Path, item: Tokens, result: np.ndarray | Gaussians) -> None:
        """Write the picture, or the splat file with views beside it."""
        if isinstance(result, Gaussians):
            write_gaussians(target, result)
        else:
            write_image(target, result)
