"""``atoken train --dry-run``: what recipes will take, without training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..engine.flops import device_peak
from ..engine.timing import seconds_per_step
from ..mllm.recipe import MllmRecipe
from .recipes import check_data, plan, read_any, spec_of
from .report import show_table

HEAD = (
    *("stage", "parameters", "steps", "ranks", "tokens a step", "PFLOP a step", "state", "activations"),
    *("GPU-hours", "s a step here", "hours here"),
)
LONGEST_STEP = 60.0
"""Seconds: a step that cannot be faster here, by the machine's matrix products, is not tried."""


def show_plan(
    recipes: Sequence[Path], utilisation: float, device: str, cost_only: bool, allow_commands: bool = False
) -> None:
    """The cost table of the recipes and the state of their data. Raises ``ValueError`` where data is missing.

    A step of each recipe whose data is there is timed on ``device``, unless ``cost_only``, which looks at no data.
    """
    if not 0 < utilisation <= 1:
        raise ValueError(f"--utilisation is {utilisation}: give a share of the peak between 0 and 1")
    configs = [read_any(path, allow_commands=allow_commands) for path in recipes]
    peak = 0.0 if cost_only else device_peak(device, autocast=True)
    rows, data, total, missing = [], [], 0.0, []
    for path, config in zip(recipes, configs, strict=True):
        cost, found = plan(config), [] if cost_only else list(check_data(config))
        data += [(path.stem, task, sentence) for task, sentence, _ in found]
        missing += [f"{path}, {task}: {sentence}" for task, sentence, well in found if not well]
        seconds, minutes = None, 0.0
        if not isinstance(config, MllmRecipe):
            minutes = config.minutes
            if found and all(well for _, _, well in found) and cost.flops / config.ranks / peak < LONGEST_STEP:
                seconds = seconds_per_step(spec_of(config), device)
        steps = config.steps or (int(60 * minutes / seconds) if seconds else 0)
        hours = cost.hours(steps, utilisation)
        total += hours
        rows.append(
            (
                path.stem,
                f"{cost.parameters / 1e6:.1f} M",
                f"{steps:,}" if steps else f"{minutes:g} min",
                f"{config.ranks}",
                f"{cost.tokens / 1e6:.3g} M",
                f"{cost.flops / 1e15:.3g}",
                f"{cost.state_bytes / 1e9:.2f} GB",
                f"{cost.activation_bytes / 1e9:.2f} GB",
                f"{hours:,.1f}" if steps else "",
                "" if seconds is None else f"{seconds:.3g}",
                "" if seconds is None else f"{seconds * steps / 3600:,.2f}",
            )
        )
    if len(rows) > 1:
        rows.append(("all", "", "", "", "", "", "", "", f"{total:,.1f}", "", ""))
    show_table(HEAD, rows)
    if data:
        show_table(("stage", "task", "first batch"), data, ("task", "first batch"))
    assumed = (
        f"GPU-hours: H100 at {utilisation:.0%} of 989 TFLOP/s; state and activations are of one rank; a step here is "
        f"that of one rank on {device}, timed without evaluation and checkpoints"
    )
    show_table(("assumed",), [(assumed,)])
    if missing:
        raise ValueError(f"{missing[0]}" + (f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""))
