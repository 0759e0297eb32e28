"""Assemble pictures with captions for drawing from text: emoji in three drawings, stamps and furniture, on one ground.

    python recipes/generation/draw_data.py --out data/draw        # needs apt-get, dpkg, npm, pip and the extra mesh

``train`` and ``held_out`` are WebDataset shards of 128 x 128 PNG, each with its captions, bare and
with the style, in a .json.
``index.jsonl`` has every picture's key, captions, style, category, base, split and source. All drawings of one base
name are on one side; ``held_out.txt`` lists the names that are kept apart. DATA.md beside this file is the data card.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import re
import shutil
import subprocess
import sys
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.progress import track

sys.path.append(str(Path(__file__).parents[1] / "nano"))

from captions import NOTO_BOX, Emoji, draw_noto, emoji_list, furniture_captions, noto, source, split_of
from furniture import catalogue, read_object
from names import COLOURS, base_of, colour_words, emoji_bases, plain, stamp_name
from sources import DRAWINGS, FURNITURE

from atoken.data.pack import pack_folder
from atoken.media.image.opener import open_picture
from atoken.media.views.cameras import orbit
from atoken.media.views.views import DISTANCE, FOV, render_views
from data import fetch

SIZE = 128
GROUND = (255, 255, 255)
FRAME = 120
"""Pixels of the square that an emoji was drawn for: what is small in it stays small."""
LONGEST = 112
"""Pixels of the longer side of what stands in no such square: stamps and furniture."""
HELD_OUT = 0.08
TURNS, ELEVATION = (-40, 0, 40), 20
"""Degrees that furniture is seen from, about its vertical axis (0: the front) and above the horizon."""
NO_EMOJI = ("alphanum", "family")
"""Subgroups: written words, which no other caption teaches, and near copies that Microsoft's own set lacks."""
SHARDS = {"train": 8, "held_out": 2}
NO_STAMPS = ("sedan_police",)
"""Parts that are laid on other stamps."""
DRAWN = {"cartoon"}
"""Folders that say how a stamp is drawn, not what it shows."""
PEOPLE = ("people and body", "people", "characters")
"""Categories of which no colour is said: it would be read as the skin's."""
FLUENT, TWEMOJI, RESVG = DRAWINGS


@dataclass
class Drawing:
    """One picture and what is said of it."""

    key: str
    """Of the style, the object and, where there are several, the view."""
    style: str
    category: str
    base: str
    """The name that decides on the split."""
    captions: list[str]
    source: str
    """Package and file."""
    picture: Image.Image = field(repr=False)
    """RGBA, which becomes a square of ``FRAME`` pixels."""

    def __post_init__(self) -> None:
        """Reduce the picture to ``FRAME``; say its colour, where that is plain to see and not said yet."""
        self.picture = framed(self.picture)
        words = "" if self.category in PEOPLE else colour_words(self.picture)
        if words and not COLOURS & set(self.captions[0].split()):
            self.captions.append(f"{words} {self.captions[0]}")
        self.captions = list(dict.fromkeys(self.captions))

    @property
    def split(self) -> str:
        """``train`` or ``held_out``."""
        return "held_out" if split_of(self.base, HELD_OUT) == "test" else "train"


def slug(text: str) -> str:
    """Fit for a key."""
    return re.sub(r"\W+", "-", text.lower()).strip("-")


def emoji(packages: Path, everything: list[Emoji], bases: dict[str, str]) -> Iterator[Drawing]:
    """Noto's, Fluent's and Twemoji's drawing of each emoji that has one."""
    font = noto(packages)
    fluent, twemoji, resvg = (fetch(each, packages) for each in DRAWINGS)
    fluents = {path.stem: path for path in fluent.rglob("*.webp")}
    twemojis = {path.stem: path for path in twemoji.rglob("*.svg")}
    for each in everything:
        if each.subgroup in NO_EMOJI:
            continue
        found = {
            "noto emoji": ("fonts-noto-color-emoji", draw_noto(font, each.text).crop(NOTO_BOX)),
            "3d emoji": (FLUENT.package, _picture(_file(fluents, each.text))),
            "flat emoji": (TWEMOJI.package, _picture(_file(twemojis, each.text), resvg)),
        }
        for style, (package, picture) in found.items():
            if picture is not None and picture.getbbox() is not None:
                key = f"{slug(style)}/{slug(each.name)}"
                where = f"{package}/{'-'.join(f'{ord(code):x}' for code in each.text)}"
                yield Drawing(key, style, each.group, bases[plain(each.name)], emoji_captions(each), where, picture)


def emoji_captions(each: Emoji) -> list[str]:
    """Name; name and keywords; keywords alone, where there are several."""
    name, words = plain(each.name), [word for keyword in each.keywords if (word := plain(keyword))]
    captions = [name, ", ".join([name, *words])]
    return [*captions, ", ".join(words)] if len(words) > 1 else captions


