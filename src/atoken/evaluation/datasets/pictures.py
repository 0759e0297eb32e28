"""Picture data: a folder, ImageNet's validation set, COCO captions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ...core.regular import below
from ...media.suffixes import IMAGE_SUFFIXES
from .items import Item, files_below, first_file, name_below, read_csv, read_json, read_text

KAGGLE = Path("ILSVRC/Data/CLS-LOC/val")
"""Where Kaggle's archive has the pictures; its files of classes lie beside ``ILSVRC``."""


def picture_folder(folder: Path) -> list[Item]:
    """Every picture below ``folder``, in the order of their names."""
    return [Item(name_below(folder, path), path) for path in files_below(folder, IMAGE_SUFFIXES)]


def imagenet_val(folder: Path) -> list[Item]:
    """ImageNet's validation set, with labels 0 ... 999 (the order of the synset names) and class names.

    Two layouts: one folder for each synset (``val/n01440764/ILSVRC2012_val_00000293.JPEG``), or the flat folder of the
    archive with Kaggle's ``LOC_val_solution.csv`` (the development kit's own numbers are in an order of their own and
    are not read); ``folder`` may also be Kaggle's whole archive. Class names are read from ``LOC_synset_mapping.txt``
    or ``synset_words.txt`` (lines "n01440764 tench, Tinca tinca"): the first one, or all of them where two classes
    share it (both classes "crane" have no other, and so tie). These files lie in ``folder`` or above it, as in Kaggle's
    archive, and those of the names may lie one level below. Raises ``FileNotFoundError`` or ``ValueError``.
    """
    names = _synset_names(folder)
    label_of = {synset: index for index, synset in enumerate(sorted(names))}
    paths = files_below(folder / KAGGLE if (folder / KAGGLE).is_dir() else folder, IMAGE_SUFFIXES)
    synset_of = {path: path.parent.name for path in paths}
    outside = [path for path in paths if synset_of[path] not in label_of]
    if 0 < len(outside) < len(paths):
        raise ValueError(f"{outside[0]} lies in no synset's folder, as others do: give the folder of validation alone")
    if outside:
        synset_of = _solution(folder, paths)
    if unknown := set(synset_of.values()) - set(names):
        raise ValueError(f"the synset {min(unknown)!r} has no class name")
    return [Item(name_below(folder, path), path, label_of[s], names[s]) for path, s in synset_of.items()]


def _synset_names(folder: Path) -> dict[str, str]:
    """Synset to its first name, or to all of its names where another has the same first one."""
    files = ("LOC_synset_mapping.txt", "synset_words.txt")
    try:
        file = _above(folder, *files)
    except FileNotFoundError:
        file = first_file(folder, *(f"*/{name}" for name in files))
    lines = [line.split(maxsplit=1) for line in read_text(file).splitlines() if line.strip()]
    if not lines or any(len(line) != 2 for line in lines):
        raise ValueError(f"{file} needs lines of a synset and its names")
    first = {synset: words.split(",")[0].strip() for synset, words in lines}
    shared = Counter(name.lower() for name in first.values())
    return {synset: words.strip() if shared[first[synset].lower()] > 1 else first[synset] for synset, words in lines}


def _solution(folder: Path, paths: list[Path]) -> dict[Path, str]:
    """The synset of each picture, from a CSV of ImageId and PredictionString (synset and boxes)."""
    try:
        file = _above(folder, "LOC_val_solution.csv")
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{folder} has neither a folder for each synset nor a LOC_val_solution.csv, so its classes are not known"
        ) from None
    known = {image: words.split()[0] for image, words in read_csv(file, "ImageId", "PredictionString") if words.strip()}
    if missing := [path for path in paths if path.stem not in known]:
        raise ValueError(f"{file} has no class for {len(missing)} of {len(paths)} pictures, first {missing[0].name}")
    return {path: known[path.stem] for path in paths}


def _above(folder: Path, *names: str) -> Path:
    """The nearest file of one of these names, in ``folder`` or above it. Raises ``FileNotFoundError``."""
    for place in (folder.resolve(), *folder.resolve().parents[: len(KAGGLE.parts)]):
        for name in names:
            if (place / name).is_file():
                return place / name
    raise FileNotFoundError(f"neither {folder} nor a folder above it has {' or '.join(names)}")


def coco_captions(folder: Path) -> list[Item]:
    """COCO pictures with their captions, in the order of the annotation file.

    ``annotations/captions_val2017.json`` (or another ``captions_*.json``) and the pictures in ``val2017/`` (the folder
    that the file's name ends in), or in ``folder`` itself. Raises ``FileNotFoundError`` or ``ValueError``.
    """
    file = first_file(folder, "annotations/captions_val*.json", "annotations/captions_*.json", "captions_*.json")
    values = read_json(file)
    split = folder / file.stem.removeprefix("captions_")
    root = split if split.is_dir() else folder
    captions: dict[int, list[str]] = {}
    try:
        for annotation in values["annotations"]:
            captions.setdefault(annotation["image_id"], []).append(annotation["caption"].strip())
        items = [
            Item(
                entry["file_name"], below(root, entry["file_name"], file), captions=tuple(captions.get(entry["id"], ()))
            )
            for entry in values["images"]
        ]
    except (KeyError, TypeError, AttributeError):
        raise ValueError(f"{file} is not a COCO caption file: it needs images and annotations") from None
    if missing := [item.path for item in items if not item.path.is_file()]:
        raise FileNotFoundError(f"{len(missing)} pictures of {file.name} are missing, first {missing[0]}")
    return items
