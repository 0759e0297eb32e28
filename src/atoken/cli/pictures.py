"""``atoken encode``, ``decode`` and ``reconstruct``: pictures in batches, each video alone (``videos``)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..atok import read_modality
from ..codec import TOKEN_BUDGET
from ..codec.assets import read_any
from ..config import KINDS, PATCH
from ..evaluation.psnr import psnr
from ..media.image import DEFAULT_MAX_PIXELS, IMAGE_SUFFIXES, read_image, write_image
from ..media.kinds import ASSET_SUFFIXES, VIDEO_SUFFIXES, modality_of
from ..media.packed import PackedAsset
from ..media.video import Video, open_video
from ..media.views import DEFAULT, ViewOptions, Views
from ..model.tokenizer import AToken
from ..render.gaussians import Gaussians
from ..token_file import TokenFile, open_tokens
from ..tokens import Tokens
from ..weights.load import load
from . import options, paths, videos
from .assets import PAGE_SUFFIX, SPLAT_SUFFIX, count_voxels, write_comparison, write_gaussians
from .batches import Task, process
from .options import MOVIE_SUFFIXES
from .report import Report, show_table

TOKEN_SUFFIXES = frozenset({".atok"})
VIEWS_FILE = "transforms.json"
PICTURE_SUFFIXES = IMAGE_SUFFIXES - {".gif"}
"""Pictures that are written."""
SOLID_SUFFIXES = MOVIE_SUFFIXES | {SPLAT_SUFFIX, PAGE_SUFFIX}
"""What Gaussians are written as."""
KNOWN_SUFFIXES = TOKEN_SUFFIXES | IMAGE_SUFFIXES | VIDEO_SUFFIXES | SOLID_SUFFIXES | ASSET_SUFFIXES
RECONSTRUCTED = ".reconstructed"


@dataclass(frozen=True)
class Resampling:
    """What of a video is read, and how; see ``open_video``."""

    fps: float | None = None
    size: int | tuple[int, int] | None = None
    start: float | None = None
    end: float | None = None
    allow_partial: bool = False


NOTHING = Resampling()


@dataclass(frozen=True)
class Settings:
    """The options as they were typed. Raises ``ValueError`` for a value that cannot be."""

    model: str
    out: Path
    device: str | None
    dtype: str
    token_budget: int | None
    overwrite: bool
    kind: str | None = None
    max_pixels: int | None = None
    background: str = "255,255,255"
    resampling: Resampling = NOTHING
    views: ViewOptions = DEFAULT
    image_format: str | None = None
    video_format: str | None = None
    lossless: bool = False
    keep_audio: bool = False
    latents: str = "float16"
    tile: int | None = None

    def __post_init__(self) -> None:
        options.check_choice("--kind", self.kind, KINDS)
        options.check_choice("--dtype", self.dtype, options.DTYPES)
        options.check_choice("--format", self.image_format, options.FORMATS)
        options.check_choice("--video-format", self.video_format, options.VIDEO_FORMATS)
        options.check_choice("--latents", self.latents, options.LATENTS)
        options.check_positive("--token-budget", self.token_budget)
        options.check_positive("--max-pixels", self.max_pixels)
        options.check_tile(self.tile)
        options.parse_background(self.background)
        options.check_device(self.device)

    def read_picture(self, path: Path) -> np.ndarray:
        """A picture file as uint8 HWC."""
        background = options.parse_background(self.background)
        return read_image(path, background=background, max_pixels=self.max_pixels or DEFAULT_MAX_PIXELS)

    def open_video(self, path: Path) -> Video:
        """A video file or animation, resampled as the options say."""
        background = options.parse_background(self.background)
        most = self.max_pixels or DEFAULT_MAX_PIXELS
        return open_video(path, **vars(self.resampling), background=background, max_pixels=most)

    def suffix(self, modality: str | None) -> str:
        """Suffix of a written picture or video."""
        return f".{self.video_format or 'mp4'}" if modality == "video" else f".{self.image_format or 'png'}"

    def stored(self, tokens: Tokens) -> Tokens:
        """Tokens as they are written."""
        return tokens.half() if self.latents == "float16" else tokens


class Command(Task):
    """A task with a model, and its place on the command line."""

    what: str
    """Word for an input."""

    def __init__(self, settings: Settings, model: AToken) -> None:
        self.settings, self.model = settings, model
        self.kind = settings.kind or model.config.kinds[0]
        self.budget = settings.token_budget or TOKEN_BUDGET
        if self.kind not in model.config.kinds:
            known = " and ".join(model.config.kinds)
            raise ValueError(
                f"--kind is {self.kind!r}: the weights of {settings.model!r} were trained for {known} tokens"
            )

    @classmethod
    @abstractmethod
    def wants(cls, path: Path) -> bool:
        """Whether a file in a folder is an input."""

    @classmethod
    @abstractmethod
    def ending(cls, path: Path, settings: Settings) -> str:
        """What the name of a file's result has in place of the suffix."""

    @classmethod
    @abstractmethod
    def suffixes(cls, path: Path) -> frozenset[str]:
        """Those that the name of a file's result may have."""

    def conclude(self) -> None:
        """Print what there is to say beyond the summary."""
        return


