"""``atoken generate``: pictures from words or a label."""

from __future__ import annotations

import os

import typer

from ..core.device import enough_memory
from ..core.text import clean
from ..generation.load import load_generator
from ..generation.sheet import sheet
from ..media.image.files import write_image
from . import options
from .commands.generation import Request
from .report import counting


def generate(request: Request) -> None:
    """Draw ``n`` pictures and write each of them, and for several a sheet of all under the name ``out``.

    Raises ``ValueError`` or ``OSError`` with one sentence, before anything is written.
    """
    names, more = request.names(), options.parse_sampling(request.sampling or ())
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
    shortage = f"not enough memory for {request.n} pictures of this size: try a smaller --size"
    with enough_memory(shortage), counting() as advance:
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
    for path, picture in zip(names, pictures, strict=True):
        write_image(path, picture)
    if request.n > 1:
        write_image(request.out, sheet(pictures))
    drawn = f"seed {seed}" if request.n == 1 else f"seeds {seeds[0]} to {seeds[-1]}, single ones in {names[0].name} ..."
    typer.echo(clean(f"{request.out}: {request.n} drawn, {drawn}"))
