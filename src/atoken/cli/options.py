"""Options that several commands share, and the checks on their values."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..tokens.patch import PATCH

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16", "float16")
DTYPE_NAMES = "|".join(DTYPES)
LATENTS = ("float16", "float32")
VIDEO_FORMATS = ("mp4", "mov", "mkv", "webm", "gif")
MOVIE_SUFFIXES = frozenset(f".{name}" for name in VIDEO_FORMATS)
FORMATS = ("png", "jpg", "jpeg", "webp", "avif", "tif", "tiff", "bmp")

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUTS...",
        show_default=False,
        help="Pictures, videos, 3D files, folders (with all below them) and quoted patterns such as 'photos/**/*.jpg'.",
    ),
]
TokenFiles = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUTS...",
        show_default=False,
        help="Token files, folders (with all that is below them) and quoted patterns such as 'tokens/**/*.atok'.",
    ),
]
Model = Annotated[
    str, typer.Option(help="Name of a shipped model, a model folder, a released checkpoint, or owner/name on the hub.")
]
DecodeModel = Annotated[
    str | None,
    typer.Option(
        show_default="the shipped model that the tokens name",
        help="Name of a shipped model, a model folder, a released checkpoint, or owner/name on the hub.",
    ),
]
Kind = Annotated[
    str | None,
    typer.Option(metavar="continuous|discrete", show_default="what the model was trained for", help="Kind of tokens."),
]
Out = Annotated[
    Path,
    typer.Option(
        metavar="DIR|FILE",
        show_default="the current folder",
        help="Folder for the results; for a single input it may be the name of the result itself. Results that would "
        "share a name keep that of their source: a.png.atok and a.webp.atok. Decoded 3D is a .ply, or by "
        "the name's ending a .splat, .spz or .sog, an .html page to turn it in, or a turntable (.mp4).",
    ),
]
Format = Annotated[
    str | None,
    typer.Option("--format", metavar="|".join(FORMATS), show_default="png", help="Format of the written pictures."),
]
VideoFormat = Annotated[
    str | None,
    typer.Option(metavar="|".join(VIDEO_FORMATS), show_default="mp4", help="Format of the written videos."),
]
Fps = Annotated[
    float | None,
    typer.Option(metavar="N", show_default="as in the file", help="Videos: resample to so many frames a second."),
]
Size = Annotated[
    str | None,
    typer.Option(
        metavar="N|WxH", show_default="as in the file", help="Videos: resize the shorter side to N, or to W x H."
    ),
]
Start = Annotated[
    float | None, typer.Option(metavar="SECONDS", show_default="the first frame", help="Videos: begin here.")
]
End = Annotated[float | None, typer.Option(metavar="SECONDS", show_default="the last frame", help="Videos: end here.")]
AllowPartial = Annotated[
    bool, typer.Option("--allow-partial", help="Videos: keep what is before the damage in a damaged file.")
]
ViewCount = Annotated[int, typer.Option("--views", metavar="N", help="3D: cameras on a sphere about an asset.")]
ViewSize = Annotated[int, typer.Option(metavar="N", help="3D: pixels along the side of a view.")]
Fov = Annotated[float, typer.Option(metavar="DEGREES", help="3D: field of view of the cameras.")]
Patches = Annotated[
    str,
    typer.Option(
        metavar="visible|nearest",
        help="3D: the patch of a voxel is that of the nearest view that sees it, or just of the nearest.",
    ),
]
Extent = Annotated[
    str,
    typer.Option(
        metavar="robust|full|SIDE",
        help="3D: what becomes tokens: all but strays far off, everything, or a cube of this side in the file's units.",
    ),
]
Light = Annotated[
    str | None,
    typer.Option(
        metavar="none|head|studio",
        show_default="studio for meshes without colours, else none",
        help="3D: soft light on the surface of meshes.",
    ),
]
KeepAudio = Annotated[
    bool, typer.Option("--keep-audio", help="Copy the sound of a video, which tokens do not hold, into the result.")
]
Lossless = Annotated[
    bool, typer.Option("--lossless", help="Write videos without loss, for FFmpeg rather than players.")
]
Device = Annotated[
    str | None,
    typer.Option(metavar="cpu|cuda|cuda:N|mps", show_default="cuda where there is one", help="Where to compute."),
]
Dtype = Annotated[str, typer.Option(metavar=DTYPE_NAMES, help="Precision of the computation.")]
TokenBudget = Annotated[
    int | None,
    typer.Option(metavar="N", show_default="16384", help="Tokens (16 x 16 pixels each) computed at once."),
]
Tile = Annotated[
    int | None,
    typer.Option(
        metavar="PIXELS",
        show_default="as the model's config says: 256 for shipped ones",
        help="Side of the tiles that large pictures and frames are encoded in, a multiple of 16; 0: none.",
    ),
]
MaxPixels = Annotated[
    int | None,
    typer.Option(metavar="N", show_default="67108864", help="Larger pictures are refused: they may be bombs."),
]
MaxSide = Annotated[
    int | None,
    typer.Option(metavar="N", show_default="as in the file", help="Pictures: shrink the longer side to N."),
]
Background = Annotated[str, typer.Option(metavar="R,G,B", help="Colour behind transparent pixels.")]
Latents = Annotated[
    str,
    typer.Option(metavar="|".join(LATENTS), help="Precision of the latents in the file (continuous tokens)."),
]
Sampling = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        show_default="as the generator says",
        help="Another of the generator's settings, such as temperature=0.9, method=heun, interval=0.1,0.9 or shift=2; "
        "may be repeated.",
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Write again what is already there. Without it results are kept, unless they are older than their source; "
        "those made with other options are refused.",
    ),
]


def check_choice(option: str, value: str | None, choices: Iterable[str]) -> None:
    """Raise ``ValueError`` unless ``value`` is one of ``choices`` or None."""
    if value is not None and value not in choices:
        raise ValueError(f"{option} is {value!r}: give one of {', '.join(choices)}")


def check_positive(option: str, value: int | None) -> None:
    """Raise ``ValueError`` unless ``value`` is at least 1 or None."""
    if value is not None and value < 1:
        raise ValueError(f"{option} is {value}: give a positive number")


def check_tile(value: int | None) -> None:
    """Raise ``ValueError`` unless ``value`` is a multiple of a patch's side, 0 or None."""
    if value is not None and (value < 0 or value % PATCH[1]):
        raise ValueError(f"--tile is {value}: give a multiple of {PATCH[1]} pixels, or 0 for whole pictures and frames")


