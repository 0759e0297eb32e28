"""``atoken train --dry-run``: what recipes will take, without training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..training.config import read_config
from ..training.plan import check_data, plan
from .report import show_table


def show_plan(recipes: Sequence[Path], utilisation: float) -> None:
    """The cost table of the recipes and the state of their data. Raises ``ValueError`` where data is missing."""
    if not 0 < utilisation <= 1:
        raise ValueError(f"--utilisation is {utilisation}: give a share of the peak between 0 and 1")
    rows, data, total, missing = [], [], 0.0, []
    for path in recipes:
        config = read_config(path)
        cost = plan(config)
        hours = cost.hours(config.steps, utilisation)
        total += hours
        rows.append(
            (
                path.stem,
                f"{cost.parameters / 1e6:.1f} M",
                f"{config.steps:,}",
                f"{config.ranks}",
                f"{cost.tokens / 1e6:.3g} M",
                f"{cost.flops / 1e15:.3g}",
                f"{cost.state_bytes / 1e9:.2f} GB",
                f"{cost.activation_bytes / 1e9:.2f} GB",
                f"{hours:,.1f}",
            )
        )
        for task, sentence, well in check_data(config):
            data.append((path.stem, task, sentence))
            if not well:
                missing.append(f"{path}, {task}: {sentence}")
    if len(rows) > 1:
        rows.append(("all", "", "", "", "", "", "", "", f"{total:,.1f}"))
    head = (
        "stage",
        "parameters",
        "steps",
        "ranks",
        "tokens a step",
        "PFLOP a step",
        "state",
        "activations",
        "GPU-hours",
    )
    show_table(head, rows)
    show_table(("stage", "task", "first batch"), data, ("task", "first batch"))
    show_table(("assumed",), [(f"H100 at {utilisation:.0%} of 989 TFLOP/s; state and activations are of one rank",)])
    if missing:
        raise ValueError(f"{missing[0]}" + (f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""))
