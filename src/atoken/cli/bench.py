"""``atoken bench``: speed and memory of the presets as a table, and as JSON."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import torch
import typer

from .. import __version__
from ..bench.gaussians import run_bench_3d
from ..bench.network import CASES, Result, run_bench
from ..bench.rivals import Rival, missing_rivals, run_rivals
from ..bench.training import PARTS, StepResult
from ..bench.video import run_bench_video
from ..core.device import find_device
from ..core.files import atomic_write
from ..core.machine import matmul_peak
from . import options, paths
from .report import bytes_text, say, show_table

DEFAULT = ("nano", "base", "so400m", "video", "3d", "training")
HEADER_3D = ("3D on the CPU", "by", "seconds")
HEADER_RIVALS = ("in bf16", "pictures", "computed by", "seconds", "of ours", "of peak", "differs by")
HEADER_VIDEO = ("video with nano at 256x256", "", "")
HEADER_TRAINING = ("a step of", *PARTS, "tokens/s", "of peak")
HEADER = ("preset", "size", "weights", "encode", "decode", "encode tokens/s", "decode tokens/s", "of peak", "memory")


def bench_presets(presets: list[str] | None, device: str | None, json_file: Path | None, against: bool) -> None:
    """Measure, print the table, and write ``json_file`` where one is given. Raises ``ValueError`` or ``OSError``.

    ``against``: only the networks of the presets, each beside others that compute the same.
    """
    device = str(find_device(device, "--device"))
    known = (*dict.fromkeys(case.preset for case in CASES), "video", "3d", "training")
    for preset in presets or ():
        options.check_choice("--preset", preset, known)
    if json_file is not None:
        paths.check_folder(json_file.parent)
    machine = {
        "atoken": __version__,
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "threads": torch.get_num_threads(),
        "matmul_bfloat16": matmul_peak(device, torch.bfloat16),
        "matmul_float32": matmul_peak(device, torch.float32),
    }
    typer.echo(
        f"matrix products on {machine['device']}, {machine['threads']} threads, torch {machine['torch']}: "
        f"bf16 {_speed(machine['matmul_bfloat16'])}, fp32 {_speed(machine['matmul_float32'])}"
    )
    chosen, results = presets or list(DEFAULT), []
    if against:
        rivals = _against(chosen, device)
        _write(json_file, {**machine, "rivals": [rival.to_dict() for rival in rivals]})
        return
    for result in run_bench(chosen, device):
        results.append(result)
        say(f"{result.case.preset} at {result.case.size}: {result.share:.0%} of {_speed(result.matmul_flops)}")
    if results:
        show_table(HEADER, [_row(result) for result in results], words=("size", "weights"))
        typer.echo(
            "All in bf16, pictures in memory to tokens in memory and back, best of several runs. Of peak: operations\n"
            "of the network alone in that time, as a share of the fastest bf16 matrix product beside it."
        )
    rows_video = []
    for row in run_bench_video(device) if "video" in chosen and find_spec("av") else ():
        rows_video.append(row)
        say(" ".join(row).rstrip())
    if rows_video:
        show_table(HEADER_VIDEO, rows_video, words=("",))
    rows_3d = list(run_bench_3d()) if "3d" in chosen else []
    if rows_3d:
        show_table(HEADER_3D, [(what, by, f"{seconds:.3f}") for what, by, seconds in rows_3d], words=("by",))
    steps = _training(device) if "training" in chosen else []
    report = {
        "results": [result.to_dict() for result in results],
        "video": rows_video,
        "3d": rows_3d,
        "training": [step.to_dict() for step in steps],
    }
    _write(json_file, {**machine, **report})


def _write(json_file: Path | None, report: dict[str, object]) -> None:
    if json_file is not None:
        with atomic_write(json_file) as temporary:
            temporary.write_text(json.dumps(report, indent=1) + "\n")


def _against(presets: list[str], device: str) -> list[Rival]:
    rivals = []
    for rival in run_rivals(presets, device):
        rivals.append(rival)
        case = rival.case
        say(
            f"{case.preset} at {case.size}, {rival.network}: {rival.name} takes {rival.ratio:.2f} times as long as ours"
        )
    if not rivals:
        raise ValueError(f"--against compares networks of presets, and {', '.join(presets)} is none with cases")
    show_table(HEADER_RIVALS, [_rival_row(rival) for rival in rivals], words=("pictures", "computed by"))
    for reason in missing_rivals(device):
        typer.echo(f"Left out: {reason}.")
    typer.echo(
        "Medians of nine rounds in which all take turns beside a matrix product. Of peak: as a share of that product\n"
        "in the same round. Differs by: root mean square of the outputs less ours, over that of ours."
    )
    return rivals


def _rival_row(rival: Rival) -> tuple[str, ...]:
    case = rival.case
    return (
        f"{case.preset} {rival.network}",
        f"{case.batch} x {case.size}x{case.size}",
        rival.name,
        f"{rival.seconds:.4f}",
        f"{rival.ratio:.2f}",
        f"{rival.share:.0%}",
        f"{rival.difference:.1%}",
    )


def _training(device: str) -> list[StepResult]:
    from ..bench.training import run_bench_training
    from ..engine.malloc import disable_trim

    disable_trim()  # as a training run does
    steps = list(run_bench_training(device))
    rows = [
        (
            f"{step.preset}, {step.tokens} tokens: {step.terms}",
            *(f"{getattr(step, part):.3f} s" for part in PARTS),
            f"{step.tokens / step.seconds:,.0f}",
            f"{step.share:.0%}",
        )
        for step in steps
    ]
    show_table(HEADER_TRAINING, rows, words=())
    typer.echo("Data is made beside the step, by a thread. Of peak: the model's own operations, forward and backward.")
    return steps


def _row(result: Result) -> tuple[str, ...]:
    case, memory = result.case, result.peak_bytes
    return (
        case.preset,
        f"{case.batch} x {case.size}x{case.size}",
        "shipped" if result.trained else "random",
        f"{result.encode_seconds:.3f} s",
        f"{result.decode_seconds:.3f} s",
        f"{result.tokens / result.encode_seconds:,.0f}",
        f"{result.tokens / result.decode_seconds:,.0f}",
        f"{result.share:.0%}",
        "-" if memory is None else bytes_text(memory),
    )


def _speed(flops: object) -> str:
    assert isinstance(flops, float)
    return f"{flops / 1e12:.3g} TFLOP/s" if flops >= 1e12 else f"{flops / 1e9:.0f} GFLOP/s"
