"""``eval``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...tokens.patch import KINDS
from .. import options
from ..app import app
from ..groups import grouped

if TYPE_CHECKING:
    from ...evaluation.judges import NetworkFiles

RATES = "1"
"""What --rates is unless it is given."""


@dataclass(frozen=True)
class EvalSettings:
    """Options of ``atoken eval``. Raises ``ValueError`` for a value that cannot be."""

    protocol: Annotated[
        str,
        typer.Option(
            metavar="paper-image|native|paper-video|video-256|paper-3d|zero-shot|retrieval", help="What is measured."
        ),
    ]
    data: Annotated[Path, typer.Option(metavar="PATH", show_default=False, help="Folder of the data set.")]
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for results.json and report.html.")] = Path("eval")
    layout: Annotated[
        str | None,
        typer.Option(
            metavar="folder|classes|imagenet|coco|videos|msrvtt|msvd|assets|furniture",
            show_default="a folder",
            help="Of the data.",
        ),
    ] = None
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            show_default="all that need no download",
            help="psnr, ssim, lpips, rfid, rfvd, lite0-distance, lite0-frechet.",
        ),
    ] = None
    kind: options.Kind = None
    against: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            show_default="none",
            help="Codecs beside it: jpeg, webp, avif; for videos h.264, av1; for 3D voxels.",
        ),
    ] = None
    rates: Annotated[
        str, typer.Option(metavar="X,Y,...", help="Bytes of the codecs, as multiples of the discrete tokens'.")
    ] = RATES
    linear: Annotated[
        Path | None, typer.Option(metavar="FILE", show_default="none", help="Saved linear projection beside it.")
    ] = None
    vgg16: Annotated[Path | None, typer.Option(metavar="FILE", show_default="none", help="VGG16 for lpips.")] = None
    alexnet: Annotated[
        Path | None, typer.Option(metavar="FILE", show_default="none", help="AlexNet for lpips, instead of VGG16.")
    ] = None
    inception: Annotated[
        Path | None, typer.Option(metavar="FILE", show_default="none", help="TorchScript Inception for rfid.")
    ] = None
    i3d: Annotated[Path | None, typer.Option(metavar="FILE", show_default="none", help="TorchScript I3D for rfvd.")] = (
        None
    )
    reference: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            show_default="the measured originals",
            help="Statistics for a Fréchet distance: reference.METRIC.safetensors of an earlier run; repeatable.",
        ),
    ] = None
    limit: Annotated[
        int | None, typer.Option(metavar="N", show_default="all", help="Only the first N of the data.")
    ] = None
    batch: Annotated[int, typer.Option(metavar="N", help="Pictures that go through a model together.")] = 16
    device: options.Device = None
    dtype: options.Dtype = "float32"
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what other or finished runs left; an interrupted one goes on.")
    ] = False

    def __post_init__(self) -> None:
        options.check_choice("--kind", self.kind, KINDS)
        options.check_choice("--dtype", self.dtype, options.DTYPES)
        options.check_positive("--limit", self.limit)
        options.check_positive("--batch", self.batch)
        options.check_device(self.device)

    @property
    def files(self) -> NetworkFiles:
        """The weights of networks that metrics need."""
        from ...evaluation.judges import NetworkFiles

        return NetworkFiles(self.vgg16, self.alexnet, self.inception, self.i3d)


@app.command("eval")
@grouped
def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODELS...",
            show_default=False,
            help="Shipped models, model folders, released checkpoints, owner/name on the hub, or diffusers:FOLDER.",
        ),
    ],
    settings: EvalSettings,
) -> None:
    """Measure models beside codecs: a table, results.json, and a report to open in a browser."""
    from ..evaluate import evaluate

    evaluate(models, settings)