def parse_background(value: str) -> tuple[int, int, int]:
    """``"R,G,B"`` as three integers in 0 ... 255. Raises ``ValueError``."""
    numbers = [int(part) if part.strip().isdecimal() else -1 for part in value.split(",")]
    if len(numbers) != 3 or not all(0 <= number <= 255 for number in numbers):
        raise ValueError(f"--background is {value!r}: give three integers in 0..255, such as 255,255,255")
    return numbers[0], numbers[1], numbers[2]


def parse_size(value: str | None) -> int | tuple[int, int] | None:
    """``"N"`` as the shorter side, ``"WxH"`` as (height, width). Raises ``ValueError``."""
    if value is None:
        return None
    numbers = [int(part) if part.isdecimal() else 0 for part in value.lower().split("x")]
    if len(numbers) > 2 or min(numbers) < 1:
        raise ValueError(f"--size is {value!r}: give the shorter side, such as 256, or width x height, such as 320x240")
    return numbers[0] if len(numbers) == 1 else (numbers[1], numbers[0])


def parse_sampling(pairs: Iterable[str]) -> dict[str, Any]:
    """``"NAME=VALUE"`` as names and numbers, tuples of numbers, or words. Raises ``ValueError`` for another form."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals or not value or name in ("steps", "guidance"):
            raise ValueError(f"--sampling is {pair!r}: give NAME=VALUE, such as method=heun, once for each")
        try:
            numbers = tuple(float(part) for part in value.split(","))
            found[name] = numbers if len(numbers) > 1 else numbers[0]
        except ValueError:
            found[name] = value
    return found


def parse_extent(value: str) -> str | float:
    """A side as a number; any other text as it is, for ``ViewOptions`` to check."""
    try:
        return float(value)
    except ValueError:
        return value


def parse_dtype(value: str) -> torch.dtype:
    """The torch dtype of that name. Raises ``ValueError``."""
    import torch

    check_choice("--dtype", value, DTYPES)
    dtype = getattr(torch, value)
    assert isinstance(dtype, torch.dtype)
    return dtype


def check_device(value: str | None) -> None:
    """Raise ``ValueError`` for a device that this machine does not have."""
    if value is None or value == "cpu":
        return
    from ..core.device import find_device

    find_device(value, "--device")
