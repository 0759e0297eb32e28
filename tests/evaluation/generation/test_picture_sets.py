"""Sets of pictures: npz files as a stream, folders, and parts that become one file."""

from __future__ import annotations

import numpy as np
import pytest

from atoken import write_image
from atoken.evaluation.generation.pictures import of_archive, of_arrays, of_folder, write_archive
from atoken.evaluation.generation.samples import SAMPLES, begin, draw_parts, gather
from refusals import refused

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (7, 4, 6, 3), dtype=np.uint8)


@pytest.mark.parametrize("written", ["ours", "savez", "compressed"])
def test_an_archive_is_read_in_any_steps(written, tmp_path):
    path = tmp_path / "samples.npz"
    if written == "ours":
        write_archive(path, 7, [PICTURES[:3], PICTURES[3:]])
    else:
        (np.savez if written == "savez" else np.savez_compressed)(path, PICTURES)
    assert np.array_equal(np.load(path)["arr_0"], PICTURES)
    found = of_archive(path)
    assert found.count == 7
    for first, last in ((0, 2), (2, 5), (6, 9), (1, 3)):
        assert np.array_equal(np.stack(list(found.read(first, last))), PICTURES[first:last])


def test_archives_that_hold_no_pictures(tmp_path):
    path = tmp_path / "a.npz"
    for arrays, names in (
        ({"mu": np.zeros(3)}, ("arr_0",)),
        ({"arr_0": PICTURES.astype(float)}, ("float64", "uint8")),
        ({"arr_0": PICTURES[0]}, ("[4, 6, 3]",)),
        ({"arr_0": np.array([{}], dtype=object)}, ("object",)),
        ({"arr_0": PICTURES[:0]}, ("[0, 4, 6, 3]",)),
    ):
        np.savez(path, **arrays)
        with refused(path, *names):
            of_archive(path)
    path.write_bytes(b"PK not an archive")
    with refused(path):
        of_archive(path)
    with refused("nothing.npz", error=FileNotFoundError):
        of_archive(tmp_path / "nothing.npz")


def test_a_folder_is_cropped_to_one_size_and_told_apart(tmp_path):
    write_image(tmp_path / "a/wide.png", np.full((40, 80, 3), 7, np.uint8))
    write_image(tmp_path / "a/small.png", np.full((8, 10, 3), 9, np.uint8))
    found = of_folder(tmp_path / "a", 16)
    assert [picture.shape for picture in found.read(0, 2)] == [(16, 16, 3)] * 2
    assert [int(picture[0, 0, 0]) for picture in found.read(0, 2)] == [9, 7]
    assert found.identity == of_folder(tmp_path / "a", 16).identity
    assert found.identity != of_folder(tmp_path / "a", 32).identity
    assert of_arrays("x", PICTURES, 1).identity != of_arrays("x", PICTURES, 2).identity


def test_shares_make_the_same_file_as_one_alone_and_go_on(tmp_path):
    asked: list[list[int]] = []

    def draw(numbers):
        asked.append(list(numbers))
        return [PICTURES[number] for number in numbers]

    for folder, world in (("one", 1), ("two", 2)):
        for rank in range(world):
            draw_parts(tmp_path / folder, 7, 2, draw, share=(rank, world))
        gather(tmp_path / folder, 7, 2)
    assert sorted(number for numbers in asked[4:] for number in numbers) == list(range(7))
    files = [tmp_path / folder / SAMPLES for folder in ("one", "two")]
    assert all(np.array_equal(np.load(file)["arr_0"], PICTURES) for file in files)
    assert [path.name for path in (tmp_path / "one").iterdir()] == [SAMPLES]

    def stop(numbers):
        if 4 in numbers:
            raise KeyboardInterrupt
        return draw(numbers)

    with pytest.raises(KeyboardInterrupt):
        draw_parts(tmp_path / "three", 7, 2, stop)
    asked.clear()
    draw_parts(tmp_path / "three", 7, 2, draw)
    assert asked == [[4, 5], [6]]
    assert np.array_equal(gather(tmp_path / "three", 7, 2).read(0, 7), PICTURES)


def test_samples_of_another_plan_are_refused(tmp_path):
    begin(tmp_path, {"n": 3, "seed": 0})
    begin(tmp_path, {"n": 3, "seed": 0})
    with refused(tmp_path, "seed", "--overwrite"):
        begin(tmp_path, {"n": 3, "seed": 1})
