"""Commands about whole data sets: ``tokenize``, ``tokens``, ``export``, ``import``, ``data pack``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import options
from ..app import app

data = typer.Typer(help="Prepare training data.", no_args_is_help=True)
app.add_typer(data, name="data")


@app.command()
def tokenize(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCES...",
            show_default=False,
            help="Folders of pictures, videos and 3D files, lists of them (.txt), WebDataset shards (.tar), Parquet "
            "files and folders that the datasets library saved; folders may hold all of these.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", show_default=False, help="Folder for the token shards.")],
    model: options.Model = "nano",
    kind: options.Kind = None,
    size: Annotated[
        int | None,
        typer.Option(metavar="N", show_default="as they are", help="Scale and crop pictures and videos to N x N."),
    ] = None,
    fps: options.Fps = None,
    flip: Annotated[
        bool, typer.Option("--flip", help="Store each picture and video mirrored, too, under its key and '@flip'.")
    ] = False,
    embed: Annotated[bool, typer.Option("--embed", help="Store embeddings, too.")] = False,
    features: Annotated[
        int | None,
        typer.Option(metavar="BLOCK", show_default="none", help="Store the encoder's states after that block, too."),
    ] = None,
    moments: Annotated[
        bool, typer.Option("--moments", help="Store the log-variance of each latent, too, for mar and repa.")
    ] = False,
    voxels: Annotated[
        int | None,
        typer.Option(metavar="N", show_default="the model's", help="Voxels along a side of 3D: 48 for internlumina."),
    ] = None,
    labels: Annotated[
        str, typer.Option(metavar="files|folders", help="Classes: from .cls and .json files, or from folders' names.")
    ] = "files",
    latents: options.Latents = "float16",
    per_shard: Annotated[int, typer.Option(metavar="N", help="Files or rows of a table in each shard.")] = 1000,
    workers: Annotated[
        int | None, typer.Option(metavar="N", show_default="one a processor or GPU", help="Processes.")
    ] = None,
    device: options.Device = None,
    dtype: options.Dtype = "float32",
    token_budget: options.TokenBudget = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            show_default="this machine alone",
            help="Work on a Ray cluster: its address, auto for the one of this machine, local to start one here.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what ImageNet, 10 M clips and Objaverse cost, and write nothing.")
    ] = False,
    utilisation: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of an H100's peak that the dry run reckons with.")
    ] = 0.4,
) -> None:
    """Turn a whole data set into token shards; running it again goes on where it was cut off."""
    from ...codec import TOKEN_BUDGET
    from ...data.tokenize import Settings
    from ..tokenize import tokenize as run_tokenize

    options.check_choice("--labels", labels, ("files", "folders"))
    settings = Settings(
        model=model,
        out=str(out),
        kind=kind,
        size=size,
        fps=fps,
        flip=flip,
        embed=embed,
        features=features,
        moments=moments,
        voxels=voxels,
        latents=latents,
        dtype=dtype,
        device=device,
        token_budget=token_budget or TOKEN_BUDGET,
    )
    run_tokenize(sources, settings, per_shard, labels == "folders", workers, utilisation if dry_run else None, ray)


@app.command()
def tokens(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUTS...",
            show_default=False,
            help="Token files (.atok), token shards (.atoks), folders of them and quoted patterns.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE.atoks|DIR", show_default=False, help="One shard, or a folder for as many as need be."
        ),
    ],
    form: Annotated[
        str, typer.Option("--format", metavar="atoks|atok", help="atok: a token file for each sample.")
    ] = "atoks",
    keys: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN", show_default="all", help="Only samples whose keys match, 'cats/*'; repeatable."
        ),
    ] = None,
    part: Annotated[
        str | None, typer.Option(metavar="A:B", show_default="all", help="Of these only A ... B - 1, counted from 0.")
    ] = None,
    per_shard: Annotated[int, typer.Option(metavar="N", help="Samples in each shard of a folder.")] = 10_000,
) -> None:
    """Gather token files into shards, merge shards, take parts of them, or take them apart."""
    from ..tokens import convert as run_convert

    run_convert(inputs, out, form, keys or (), part, per_shard)


@app.command()
def export(
    shards: Annotated[
        list[Path],
        typer.Argument(metavar="SHARDS...", show_default=False, help="Token shards (.atoks) and folders of them."),
    ],
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="NAME",
            show_default=False,
            help="lightningdit (gae), jlt, mar (tokenbridge), repa (sra), sr-dit, rae, llamagen (unitok), rar, "
            "internlumina, trellis, webdataset, parquet, arrow or numpy.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", show_default=False, help="A new folder.")],
) -> None:
    """Write token shards as the files that other trainers read."""
    from ..export import export as run_export

    run_export(shards, form, out)


@app.command("import")
def import_tokens(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", show_default=False, help="A folder that export wrote, or a file of it.")
    ],
    form: Annotated[
        str,
        typer.Option(
            "--format", metavar="NAME", show_default=False, help="internlumina, numpy, webdataset, parquet or arrow."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", show_default=False, help="Folder for the token shards.")],
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Whose tokens InternLumina-U2's own files are, which do not say it."),
    ] = None,
    fps: Annotated[float | None, typer.Option(metavar="FPS", help="Frames a second of its clips.")] = None,
    per_shard: Annotated[int, typer.Option(metavar="N", help="Samples in each shard.")] = 10_000,
) -> None:
    """Turn files that other trainers read into token shards again."""
    from ..export import import_samples

    import_samples(source, form, out, model, fps, per_shard)


@data.command()
def pack(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", show_default=False, help="Pictures, videos or packed voxels, with .txt.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", show_default=False, help="Folder for the shards.")],
    shard_size: Annotated[int, typer.Option(metavar="BYTES", help="Size of a shard, roughly.")] = 256_000_000,
    shards: Annotated[
        int | None,
        typer.Option(metavar="N", show_default=False, help="Number of shards, in place of their size."),
    ] = None,
) -> None:
    """Put the files below a folder, with their captions, into WebDataset shards for training."""
    from ..data import pack_shards

    pack_shards(folder, out, shard_size, shards)
