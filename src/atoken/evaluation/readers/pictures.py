"""Picture data: a folder, ImageNet's validation set, COCO captions."""

from __future__ import annotations

from pathlib import Path

from ...media.image import IMAGE_SUFFIXES
from .items import Item, files_below, first_file, name_below, read_json


def picture_folder(folder: Path) -> list[Item]:
    """Every picture below ``folder``, in the order of their names."""
    return [Item(name_below(folder, path), path) for path in files_below(folder, IMAGE_SUFFIXES)]


def imagenet_val(folder: Path) -> list[Item]:
    """ImageNet's validation set, with labels 0 ... 999 (the order of the synset names) and class names.

    Two layouts: one folder for each synset (``val/n01440764/ILSVRC2012_val_00000293.JPEG``), or the flat folder of
    the archive with Kaggle's ``LOC_val_solution.csv`` in it or beside it (the development kit's own numbers are in an
    order of their own and are not read). Class names are read
    from ``LOC_synset_mapping.txt`` or ``synset_words.txt`` (lines "n01440764 tench, Tinca tinca"), in ``folder`` or
    its parent. Raises ``FileNotFoundError`` or ``ValueError``.
    """
    names = _synset_names(folder)
    synsets = sorted(names)
    label_of = {synset: index for index, synset in enumerate(synsets)}
    paths = files_below(folder, IMAGE_SUFFIXES)
    if all(path.parent.name in label_of for path in paths):
        return [_labelled(folder, path, label_of[path.parent.name], names[path.parent.name]) for path in paths]
    labels = _ground_truth(folder, synsets)
    if len(labels) != len(paths):
        raise ValueError(f"{folder} holds {len(paths)} pictures and its ground truth {len(labels)} labels")
    return [_labelled(folder, path, i, names[synsets[i]]) for path, i in zip(paths, labels, strict=True)]


def _labelled(folder: Path, path: Path, label: int, name: str) -> Item:
    return Item(name_below(folder, path), path, label, name)


def _synset_names(folder: Path) -> dict[str, str]:
    """Synset to its first name."""
    patterns = ("LOC_synset_mapping.txt", "synset_words.txt", "*/LOC_synset_mapping.txt", "*/synset_words.txt")
    try:
        file = first_file(folder, *patterns)
    except FileNotFoundError:
        file = first_file(folder.parent, *patterns[:2])
    lines = [line.split(maxsplit=1) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    if any(len(line) != 2 for line in lines):
        raise ValueError(f"{file} needs lines of a synset and its names")
    return {synset: words.split(",")[0].strip() for synset, words in lines}


def _ground_truth(folder: Path, synsets: list[str]) -> list[int]:
    """Labels, in the order of the pictures' names, from a CSV of ImageId,PredictionString (synset and boxes)."""
    for place in (folder, folder.parent):
        if (file := place / "LOC_val_solution.csv").is_file():
            rows = [line.split(",") for line in file.read_text().splitlines()[1:] if line.strip()]
            found = {image: prediction.split()[0] for image, prediction in rows}
            return [synsets.index(found[image]) for image in sorted(found)]
    raise FileNotFoundError(
        f"{folder} has neither a folder for each synset nor a LOC_val_solution.csv, so its classes are not known"
    )


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
            Item(entry["file_name"], root / entry["file_name"], captions=tuple(captions.get(entry["id"], ())))
            for entry in values["images"]
        ]
    except (KeyError, TypeError, AttributeError):
        raise ValueError(f"{file} is not a COCO caption file: it needs images and annotations") from None
    if missing := [item.path for item in items if not item.path.is_file()]:
        raise FileNotFoundError(f"{len(missing)} pictures of {file.name} are missing, first {missing[0]}")
    return items
