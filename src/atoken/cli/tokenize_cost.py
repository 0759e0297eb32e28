"""``atoken tokenize --dry-run``: what whole data sets cost on one H100, by the arithmetic of the encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..data.items import Chunk
from ..data.tokenize import Settings
from ..engine.flops import H100_PEAK
from ..tokenizer.config import ModelConfig
from ..tokens.patch import FRAME_FEATURES, PATCH, PATCH_FEATURES
from ..train.flops import training_flops
from ..train.plan import VOXELS
from .report import bytes_text, show_table

HEAD = ("data set", "samples", "tokens each", "tokens", "tokens a second", "H100-hours", "on disk")
SIDE, FRAMES = 256, 16
DISK = {"float16": 2, "float32": 4}
FACTS = 700
"""Bytes of a sample's header in a shard."""


class Cost(NamedTuple):
    """What a data set takes."""

    samples: int
    tokens: float
    """Of one sample."""
    rate: float
    """Tokens a second."""
    bytes: float

    @property
    def hours(self) -> float:
        """Of one H100."""
        return self.samples * self.tokens / self.rate / 3600


def costs(config: ModelConfig, settings: Settings, utilisation: float) -> dict[str, Cost]:
    """Costs of ImageNet, of ten million clips and of Objaverse, by name."""
    side = -(-(settings.size or SIDE) // PATCH[1])
    frame, steps = side * side, FRAMES // PATCH[0]
    copies = 2 if settings.flip else 1
    sets = {
        f"ImageNet (1,281,167 pictures of {side * PATCH[1]}²)": (1_281_167 * copies, frame, frame, FRAME_FEATURES),
        f"10 M clips of {FRAMES} frames of {side * PATCH[1]}²": (
            10_000_000 * copies,
            frame * steps,
            frame * min(steps, config.encoder_tile),
            PATCH_FEATURES,
        ),
        f"Objaverse (798,759 assets of about {VOXELS:,} voxels)": (798_759, VOXELS, VOXELS, FRAME_FEATURES),
    }
    kind = settings.kind or config.kinds[0]
    width = config.latent_channels * DISK[settings.latents] * (2 if settings.moments else 1)
    stored = width if kind == "continuous" else len(config.fsq_levels) * 1.5
    found = {}
    for name, (samples, tokens, segment, features) in sets.items():
        flops = training_flops(config, [segment], features, decode=False) / 3 / segment  # forward is a third
        found[name] = Cost(samples, tokens, H100_PEAK * utilisation / flops, samples * (tokens * stored + FACTS))
    return found


def show_cost(config: ModelConfig, settings: Settings, chunks: Sequence[Chunk], utilisation: float) -> None:
    """The table, and how much there is at hand. Raises ``ValueError`` for a share of the peak that is none."""
    if not 0 < utilisation <= 1:
        raise ValueError(f"--utilisation is {utilisation}: give a share of the peak between 0 and 1")
    rows = [
        (
            name,
            f"{cost.samples:,}",
            f"{cost.tokens:,.0f}",
            f"{cost.samples * cost.tokens / 1e9:,.2f} G",
            f"{cost.rate:,.0f}",
            f"{cost.hours:,.3g}",
            bytes_text(int(cost.bytes)),
        )
        for name, cost in costs(config, settings, utilisation).items()
    ]
    show_table(HEAD, rows)
    files = sum(max(1, len(chunk.files)) for chunk in chunks)
    assumed = (
        f"the encoder's matrix products alone, on an H100 at {utilisation:.0%} of {H100_PEAK / 1e12:.0f} TFLOP/s "
        "(bf16); reading and rendering go on meanwhile in other processes, and may bound it"
    )
    show_table(("assumed",), [(assumed,)])
    show_table(("at hand",), [(f"{files:,} files or parts of tables in {len(chunks):,} shards; nothing was written",)])
