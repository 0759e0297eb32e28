"""Compare tokens that a card makes with those of the CPU, and join what check.sh has measured into one file.

python recipes/gpu/equal.py --out equal.json [--device cuda]
python recipes/gpu/equal.py --join gpu-check          # writes gpu-check/report.json
"""

from __future__ import annotations

import argparse
import json
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch

import atoken
from atoken.media.image.files import read_image


def photographs() -> list[np.ndarray]:
    """The bundled photographs, uint8 [H, W, 3]."""
    with as_file(files("atoken").joinpath("assets/photos")) as folder:
        return [read_image(path) for path in sorted(folder.glob("*.jpg"))]


def compare(name: str, device: str, dtype: torch.dtype, pictures: list[np.ndarray]) -> dict[str, Any]:
    """How far tokens and pictures of ``device`` in ``dtype`` lie from those of the CPU in fp32."""
    here, there = atoken.load(name), atoken.load(name, device=device, dtype=dtype)
    wanted, found = here.encode(pictures), there.encode(pictures)
    row: dict[str, Any] = {"model": name, "dtype": str(dtype).removeprefix("torch."), "tokens": sum(map(len, wanted))}
    values = [(a.values, b.values.to(a.values.device)) for a, b in zip(wanted, found, strict=True)]
    if wanted[0].kind == "discrete":
        row["codes that differ"] = float(np.mean([float((a != b).float().mean()) for a, b in values]))
    else:
        away = torch.cat([(a.float() - b.float()).flatten() for a, b in values])
        size = torch.cat([a.float().flatten() for a, _ in values])
        row["relative rms"] = float(away.square().mean().sqrt() / size.square().mean().sqrt())
    for way, tokens in (("cpu", here.decode(wanted)), (device, there.decode(found))):
        errors = [np.mean((a.astype(float) - b) ** 2) for a, b in zip(tokens, pictures, strict=True)]
        row[f"dB on {way.split(':')[0]}"] = float(np.mean(10 * np.log10(255**2 / np.array(errors))))
    return row


def join(folder: Path) -> None:
    """All parts that are there into report.json."""
    report: dict[str, Any] = {"card": torch.cuda.get_device_name() if torch.cuda.is_available() else None}
    for part in ("bench", "training", "against", "equal"):
        path = folder / f"{part}.json"
        report[part] = json.loads(path.read_text()) if path.is_file() else None
    if (folder / "tests.xml").is_file():
        suite = next(ElementTree.parse(folder / "tests.xml").getroot().iter("testsuite"))
        report["tests"] = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    print(f"wrote {folder / 'report.json'}")


def main() -> None:
    """Compare, or join."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("equal.json"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--join", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    if arguments.join:
        join(arguments.join)
        return
    pictures, rows = photographs(), []
    for name in ("nano", "nano-discrete"):
        for dtype in (torch.float32, torch.bfloat16):
            rows.append(compare(name, arguments.device, dtype, pictures))
            print(rows[-1])
    arguments.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
