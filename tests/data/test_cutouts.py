"""Single objects with captions on grounds of their own."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from atoken.data.config import CutoutsConfig
from atoken.data.cutouts import Cutouts
from refusals import refused

RED, BLUE = (255, 0, 0, 255), (0, 0, 255, 255)


@pytest.fixture
def objects(folder):
    """Two objects for training, one of them seen twice, and one for testing, beside pictures for grounds."""
    things = [("red", "stamps", "train", RED), ("blue", "emoji", "train", BLUE), ("blue", "emoji", "train", BLUE),
              ("grey", "emoji", "test", (9, 9, 9, 255))]  # fmt: skip
    entries, parts = [], []
    for number, (name, kind, split, colour) in enumerate(things):
        place = {"offset": number * 20 * 10 * 4, "height": 20, "width": 10}
        captions = [name, f"a {name} thing"]
        entries.append({"name": name, "kind": kind, "category": "c", "split": split, "captions": captions, **place})
        parts.append(np.full((20, 10, 4), colour, np.uint8).tobytes())
    (folder / "cutouts.bin").write_bytes(b"".join(parts))
    (folder / "cutouts.json").write_text(json.dumps(entries))
    return CutoutsConfig(str(folder), str(folder), size=32)


def test_every_picture_shows_the_object_that_its_caption_names(objects):
    data = Cutouts(objects, 64, seed=0)
    assert data.count == 2  # as many as there are objects, though sixteen would fit
    said = set()
    for number in range(8):
        batch = data.batch(number)
        assert {sample.grid for sample in batch.samples} == {(1, 2, 2, 1)}
        for picture, caption in zip(batch.pictures(batch.packed.feats), batch.captions, strict=True):
            said.add(caption)
            colour = torch.tensor(RED[:3] if "red" in caption else BLUE[:3]).view(3, 1, 1) / 127.5 - 1
            share = (picture == colour).all(0).float().mean()
            assert 0.1 < share < 0.6  # 16 to 32 of 32 pixels long, half as wide
    assert said == {"red", "a red thing", "blue", "a blue thing"}


def test_batches_are_the_same_in_every_run(objects):
    again, other = Cutouts(objects, 64, seed=0), Cutouts(objects, 64, seed=0, rank=1)
    feats = [Cutouts(objects, 64, seed=0).batch(number).packed.feats for number in (3, 4)]
    assert torch.equal(again.batch(3).packed.feats, feats[0])
    assert not torch.equal(*feats)
    assert not torch.equal(other.batch(3).packed.feats, feats[0])


def test_kinds_and_grounds_are_chosen(objects):
    plain = Cutouts(replace(objects, kinds=("stamps",), grounds=None), 64, seed=0)
    for number in range(4):
        batch = plain.batch(number)
        assert set(batch.captions) <= {"red", "a red thing"}
        assert len(batch.packed.feats.view(-1, 3).unique(dim=0)) == 2
    busy = Cutouts(replace(objects, plain=0.0), 64, seed=0).batch(0)
    assert len(busy.packed.feats.view(-1, 3).unique(dim=0)) > 20


def test_collections_that_do_not_fit(objects, tmp_path):
    with refused("captions.py", error=FileNotFoundError):
        Cutouts(CutoutsConfig(str(tmp_path / "none")), 64, 0)
    with refused("kinds"):
        Cutouts(replace(objects, kinds=("furniture",)), 64, 0)
