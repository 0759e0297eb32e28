"""What the recipes pack, damaged: one sentence that names the file, before anything is drawn."""

import json
from dataclasses import replace

import pytest

from atoken.core.errors import ReadError
from atoken.data.assets import Assets
from atoken.data.clips import PackedVideos, Stamps
from atoken.data.config import AssetsConfig, CropsConfig, CutoutsConfig
from atoken.data.crops import Crops
from atoken.data.cutouts import Cutouts
from refusals import refused

PLACE = {"offset": 0, "height": 64, "width": 64}
TOLD = {"split": "train", "kind": "emoji", "name": "a", "captions": ["a"]}
OPENED = {
    "train": (lambda folder: Crops(CropsConfig(str(folder), (32,), (1.0,)), 64, 0), {**PLACE, "weight": 1.0}),
    "cutouts": (lambda folder: Cutouts(CutoutsConfig(str(folder), None, size=32), 64, 0), {**PLACE, **TOLD}),
}


def write(folder, name, entries, size=64 * 64 * 4):
    (folder / f"{name}.bin").write_bytes(bytes(size))
    (folder / f"{name}.json").write_text(json.dumps(entries))


@pytest.mark.parametrize("name", OPENED)
@pytest.mark.parametrize(
    "change",
    [
        *({"offset": -1}, {"offset": 2**40}, {"offset": "0"}, {"height": 0}, {"width": 2**70}, {"width": 64.0}),
        *(
            {"height": None},
            {"weight": "much", "captions": 3},
            {"weight": float("nan"), "captions": []},
            {"caption": 3, "captions": [3]},
        ),
    ],
)
def test_an_entry_outside_of_its_file_is_refused(tmp_path, name, change):
    opened, entry = OPENED[name]
    write(tmp_path, name, [entry])
    opened(tmp_path)
    write(tmp_path, name, [entry, {**entry, **change}])
    with refused(tmp_path / f"{name}.json", "again", error=ReadError):
        opened(tmp_path)


@pytest.mark.parametrize("name", OPENED)
def test_other_files_are_refused(tmp_path, name):
    opened, entry = OPENED[name]
    for text in ("", "{}", "[1]", "[" * 100_000, json.dumps([PLACE])):
        write(tmp_path, name, [])
        (tmp_path / f"{name}.json").write_text(text)
        with refused(tmp_path / f"{name}.json", error=ReadError):
            opened(tmp_path)
    write(tmp_path, name, [entry], size=0)
    with refused(tmp_path / f"{name}.bin", error=ReadError):
        opened(tmp_path)


def test_stamps_and_videos_are_checked_too(tmp_path):
    write(tmp_path, "cutouts", [{**PLACE, "split": "train", "offset": 1}])
    with refused("cutouts.json", "outside", error=ReadError):
        Stamps(tmp_path)
    write(tmp_path, "train", [{**PLACE, "frames": 2}])
    with refused("train.json", "outside", error=ReadError):
        PackedVideos(tmp_path)


def test_an_asset_outside_of_its_folder_is_refused(tmp_path):
    config = AssetsConfig(str(tmp_path), voxels=8)
    entry = {"id": "../elsewhere", "split": "train", "name": "a", "category": "b"}
    (tmp_path / "index.json").write_text(json.dumps([entry]))
    with refused("index.json", "../elsewhere.npz", error=ReadError):
        Assets(config, 64, 0).batch(0)
    for text in ("3", "[1]", "[" * 100_000, json.dumps([{"id": "a"}])):
        (tmp_path / "index.json").write_text(text)
        with refused("index.json", error=ReadError):
            Assets(replace(config), 64, 0)


def test_an_empty_collection_has_nothing_to_crop(tmp_path):
    write(tmp_path, "train", [])
    with refused(tmp_path / "train.json", "empty", error=ReadError):
        OPENED["train"][0](tmp_path)
