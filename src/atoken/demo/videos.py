"""The clip of the demo: there and back, side by side as a video and as a sheet of frames. Needs the extra ``video``."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np

from ..media.video.frames import Clip
from ..media.video.source import open_video
from ..media.video.writer import write_video
from ..metrics.psnr import psnr
from ..pipeline.atoken import AToken
from ..tokens.patch import FRAME_FEATURES, PATCH
from ..tokens.tokens import Tokens
from . import page
from .overview import Column, patches

COLUMNS = 6
"""Frames on the sheet."""


def learned_motion(model: AToken) -> bool:
    """Whether the model paints more than frame 0 of four; one that has seen images alone leaves the others grey."""
    return bool(model.decoder.out_layer.weight[FRAME_FEATURES:].any())


@dataclass(frozen=True)
class Footage:
    """The bundled clip, uint8 [T, H, W, 3], what came back of it, and the seconds of both ways."""

    originals: np.ndarray
    times: list[float]
    tokens: Tokens
    ways: dict[str, np.ndarray]
    """What came back from continuous tokens, and from discrete ones where there is a model for them."""
    seconds: float


def reconstruct(model: AToken, discrete: AToken | None) -> Footage:
    """The clip made by recipes/clips, there and back."""
    with as_file(files("atoken").joinpath("assets/clips/made.mp4")) as source:
        shown = list(open_video(source))
    originals, times = np.stack([frame.pixels for frame in shown]), [frame.time for frame in shown]
    start = time.perf_counter()
    tokens = model.encode(Clip(originals, times=times))
    ways = {"from continuous tokens": model.decode(tokens)}
    seconds = time.perf_counter() - start
    if discrete is not None:
        ways["from discrete tokens"] = discrete.decode(discrete.encode(Clip(originals, times=times), kind="discrete"))
    return Footage(originals, times, tokens, ways, seconds)


def section(footage: Footage, path: Path) -> page.Section:
    """Write the clip beside what the models make of it to ``path``, an .mp4, and show it."""
    originals, tokens = footage.originals, footage.tokens
    ways = {"original": originals, **footage.ways}
    write_video(path, Clip(np.concatenate(list(ways.values()), 2), times=footage.times))

    count, height, width, _ = originals.shape
    chosen = np.linspace(0, count - 1, COLUMNS).round().astype(int)
    sheet = np.concatenate([np.concatenate(list(clip[chosen]), 1) for clip in ways.values()])
    video = "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode()
    words = ", ".join(ways)
    style = "width: 100%; max-width: 64rem; border-radius: 8px; display: block"
    body = (
        f"<figure><video src='{video}' style='{style}' controls loop muted autoplay playsinline></video>"
        f"<figcaption>From left to right: {words}</figcaption></figure>"
        f"<figure style='margin-top: 18px'><img src='{page.embed(sheet, quality=85)}' style='{style}' "
        "alt='frames of the clip above frames of its reconstruction'>"
        f"<figcaption>{COLUMNS} of its frames, in rows: {words}</figcaption></figure>"
    )
    scores = [
        (
            f"{np.mean([psnr(a, b) for a, b in zip(clip, originals, strict=True)]):.1f} dB",
            f"PSNR {way}, mean over frames",
        )
        for way, clip in footage.ways.items()
    ]
    body += page.facts(
        [
            (f"{len(tokens):,}", f"tokens for {count} frames of {width}×{height}, each four frames of a patch"),
            (f"1 : {originals.size / tokens.latents.numel():.0f}", "numbers kept, against red, green and blue"),
            *scores,
            (f"{count / footage.seconds:.0f}", "frames a second, there and back on this machine"),
        ]
    )
    return page.Section(
        "A video",
        "Four frames of a patch make one token, and sixteen frames go through the model together, so a video of any "
        "length takes the same memory. This clip was made from three of the photographs and a rendered chair.",
        body,
    )


def column(footage: Footage) -> Column:
    """The frame in the middle of the clip; its tokens are those of the four frames that it belongs to."""
    middle = len(footage.originals) // 2
    return Column(
        footage.originals[middle],
        footage.tokens,
        lambda paint: patches(footage.tokens, paint, middle // PATCH[0]),
        tuple(clip[middle] for clip in footage.ways.values()),
    )
