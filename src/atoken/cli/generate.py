"""``atoken generate``: pictures from words or a label."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import typer

from ..core.device import is_short_of_memory
from ..core.text import clean
from ..generation.config import check_size
from ..generation.generator import LARGEST_SEED
from ..generation.load import load_generator
from ..generation.sheet import sheet
from ..media.image.files import WRITABLE_SUFFIXES, write_image
from . import options
from .report import counting


@dataclass(frozen=True)
class Request:
    """What ``atoken generate`` was asked. Raises ``ValueError`` for a value that cannot be."""

    prompt: str | None
    label: str | None
    out: Path
    model: str
    tokenizer: str | None
    n: int
    steps: int | None
    guidance: float | None
    sampling: tuple[str, ...]
    seed: int | None
    size: str | None
    device: str | None
    dtype: str
    overwrite: bool

    def __post_init__(self) -> None:
        if (self.prompt is None) == (self.label is None):
            raise ValueError("give a prompt, such as 'a red heart', or --label, and not both")
        if self.out.suffix.lower() not in WRITABLE_SUFFIXES:
            known = ", ".join(sorted(WRITABLE_SUFFIXES))
            raise ValueError(f"--out is {str(self.out)!r}: give the name of a picture that ends in one of {known}")
        options.parse_sampling(self.sampling)
        options.check_positive("--n", self.n)
        options.check_positive("--steps", self.steps)
        options.check_device(self.device)
        options.check_choice("--dtype", self.dtype, options.DTYPES)
        if self.seed is not None and not 0 <= self.seed <= LARGEST_SEED - self.n:
            raise ValueError(f"--seed is {self.seed}: give a number from 0 to {LARGEST_SEED - self.n}")
        if self.height_and_width is not None:
            check_size(*self.height_and_width)

    @property
    def height_and_width(self) -> tuple[int, int] | None:
        """The size in pixels; a single number is the side of a square."""
        size = options.parse_size(self.size)
        return (size, size) if isinstance(size, int) else size

    def names(self) -> list[Path]:
        """Where each picture goes: ``out`` for one alone, numbered names beside it for several."""
        if self.n == 1:
            return [self.out]
        width = len(str(self.n))
        return [self.out.with_name(f"{self.out.stem}-{i:0{width}}{self.out.suffix}") for i in range(1, self.n + 1)]


def generate(request: Request) -> None:
    """Draw ``n`` pictures and write each of them, and for several a sheet of all under the name ``out``.

    Raises ``ValueError`` or ``OSError`` with one sentence, before anything is written.
    """
    names, more = request.names(), options.parse_sampling(request.sampling)
    if not request.overwrite and (there := [path for path in {*names, request.out} if os.path.lexists(path)]):
        raise ValueError(f"{min(there)} is already there: --overwrite replaces it")
    generator = load_generator(
        request.model,
        tokenizer=request.tokenizer,
        device=request.device,
        dtype=options.parse_dtype(request.dtype),
    )
    seed = request.seed if request.seed is not None else int.from_bytes(os.urandom(4), "big")
    seeds = list(range(seed, seed + request.n))
    try:
        with counting() as advance:
            pictures = generator(
                None if request.prompt is None else [request.prompt] * request.n,
                class_labels=None if request.label is None else [request.label] * request.n,
                steps=request.steps,
                guidance=request.guidance,
                seeds=seeds,
                size=request.height_and_width,
                on_step=advance,
                **more,
            )
    except Exception as error:
        if is_short_of_memory(error):
            raise ValueError(f"not enough memory for {request.n} pictures of this size: try a smaller --size") from None
        raise
    for path, picture in zip(names, pictures, strict=True):
        write_image(path, picture)
    if request.n > 1:
        write_image(request.out, sheet(pictures))
    drawn = f"seed {seed}" if request.n == 1 else f"seeds {seeds[0]} to {seeds[-1]}, single ones in {names[0].name} ..."
    typer.echo(clean(f"{request.out}: {request.n} drawn, {drawn}"))
