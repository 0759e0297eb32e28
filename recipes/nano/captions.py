"""Gather pictures of single objects with captions, for nano's alignment with texts, out of public packages.

    python recipes/nano/data.py --out data/nano --eval-out data/eval      # first: its packages are used again
    python recipes/nano/furniture.py --out data/furniture                 # first
    python recipes/nano/captions.py --out data/captions                   # about two minutes; needs apt-get and dpkg

``cutouts.bin`` holds stamps, emoji and views of furniture as height x width x 4 sRGB bytes with alpha, one after the
other; ``cutouts.json`` says of each where it starts, its object, captions, category and split. ``test`` has the objects
that are kept apart, on light grey, in one folder a category, with their captions as COCO has them. ``furniture/train``
and ``furniture/test`` have the 3D objects with captions, for ``atoken data pack``. ``imagenet.txt`` names the classes
of the teacher.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.progress import track
from sources import CAPTIONS, EVALUATION, TRAINING, Source

from atoken.core.files import atomic_write
from atoken.media.image.opener import open_picture
from data import fetch

LONGEST = 128
"""Pixels that the longer side of an object is reduced to."""
TEST_SHARE = 0.2
"""Of stamps and emoji; furniture keeps the split of furniture.py."""
VIEWS = (0, 3, 6, 9, 12, 15)
"""Of the 16 views of a piece of furniture."""
TEST_SIZE, GROUND = 128, (200, 200, 200)
LEFT_OUT = ("country flag", "subdivision flag", "keycap")
"""Groups of emoji."""
LABELS = "usr/share/doc/opencv-doc/examples/data/dnn/classification_classes_ILSVRC2012.txt"


@dataclass
class Thing:
    """One object: its pictures, RGBA, and what is said of it."""

    name: str
    """Unique, and fit for a file."""
    kind: str
    category: str
    captions: tuple[str, ...]
    """The first is what retrieval is measured with."""
    split: str
    pictures: list[Image.Image] = field(repr=False)


def source(package: str) -> Source:
    """The entry of a package in sources.py."""
    return next(each for each in (*CAPTIONS, *TRAINING, *EVALUATION) if each.package == package)


def split_of(name: str, share: float = TEST_SHARE) -> str:
    """Test (``share`` of all) or train, from the object's name alone."""
    place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2**32
    return "test" if place < share else "train"


def cut(picture: Image.Image) -> Image.Image | None:
    """What is visible of an RGBA picture, its longer side at most ``LONGEST``; None where nothing much is."""
    alpha = picture.getchannel("A").point(lambda value: 255 if value > 8 else 0)
    box = alpha.getbbox()
    if box is None or min(box[2] - box[0], box[3] - box[1]) < 16:
        return None
    picture = picture.crop(box)
    picture.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    return picture


def stamps(packages: Path) -> Iterator[Thing]:
    """Tux Paint's stamps: the first line beside each is its caption, the first folder its category."""
    root = fetch(source("tuxpaint-stamps-default"), packages) / "usr/share/tuxpaint/stamps"
    for path in sorted(root.rglob("*.png")):
        place = path.relative_to(root)
        text = path.with_suffix(".txt")
        if place.parts[0] == "symbols" or path.stem.endswith("_mirror") or not text.is_file():
            continue
        caption = text.read_text(encoding="utf-8", errors="replace").splitlines()[0].strip().rstrip(".!")
        with open_picture(path) as image:
            picture = cut(image.convert("RGBA"))
        if picture is None or not caption:
            continue
        name = "-".join(place.with_suffix("").parts)
        # "animals/mammals/cats/cartoon" says more than the caption, which may be a joke.
        folders = [part for part in place.parts[:-1] if part != "cartoon"]
        captions = (caption, f"{caption}, {' '.join(reversed(folders))}")
        yield Thing(f"stamp-{name}", "stamps", place.parts[0], captions, split_of(caption.lower()), [picture])


@dataclass(frozen=True)
class Emoji:
    """What Unicode says of one emoji."""

    text: str
    """Fully qualified: with its variation selectors."""
    name: str
    group: str
    subgroup: str
    keywords: tuple[str, ...]
    """At most four, none of them the name."""


