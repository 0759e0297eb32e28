"""What video costs: frames a second of each stage, what bounds the whole, memory of a short clip and of a long one."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.resources import as_file, files
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..core.machine import peak_memory
from ..media.video.frames import Clip, Frame
from ..media.video.source import open_video
from ..media.video.writer import write_video
from ..pipeline import video_files as videos
from ..pipeline.video_files import reconstruct
from ..weights.load import load

MODEL, SIZE, FPS, REPEATS = "nano", 256, 25.0, 3
LENGTHS = (64, 2000)
"""Frames of the clips whose memory is compared; the stages are timed on the first."""


def run_bench_video(device: str) -> Iterator[tuple[str, str, str]]:
    """What was done, frames a second or megabytes, and a remark. The clip is the bundled one, over and over."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{length}.mp4" for length in LENGTHS]
        for path, length in zip(paths, LENGTHS, strict=True):
            write_video(path, Clip(_frames(length), fps=FPS), fps=FPS)
        speeds = stages(paths[0], device)
        slowest = min(("read", "encode", "decode", "write"), key=speeds.__getitem__)
        for name, speed in speeds.items():
            yield name, f"{speed:.1f} frames/s", "bounds the whole" if name == slowest else ""
        for command in ("encode", "decode", "reconstruct"):
            peaks = []
            for path in paths:  # each in a process of its own, so that its memory is its own
                with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                    peaks.append(pool.submit(memory, command, path, device).result())
            low, high = peaks
            if low is not None and high is not None:
                yield (
                    f"memory of {command}",
                    f"{high / 2**20:.0f} MiB",
                    f"{high / low - 1:+.0%} over {LENGTHS[0]} frames",
                )


def stages(path: Path, device: str) -> dict[str, float]:
    """Frames a second of reading, the model's two ways, writing, and of all of them at once: the best of a few runs."""
    model = load(MODEL, device=device, dtype=torch.bfloat16)
    frames = list(open_video(path))
    tokens = list(model.encode_stream(frames))
    target = path.with_name("back.mp4")
    calls: dict[str, Callable[[], object]] = {
        "read": lambda: list(open_video(path)),
        "encode": lambda: list(model.encode_stream(frames)),
        "decode": lambda: list(model.decode_stream(tokens)),
        "write": lambda: write_video(target, frames),
        "all at once": lambda: reconstruct(model, open_video(path), "continuous", target, False, False),
    }
    speeds = dict.fromkeys(calls, 0.0)
    for _ in range(REPEATS):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            speeds[name] = max(speeds[name], len(frames) / (time.perf_counter() - start))
    return speeds


def memory(command: str, path: Path, device: str) -> int | None:
    """Most memory that the command takes in this process, in bytes; ``decode`` needs that ``encode`` went before."""
    model, tokens, target = load(MODEL, device=device), path.with_suffix(".atok"), path.with_name("back.mp4")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if command == "encode":
            videos.encode(model, open_video(path), "continuous", tokens, lambda tile: tile)
        elif command == "decode":
            videos.decode(model, tokens, target, lossless=False)
        else:
            videos.reconstruct(model, open_video(path), "continuous", target, lossless=False, keep_audio=False)
    return peak_memory(device)


def _frames(count: int) -> Iterator[np.ndarray]:
    with as_file(files("atoken").joinpath("assets/clips/made.mp4")) as source:
        clip: list[Frame] = list(open_video(source))
    for frame in islice(cycle(clip), count):
        yield np.asarray(Image.fromarray(frame.pixels).resize((SIZE, SIZE)))
