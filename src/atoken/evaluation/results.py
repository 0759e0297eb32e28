"""From the counts of a run to numbers, each with the protocol that it was measured by."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.files import atomic_write
from ..metrics.frechet import FeatureStatistics, frechet_distance
from .progress import ORIGINALS, Progress, read_items
from .protocols import METRICS
from .provenance import environment
from .run import Plan

FORMAT = "atoken-evaluation"
References = Mapping[str, tuple[FeatureStatistics, dict[str, Any]]]
"""By metric: saved statistics of originals, and their origin."""


def summarise(plan: Plan, progress: Progress, references: References | None = None) -> dict[str, Any]:
    """Everything that is known of a finished run, JSON-ready.

    Raises ``ValueError`` where no item could be measured.
    """
    count, failures, sums, over = _totals(plan, progress)
    if not count:
        raise ValueError(f"nothing could be measured: {failures[0]['name']}: {failures[0]['error']}")
    plain = plan.describe()
    own = {"set": plan.data, "n": count, "sha256": f"{progress.digest:064x}"}
    common = {**plain["protocol"], "code": plain["code"]}
    rows = []
    for method in plan.methods:
        numbers: dict[str, Any] = {}
        for name in plan.metrics:
            if METRICS[name].of_set:
                value, parts, reference = _frechet(progress, name, method.name, references or {}, own)
            else:
                value, parts, reference = sums[method.name][name] / count, {}, own
            protocol = {
                **common,
                "network": plain["networks"].get(name),
                **METRICS[name].formula,
                "reference": reference,
                "n": count,
            }
            numbers[name] = {**_number(name, value), **parts, "protocol": protocol}
        bpp = {"network": None, "reference": own, "n": count}
        numbers["bpp"] = {
            **{
                "value": sums[method.name]["bpp"] / count,
                "label": f"bits per {plan.protocol.unit}",
                "unit": "bit",
            },
            "protocol": {**common, **bpp},
        }
        use = progress.codebooks.get(method.name)
        codebooks = {"tokens": use.total, "used": use.used(), "perplexity": use.perplexity()} if use else None
        rows.append(
            {
                "name": method.name,
                "family": method.family,
                "method": method.describe(),
                "metrics": numbers,
                "codebooks": codebooks,
                "over_limit": over[method.name],
            }
        )
    return {
        "format": FORMAT,
        "version": 1,
        "protocol": plain["protocol"],
        "data": own,
        "code": plain["code"],
        "environment": environment(plan.device),
        "methods": rows,
        "seconds": {part: round(seconds, 3) for part, seconds in progress.seconds.items()},
        "failures": failures,
    }


def _totals(
    plan: Plan, progress: Progress
) -> tuple[int, list[dict[str, str]], dict[str, dict[str, float]], dict[str, int]]:
    """Number of measured items, failures, and by method the sums of the items' numbers and how many are over."""
    count, failures = 0, []
    sums: dict[str, dict[str, float]] = {method.name: defaultdict(float) for method in plan.methods}
    over = dict.fromkeys(sums, 0)
    for line in read_items(progress.folder):
        if "error" in line:
            failures.append({"name": line["name"], "error": line["error"]})
            continue
        count += 1
        for method, row in line["methods"].items():
            over[method] += row.pop("over", False)
            for name, value in row.items():
                sums[method][name] += value
    return count, failures, sums, over


def write_references(plan: Plan, progress: Progress, folder: Path) -> None:
    """Save the originals' statistics as ``reference.METRIC.safetensors``, for runs against the same set."""
    for (metric, method), statistics in progress.frechet.items():
        if method == ORIGINALS:
            statistics.save(folder / f"reference.{metric}.safetensors", reference_origin(plan, progress, metric))


def reference_origin(plan: Plan, progress: Progress, metric: str) -> dict[str, Any]:
    """What saved statistics say of themselves."""
    plain = plan.describe()
    count = progress.frechet[metric, ORIGINALS].count
    return {
        "metric": metric,
        "protocol": plain["protocol"],
        "network": plain["networks"][metric],
        "reference": {"set": plan.data, "n": count, "sha256": f"{progress.digest:064x}"},
    }


def read_reference(path: Path, plan: Plan) -> tuple[str, FeatureStatistics, dict[str, Any]]:
    """The metric, statistics and set of a saved reference.

    Raises ``ValueError`` where another protocol or network made it, or no metric of this run reads it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no reference statistics at {path}")
    statistics, origin = FeatureStatistics.load(path)
    plain = plan.describe()
    metric = origin.get("metric")
    if metric not in plan.metrics:
        raise ValueError(f"{path} is a reference for {metric}, which this run does not measure")
    for key, ours in (("protocol", plain["protocol"]), ("network", plain["networks"][metric])):
        if origin.get(key) != ours:
            raise ValueError(f"{path} was made with another {key}: {origin.get(key)}, and this run has {ours}")
    return metric, statistics, origin["reference"]


def write_results(results: Mapping[str, Any], path: Path) -> None:
    """Write JSON, atomically."""
    with atomic_write(path) as temporary:
        text = json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False)
        temporary.write_text(f"{text}\n", "utf-8", errors="backslashreplace")  # a name that is no UTF-8, as JSON has it


def read_results(path: Path, form: str = FORMAT) -> dict[str, Any]:
    """Read what ``write_results`` wrote in that format. Raises ``FileNotFoundError`` or ``ValueError``."""
    if not path.is_file():
        raise FileNotFoundError(f"no evaluation results at {path}")
    try:
        results: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if results["format"] != form:
            raise ValueError(f"its format is {results['format']!r}")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} does not hold evaluation results ({error})") from None
    return results


def _frechet(
    progress: Progress, metric: str, method: str, references: References, own: dict[str, Any]
) -> tuple[float, dict[str, Any], dict[str, Any]]:
    """The distance, its parts, and the set that it refers to."""
    statistics = progress.frechet.get((metric, method))
    if statistics is None or statistics.count < 2:
        raise ValueError(f"{metric} needs at least two feature vectors, and the data made fewer")
    reference, origin = references.get(metric) or (progress.frechet[metric, ORIGINALS], own)
    distance = frechet_distance(reference, statistics)
    parts = {"mean_part": distance.mean_part, "covariance_part": distance.covariance_part}
    return distance.total, {"parts": parts, "vectors": statistics.count}, origin


def _number(name: str, value: float) -> dict[str, Any]:
    metric = METRICS[name]
    better = "higher" if metric.higher_is_better else "lower"
    return {
        "value": value,
        "label": metric.label,
        "unit": metric.unit,
        "better": better,
    }