def _file(files: dict[str, Path], text: str) -> Path | None:
    """The file named after an emoji's code points, with or without its variation selectors."""
    names = ("-".join(f"{ord(code):x}" for code in spelt) for spelt in (text, text.replace("\ufe0f", "")))
    return next((files[name] for name in names if name in files), None)


def _picture(path: Path | None, resvg: Path | None = None) -> Image.Image | None:
    """RGBA; an SVG is rendered 256 pixels high."""
    if path is None:
        return None
    data = path.read_bytes()
    if path.suffix == ".svg":
        assert resvg is not None
        program = next(resvg.glob("*/scripts/resvg"))
        program.chmod(0o755)  # which unpacking a wheel loses
        command = [str(program), "--height", "256", "--skip-system-fonts", str(path), "-c"]
        data = subprocess.run(command, check=True, capture_output=True).stdout
    with open_picture(BytesIO(data)) as image:
        return image.convert("RGBA")


def stamps(packages: Path, bases: dict[str, str]) -> Iterator[Drawing]:
    """Tux Paint's stamps with an English text, bitmaps and SVG, but for letters, coins and the like."""
    root = fetch(source("tuxpaint-stamps-default"), packages) / "usr/share/tuxpaint/stamps"
    resvg = fetch(RESVG, packages)
    for text in sorted(root.rglob("*.txt")):
        place = text.relative_to(root)
        if (place.parts[0] == "symbols" and place.parts[1] != "shapes") or place.stem in NO_STAMPS:
            continue
        path = next((path for suffix in (".png", ".svg") if (path := text.with_suffix(suffix)).is_file()), None)
        picture = _picture(path, resvg)
        if path is None or picture is None or picture.getbbox() is None:
            continue
        name = stamp_name(text.read_text(encoding="utf-8", errors="replace").splitlines()[0], place.stem)
        folders = [plain(part.replace("_", " ")) for part in reversed(place.parts[:-1]) if part not in DRAWN]
        captions = [name, f"{name}, {', '.join(folders)}"]
        if DRAWN & set(place.parts):
            captions.append(f"cartoon {name}")
        key = f"stamp/{slug('-'.join(place.with_suffix('').parts))}"
        where = f"tuxpaint-stamps-default/{path.relative_to(root)}"
        yield Drawing(key, "stamp", place.parts[0], base_of(name, bases), captions, where, visible(picture))


def furniture(packages: Path, workers: int, bases: dict[str, str]) -> Iterator[Drawing]:
    """Furniture from the front and from either side; what cannot be read is left out with a line that says why."""
    for path in sorted(fetch(FURNITURE, packages).rglob("*.sh3f")):
        with zipfile.ZipFile(path) as archive:
            entries = catalogue(archive, path.stem.lower())
            turned = rotations(archive)
        with ProcessPoolExecutor(workers) as pool:
            found = pool.map(partial(_views, path, turned), entries)
            for entry, views in zip(entries, found, strict=True):
                if isinstance(views, str):
                    print(f"left out: {entry['id']}: {views}")
                    continue
                captions = [plain(caption) for caption in furniture_captions(entry)]
                category, where = plain(entry["category"]), f"sweethome3d-furniture/{entry['id']}"
                for turn, picture in zip(TURNS, views, strict=True):
                    key = f"furniture/{slug(entry['id'])}-{turn % 360}"
                    base = base_of(captions[0], bases)
                    yield Drawing(key, "furniture", category, base, list(captions), where, visible(picture))


