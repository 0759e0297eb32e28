"""``atoken encode``, ``decode`` and ``reconstruct``: pictures in batches, each video alone (``videos``)."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..codec import TOKEN_BUDGET
from ..codec.assets import read_any
from ..codec.videos import frame_count
from ..gaussians.formats.files import SPLAT_SUFFIXES as SPLATS_WRITTEN
from ..gaussians.types import Gaussians
from ..media.image.files import DEFAULT_MAX_PIXELS, WRITABLE_SUFFIXES, read_image, write_image
from ..media.kinds import modality_of
from ..media.suffixes import ASSET_SUFFIXES, IMAGE_SUFFIXES, VIDEO_SUFFIXES
from ..media.video.source import Video, open_video
from ..media.views.packed import PackedAsset
from ..media.views.views import DEFAULT, ViewOptions, Views
from ..metrics.psnr import psnr
from ..pipeline import video_files as videos
from ..pipeline.atoken import AToken
from ..tokens.file import peek, read_modality
from ..tokens.patch import KINDS, PATCH
from ..tokens.stream import TokenFile, open_tokens
from ..tokens.tokens import Tokens
from ..weights.config import list_models
from ..weights.load import load
from . import forecast, options, paths
from .assets import PAGE_SUFFIX, count_voxels, write_comparison, write_gaussians
from .batches import Task, process
from .options import MOVIE_SUFFIXES
from .record import Record
from .report import Report, bytes_text, say, seconds_text, show_table
from .sources import is_source, owned_files

TOKEN_SUFFIXES = frozenset({".atok"})
PICTURE_SUFFIXES = WRITABLE_SUFFIXES
"""Pictures that are written."""
SOLID_SUFFIXES = MOVIE_SUFFIXES | SPLATS_WRITTEN | {PAGE_SUFFIX}
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

    model: str | None
    """None where each token file is decoded by the shipped model that it names."""
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
    max_side: int | None = None
    tile: int | None = None

    def __post_init__(self) -> None:
        options.check_choice("--kind", self.kind, KINDS)
        options.check_choice("--dtype", self.dtype, options.DTYPES)
        options.check_choice("--format", self.image_format, options.FORMATS)
        options.check_choice("--video-format", self.video_format, options.VIDEO_FORMATS)
        options.check_choice("--latents", self.latents, options.LATENTS)
        options.check_positive("--token-budget", self.token_budget)
        options.check_positive("--max-pixels", self.max_pixels)
        options.check_positive("--max-side", self.max_side)
        options.check_tile(self.tile)
        options.parse_background(self.background)
        options.check_device(self.device)

    def read_picture(self, path: Path) -> np.ndarray:
        """A picture file as uint8 HWC, its longer side at most ``max_side``."""
        background = options.parse_background(self.background)
        picture = read_image(path, background=background, max_pixels=self.max_pixels or DEFAULT_MAX_PIXELS)
        height, width = self.picture_size(*picture.shape[:2])
        if (height, width) == picture.shape[:2]:
            return picture
        return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))

    def picture_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of a picture after ``max_side``."""
        longer = max(height, width)
        if self.max_side is None or longer <= self.max_side:
            return height, width
        return max(round(height * self.max_side / longer), 1), max(round(width * self.max_side / longer), 1)

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

    def of_reading(self, modality: str) -> dict[str, str]:
        """The options that change what is read from a source of that modality, as they are typed."""
        if modality == "3d":
            typed = {"size": "view-size", "choice": "patches"}
            return {f"--{typed.get(name, name)}": str(value) for name, value in vars(self.views).items()}
        found: dict[str, object] = {"--background": ",".join(map(str, options.parse_background(self.background)))}
        found["--tile"] = None if self.tile is None else str(self.tile)
        if modality == "video":
            found |= {f"--{name.replace('_', '-')}": value for name, value in vars(self.resampling).items()}
        else:
            found["--max-side"] = self.max_side
        return {name: str(value) for name, value in found.items() if value not in (None, False)}


