"""Commands about single files: ``encode``, ``decode``, ``reconstruct``, ``info``, ``models``, ``convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import options
from ..app import app
from ..groups import grouped
from ..settings import DecodeSettings, EncodeSettings, ReconstructSettings


@app.command()
@grouped
def encode(inputs: options.Sources, settings: EncodeSettings) -> None:
    """Turn pictures, videos and 3D files into token files (.atok). Sound is not tokenised."""
    from ..command import run
    from ..encode import Encode

    run(Encode, inputs, settings)


@app.command()
@grouped
def decode(inputs: options.TokenFiles, settings: DecodeSettings) -> None:
    """Turn token files (.atok) back into pictures, videos and splats."""
    from ..command import run
    from ..decode import Decode

    run(Decode, inputs, settings)


@app.command()
@grouped
def reconstruct(inputs: options.Sources, settings: ReconstructSettings) -> None:
    """Encode pictures, videos and 3D files and decode them at once, into NAME.reconstructed.png or .mp4, and say how
    close they come.
    """
    from ..command import run
    from ..reconstruct import Reconstruct

    run(Reconstruct, inputs, settings)


@app.command()
def info(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILES...",
            show_default=False,
            help="Token files, pictures, videos, 3D files, folders of them, model folders, released checkpoints, or "
            "names of shipped models.",
        ),
    ],
) -> None:
    """Say what a token file, a picture, a video, a 3D file, a model folder or a checkpoint is."""
    from ..info import describe_all

    describe_all(files)


@app.command()
def models() -> None:
    """List the model presets, and which of them come with weights."""
    from ..info import list_presets

    list_presets()


@app.command()
def convert(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", show_default=False, help="A released .pt or .safetensors file.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", show_default=False, help="Folder of the new model.")],
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="continuous|discrete",
            help="Tokens that the weights were trained for, where the name of the file does not tell.",
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(metavar=options.DTYPE_NAMES, show_default="as stored", help="Precision of the written weights."),
    ] = None,
    gaussians: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The released Gaussian decoder (3d_decode_gs.pt), which 3D needs."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model that is already there.")] = False,
    onnx: Annotated[
        bool,
        typer.Option("--onnx", help="Write encoder.onnx and decoder.onnx instead, of any model that loads."),
    ] = False,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="[FRAMESx]HxW",
            help="With --onnx: pixels of this size in and out. Without it, padded batches of tokens with a mask.",
        ),
    ] = None,
) -> None:
    """Turn a released checkpoint into a model folder (config.json and model.safetensors), or a model into ONNX."""
    from ..convert import convert_checkpoint, convert_to_onnx

    if onnx:
        others = {"--dtype": dtype, "--gaussians": gaussians}
        return convert_to_onnx(str(checkpoint), out, kind, size, overwrite, others)
    if size is not None:
        raise ValueError("--size is for --onnx")
    convert_checkpoint(checkpoint, out, kind, dtype, overwrite, gaussians)
