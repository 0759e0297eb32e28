"""``train``, ``bench`` and ``demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import options
from ..app import app


@app.command()
def train(
    config: Annotated[
        list[Path],
        typer.Argument(
            metavar="CONFIG.yaml", show_default=False, help="Recipe of the run; several only with --dry-run."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", show_default=False, help="Folder for the log, the checkpoints and the trained model."
        ),
    ] = None,
    device: options.Device = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what the run takes and check its data, without training.")
    ] = False,
    utilisation: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of an H100's peak that the dry run reckons with.")
    ] = 0.4,
    cost_only: Annotated[
        bool, typer.Option("--cost-only", help="With --dry-run: neither look at the data nor time a step here.")
    ] = False,
    allow_commands: Annotated[
        bool,
        typer.Option(
            "--allow-commands",
            help="Let the recipe run programs for its shards (pipe:COMMAND, gs://, s3://) and import module:Class.",
        ),
    ] = False,
) -> None:
    """Train a model, continuing from the last checkpoint in the folder. Many ranks: torchrun -m atoken.cli train ..."""
    from ..train import train_model

    train_model(config, out, device, utilisation if dry_run else None, cost_only, allow_commands)


@app.command()
def bench(
    preset: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            show_default="all but tiny",
            help="Preset, video, 3d or training; may be given several times.",
        ),
    ] = None,
    device: options.Device = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", show_default=False, help="Write all numbers to this file.")
    ] = None,
    against: Annotated[
        bool,
        typer.Option("--against", help="Only the networks, beside plain PyTorch, torch.compile and OpenVINO."),
    ] = False,
) -> None:
    """Measure speed and memory of the presets beside the machine's plain matrix products."""
    from ..bench import bench_presets

    bench_presets(preset, device, json_file, against)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the page and the token files.")] = Path("demo"),
    model: options.Model = "nano",
    device: options.Device = None,
) -> None:
    """Reconstruct the bundled photographs and write a page that shows what AToken does."""
    from ..demo import write_demo

    write_demo(out, model, device)
