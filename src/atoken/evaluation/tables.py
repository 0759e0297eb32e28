"""The results as rows of text, for the terminal, the report and Markdown, and filling them into pages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.files import atomic_write

DIGITS = {"psnr": 2, "ssim": 3, "lpips": 3, "lite0-distance": 3, "rfid": 3, "rfvd": 2, "lite0-frechet": 2, "bpp": 3}


def header(results: Mapping[str, Any]) -> list[str]:
    """Heads of the columns."""
    metrics = results["methods"][0]["metrics"]
    heads = []
    for name in metrics:
        arrow = {"higher": " ↑", "lower": " ↓"}.get(metrics[name].get("better", ""), "")
        unit = f" {metrics[name]['unit']}" if name == "psnr" else ""
        heads.append(f"{metrics[name]['label']}{unit}{arrow}")
    return ["method", *heads]


def rows(results: Mapping[str, Any], whole_rate: bool = False) -> list[list[str]]:
    """One row a method; ``whole_rate`` leaves out codecs at other than the tokens' own bytes."""
    table = []
    for method in results["methods"]:
        if whole_rate and method["name"] != method["family"]:
            continue
        marks = "*" if method["over_limit"] else ""
        cells = [cell(name, number["value"]) for name, number in method["metrics"].items()]
        table.append([method["name"] + marks, *cells])
    return table


def cell(name: str, value: float) -> str:
    """A number with the digits that it deserves."""
    return f"{value:.{DIGITS[name]}f}"


def notes(results: Mapping[str, Any], whole_rate: bool = False) -> list[str]:
    """Sentences below the table."""
    protocol, data = results["protocol"], results["data"]
    pixels = "native size"
    if resize := protocol["resize"]:
        crop = " × ".join(map(str, protocol["size"]))
        pixels = f"shorter side to {resize['shorter_side']} ({resize['filter']}), centre crop {crop}"
    what = "videos" if "clip" in protocol else "pictures"
    if views := protocol.get("views"):
        size = " × ".join(map(str, protocol["size"]))
        pixels = f"{views['count']} held-out views of {size}, {views['fov']:.0f}° wide, from {views['distance']:g} away"
        what = "3D assets"
    said = [
        f"Protocol {protocol['name']}: {pixels}, uint8 sRGB, mean over {data['n']} {what} of {data['set']} "
        f"(SHA-256 of their pixels {data['sha256'][:12]}); AToken {results['code']['atoken']}, "
        f"code {results['code']['sha256'][:12]}."
    ]
    for name, number in results["methods"][0]["metrics"].items():
        network = number["protocol"]["network"]
        if network:
            reference = number["protocol"]["reference"]
            against = f", against {reference['set']} (N = {reference['n']})" if "parts" in number else ""
            if number.get("vectors", data["n"]) != data["n"]:  # frames, or clips: short videos have none
                against += f", {number['vectors']} vectors"
            said.append(f"{number['label']}: {network['name']}, weights {network['sha256'][:12]}{against}; {name}.")
    for method in results["methods"]:
        if method["over_limit"] and not (whole_rate and method["name"] != method["family"]):
            said.append(
                f"* {method['name']}: {method['over_limit']} of {data['n']} do not fit even at the lowest quality, "
                "which is what is shown."
            )
    if results["failures"]:
        said.append(f"{len(results['failures'])} could not be measured and are left out.")
    return said


def markdown(results: Mapping[str, Any]) -> str:
    """The table and its notes, for pages; the protocol of every number stays in the JSON."""
    heads = header(results)
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows(results, whole_rate=True)]
    return "\n".join([*lines, "", *(f"{note}  " for note in notes(results, whole_rate=True))]).rstrip()


def fill(page: Path, name: str, text: str) -> None:
    """Put ``text`` between ``<!-- NAME -->`` and ``<!-- /NAME -->`` in a page.

    Raises ``ValueError`` where the page does not have both marks, once each.
    """
    before = page.read_text("utf-8")
    pattern = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- /{re.escape(name)} -->)", re.DOTALL)
    after, count = pattern.subn(lambda match: f"{match[1]}{text}\n{match[2]}", before)
    if count != 1:
        raise ValueError(f"{page} needs the marks <!-- {name} --> and <!-- /{name} --> once, each on its line")
    with atomic_write(page) as temporary:
        temporary.write_text(after, "utf-8")


def split(results: Mapping[str, Any]) -> Sequence[tuple[str, float]]:
    """Where the time went, longest first."""
    return sorted(results["seconds"].items(), key=lambda part: -part[1])
