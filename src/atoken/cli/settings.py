"""The options of ``encode``, ``decode`` and ``reconstruct``: each declared once, with what follows from it.

What needs torch or numpy is imported when a command runs.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..tokens.patch import KINDS, PATCH
from . import options

if TYPE_CHECKING:
    import numpy as np

    from ..media.video.source import Video
    from ..media.views.views import ViewOptions

VIDEO_FORMATS = ("mp4", "mov", "mkv", "webm", "gif")
MOVIE_SUFFIXES = frozenset(f".{name}" for name in VIDEO_FORMATS)
FORMATS = ("png", "jpg", "jpeg", "webp", "avif", "tif", "tiff", "bmp")
OF_VIDEOS = ("fps", "size", "start", "end", "allow_partial")
OF_ASSETS = ("views", "view_size", "fov", "patches", "extent", "light")


@dataclass(frozen=True)
class Settings:
    """Options as they were typed. Raises ``ValueError`` for a value that cannot be."""

    def __post_init__(self) -> None:
        """Check the values; subclasses check theirs and go on."""

    def changed(self, names: Collection[str]) -> bool:
        """Whether one of these options has another value than by default."""
        return any(getattr(self, field.name) != field.default for field in fields(self) if field.name in names)


@dataclass(frozen=True)
class Running(Settings):
    """What the three commands have in common."""

    model: str | None = None
    """Each command has its own."""
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR|FILE",
            show_default="the current folder",
            help="Folder for the results; for a single input it may be the name of the result itself. Results that "
            "would share a name keep that of their source: a.png.atok and a.webp.atok. Decoded 3D is a .ply, or by "
            "the name's ending a .splat, .spz or .sog, an .html page to turn it in, or a turntable (.mp4).",
        ),
    ] = Path(".")
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Write again what is already there. Without it results are kept, unless they are older than their "
            "source; those made with other options are refused.",
        ),
    ] = False
    device: options.Device = None
    dtype: options.Dtype = "float32"
    token_budget: options.TokenBudget = None

    def __post_init__(self) -> None:
        super().__post_init__()
        options.check_choice("--dtype", self.dtype, options.DTYPES)
        options.check_positive("--token-budget", self.token_budget)
        options.check_device(self.device)

    def check_inputs(self, modalities: Collection[str]) -> None:
        """Raise ``ValueError`` for options that none of the inputs has a use for."""

    def check_name(self) -> None:
        """Raise ``ValueError`` where ``out``, which names the result, contradicts other options."""


@dataclass(frozen=True)
class Writing(Running):
    """How pictures and videos are written."""

    image_format: Annotated[
        str | None,
        typer.Option("--format", metavar="|".join(FORMATS), show_default="png", help="Format of the written pictures."),
    ] = None
    video_format: Annotated[
        str | None,
        typer.Option(metavar="|".join(VIDEO_FORMATS), show_default="mp4", help="Format of the written videos."),
    ] = None
    lossless: Annotated[
        bool, typer.Option("--lossless", help="Write videos without loss, for FFmpeg rather than players.")
    ] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        options.check_choice("--format", self.image_format, FORMATS)
        options.check_choice("--video-format", self.video_format, VIDEO_FORMATS)

    def check_name(self) -> None:
        """Raise ``ValueError`` where ``out``, which names the result, contradicts ``image_format``."""
        if self.image_format and self.out.suffix.lower() != f".{self.image_format}":
            raise ValueError(f"--out {self.out} and --format {self.image_format} name different formats")

    def suffix(self, modality: str | None) -> str:
        """Suffix of a written picture or video."""
        return f".{self.video_format or 'mp4'}" if modality == "video" else f".{self.image_format or 'png'}"


@dataclass(frozen=True)
class Reading(Settings):
    """How sources are read."""

    tile: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS",
            show_default="as the model's config says: 256 for shipped ones",
            help="Side of the tiles that large pictures and frames are encoded in, a multiple of 16; 0: none.",
        ),
    ] = None
    max_pixels: Annotated[
        int | None,
        typer.Option(metavar="N", show_default="67108864", help="Larger pictures are refused: they may be bombs."),
    ] = None
    max_side: Annotated[
        int | None,
        typer.Option(metavar="N", show_default="as in the file", help="Pictures: shrink the longer side to N."),
    ] = None
    background: Annotated[str, typer.Option(metavar="R,G,B", help="Colour behind transparent pixels.")] = "255,255,255"
    fps: options.Fps = None
    size: Annotated[
        str | None,
        typer.Option(
            metavar="N|WxH", show_default="as in the file", help="Videos: resize the shorter side to N, or to W x H."
        ),
    ] = None
    start: Annotated[
        float | None, typer.Option(metavar="SECONDS", show_default="the first frame", help="Videos: begin here.")
    ] = None
    end: Annotated[
        float | None, typer.Option(metavar="SECONDS", show_default="the last frame", help="Videos: end here.")
    ] = None
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Videos: keep what is before the damage in a damaged file.")
    ] = False
    views: Annotated[int, typer.Option("--views", metavar="N", help="3D: cameras on a sphere about an asset.")] = 16
    view_size: Annotated[int, typer.Option(metavar="N", help="3D: pixels along the side of a view.")] = 256
    fov: Annotated[float, typer.Option(metavar="DEGREES", help="3D: field of view of the cameras.")] = 40.0
    patches: Annotated[
        str,
        typer.Option(
            metavar="visible|nearest",
            help="3D: the patch of a voxel is that of the nearest view that sees it, or just of the nearest.",
        ),
    ] = "visible"
    extent: Annotated[
        str,
        typer.Option(
            metavar="robust|full|SIDE",
            help="3D: what becomes tokens: all but strays far off, everything, or a cube of this side in the file's "
            "units.",
        ),
    ] = "robust"
    light: Annotated[
        str | None,
        typer.Option(
            metavar="none|head|studio",
            show_default="studio for meshes without colours, else none",
            help="3D: soft light on the surface of meshes.",
        ),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tile is not None and (self.tile < 0 or self.tile % PATCH[1]):
            raise ValueError(
                f"--tile is {self.tile}: give a multiple of {PATCH[1]} pixels, or 0 for whole pictures and frames"
            )
        options.check_positive("--max-pixels", self.max_pixels)
        options.check_positive("--max-side", self.max_side)
        _ = self.colour, self.resampling, self.view_options

    @property
    def colour(self) -> tuple[int, int, int]:
        """``background`` as integers in 0 ... 255."""
        numbers = [int(part) if part.strip().isdecimal() else -1 for part in self.background.split(",")]
        if len(numbers) != 3 or not all(0 <= number <= 255 for number in numbers):
            raise ValueError(f"--background is {self.background!r}: give three integers in 0..255, such as 255,255,255")
        return numbers[0], numbers[1], numbers[2]

    @property
    def resampling(self) -> dict[str, Any]:
        """What of a video is read, and how: arguments of ``open_video``."""
        return {**{name: getattr(self, name) for name in OF_VIDEOS}, "size": options.parse_size(self.size)}

    @property
    def view_options(self) -> ViewOptions:
        """How 3D is looked at."""
        from ..media.views.views import ViewOptions

        try:
            extent: str | float = float(self.extent)
        except ValueError:
            extent = self.extent  # for ``ViewOptions`` to check
        return ViewOptions(self.views, self.view_size, self.fov, self.patches, extent, self.light)

    @property
    def limit(self) -> int:
        """Most pixels of a picture, a frame or a texture."""
        from ..media.image.files import DEFAULT_MAX_PIXELS

        return self.max_pixels or DEFAULT_MAX_PIXELS

    def read_picture(self, path: Path) -> np.ndarray:
        """A picture file as uint8 HWC, its longer side at most ``max_side``."""
        import numpy as np
        from PIL import Image

        from ..media.image.files import read_image

        picture = read_image(path, background=self.colour, max_pixels=self.limit)
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
        from ..media.video.source import open_video

        return open_video(path, **self.resampling, background=self.colour, max_pixels=self.limit)

    def made_with(self, modality: str) -> dict[str, str]:
        """The options that change what is read from a source of that modality, as they are typed."""
        if modality == "3d":
            looked = {**{name: getattr(self, name) for name in OF_ASSETS}, "extent": self.view_options.extent}
            return {_typed(name): str(value) for name, value in looked.items()}
        found: dict[str, object] = {
            "background": ",".join(map(str, self.colour)),
            "tile": None if self.tile is None else str(self.tile),
        }
        found |= self.resampling if modality == "video" else {"max_side": self.max_side}
        return {_typed(name): str(value) for name, value in found.items() if value not in (None, False)}


def _typed(name: str) -> str:
    return f"--{name.replace('_', '-')}"


@dataclass(frozen=True)
class Encoding(Reading, Running):
    """Options of the commands that encode."""

    model: options.Model = "nano"
    kind: options.Kind = None

    def __post_init__(self) -> None:
        super().__post_init__()
        options.check_choice("--kind", self.kind, KINDS)

    def check_inputs(self, modalities: Collection[str]) -> None:
        """Raise ``ValueError`` for options of a kind of input that is not there."""
        if self.changed((*OF_VIDEOS, "keep_audio")) and "video" not in modalities:
            raise ValueError(
                "--fps, --size, --start, --end, --allow-partial and --keep-audio are for videos: none is here"
            )
        if self.changed(OF_ASSETS) and "3d" not in modalities:
            raise ValueError(
                "--views, --view-size, --fov, --patches, --extent and --light are for 3D files: none is here"
            )
        if self.changed(("max_side",)) and "image" not in modalities:
            raise ValueError("--max-side is for pictures: none is here (--size is for videos)")


@dataclass(frozen=True)
class EncodeSettings(Encoding):
    """Options of ``atoken encode``."""

    latents: options.Latents = "float16"

    def __post_init__(self) -> None:
        super().__post_init__()
        options.check_choice("--latents", self.latents, options.LATENTS)


@dataclass(frozen=True)
class DecodeSettings(Writing):
    """Options of ``atoken decode``."""

    model: Annotated[
        str | None, typer.Option(show_default="the shipped model that the tokens name", help=options.MODEL_HELP)
    ] = None


@dataclass(frozen=True)
class ReconstructSettings(Encoding, Writing):
    """Options of ``atoken reconstruct``."""

    keep_audio: Annotated[
        bool, typer.Option("--keep-audio", help="Copy the sound of a video, which tokens do not hold, into the result.")
    ] = False
