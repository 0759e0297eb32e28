"""Pictures with captions, in the layout of recipes/generation/draw_data.py: index.jsonl beside tars of each split."""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ...core.errors import ReadError
from ...data.tar_samples import samples
from ...media.image.files import read_image
from ..datasets.items import read_text
from .pictures import PictureSet, of_arrays

INDEX, TRAIN, HELD_OUT = "index.jsonl", "train", "held_out"
ARTICLES = {"a", "an", "the"}


@dataclass(frozen=True)
class Entry:
    """One line of the index."""

    key: str
    style: str
    category: str
    split: str
    captions: tuple[str, ...]

    @property
    def prompt(self) -> str:
        """Its first caption, with its style as the captions of training say it."""
        return f"{self.style} of {self.captions[0]}"


def read_index(folder: Path) -> list[Entry]:
    """All entries of the index. Raises ``FileNotFoundError``, and ``ReadError`` that names the line."""
    path = folder / INDEX
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {INDEX}: recipes/generation/draw_data.py makes such a folder")
    entries = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        try:
            entries.append(_entry(json.loads(line)))
        except (ValueError, KeyError, TypeError):
            raise ReadError(
                f"{path}, line {number}: it needs key, style, category, split and a list of captions"
            ) from None
    for split in (TRAIN, HELD_OUT):
        if not any(entry.split == split for entry in entries):
            raise ReadError(f"{path} has no picture of the split {split!r}")
    return entries


def _entry(values: Any) -> Entry:
    texts = [values[name] for name in ("key", "style", "category", "split")]
    captions = values["captions"]
    if not isinstance(captions, list) or not captions or not all(isinstance(t, str) and t for t in (*texts, *captions)):
        raise ValueError
    key, style, category, split = texts
    return Entry(key, style, category, split, tuple(captions))


def evenly(entries: Sequence[Entry], count: int | None) -> list[Entry]:
    """``count`` entries from all over, in their order; all of them for None. Raises ``ValueError`` for fewer."""
    if count is None:
        return list(entries)
    if count > len(entries):
        raise ValueError(f"--samples is {count}, and there are {len(entries)} held-out pictures")
    return [entries[index * len(entries) // count] for index in range(count)]


def read_pictures(folder: Path, name: str, entries: Sequence[Entry]) -> PictureSet:
    """The pictures of ``entries``, all of one split, in memory. Raises ``ReadError`` where one is missing."""
    split = entries[0].split
    wanted = {entry.key for entry in entries}
    found: dict[str, np.ndarray] = {}
    for tar in sorted((folder / split).glob("*.tar")):
        for sample in samples(str(tar)):
            key = sample["__key__"]
            if key in wanted:
                media = next((sample[suffix] for suffix in ("png", "webp", "jpg") if suffix in sample), None)
                if media is None:
                    raise ReadError(f"{tar}: {key} has no picture")
                found[key] = read_image(media, name=f"{tar}: {key}")
    if missing := [entry.key for entry in entries if entry.key not in found]:
        raise ReadError(f"{folder / split} has no picture {missing[0]!r}, which {INDEX} names")
    keys = [entry.key for entry in entries]
    arrays = [found[key] for key in keys]
    sizes = [[tar.name, tar.stat().st_size, tar.stat().st_mtime_ns] for tar in sorted((folder / split).glob("*.tar"))]
    return of_arrays(name, arrays, keys, sizes)


def alike(wanted: Sequence[Entry], pool: Sequence[Entry], seed: int) -> list[int]:
    """For each wanted entry the number of one in ``pool`` of the same style and category, drawn at random.

    None is drawn twice while others are left; of the same style where its category has none.
    """
    rng = random.Random(seed)
    by_kind: dict[Any, list[int]] = defaultdict(list)
    for number, entry in enumerate(pool):
        by_kind[entry.style, entry.category].append(number)
        by_kind[entry.style].append(number)
    left: dict[Any, list[int]] = {}
    chosen = []
    for entry in wanted:
        kind = next((k for k in ((entry.style, entry.category), entry.style) if k in by_kind), None)
        own = by_kind[kind] if kind is not None else list(range(len(pool)))
        if not left.get(kind):
            left[kind] = rng.sample(own, len(own))
        chosen.append(left[kind].pop())
    return chosen


def nearest_captions(
    wanted: Sequence[Entry], pool: Sequence[Entry], tower: Callable[[Sequence[str]], Tensor]
) -> list[int]:
    """For each wanted entry the number of the one in ``pool`` of its style, if that has any, with the nearest caption.

    ``tower`` makes unit vectors [B, W] of texts; the first caption of an entry is compared with all of the others.
    """
    texts = list(dict.fromkeys([*(entry.captions[0] for entry in wanted), *(c for e in pool for c in e.captions)]))
    place, vectors = {text: number for number, text in enumerate(texts)}, tower(texts)
    told = [(number, place[caption]) for number, entry in enumerate(pool) for caption in entry.captions]
    chosen: dict[int, int] = {}
    for style in {entry.style for entry in wanted}:
        own = [pair for pair in told if pool[pair[0]].style == style] or told
        known = vectors[[row for _, row in own]]
        for number, entry in enumerate(wanted):
            if entry.style == style:
                chosen[number] = own[int((known @ vectors[place[entry.captions[0]]]).argmax())][0]
    return [chosen[number] for number in range(len(wanted))]


def holder_of(prompt: str, entries: Sequence[Entry]) -> str | None:
    """A caption that has all words of a prompt but articles, in any order; None where there is none."""
    wanted = _words(prompt) - ARTICLES
    return next((text for entry in entries for text in entry.captions if wanted <= _words(text)), None)


def _words(text: str) -> set[str]:
    return set(re.findall(r"[^\W_]+", text.lower()))


def read_prompts(path: Path, entries: Sequence[Entry]) -> list[str]:
    """Prompts, one a line. Raises ``ValueError`` for an empty file, and for one whose words a caption holds."""
    prompts = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if not prompts:
        raise ValueError(f"{path} holds no prompt: write one a line")
    for prompt in prompts:
        if (caption := holder_of(prompt, entries)) is not None:
            raise ValueError(f"{path}: a caption of the data holds {prompt!r}: {caption!r}")
    return prompts
