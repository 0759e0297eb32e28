"""The report: one HTML file with everything in it, readable without a network."""

from __future__ import annotations

import base64
import heapq
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..core.files import atomic_write
from ..core.text import escaped
from . import plot, tables
from .assets import pixels_of
from .methods import Method
from .progress import REPORT, read_items
from .protocols import METRICS
from .run import Plan, read_clip

WORST, SPREAD = 6, 6
"""Items shown as pictures: those of the largest loss, and some from all over the set."""
LISTED = 200
"""Rows of the table of items."""
LARGEST = 512
"""Longest side of a shown picture."""
STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881}
body{font:15px/1.5 system-ui,sans-serif;max-width:1240px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem}
table{border-collapse:collapse}th,td{padding:.25rem .7rem;border-bottom:1px solid var(--line);text-align:right}
th:first-child,td:first-child{text-align:left}tbody tr:hover{background:var(--soft)}
.scroll{overflow-x:auto}.plots{display:flex;flex-wrap:wrap;gap:1rem}.plots>div{flex:1 1 420px;max-width:580px}
svg{width:100%}svg text{fill:currentColor;font-size:12px;stroke:none}.grid{stroke:var(--line)}
.legend span{margin-right:1rem;white-space:nowrap}
.legend i{display:inline-block;width:.8em;height:.8em;margin-right:.4em}
.bars td.bar{width:22rem}.bars i{display:block;height:.9em;background:#0b5fa5}
.grid-of-pictures td,.grid-of-pictures th{padding:.2rem .3rem;text-align:left;vertical-align:top;border:0}
.grid-of-pictures img{display:block;width:188px;image-rendering:auto}
small,figcaption,.note{color:color-mix(in srgb,currentColor 70%,transparent);font-size:.85rem}
pre{overflow-x:auto;background:var(--soft);padding:.8rem}
"""


@dataclass(frozen=True)
class Shown:
    """An item as pictures: the original and what each method made of it, with its numbers."""

    name: str
    pictures: dict[str, np.ndarray]
    scores: dict[str, dict[str, float]]


def ranked(plan: Plan, folder: Path) -> list[dict[str, Any]]:
    """The ``LISTED`` measured items of the largest loss, worst first, by the first method's first metric of items."""
    metric = next((METRICS[name] for name in plan.metrics if not METRICS[name].of_set), None)
    measured = (line for line in read_items(folder) if "methods" in line)
    if metric is None:
        return list(islice(measured, LISTED))
    sign = 1 if metric.higher_is_better else -1
    first = plan.methods[0].name
    return heapq.nsmallest(LISTED, measured, key=lambda line: sign * line["methods"][first][metric.name])


def write_report(plan: Plan, results: Mapping[str, Any], folder: Path) -> Path:
    """Write ``report.html`` into ``folder``; the shown items go through the methods once more."""
    lines = ranked(plan, folder)
    worst = [line["name"] for line in lines[:WORST]]
    step = max(1, len(plan.items) // SPREAD)
    spread = [item.name for item in plan.items[step // 2 :: step] if item.name not in worst][:SPREAD]
    wanted = {*worst, *spread}
    scores = {
        line["name"]: line["methods"] for line in read_items(folder) if line["name"] in wanted and "methods" in line
    }
    by_name = {item.name: item for item in plan.items}
    shown_methods = [method for method in plan.methods if method.name == method.family]
    groups = {
        "Worst": [_show(plan, shown_methods, by_name[name], scores) for name in worst],
        "From all over the set": [
            _show(plan, shown_methods, by_name[name], scores) for name in spread if name in scores
        ],
    }
    title = f"{plan.methods[0].name} on {plan.data}"
    body = [
        f"<h1>{escaped(title)}</h1>",
        _summary(results),
        _plots(results),
        *(_pictures(name, group, results) for name, group in groups.items() if group),
        _items(lines, results),
        _time(results),
        _record(results),
    ]
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escaped(title)}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{STYLE}</style></head>'
        f"<body>{''.join(body)}</body></html>\n"
    )
    path = folder / REPORT
    with atomic_write(path) as temporary:
        temporary.write_text(page, "utf-8", errors="replace")
    return path


def _show(plan: Plan, methods: Sequence[Method], item: Any, scores: Mapping[str, Any]) -> Shown:
    clip = read_clip(item, plan.protocol)
    original = pixels_of(clip)
    middle = len(original) // 2
    pictures = {"original": original[middle]}
    for method in methods:
        pictures[method.name] = method.reconstruct([clip])[0].frames[middle]
    return Shown(item.name, pictures, scores[item.name])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    heads = "".join(f"<th>{escaped(cell)}</th>" for cell in head)
    lines = ("<tr>" + "".join(f"<td>{escaped(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class=scroll><table><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"


def _summary(results: Mapping[str, Any]) -> str:
    notes = "<br>".join(escaped(note) for note in tables.notes(results))
    parts = [_table(tables.header(results), tables.rows(results)), f"<p class=note>{notes}</p>"]
    distances = [
        [
            method["name"],
            number["label"],
            *(f"{number['parts'][part]:.3f}" for part in ("mean_part", "covariance_part")),
        ]
        for method in results["methods"]
        for number in method["metrics"].values()
        if "parts" in number
    ]
    if distances:
        head = ["method", "distance", "of the means", "of the covariances"]
        parts.append(f"<h2>Fréchet distances in their two parts</h2>{_table(head, distances)}")
    uses = [
        [
            method["name"],
            str(index + 1),
            f"{100 * used:.1f} %",
            f"{perplexity:.0f}",
        ]
        for method in results["methods"]
        if method["codebooks"]
        for index, (used, perplexity) in enumerate(
            zip(method["codebooks"]["used"], method["codebooks"]["perplexity"], strict=True)
        )
    ]
    if uses:
        head = ["method", "group", "codes used", "perplexity"]
        parts.append(f"<h2>Use of the codebooks</h2>{_table(head, uses)}")
    return "".join(parts)


def _plots(results: Mapping[str, Any]) -> str:
    plots = []
    rate = results["methods"][0]["metrics"]["bpp"]["label"]
    for name, first in results["methods"][0]["metrics"].items():
        if name == "bpp":
            continue
        series: dict[str, list[tuple[float, float]]] = {}
        for method in results["methods"]:
            numbers = method["metrics"]
            series.setdefault(method["family"], []).append((numbers["bpp"]["value"], numbers[name]["value"]))
        label = f"{first['label']} {first['unit']}".strip()
        plots.append(f"<div>{plot.curves(series, rate, label)}</div>")
    return f"<h2>Rate and distortion</h2><div class=plots>{''.join(plots)}</div>"


def _pictures(name: str, group: Sequence[Shown], results: Mapping[str, Any]) -> str:
    methods = list(group[0].pictures)
    heads = "".join(f"<th>{escaped(method)}</th>" for method in methods)
    rows = []
    for shown in group:
        cells = []
        for method in methods:
            numbers = shown.scores.get(method, {})
            caption = " · ".join(_score(key, value) for key, value in numbers.items() if key in METRICS)
            text = caption or shown.name
            cells.append(
                f'<td><img src="{_embedded(shown.pictures[method])}" alt=""><small>{escaped(text)}</small></td>'
            )
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f"<h2>{escaped(name)}</h2><div class=scroll><table class=grid-of-pictures><tr>{heads}</tr>{''.join(rows)}"
        f"</table></div><p class=note>At most {LARGEST} pixels, embedded as WebP of quality 90.</p>"
    )


def _score(name: str, value: float) -> str:
    unit = " dB" if name == "psnr" else ""
    label = "" if name == "psnr" else METRICS[name].label.replace(" perceptual", "")
    return f"{label} {value:.{tables.DIGITS[name]}f}{unit}".strip()


def _embedded(picture: np.ndarray) -> str:
    image = Image.fromarray(picture)
    image.thumbnail((LARGEST, LARGEST))
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=90)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _items(lines: Sequence[Mapping[str, Any]], results: Mapping[str, Any]) -> str:
    first = results["methods"][0]["name"]
    others = [method["name"] for method in results["methods"][1:] if method["name"] == method["family"]]
    numbers = [name for name in lines[0]["methods"][first] if name in METRICS]
    head = ["item", *(METRICS[name].label for name in numbers), *(f"{numbers[0].upper()} {name}" for name in others)]
    rows = (
        [
            [
                line["name"],
                *(f"{line['methods'][first][name]:.{tables.DIGITS[name]}f}" for name in numbers),
                *(f"{line['methods'][other][numbers[0]]:.{tables.DIGITS[numbers[0]]}f}" for other in others),
            ]
            for line in lines
        ]
        if numbers
        else []
    )
    total = results["data"]["n"]
    what = f"the {len(lines)} worst of {total}" if total > len(lines) else f"all {total}"
    return f"<h2>Every item, worst first</h2><p class=note>{escaped(first)}; {what}.</p>{_table(head, rows)}"


def _time(results: Mapping[str, Any]) -> str:
    parts = tables.split(results)
    return f"<h2>Where the time went</h2>{plot.bars(parts, 's')}"


def _record(results: Mapping[str, Any]) -> str:
    text = json.dumps({key: value for key, value in results.items() if key != "failures"}, indent=1, ensure_ascii=False)
    failures = "".join(f"<li>{escaped(f['name'])}: {escaped(f['error'])}</li>" for f in results["failures"])
    said = f"<h2>Could not be measured</h2><ul>{failures}</ul>" if failures else ""
    details = f"<details><summary>results.json</summary><pre>{escaped(text)}</pre></details>"
    return f"{said}<h2>Protocol of every number</h2>{details}"
