"""Packed assets: what is no such file is refused before memory is taken."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from atoken.core.errors import ReadError
from atoken.media.views.packed import MOST_VOXELS, read_packed
from atoken.media.views.views import MOST_PIXELS
from refusals import refused

BROKEN = Path(__file__).parents[1] / "data/inputs/broken"


def arrays(**changed: np.ndarray) -> dict[str, np.ndarray]:
    whole = {
        "views": np.zeros((2, 32, 32, 3), np.uint8),
        "held_out": np.zeros((1, 32, 32, 3), np.uint8),
        "voxels16": np.array([[0, 1, 15]], np.uint8),
        "patch16": np.array([[1, 1, 0]], np.int16),
    }
    return {key: value for key, value in (whole | changed).items() if value is not None}


def packed(**changed: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays(**changed))
    return stream.getvalue()


def test_a_sound_file():
    asset = read_packed(packed(), "chair")
    feats, coords, _ = asset.patches(16)
    assert feats.shape == (1, 768)
    assert coords.tolist() == [[0, 0, 1, 15]]


@pytest.mark.parametrize("path", sorted(BROKEN.glob("*.npz")), ids=lambda path: path.name)
def test_files_that_fuzzing_found(path):
    with refused(path.name, error=ReadError):
        read_packed(path)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"patch16": np.array([["a", "b", "c"]])}, ["patch16", "U1"]),
        ({"patch16": np.array([[np.nan, 0, 0]])}, ["patch16", "float64"]),
        ({"patch16": np.array([[-1, 0, 0]])}, ["patch16"]),
        ({"patch16": np.array([[0, 2, 0]])}, ["patch16"]),
        ({"patch16": None}, ["patch16"]),
        ({"voxels16": np.array([[0, 0, 16]])}, ["voxels16"]),
        ({"voxels16": np.array([[0, -1, 0]])}, ["voxels16"]),
        ({"voxels16": np.zeros((0, 3), int), "patch16": np.zeros((0, 3), int)}, ["voxels16"]),
        ({"voxels16": None}, ["voxels"]),
        ({"voxelsx": np.zeros(3)}, ["voxels a side"]),
        ({"voxels9999999": np.zeros(3)}, ["voxels a side"]),
        ({"views": np.zeros((2, 32, 32, 3), np.float32)}, ["float32"]),
        ({"views": np.array([b"x"])}, ["views"]),
        ({"views": np.zeros((2, 30, 30, 3), np.uint8)}, ["views"]),
        ({"held_out": np.zeros((1, 16, 16, 3), np.uint8)}, ["held_out"]),
        ({"views": np.zeros((0, 32, 32, 3), np.uint8)}, ["views"]),
        ({"views": np.array([None])}, ["views"]),
    ],
)
def test_arrays_that_do_not_fit(changed, named):
    with refused("chair", *named, error=ReadError):
        read_packed(packed(**changed), "chair")


def header(shape: str) -> bytes:
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize("shape", [f"({3 * MOST_PIXELS + 1},)", "(10, 32, 32, 3)", "(-1,)", "(2.0,)", "'x'"])
def test_archives_that_announce_more_than_they_hold(shape):
    data = io.BytesIO(packed())
    stream = io.BytesIO()
    with zipfile.ZipFile(data) as source, zipfile.ZipFile(stream, "w") as archive:
        for name in source.namelist():
            content = source.read(name)
            archive.writestr(name, header(shape) + content[128:] if name == "views.npy" else content)
    with refused("chair", "views", error=ReadError):
        read_packed(stream.getvalue(), "chair")


def test_more_voxels_than_any_asset_has():
    many = np.zeros((MOST_VOXELS + 1, 3), np.uint8)
    with refused("chair", "voxels16", 3 * MOST_VOXELS, error=ReadError):
        read_packed(packed(voxels16=many), "chair")