class Encode(Command):
    """Pictures to token files."""

    what = "picture, video or 3D file"

    @classmethod
    def wants(cls, path: Path) -> bool:
        """Whether a file in a folder is an input."""
        known = IMAGE_SUFFIXES | VIDEO_SUFFIXES | ASSET_SUFFIXES
        return path.suffix.lower() in known or path.name == VIEWS_FILE

    @classmethod
    def ending(cls, path: Path, settings: Settings) -> str:
        """What the name of a file's result has in place of the suffix."""
        return ".atok"

    @classmethod
    def suffixes(cls, path: Path) -> frozenset[str]:
        """Those that the name of a file's result may have."""
        return TOKEN_SUFFIXES

    def alone(self, path: Path) -> bool:
        """Whether the file is a video or an animation."""
        return modality_of(path) == "video"

    def convert(self, source: Path, target: Path) -> int:
        """A video to its token file."""
        return videos.encode(self.model, self.settings.open_video(source), self.kind, target, self.settings.stored)

    def finished(self, target: Path) -> bool:
        """Whether the result is there; ``ValueError`` where the file that is there is another's."""
        if not target.exists():
            return False
        try:
            tokens = open_tokens(target)
        except ValueError as error:
            raise ValueError(f"{error}; --overwrite writes it again") from None
        if (tokens.weights, tokens.kind) != (self.model.weights_hash, self.kind):
            raise ValueError(
                f"{target} holds {tokens.kind} tokens of {tokens.model!r} with weights {tokens.weights[:12]}, not "
                f"{self.kind} ones of {self.model.config.name!r} with weights {self.model.weights_hash[:12]}; "
                "--overwrite replaces it"
            )
        if isinstance(tokens, TokenFile):
            tokens.close()
        return True

    def read(self, path: Path) -> np.ndarray | Views | PackedAsset:
        """The picture, uint8 HWC, or the views of a 3D asset."""
        return read_any(path, self.settings.views) if modality_of(path) == "3d" else self.settings.read_picture(path)

    def count(self, item: np.ndarray | Views | PackedAsset) -> int:
        """Patches of the picture, or voxels of the asset."""
        if isinstance(item, Views | PackedAsset):
            return count_voxels(item, self.model)
        height, width, _ = item.shape
        return -(-height // PATCH[1]) * -(-width // PATCH[2])

    def compute(self, items: Sequence[np.ndarray | Views | PackedAsset]) -> Sequence[Any]:
        """Tokens of each source."""
        tokens: list[Tokens] = self.model.encode(list(items), kind=self.kind, token_budget=self.budget)
        return tokens

    def write(self, target: Path, item: np.ndarray | Views | PackedAsset, result: Any) -> None:
        """Write the token file."""
        self.settings.stored(result).save(target)


class Decode(Command):
    """Token files to pictures, videos and splats."""

    what = "token file"

    @classmethod
    def wants(cls, path: Path) -> bool:
        """Whether a file in a folder is an input."""
        return path.suffix.lower() in TOKEN_SUFFIXES

    @classmethod
    def ending(cls, path: Path, settings: Settings) -> str:
        """What the name of a file's result has in place of the suffix."""
        modality = read_modality(path)
        return ".ply" if modality == "3d" else settings.suffix(modality)

    @classmethod
    def suffixes(cls, path: Path) -> frozenset[str]:
        """Those that the name of a file's result may have."""
        return {"video": MOVIE_SUFFIXES, "3d": SOLID_SUFFIXES}.get(read_modality(path) or "", PICTURE_SUFFIXES)

    def alone(self, path: Path) -> bool:
        """Whether the tokens are those of a video."""
        return read_modality(path) == "video"

    def convert(self, source: Path, target: Path) -> int:
        """The tokens of a video to a video file."""
        return videos.decode(self.model, source, target, self.settings.lossless)

    def read(self, path: Path) -> Tokens:
        """The tokens."""
        return Tokens.load(path)

    def count(self, item: Tokens) -> int:
        """Number of tokens."""
        return len(item)

    def compute(self, items: Sequence[Tokens]) -> Sequence[np.ndarray | Gaussians]:
        """The pictures, uint8 HWC, or Gaussians."""
        results: list[np.ndarray | Gaussians] = self.model.decode(items, token_budget=self.budget)
        return results

    def write(self, target: Path, item: Tokens, result: np.ndarray | Gaussians) -> None:
        """Write the picture, or the splat file with views beside it."""
        if isinstance(result, Gaussians):
            write_gaussians(target, result)
        else:
            write_image(target, result)


class Reconstruct(Encode):
    """Pictures to pictures, by way of tokens."""

    def __init__(self, settings: Settings, model: AToken) -> None:
        super().__init__(settings, model)
        self.rows: list[tuple[str, str, int, float]] = []

    @classmethod
    def wants(cls, path: Path) -> bool:
        """Whether a file in a folder is an input: the results of an earlier run are not."""
        return super().wants(path) and not path.stem.endswith(RECONSTRUCTED)

    @classmethod
    def ending(cls, path: Path, settings: Settings) -> str:
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
        made = videos.reconstruct(self.model, video, self.kind, target, settings.lossless, settings.keep_audio)
        height, width = video.frame_size
        self.rows.append((str(target), f"{made.frames} x {width}x{height}", made.tokens, made.psnr))
        return made.tokens

    def finished(self, target: Path) -> bool:
        """Whether the result is there."""
        return target.exists()

    def compute(self, items: Sequence[np.ndarray | Views | PackedAsset]) -> Sequence[Any]:
        """The reconstructions: uint8 HWC, or Gaussians."""
        results: list[Any] = self.model.decode(super().compute(items), token_budget=self.budget)
        return results

    def write(self, target: Path, item: np.ndarray | Views | PackedAsset, result: Any) -> None:
        """Write the picture, or views of an asset beside those of its Gaussians, and keep its row of the table."""
        if isinstance(item, Views | PackedAsset):
            size, score = f"{len(item.cameras)} views", write_comparison(target, item, result)
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


def run(command: type[Command], inputs: Sequence[str], settings: Settings) -> None:
    """Find the inputs, do the work, and report. Raises ``typer.Exit(2)`` where an input failed."""
    report = Report()
    sources, report.failures = paths.expand(inputs, command.wants, command.what)
    if not sources:
        raise ValueError("; ".join(report.failures))
    modalities = {modality_of(source.path) for source in sources}
    if (settings.resampling != NOTHING or settings.keep_audio) and "video" not in modalities:
        raise ValueError("--fps, --size, --start, --end, --allow-partial and --keep-audio are for videos: none is here")
    if settings.views != DEFAULT and "3d" not in modalities:
        raise ValueError("--views, --view-size, --fov and --patches are for 3D files: none is here")
    single = paths.names_result(inputs, settings.out, KNOWN_SUFFIXES, command.suffixes)
    if single and settings.image_format and settings.out.suffix.lower() != f".{settings.image_format}":
        raise ValueError(f"--out {settings.out} and --format {settings.image_format} name different formats")

    def target(source: paths.Source, whole: bool) -> Path:
        if single:
            return settings.out
        kept = source.below.name if whole else source.below.stem
        return settings.out / source.below.with_name(kept + command.ending(source.path, settings))

    jobs, problems = paths.plan(sources, target)
    report.failures += problems
    if settings.overwrite or not all(job.target.exists() and not paths.is_outdated(job) for job in jobs):
        paths.check_folder(settings.out.parent if single else settings.out)
    model = load(settings.model, device=settings.device, dtype=options.parse_dtype(settings.dtype))
    if settings.tile is not None:
        model.config = replace(model.config, spatial_tile=settings.tile or None)
    task = command(settings, model)
    process(task, jobs, report, budget=task.budget, overwrite=settings.overwrite)
    task.conclude()
    report.close(settings.out)
