"""``atoken convert``: a released checkpoint as a model folder, and any model as ONNX files."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from pathlib import Path

import torch
import typer

from ..tokenizer.config import ModelConfig
from ..tokenizer.identity import tokenizer_hash
from ..tokens.patch import KINDS
from ..weights.config import CONFIG, WEIGHTS
from ..weights.load import CHECKPOINTS, build, load
from ..weights.released import read_released, with_gaussians
from . import options, paths
from .report import bytes_text, clean, say


def convert_checkpoint(
    checkpoint: Path, out: Path, kind: str | None, dtype: str | None, overwrite: bool, gaussians: Path | None = None
) -> None:
    """Write ``out`` and read it back. Raises ``ValueError`` or ``OSError`` with one sentence."""
    options.check_choice("--kind", kind, KINDS)
    options.check_choice("--dtype", dtype, options.DTYPES)
    _check_paths(checkpoint, out, overwrite)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not say whether it was trained for")  # said below
        config, state = read_released(checkpoint)
    if gaussians is not None:
        config, state = with_gaussians(config, state, gaussians)
    stored = reduce(torch.promote_types, {tensor.dtype for tensor in state.values()})
    wanted = options.parse_dtype(dtype) if dtype else stored
    if kind is None and len(config.kinds) > 1:
        say(
            f"warning: {checkpoint.name} does not say whether it was trained for {' or '.join(config.kinds)} tokens: "
            f"both are recorded, {config.kinds[0]} by default, and only the right one decodes well; --kind states it"
        )
    model = build(_with_kind(config, kind, checkpoint), state, "cpu", wanted, str(checkpoint))
    source = model.weights_hash
    model.save_pretrained(out)

    written = load(out, device="cpu", dtype=wanted).weights_hash
    if written != tokenizer_hash(model.config, model.state_dict()):
        raise ValueError(f"{out} does not read back as it was written: the disk or the memory is at fault")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    size = sum((out / name).stat().st_size for name in (CONFIG, WEIGHTS))
    kinds, precision = " and ".join(model.config.kinds), str(wanted).removeprefix("torch.")
    typer.echo(
        clean(
            f"{model.config.name}: {parameters / 1e6:.1f} M parameters in {precision}, {kinds} tokens, "
            f"{bytes_text(size)}, weights {written[:12]}, in {out}"
        )
    )
    if written != source:
        typer.echo(f"rounding made these other weights than {source[:12]}: neither decodes the tokens of the other")


def convert_to_onnx(
    source: str, out: Path, kind: str | None, size: str | None, overwrite: bool, others: Mapping[str, object]
) -> None:
    """Write the ONNX files of what ``atoken.load`` takes. Raises ``ValueError`` or ``OSError`` with one sentence."""
    options.check_choice("--kind", kind, KINDS)
    if given := [name for name, value in others.items() if value is not None]:
        raise ValueError(f"{given[0]} is not for --onnx: ONNX files hold the encoder and the decoder in float32")
    try:
        from ..adapters.onnx import FILES, write_onnx
    except ImportError as error:
        raise ValueError(str(error)) from None
    if not overwrite and any((out / name).exists() for name in FILES):
        raise ValueError(f"{out} holds ONNX files already: give another --out, or --overwrite to replace them")
    paths.check_folder(out)
    model = load(source, device="cpu")
    model.config.check_kind(kind or model.config.kinds[0])
    differences = write_onnx(model, out, kind=kind, size=None if size is None else _size(size))
    sizes = " and ".join(f"{name} ({bytes_text((out / name).stat().st_size)})" for name in FILES)
    typer.echo(clean(f"{model.config.name}: {sizes} in {out}"))
    typer.echo(
        "onnxruntime against PyTorch: " + ", ".join(f"{name} {value:.1e}" for name, value in differences.items())
    )


def _size(text: str) -> tuple[int, ...]:
    """256, 256x384 or 16x256x256 as numbers of pixels. Raises ``ValueError``."""
    match = re.fullmatch(r"(?:(?:(\d{1,5})x)?(\d{1,5})x)?(\d{1,5})", text)
    if match is None:
        raise ValueError(f"--size is {text!r}: give pixels as 256, 256x384 (height, width) or 16x256x256 with frames")
    steps, height, width = match.groups()
    sides = (int(height or width), int(width))
    return sides if steps is None else (int(steps), *sides)


def _check_paths(checkpoint: Path, out: Path, overwrite: bool) -> None:
    if checkpoint.is_dir():
        raise ValueError(f"{checkpoint} is a folder: give a released {' or '.join(CHECKPOINTS)} file")
    if not checkpoint.is_file():
        raise FileNotFoundError(f"{checkpoint}: no such file")
    if checkpoint.suffix not in CHECKPOINTS:
        raise ValueError(f"{checkpoint} is not a checkpoint: expected one of {', '.join(CHECKPOINTS)}")
    targets = [out / CONFIG, out / WEIGHTS]
    if any(target.exists() and target.samefile(checkpoint) for target in targets):
        raise ValueError(f"{checkpoint} would be replaced by its own result: give another --out")
    if not overwrite and any(target.exists() for target in targets):
        raise ValueError(f"{out} holds a model already: give another --out, or --overwrite to replace it")
    paths.check_folder(out)


def _with_kind(config: ModelConfig, kind: str | None, checkpoint: Path) -> ModelConfig:
    """The config with the kind that the user states. Raises ``ValueError`` where the file says otherwise."""
    if kind is None:
        return config
    if kind not in config.kinds:
        raise ValueError(f"--kind is {kind!r}: {checkpoint} was trained for {config.kinds[0]} tokens")
    return replace(config, kinds=(kind,))
