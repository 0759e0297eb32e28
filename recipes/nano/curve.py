"""Draw the PSNR on the evaluation photographs over steps, from the logs of runs, as an SVG file.

    python recipes/nano/curve.py --out curve.svg codes=runs/nano-discrete,runs/nano-discrete-2 joint=runs/nano-joint

Each argument is a curve: a name, and runs that went on from each other, whose steps add up.
"""

from __future__ import annotations

import argparse
import json
from html import escape
from pathlib import Path

from atoken.core.files import atomic_write
from atoken.evaluation.plot import COLOURS, curves

STYLE = "<style>text{font:12px sans-serif;fill:#777}.grid{stroke:#7774}</style>"


def points(runs: list[Path]) -> list[tuple[float, float]]:
    """Steps since the first run began, and the PSNR of the averaged weights in dB."""
    found, before = [], 0
    for run in runs:
        lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        found += [(before + line["step"], line["psnr_ema"]) for line in lines if "psnr_ema" in line]
        before += lines[-1]["step"]
    return found


def main() -> None:
    """Read the logs and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("curves", nargs="+", metavar="NAME=RUN[,RUN...]")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    series = {}
    for argument in args.curves:
        name, _, runs = argument.partition("=")
        series[name] = points([Path(run) for run in runs.split(",")])
    svg, end, _ = curves(series, "steps", "PSNR dB").partition("</svg>")  # names go into the picture, not below it
    names = "".join(
        f'<text x="70" y="{30 + 16 * index}" style="fill:{COLOURS[index]}">{escape(name)}</text>'
        for index, name in enumerate(series)
    )
    with atomic_write(args.out) as temporary:
        temporary.write_text(svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1) + STYLE + names + end)


if __name__ == "__main__":
    main()