def rotations(archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    """How a catalogue turns those of its models that do not stand upright: rotation matrix [3, 3] by model."""
    text = archive.read("PluginFurnitureCatalog.properties").decode("latin-1")
    values = dict(re.findall(r"^(\w+#\d+)=(.*)$", text, re.MULTILINE))
    return {
        values[f"model#{key.split('#')[1]}"].strip().lstrip("/"): np.array(value.split(), float).reshape(3, 3)
        for key, value in values.items()
        if key.startswith("modelRotation#")
    }


def _views(path: Path, turned: dict[str, np.ndarray], entry: dict[str, Any]) -> list[Image.Image] | str:
    """RGBA renderings of one object, in light from fixed directions, or why there are none."""
    torch.set_num_threads(1)
    up, around = math.radians(ELEVATION), torch.deg2rad(torch.tensor(TURNS, dtype=torch.float64))
    directions = torch.stack(
        [math.cos(up) * around.sin(), torch.full_like(around, math.sin(up)), math.cos(up) * around.cos()], 1
    )
    try:
        with warnings.catch_warnings(), zipfile.ZipFile(path) as archive:
            warnings.simplefilter("ignore")
            asset = read_object(archive, entry)
            if entry["model"] in turned:
                vertices = asset.vertices @ turned[entry["model"]].T.astype(np.float32)
                asset = replace(asset, vertices=vertices)
            cameras = orbit(directions, fov=FOV, size=384, distance=DISTANCE)
            views = render_views(asset, cameras, light="studio")
    except (ValueError, OSError) as error:
        return str(error)
    alpha = views.mask[..., None] * np.uint8(255)
    pictures = [Image.fromarray(pixels) for pixels in np.concatenate([views.colour, alpha], 3)]
    return pictures if all(picture.getbbox() for picture in pictures) else "nothing is to be seen"


def visible(picture: Image.Image) -> Image.Image:
    """What is visible of a picture, with a margin that ``lay`` makes ``LONGEST`` pixels of the longer side of."""
    box = picture.getchannel("A").point(lambda value: 255 if value > 8 else 0).getbbox() or (0, 0, *picture.size)
    width, height = box[2] - box[0], box[3] - box[1]
    side = round(max(width, height) * FRAME / LONGEST)
    left, top = box[0] - (side - width) // 2, box[1] - (side - height) // 2
    return picture.crop((left, top, left + side, top + side))


def framed(picture: Image.Image) -> Image.Image:
    """RGBA, a square of ``FRAME`` pixels, with the picture in its middle."""
    side = max(picture.size)
    square = Image.new("RGBA", (side, side))
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square.resize((FRAME, FRAME), Image.Resampling.LANCZOS)


def lay(picture: Image.Image) -> Image.Image:
    """RGB, 128 x 128: a framed picture in the middle of the ground."""
    ground = Image.new("RGB", (SIZE, SIZE), GROUND)
    ground.paste(picture, ((SIZE - FRAME) // 2, (SIZE - FRAME) // 2), picture)
    return ground


def write(drawings: list[Drawing], out: Path) -> str:
    """Shards, index and list of names into ``out``, which must not exist; the SHA-256 of pixels and index."""
    partial_out = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial_out, ignore_errors=True)
    digest, lines = hashlib.sha256(), []
    for drawing in track(sorted(drawings, key=lambda each: each.key), "pictures"):
        picture = lay(drawing.picture)
        path = partial_out / "files" / drawing.split / f"{drawing.key}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
        captions = [*drawing.captions, *(f"{drawing.style} of {caption}" for caption in drawing.captions)]
        path.with_suffix(".json").write_text(json.dumps({"captions": captions}, ensure_ascii=False), encoding="utf-8")
        names = ("key", "style", "category", "base", "split", "captions", "source")
        lines.append(json.dumps({name: getattr(drawing, name) for name in names}, ensure_ascii=False) + "\n")
        digest.update(picture.tobytes() + lines[-1].encode())
    for split, shards in SHARDS.items():
        pack_folder(partial_out / "files" / split, partial_out / split, shards=shards)
    shutil.rmtree(partial_out / "files")
    held_out = sorted({drawing.base for drawing in drawings if drawing.split == "held_out"})
    (partial_out / "index.jsonl").write_text("".join(lines), encoding="utf-8")
    (partial_out / "held_out.txt").write_text("\n".join(held_out) + "\n", encoding="utf-8")
    partial_out.rename(out)
    return digest.hexdigest()


def main() -> None:
    """Build everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("data/draw"))
    parser.add_argument("--packages", type=Path, default=Path("data/nano/packages"), help="where packages are kept")
    parser.add_argument("--workers", type=int, default=2, help="processes that render")
    arguments = parser.parse_args()
    if arguments.out.exists():
        parser.error(f"{arguments.out} is there already: remove it or give another --out")
    packages: Path = arguments.packages
    packages.mkdir(parents=True, exist_ok=True)
    everything = emoji_list(packages)
    bases = emoji_bases(everything)
    sources = {
        "emoji": emoji(packages, everything, bases),
        "stamps": stamps(packages, bases),
        "furniture": furniture(packages, arguments.workers, bases),
    }
    drawings = [drawing for name, found in sources.items() for drawing in track(found, name)]
    repeated = [key for key, count in Counter(drawing.key for drawing in drawings).items() if count > 1]
    if repeated:
        raise ValueError(f"{len(repeated)} keys stand for several pictures, such as {repeated[0]}")
    digest = write(drawings, arguments.out)
    for (style, split), count in sorted(Counter((each.style, each.split) for each in drawings).items()):
        named = len({each.base for each in drawings if (each.style, each.split) == (style, split)})
        categories = len({each.category for each in drawings if each.style == style})
        print(f"{style} {split}: {count} pictures of {named} names, {categories} categories in all")
    print("held out:", ", ".join((arguments.out / "held_out.txt").read_text(encoding="utf-8").splitlines()))
    print(f"{len(drawings)} pictures, SHA-256 of pixels and index {digest}")


if __name__ == "__main__":
    main()
