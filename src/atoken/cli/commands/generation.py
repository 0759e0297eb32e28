"""``generate`` and ``eval-generation``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import options
from ..app import app
from ..groups import grouped


@dataclass(frozen=True)
class Request:
    """What ``atoken generate`` was asked. Raises ``ValueError`` for a value that cannot be."""

    prompt: Annotated[
        str | None, typer.Argument(metavar="TEXT", show_default=False, help="What to draw, such as 'a red heart'.")
    ] = None
    label: Annotated[
        str | None,
        typer.Option(metavar="NAME|N", show_default=False, help="In place of words: a class that the generator knows."),
    ] = None
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="The picture; of several, a sheet of all, beside NAME-1.png, ...")
    ] = Path("generated.png")
    model: Annotated[
        str, typer.Option(metavar="NAME|DIR", help="A generator that comes with the package, or its folder.")
    ] = "nano-draw"
    tokenizer: Annotated[
        str | None,
        typer.Option(
            show_default="the shipped model that the generator names",
            help="The tokenizer that it was trained with: a shipped model, a model folder or a checkpoint.",
        ),
    ] = None
    n: Annotated[int, typer.Option("--n", metavar="N", help="Pictures.")] = 1
    steps: Annotated[
        int | None, typer.Option(metavar="N", show_default="as the generator says", help="Steps from noise to picture.")
    ] = None
    guidance: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            show_default="as the generator says",
            help="How far the words are exaggerated; 1: not at all, and twice as fast.",
        ),
    ] = None
    sampling: options.Sampling = None
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", show_default="a random one", help="Of the first picture; the others count up."),
    ] = None
    size: Annotated[
        str | None,
        typer.Option(
            metavar="N|WxH", show_default="as the generator says", help="Pixels along the sides, multiples of 16."
        ),
    ] = None
    device: options.Device = None
    dtype: options.Dtype = "float32"
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace pictures that are already there.")] = False

    def __post_init__(self) -> None:
        from ...generation.config import check_size
        from ...generation.generator import LARGEST_SEED
        from ...media.image.files import WRITABLE_SUFFIXES

        if (self.prompt is None) == (self.label is None):
            raise ValueError("give a prompt, such as 'a red heart', or --label, and not both")
        if self.out.suffix.lower() not in WRITABLE_SUFFIXES:
            known = ", ".join(sorted(WRITABLE_SUFFIXES))
            raise ValueError(f"--out is {str(self.out)!r}: give the name of a picture that ends in one of {known}")
        options.parse_sampling(self.sampling or ())
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


@app.command()
@grouped
def generate(request: Request) -> None:
    """Draw pictures from words, or from a label, with a trained generator."""
    from ..generate import generate

    generate(request)


@dataclass(frozen=True)
class EvaluationRequest:
    """What ``atoken eval-generation`` was asked. Raises ``ValueError`` for a value that cannot be."""

    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", show_default=False, help="A shipped generator, a folder of one, or pictures (.npz)."
        ),
    ]
    out: Annotated[Path, typer.Option(metavar="DIR", show_default=False, help="Samples, features and results.")]
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            show_default=False,
            help="Captioned pictures, as recipes/generation/draw_data.py makes them: drawn are the held-out captions.",
        ),
    ] = None
    reference: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|DIR",
            show_default=False,
            help="For labels: an .npz of real pictures (arr_0) or statistics (mu, sigma), or a folder of pictures.",
        ),
    ] = None
    inception: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", show_default=False, help="Weights that torch-fidelity reads, for FID and its like."
        ),
    ] = None
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", show_default=False, help="Prompts, one a line, that no caption of --data holds."),
    ] = None
    samples: Annotated[
        int | None,
        typer.Option(metavar="N", show_default="50000, or all held-out captions", help="Pictures that are drawn."),
    ] = None
    steps: Annotated[int | None, typer.Option(metavar="N", show_default="as the generator says", help="Steps.")] = None
    guidance: Annotated[
        float | None, typer.Option(metavar="X", show_default="as the generator says", help="Guidance; 1: none.")
    ] = None
    sampling: options.Sampling = None
    seed: Annotated[int, typer.Option(metavar="N", help="Of the first sample; the others count up.")] = 0
    batch: Annotated[int, typer.Option(metavar="N", help="Pictures that are computed and kept together.")] = 64
    tokenizer: Annotated[
        str | None, typer.Option(show_default="the shipped model that the generator names", help="Its tokenizer.")
    ] = None
    device: options.Device = None
    dtype: options.Dtype = "float32"
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another run in --out.")] = False

    def __post_init__(self) -> None:
        from ...generation.generator import LARGEST_SEED

        if (self.data is None) == (self.reference is None):
            raise ValueError("give --data, a folder of captioned pictures, or --reference, and not both")
        if self.prompts and not self.data:
            raise ValueError("--prompts are those that no caption of --data holds: give --data")
        for name in ("samples", "batch", "steps"):
            options.check_positive(f"--{name}", getattr(self, name))
        options.parse_sampling(self.sampling or ())
        options.check_choice("--dtype", self.dtype, options.DTYPES)
        if not 0 <= self.seed < LARGEST_SEED - 2**32:
            raise ValueError(f"--seed is {self.seed}: give a number from 0 to {LARGEST_SEED - 2**32 - 1}")

    @property
    def is_archive(self) -> bool:
        """Whether the pictures are drawn already."""
        return Path(self.model).suffix == ".npz"

    @property
    def how(self) -> dict[str, Any]:
        """How to draw, where it was said."""
        return {"steps": self.steps, "guidance": self.guidance} | options.parse_sampling(self.sampling or ())


@app.command("eval-generation")
@grouped
def evaluate_generation(request: EvaluationRequest) -> None:
    """Measure a generator: draw samples and compare them with real pictures; interrupted, it goes on."""
    from ..eval_generation import evaluate

    evaluate(request)