def emoji_list(packages: Path) -> list[Emoji]:
    """Unicode's emoji, those of one skin tone each, and no flags of countries."""
    data, words = (fetch(source(package), packages) for package in ("unicode-data", "unicode-cldr-core"))
    keywords = _keywords(words)
    group = subgroup = ""
    found = []
    for line in next(data.rglob("emoji-test.txt")).read_text(encoding="utf-8").splitlines():
        if line.startswith("# group:"):
            group = line.partition(":")[2].strip().lower().replace(" & ", " and ")
        elif line.startswith("# subgroup:"):
            subgroup = line.partition(":")[2].strip().replace("-", " ")
        match = re.fullmatch(r"([0-9A-F ]+?)\s*; fully-qualified\s*# \S+ E\S+ (.+)", line)
        if not match or "skin tone" in line or subgroup in LEFT_OUT:
            continue
        text = "".join(chr(int(code, 16)) for code in match[1].split())
        name = match[2].strip()
        more = [word for word in keywords.get(text.replace("\ufe0f", ""), []) if word != name][:4]
        found.append(Emoji(text, name, group, subgroup, tuple(more)))
    return found


NOTO_BOX = (20, 16, 148, 144)
"""The square of ``draw_noto`` that an emoji is drawn in."""


def noto(packages: Path) -> ImageFont.FreeTypeFont:
    """The font, in the one size that it has."""
    fonts = fetch(source("fonts-noto-color-emoji"), packages)
    return ImageFont.truetype(str(next(fonts.rglob("NotoColorEmoji.ttf"))), 109)


def draw_noto(font: ImageFont.FreeTypeFont, text: str) -> Image.Image:
    """RGBA, 256 x 160; what the font has no emoji for is drawn as several side by side, or not at all."""
    canvas = Image.new("RGBA", (256, 160))
    ImageDraw.Draw(canvas).text((16, 16), text, font=font, embedded_color=True)
    return canvas


def emoji(packages: Path) -> Iterator[Thing]:
    """Noto's emoji with Unicode's names, groups and keywords."""
    font = noto(packages)
    for each in emoji_list(packages):
        picture = cut(draw_noto(font, each.text))
        if picture is None or picture.width > 1.3 * picture.height:  # a sequence that the font draws as several
            continue
        captions = (each.name, ", ".join([each.name, *each.keywords]), f"{each.name}, {each.subgroup}")
        slug = re.sub(r"\W+", "-", each.name).strip("-")
        yield Thing(f"emoji-{slug}", "emoji", each.group, captions, split_of(each.name), [picture])


def _keywords(root: Path) -> dict[str, list[str]]:
    """English keywords of each emoji."""
    found: dict[str, list[str]] = {}
    for path in sorted(root.rglob("annotations*/en.xml")):
        for node in ElementTree.parse(path).iter("annotation"):
            if node.get("type") != "tts" and node.text:
                found[node.attrib["cp"]] = [word.strip() for word in node.text.split("|")]
    return found


def furniture(folder: Path) -> Iterator[Thing]:
    """Views of the furniture, with the split of furniture.py; what it keeps for validation is left out."""
    for entry in json.loads((folder / "index.json").read_text()):
        if entry["split"] == "validation":
            continue
        with np.load(folder / f"{entry['id']}.npz") as arrays:
            views = arrays["views"]
            mask = np.unpackbits(arrays["mask"]).reshape(views.shape[:3])
        pictures = []
        for index in VIEWS:
            pixels = np.dstack([views[index], mask[index] * np.uint8(255)])
            if (picture := cut(Image.fromarray(pixels))) is not None:
                pictures.append(picture)
        if not pictures:
            continue
        captions = furniture_captions(entry)
        yield Thing(entry["id"], "furniture", entry["category"].lower(), captions, entry["split"], pictures)