class Command(Task):
    """A task with a model, and its place on the command line."""

    what: str
    """Word for an input."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.budget = settings.token_budget or TOKEN_BUDGET
        self.record = Record()

    def load(self, name: str) -> AToken:
        """The model of that name, on the device and in the precision of the options."""
        return load(name, device=self.settings.device, dtype=options.parse_dtype(self.settings.dtype))

    def made_with(self, source: Path) -> dict[str, str]:
        """The options that change the result of a source."""
        return {"--dtype": self.settings.dtype}

    def finished(self, job: paths.Job) -> bool:
        """Whether the result is there; ``ValueError`` where it was made with other options."""
        return job.target.exists() and self.record.check(job.target, self.made_with(job.source))

    @contextmanager
    def recorded(self, job: paths.Job) -> Iterator[None]:
        """Note the options that the result was made with, which the block writes."""
        with self.record.writing(job.target, self.made_with(job.source)):
            yield

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

    def extent(self, path: Path) -> forecast.Extent | None:
        """What an input takes, going by its header; None where only reading it tells."""
        return None

    def speed(self) -> forecast.Speed:
        """How fast this machine does it."""
        raise NotImplementedError

    def token_bytes(self) -> int:
        """Bytes of a token in the results; 0 where they are no token files."""
        return 0

    def say_what_comes(self, files: Sequence[Path]) -> None:
        """Say what work on ``files`` takes where it is long."""
        work = forecast.estimate(files, self.extent, self.speed)
        if work is None or work.seconds < forecast.LONG:
            return
        size = f" ({bytes_text(work.tokens * self.token_bytes())})" if self.token_bytes() else ""
        more = f", and {work.unknown} files whose tokens only reading them tells" if work.unknown else ""
        say(
            f"{len(files)} to do: about {work.tokens:,} tokens{size} in about {seconds_text(work.seconds)}, as "
            f"measured on this machine{more}{self.remedy}"
        )

    remedy = ""
    """What makes long work shorter."""

    def conclude(self) -> None:
        """Print what there is to say beyond the summary."""
        return


class Encode(Command):
    """Pictures to token files."""

    what = "picture, video or 3D file"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        assert settings.model is not None
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
        """The options that change the tokens of a source, but for the model and the kind, which the file names."""
        latents = {"--latents": self.settings.latents} if self.kind == "continuous" else {}
        return super().made_with(source) | self.settings.of_reading(modality_of(source)) | latents

    @classmethod
    def wants(cls, path: Path) -> bool:
        """Whether a file in a folder is an input."""
        return is_source(path)

    @classmethod
    def ending(cls, path: Path, settings: Settings) -> str:
        """What the name of a file's result has in place of the suffix."""
        return ".atok"

    @classmethod
    def suffixes(cls, path: Path) -> frozenset[str]:
        """Those that the name of a file's result may have."""
        return TOKEN_SUFFIXES

    remedy = "; --max-side and --size make pictures and videos smaller"

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

    def speed(self) -> forecast.Speed:
        """Of the encoder."""
        return forecast.measure_speed(self.model, encode=True, decode=False)

    def token_bytes(self) -> int:
        """Two or four for each latent, one and a half for each code."""
        config = self.model.config
        if self.kind == "discrete":
            return 3 * len(config.fsq_levels) // 2
        return config.latent_channels * (2 if self.settings.latents == "float16" else 4)

    def alone(self, path: Path) -> bool:
        """Whether the file is a video or an animation."""
        return modality_of(path) == "video"

    def convert(self, source: Path, target: Path) -> int:
        """A video to its token file."""
        frames, video = 0, self.settings.open_video(source)
        expected = forecast.expected_frames(video)

        def stored(tile: Tokens) -> Tokens:
            nonlocal frames
            frames += frame_count(tile)
            self.note(source, f"{frames} of {expected or '?'} frames")
            return self.settings.stored(tile)

        _mention_sound(video)
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

    def read(self, path: Path) -> np.ndarray | Views | PackedAsset:
        """The picture, uint8 HWC, or the views of a 3D asset."""
        if modality_of(path) == "3d":
            most = self.settings.max_pixels or DEFAULT_MAX_PIXELS
            return read_any(path, self.settings.views, max_pixels=most)
        return self.settings.read_picture(path)

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

    def __init__(self, settings: Settings) -> None:
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
    def ending(cls, path: Path, settings: Settings) -> str:
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


class Reconstruct(Encode):
    """Pictures to pictures, by way of tokens."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.rows: list[tuple[str, str, int, float]] = []

    def made_with(self, source: Path) -> dict[str, str]:
        """The options that change the result of a source; it is no token file, so the model is one of them."""
        made = {"--model": f"{self.model.config.name} ({self.model.weights_hash[:12]})", "--kind": self.kind}
        if modality_of(source) == "video":
            chosen = {"--lossless": self.settings.lossless, "--keep-audio": self.settings.keep_audio}
            made |= {name: "True" for name, value in chosen.items() if value}
        reading = self.settings.of_reading(modality_of(source))
        return {"--dtype": self.settings.dtype} | reading | made

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
        if not settings.keep_audio:
            _mention_sound(video, "; --keep-audio copies it")
        made = videos.reconstruct(
            self.model, video, self.kind, target, settings.lossless, settings.keep_audio, self.note
        )
        height, width = video.frame_size
        self.rows.append((str(target), f"{made.frames} x {width}x{height}", made.tokens, made.psnr))
        return made.tokens

    def finished(self, job: paths.Job) -> bool:
        """Whether the result is there; ``ValueError`` where it was made with other options."""
        return Command.finished(self, job)

    def speed(self) -> forecast.Speed:
        """Of encoder and decoder."""
        return forecast.measure_speed(self.model, encode=True, decode=True)

    def token_bytes(self) -> int:
        """None are written."""
        return 0

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
    """Find the inputs, do the work, and report. Raises ``typer.Exit`` of 2 where an input failed, 1 where we did."""
    report = Report()
    left_out = paths.LeftOut()
    sources, report.failures = paths.expand(inputs, command.wants, command.what, left_out, owned_files)
    if not sources:
        raise ValueError("; ".join(report.failures))
    _check_options(settings, {modality_of(source.path) for source in sources})
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
    waiting = [job for job in jobs if settings.overwrite or not job.target.exists() or paths.is_outdated(job)]
    if waiting:
        paths.check_folder(settings.out.parent if single else settings.out)
    if str(left_out):
        say(f"left out: {left_out}")
    task = command(settings)
    task.say_what_comes([job.source for job in waiting])
    process(task, jobs, report, budget=task.budget, overwrite=settings.overwrite)
    task.conclude()
    report.close(settings.out)


def _check_options(settings: Settings, modalities: set[str]) -> None:
    """Raise ``ValueError`` for options of a kind of input that is not there."""
    if (settings.resampling != NOTHING or settings.keep_audio) and "video" not in modalities:
        raise ValueError("--fps, --size, --start, --end, --allow-partial and --keep-audio are for videos: none is here")
    if settings.views != DEFAULT and "3d" not in modalities:
        raise ValueError("--views, --view-size, --fov, --patches, --extent and --light are for 3D files: none is here")
    if settings.max_side is not None and "image" not in modalities:
        raise ValueError("--max-side is for pictures: none is here (--size is for videos)")


def _mention_sound(video: Video, remedy: str = "") -> None:
    if video.facts.audio:
        say(f"warning: {video.path}: its sound ({video.facts.audio}) is not tokenised{remedy}")
