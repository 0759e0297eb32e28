"""Render the furniture that nano learns 3D from, out of one public package.

    python recipes/nano/furniture.py --out data/furniture        # resumable; needs apt-get, dpkg and the extra mesh

For each object ``ID.npz`` holds 16 views (what the tokens are made of), 8 views from between them (what is compared),
which voxels of the 32 and 64 grids are occupied, and which patch of which view each takes. ``index.json`` has names,
categories, tags, creators, licences and the split; a copy of it is furniture.json beside this file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track
from sources import FURNITURE

from atoken.core.files import atomic_write
from atoken.media.mesh import Asset, read_asset
from atoken.media.views.cameras import hammersley_sphere
from atoken.media.views.views import DISTANCE, render_views
from atoken.media.views.voxels import occupied_voxels
from data import fetch

RESOLUTIONS = (32, 64)
FIELDS = ("name", "category", "tags", "creator")
INPUT_VIEWS, HELD_OUT_VIEWS = 16, 8
SHARES = {"test": 0.1, "validation": 0.05}  # the rest is for training


def catalogue(archive: zipfile.ZipFile, name: str) -> list[dict[str, Any]]:
    """The objects of one catalogue, from its properties file."""
    text = archive.read("PluginFurnitureCatalog.properties").decode("latin-1")
    values = dict(re.findall(r"^(\w+(?:#\d+)?)=(.*)$", text, re.MULTILINE))
    licence = re.split(r"\s*(?:Copyright|\u00a9)", values["license"])[0]
    entries = []
    for key in sorted((k for k in values if k.startswith("model#")), key=lambda k: int(k.split("#")[1])):
        number = key.split("#")[1]
        identity, model = f"{name}-{Path(values[key].strip()).stem}", values[key].strip().lstrip("/")
        entry = {"id": identity, "split": split_of(identity), "model": model, "licence": licence}
        entries.append(entry | {field: values.get(f"{field}#{number}", "").strip() for field in FIELDS})
    return entries


def split_of(identity: str) -> str:
    """Test, validation or train, from the object's name alone."""
    place = int.from_bytes(hashlib.sha256(identity.encode()).digest()[:4], "big") / 2**32
    for split, share in SHARES.items():
        if place < share:
            return split
        place -= share
    return "train"


def read_object(archive: zipfile.ZipFile, entry: dict[str, Any]) -> Asset:
    """One object of a catalogue. Raises ``ValueError`` where its files cannot be read."""
    folder = entry["model"].rsplit("/", 1)[0] + "/"
    with tempfile.TemporaryDirectory() as temporary:
        archive.extractall(temporary, [n for n in archive.namelist() if n.startswith(folder) and not n.endswith("/")])
        return read_asset(Path(temporary) / entry["model"])


def build(archive: zipfile.ZipFile, entry: dict[str, Any], target: Path) -> None:
    """Write one object's file."""
    asset = read_object(archive, entry)
    views = render_views(asset)
    held_out = render_views(asset, hammersley_sphere(HELD_OUT_VIEWS, offset=0.5, distance=DISTANCE))
    arrays: dict[str, Any] = {
        "views": views.colour,
        "mask": np.packbits(views.mask),
        "held_out": held_out.colour,
        "held_out_mask": np.packbits(held_out.mask),
    }
    for resolution in RESOLUTIONS:
        voxels, patch = occupied_voxels(views, resolution=resolution)
        arrays[f"voxels{resolution}"], arrays[f"patch{resolution}"] = voxels.byte().numpy(), patch.byte().numpy()
    with atomic_write(target) as file:
        np.savez_compressed(file, **arrays)


def main() -> None:
    """Build what is not there yet, then write the index of what could be built."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("data/furniture"))
    arguments = parser.parse_args()
    out: Path = arguments.out
    (out / "packages").mkdir(parents=True, exist_ok=True)
    index, failures = [], []
    for path in sorted(fetch(FURNITURE, out / "packages").rglob("*.sh3f")):
        with zipfile.ZipFile(path) as archive:
            for entry in track(catalogue(archive, path.stem.lower()), path.stem):
                target = out / f"{entry['id']}.npz"
                try:
                    if not target.exists():
                        with warnings.catch_warnings():
                            warnings.simplefilter("ignore")
                            build(archive, entry, target)
                except (ValueError, OSError, subprocess.SubprocessError) as error:
                    failures.append(f"{entry['id']}: {error}")
                    continue
                index.append(entry)
    for place in (out / "index.json", Path(__file__).with_suffix(".json")):
        with atomic_write(place) as temporary:
            temporary.write_text(json.dumps(index, indent=0, ensure_ascii=False) + "\n")
    for failure in failures:
        print(failure)
    print(f"{len(index)} objects, {len(failures)} failed")


if __name__ == "__main__":
    main()
