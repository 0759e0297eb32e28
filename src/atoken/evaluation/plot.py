"""Plots as inline SVG, without any library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..core.text import escaped

WIDTH, HEIGHT = 560, 340
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 14, 46
COLOURS = ("#0b5fa5", "#c2410c", "#15803d", "#7e22ce", "#a16207", "#be123c", "#0e7490", "#4d7c0f")

Curves = Mapping[str, Sequence[tuple[float, float]]]


def curves(series: Curves, x_label: str, y_label: str) -> str:
    """Points joined to a curve for each name, over a logarithmic x axis (all x > 0), as one ``<svg>``."""
    points = [point for line in series.values() for point in line]
    low_x, high_x = _padded([math.log2(x) for x, _ in points], 0.15)
    low_y, high_y = _padded([y for _, y in points], 0.08)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (math.log2(x) - low_x) / (high_x - low_x)
        up = (y - low_y) / (high_y - low_y)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escaped(y_label)} over {escaped(x_label)}">']
    for power in range(math.ceil(low_x), math.floor(high_x) + 1):
        x, _ = place(2.0**power, low_y)
        parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{2.0**power:g}</text>')
    for tick in _ticks(low_y, high_y):
        _, y = place(2.0**low_x, tick)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escaped(x_label)}</text>')
    parts.append(
        f'<text transform="translate(14 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">'
        f"{escaped(y_label)}</text>"
    )
    for index, (name, line) in enumerate(series.items()):
        colour = COLOURS[index % len(COLOURS)]
        spots = [place(x, y) for x, y in sorted(line)]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in spots)
        parts.append(f'<g stroke="{colour}" fill="{colour}"><path fill="none" stroke-width="2" d="M{path}"/>')
        for (x, y), (rate, value) in zip(spots, sorted(line), strict=True):
            title = f"{escaped(name)}: {rate:.3g}, {value:.4g}"
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{title}</title></circle>')
        parts.append("</g>")
    return "".join([*parts, "</svg>", legend(list(series))])


def legend(names: Sequence[str]) -> str:
    """Names beside their colours."""
    entries = (
        f'<span><i style="background:{COLOURS[index % len(COLOURS)]}"></i>{escaped(name)}</span>'
        for index, name in enumerate(names)
    )
    return f'<p class="legend">{"".join(entries)}</p>'


def bars(shares: Sequence[tuple[str, float]], unit: str) -> str:
    """Horizontal bars with their values."""
    most = max((value for _, value in shares), default=0) or 1
    rows = (
        f'<tr><td>{escaped(name)}</td><td class="bar"><i style="width:{100 * value / most:.1f}%"></i></td>'
        f"<td class=number>{value:.2f} {unit}</td></tr>"
        for name, value in shares
    )
    return f"<table class=bars>{''.join(rows)}</table>"


def _padded(values: Sequence[float], share: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = share * (high - low) or 0.5
    return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between ``low`` and ``high``, four to nine of them."""
    rough = (high - low) / 6
    scale = 10 ** math.floor(math.log10(rough))
    step = next(factor * scale for factor in (1, 2, 5, 10) if factor * scale >= rough)
    return [round(index * step, 10) for index in range(math.ceil(low / step), math.floor(high / step) + 1)]
