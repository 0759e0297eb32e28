"""``atoken info`` and ``atoken models``."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache, reduce
from pathlib import Path

import torch
import typer
from safetensors import safe_open
from torch import Tensor

from ..codec.assets import is_splat_file, read_any
from ..core.text import clean, shortened
from ..generation.generator import NET
from ..generation.load import is_generator, read_generator_config
from ..media.image.files import read_image
from ..media.image.opener import open_picture
from ..media.kinds import modality_of
from ..media.mesh import read_asset
from ..media.suffixes import MESH_SUFFIXES
from ..media.video.source import open_video
from ..media.views.packed import PackedAsset, to_patches
from ..media.views.voxels import RESOLUTION
from ..pipeline.atoken import AToken
from ..tokenizer.config import PRESETS, ModelConfig
from ..tokens.patch import PATCH
from ..tokens.shards import SUFFIX, TokenShard
from ..tokens.tokens import Tokens
from ..weights.config import CONFIG, GENERATORS, SHIPPED, WEIGHTS, list_generators, list_models, read_config
from ..weights.files import read_model, read_weights
from ..weights.load import CHECKPOINTS, build, load
from ..weights.released import read_released
from . import forecast, paths
from .report import Report, bytes_text, say, seconds_text, show_table
from .sources import is_source, owned_files

Facts = dict[str, object]
LONGEST_VALUE = 1000
"""Characters of a value that are shown."""


def describe_all(files: Sequence[str]) -> None:
    """Print the facts about each file, then the failures. Raises ``typer.Exit`` where there are any."""
    report = Report()
    for index, name in enumerate(_listed(files, report)):
        facts: Facts = {}
        with report.isolated(Path(name)):
            facts = {shortened(key): value for key, value in _describe(name).items()}
        if facts:
            width = max(map(len, facts)) + 2
            typer.echo(("\n" if index else "") + clean(name))
            for key, value in facts.items():
                typer.echo(f"  {key:{width}}{shortened(value, LONGEST_VALUE)}")
    report.conclude()


def _listed(files: Sequence[str], report: Report) -> list[str]:
    """The files, with those inside in place of a folder that is no model; what is left out there is said."""
    names: list[str] = []
    left_out = paths.LeftOut()
    for name in files:
        path = Path(name)
        if not path.is_dir() or (path / CONFIG).exists() or (path / WEIGHTS).exists():
            names.append(name)
            continue
        sources, problems = paths.expand(
            [name],
            lambda file: is_source(file) or file.suffix in (".atok", SUFFIX),
            "file that is read",
            left_out,
            owned_files,
        )
        names += [str(source.path) for source in sources] or [name]  # which is then said to be no model
        report.failures += problems if sources else []
    if str(left_out):
        say(f"left out: {left_out}")
    return names


def list_presets() -> None:
    """Print one line for each preset, each shipped model and each shipped generator."""
    shipped = {name: read_model(SHIPPED / name)[0] for name in list_models()}
    rows = []
    for name, config in sorted({**PRESETS, **shipped}.items(), key=lambda item: item[1].width):
        with torch.device("meta"):
            parameters = sum(parameter.numel() for parameter in AToken(config).parameters())
        depth = f"{config.encoder_depth} + {config.decoder_depth}"
        weights = "shipped" if name in shipped else "-"
        rows.append((name, f"{parameters / 1e6:.1f} M", config.width, depth, ", ".join(config.kinds), weights))
    for name in list_generators():
        drawer, parameters = read_generator_config(GENERATORS / name), _parameters(GENERATORS / name)
        size, width, depth = f"{parameters / 1e6:.1f} M", drawer.net.width, str(drawer.net.blocks)
        rows.append((name, size, width, depth, f"draws those of {drawer.tokenizer}", "shipped"))
    show_table(("name", "parameters", "width", "depth", "tokens", "weights"), rows, words=("tokens", "weights"))


def _describe(name: str) -> Facts:
    path = Path(name)
    if not path.exists() and name in list_models():
        path = SHIPPED / name
    if not path.exists() and name in list_generators():
        path = GENERATORS / name
    if path.is_dir() and is_generator(path):
        return _generator_facts(path)
    if path.is_dir():
        config, state = read_model(path)
        return {"what": "model folder", **_model_facts(config, state, path), "bytes": _bytes(path / WEIGHTS)}
    if path.suffix == ".atok":
        return _token_facts(path)
    if path.suffix == SUFFIX:
        return _shard_facts(path)
    if path.suffix in CHECKPOINTS and path.exists():
        config, state = read_released(path)
        return {"what": "released checkpoint", **_model_facts(config, state, path), "bytes": _bytes(path)}
    return {"video": _video_facts, "3d": _asset_facts}.get(modality_of(path), _picture_facts)(path)


def _token_facts(path: Path) -> Facts:
    tokens = Tokens.load(path)
    with safe_open(path, "pt") as file:
        header = dict(file.metadata())
    facts = dict(header)
    values = "codes" if tokens.kind == "discrete" else "latents"
    shape, dtype = list(tokens.values.shape), str(tokens.values.dtype).removeprefix("torch.")
    height, width = tokens.size
    return {
        "what": "token file",
        **{key: header.pop(key) for key in ("modality", "kind", "model", "weights")},
        "tokens": len(tokens),
        values: f"{shape} {dtype}",
        "size": f"{width} x {height}",
        **{key: header[key] for key in sorted(header) if key not in ("format", "size")},
        **({} if tokens.times is None else {"frames": len(tokens.times), **_span(tokens.times.tolist())}),
        **_time_to_decode(tokens, facts),
        "bytes": _bytes(path),
        "bits per pixel": _rate(path, height * width * (1 if tokens.times is None else len(tokens.times))),
    }


def _shard_facts(path: Path) -> Facts:
    """What the header says, and what the first sample is."""
    with TokenShard(path) as shard:
        first = shard[0].tokens
        return {
            "what": "token shard",
            "samples": len(shard),
            "tokens": sum(shard.lengths),
            "first key": shard.keys[0],
            "last key": shard.keys[-1],
            **{f"{name} of the first": getattr(first, name) for name in ("modality", "kind", "model", "weights")},
            "bytes": _bytes(path),
        }


def _video_facts(path: Path) -> Facts:
    """What the header says; frames are not counted where it does not."""
    video = open_video(path)
    facts = video.facts
    rows, columns = -(-facts.height // PATCH[1]), -(-facts.width // PATCH[2])
    extent = forecast.video_extent(video, _nano())
    return {
        "what": "video",
        "stored as": f"{facts.codec} ({facts.pixel_format}) in {facts.container}",
        "size": f"{facts.width} x {facts.height}" + (f", turned by {facts.rotation}°" if facts.rotation else ""),
        "frames a second": "not said" if facts.fps is None else f"{facts.fps:.4g}",
        "frames": "not said" if extent is None else forecast.frames_text(video),
        "sound": facts.audio or "none",
        "tokens for 4 frames": rows * columns,
        **_as_tokens(None if extent is None else extent.tokens),
        **_time_to_encode(extent),
        "bytes": _bytes(path),
    }


def _asset_facts(path: Path) -> Facts:
    """What it holds, and what its views become as voxels of the shipped models."""
    views = read_any(path)
    facts: Facts = {"what": "3D file"}
    if path.suffix.lower() in MESH_SUFFIXES and not is_splat_file(path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said when it was drawn
            asset = read_asset(path)
        facts |= {"holds": "points" if asset.is_cloud else "a mesh", "vertices": len(asset.vertices)}
        facts |= {} if asset.is_cloud else {"triangles": len(asset.faces)}
        facts |= {"longest side": f"{asset.transform[0][0]:.4g}"}
    elif isinstance(views, PackedAsset):
        facts |= {"holds": "voxels with their patches"}
    else:
        facts |= {"holds": "Gaussians" if is_splat_file(path) else f"{len(views.cameras)} posed views"}
    head = _nano().gaussians
    resolution = head.resolution if head else RESOLUTION
    return {**facts, f"tokens of {resolution}^3 voxels": len(to_patches(views, resolution)[0]), "bytes": _bytes(path)}


def _as_tokens(count: int | None) -> Facts:
    """So many tokens, and their bytes in files of the shipped models."""
    if count is None:
        return {"tokens": "not said"}
    nano = PRESETS["nano"]
    latents, codes = 2 * nano.latent_channels * count, 3 * len(nano.fsq_levels) * count // 2
    return {"tokens": count, "bytes as tokens": f"{bytes_text(latents)} as latents, {bytes_text(codes)} as codes"}


def _time_to_encode(extent: forecast.Extent | None) -> Facts:
    """What nano takes, where that is worth measuring."""
    if extent is None or extent.tokens < forecast.FEW_TOKENS:
        return {}
    return _measured("time to encode", extent, _nano().name, encode=True)


def _time_to_decode(tokens: Tokens, facts: dict[str, str]) -> Facts:
    """What the shipped model that they name takes, where that is worth measuring."""
    if len(tokens) < forecast.FEW_TOKENS or tokens.model not in list_models():
        return {}
    extent = forecast.token_extent(facts, len(tokens), read_config(SHIPPED / tokens.model))
    return _measured("time to decode", extent, tokens.model, encode=False)


def _measured(what: str, extent: forecast.Extent, name: str, *, encode: bool) -> Facts:
    seconds = _speed(name, encode).seconds(extent)
    return {what: f"about {seconds_text(seconds)} with {name}, as measured on this machine"}


@cache
def _speed(name: str, encode: bool) -> forecast.Speed:
    return forecast.measure_speed(load(name), encode=encode, decode=not encode)


def _nano() -> ModelConfig:
    return read_config(SHIPPED / "nano")


def _span(times: list[float]) -> Facts:
    return {"first and last frame": f"{times[0]:.3f} s, {times[-1]:.3f} s"}


def _picture_facts(path: Path) -> Facts:
    height, width, _ = read_image(path).shape
    tokens = -(-height // PATCH[1]) * -(-width // PATCH[2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # read_image has said what there is to say
        with open_picture(path) as image:
            stored = f"{image.format}, mode {image.mode}"
    return {
        "what": "picture",
        "stored as": stored,
        "size": f"{width} x {height}",
        **_as_tokens(tokens),
        **_time_to_encode(forecast.picture_extent(path, lambda *sides: sides, _nano())),
        "bytes": _bytes(path),
        "bits per pixel": _rate(path, height * width),
    }


def _model_facts(config: ModelConfig, state: dict[str, Tensor], path: Path) -> Facts:
    """The config, and what the weights are; ``ValueError`` where the two do not fit."""
    dtypes = {tensor.dtype for tensor in state.values()}
    model = build(config, state, "cpu", reduce(torch.promote_types, dtypes or {torch.float32}), str(path))
    values = {key: ", ".join(value) if key == "kinds" else value for key, value in config.to_dict().items()}
    return {
        **values,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "dtype": ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes)),
        "weights": model.weights_hash,
    }


def _generator_facts(path: Path) -> Facts:
    config = read_generator_config(path)
    facts: Facts = {"what": "generator folder"}
    for name, value in config.to_dict().items():
        facts |= {f"{name} {key}": inner for key, inner in value.items()} if isinstance(value, dict) else {name: value}
    return {**facts, "parameters": _parameters(path), "bytes": _bytes(path / WEIGHTS)}


def _parameters(generator: Path) -> int:
    """Weights of a generator's net."""
    return sum(tensor.numel() for name, tensor in read_weights(generator / WEIGHTS).items() if name.startswith(NET))


def _bytes(path: Path) -> str:
    size = path.stat().st_size
    return f"{size} ({bytes_text(size)})" if size >= 1000 else str(size)


def _rate(path: Path, pixels: int) -> str:
    return f"{8 * path.stat().st_size / pixels:.3f}"
