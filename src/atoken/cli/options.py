"""Options that several commands share, and the checks on their values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16", "float16")
DTYPE_NAMES = "|".join(DTYPES)
LATENTS = ("float16", "float32")

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
MODEL_HELP = "Name of a shipped model, a model folder, a released checkpoint, or owner/name on the hub."
Model = Annotated[str, typer.Option(help=MODEL_HELP)]
Kind = Annotated[
    str | None,
    typer.Option(metavar="continuous|discrete", show_default="what the model was trained for", help="Kind of tokens."),
]
Fps = Annotated[
    float | None,
    typer.Option(metavar="N", show_default="as in the file", help="Videos: resample to so many frames a second."),
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


def check_choice(option: str, value: str | None, choices: Iterable[str]) -> None:
    """Raise ``ValueError`` unless ``value`` is one of ``choices`` or None."""
    if value is not None and value not in choices:
        raise ValueError(f"{option} is {value!r}: give one of {', '.join(choices)}")


def check_positive(option: str, value: int | None) -> None:
    """Raise ``ValueError`` unless ``value`` is at least 1 or None."""
    if value is not None and value < 1:
        raise ValueError(f"{option} is {value}: give a positive number")


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