def furniture_captions(entry: dict[str, Any]) -> tuple[str, ...]:
    """Name; name and category; name and tags that are not names of collections."""
    name, category = entry["name"].lower(), entry["category"].lower()
    tags = [tag.strip().lower() for tag in entry["tags"].split(",")]
    tags = [tag for tag in tags if tag and tag not in ("blend swap", "scpts") and tag != name]
    return (name, f"{name}, {category}", ", ".join([name, *tags]))


def write_cutouts(things: list[Thing], out: Path) -> None:
    """``cutouts.bin`` and ``cutouts.json``."""
    entries, offset = [], 0
    with atomic_write(out / "cutouts.bin") as temporary, open(temporary, "wb") as file:
        for thing in things:
            for picture in thing.pictures:
                width, height = picture.size
                facts = {"name": thing.name, "kind": thing.kind, "category": thing.category, "split": thing.split}
                place = {"offset": offset, "height": height, "width": width}
                entries.append({**facts, "captions": thing.captions, **place})
                offset += file.write(picture.tobytes())
    with atomic_write(out / "cutouts.json") as temporary:
        temporary.write_text(json.dumps(entries))


def write_test(things: list[Thing], out: Path) -> None:
    """The objects kept apart, their first picture on grey: class folders, with COCO's caption file in each kind."""
    shutil.rmtree(out, ignore_errors=True)
    for kind in sorted({thing.kind for thing in things}):
        images, annotations = [], []
        for number, thing in enumerate(thing for thing in things if thing.kind == kind and thing.split == "test"):
            ground = Image.new("RGB", (TEST_SIZE, TEST_SIZE), GROUND)
            picture = thing.pictures[0].copy()
            picture.thumbnail((TEST_SIZE - 8, TEST_SIZE - 8), Image.Resampling.LANCZOS)
            ground.paste(picture, ((TEST_SIZE - picture.width) // 2, (TEST_SIZE - picture.height) // 2), picture)
            file = f"{thing.category.replace(' ', '_')}/{thing.name}.png"
            (out / kind / file).parent.mkdir(parents=True, exist_ok=True)
            ground.save(out / kind / file)
            images.append({"id": number, "file_name": file})
            annotations.append({"image_id": number, "caption": thing.captions[0]})
        (out / kind / "captions_test.json").write_text(json.dumps({"images": images, "annotations": annotations}))


def link_assets(folder: Path, out: Path) -> None:
    """One folder a split with links to the furniture's voxels, and their captions beside them."""
    for entry in json.loads((folder / "index.json").read_text()):
        target = out / entry["split"] / f"{entry['id']}.npz"
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            target.symlink_to((folder / target.name).resolve())
        target.with_suffix(".txt").write_text(furniture_captions(entry)[1] + "\n")


def main() -> None:
    """Build everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("data/captions"))
    parser.add_argument("--packages", type=Path, default=Path("data/nano/packages"), help="where data.py keeps them")
    parser.add_argument("--furniture", type=Path, default=Path("data/furniture"), help="what furniture.py made")
    arguments = parser.parse_args()
    out: Path = arguments.out
    arguments.packages.mkdir(parents=True, exist_ok=True)
    sources = {
        "stamps": stamps(arguments.packages),
        "emoji": emoji(arguments.packages),
        "furniture": furniture(arguments.furniture),
    }
    things = [thing for name, found in sources.items() for thing in track(found, name)]
    repeated = [name for name, count in Counter(thing.name for thing in things).items() if count > 1]
    if repeated:
        raise ValueError(f"{len(repeated)} names stand for several objects, such as {repeated[0]}")
    out.mkdir(parents=True, exist_ok=True)
    write_cutouts(things, out)
    write_test(things, out / "test")
    link_assets(arguments.furniture, out / "furniture")
    shutil.copyfile(fetch(source("opencv-doc"), arguments.packages) / LABELS, out / "imagenet.txt")
    for (kind, split), count in sorted(Counter((thing.kind, thing.split) for thing in things).items()):
        categories = len({thing.category for thing in things if thing.kind == kind})
        print(f"{kind} {split}: {count} objects, {categories} categories in all")


if __name__ == "__main__":
    main()
