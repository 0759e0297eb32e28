"""What the makers of questions promise: answers that are right, objects and wordings that training never sees."""

import json
import random
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from atoken.mllm.rows import read_rows

FOLDER = Path(__file__).parents[2] / "recipes/mllm"


@pytest.fixture(scope="module")
def makers():
    sys.path.insert(0, str(FOLDER))
    import ask_clips
    import ask_furniture
    import ask_rows
    import ask_scenes

    sys.path.remove(str(FOLDER))
    return {"rows": ask_rows, "scenes": ask_scenes, "clips": ask_clips, "furniture": ask_furniture}


def test_scenes_show_what_is_said_of_them(makers):
    scenes = makers["scenes"]
    for seed in range(30):
        rng = random.Random(seed)
        things = scenes.scene(rng, held_out=False)
        asked = {question.wordings[0]: question.answer for question in scenes.questions(things)}
        assert asked["how many things are there?"] == str(len(things))
        picture = np.asarray(scenes.draw(things, rng)).astype(int)
        for thing in things:
            x, y = (int(part / scenes.OVER) for part in thing.at(0, scenes.SIZES[thing.size], 0))
            assert 0 <= x < scenes.SIDE, thing
            assert 0 <= y < scenes.SIDE, thing
        nearest = min(things, key=lambda thing: thing.z)  # nothing stands before it
        half = scenes.SIZES[nearest.size]
        front = -half if nearest.shape == "cube" else 0
        x, y = (int(part / scenes.OVER) for part in nearest.at(0.2 * half, 0.7 * half, front))  # below highlights
        seen = picture[y, x] / max(picture[y, x].max(), 1)
        colours = {name: np.array(rgb) / max(rgb) for name, rgb in makers["rows"].COLOURS.items()}
        assert nearest.colour == min(colours, key=lambda name: np.abs(colours[name] - seen).sum()), (seed, nearest)


def test_what_is_held_out_stays_out(makers):
    for name, make, pair in (
        ("scenes", makers["scenes"].scene, lambda each: (each.shape, each.colour)),
        ("clips", makers["clips"].movers, lambda each: (each.shape, each.colour)),
        ("furniture", lambda rng, held_out: [makers["furniture"].piece(rng, held_out=held_out)],
         lambda each: (each.kind, each.colour)),
    ):  # fmt: skip
        held_out = makers[name].HELD_OUT
        for seed in range(50):
            assert not {pair(each) for each in make(random.Random(seed), held_out=False)} & held_out
            assert {pair(each) for each in make(random.Random(seed), held_out=True)} & held_out


def test_clips_move_the_way_that_is_said(makers):
    clips = makers["clips"]
    mover = clips.Mover("circle", "red", 48, 48, "left", 0, 15)
    frames = [np.asarray(frame).astype(int) for frame in clips.frames_of([mover], 220)]
    red = [np.argwhere((frame[..., 0] - frame[..., 1]) > 80).mean(0) for frame in frames]
    assert red[-1][1] < red[0][1] - 20
    assert red[-1][0] == pytest.approx(red[0][0])
    asked = {question.kind: question.answer for question in clips.questions([mover])}
    assert asked == {"how many move": "1", "which moves": "red", "moves": "yes", "which way": "left"}


def test_furniture_has_the_legs_and_arms_that_are_said(makers):
    furniture = makers["furniture"]
    for legs, arms in product((3, 4), (True, False)):
        piece = furniture.Piece("chair", "red", legs, arms, 0.6)
        boxes = list(piece.boxes())
        assert sum(low[1] == 0 for low, _ in boxes) == legs
        assert max(high[1] for _, high in boxes) == piece.top
        asked = {question.kind: question.answer for question in furniture.questions([piece])}
        assert asked == {"kind": "chair", "colour": "red", "legs": str(legs), "arms": "yes" if arms else "no"}


@pytest.mark.slow
def test_furniture_is_written_in_three_looks(makers, tmp_path, monkeypatch):
    pytest.importorskip("trimesh")
    monkeypatch.setattr(sys, "argv", ["ask_furniture.py", "--out", str(tmp_path), "--count", "6"])
    makers["furniture"].main()
    rows = {kind: list(read_rows(tmp_path / kind / "train.jsonl")) for kind in ("image", "video", "3d")}
    assert len({tuple((row.kind, row.answer) for row in each) for each in rows.values()}) == 1
    for kind, each in rows.items():
        sources = [part for row in each for part in row.prompt[0]["content"] if part["type"] != "text"]
        assert {part["type"] for part in sources} == {kind}
        assert all(Path(part["path"]).is_file() for part in sources)


def test_wordings_of_the_last_split_are_never_learnt(makers, tmp_path):
    rows = makers["rows"]
    writer = rows.Writer(tmp_path, random.Random(0))
    asked = [rows.Question("kind", ("a?", "b?", "held out?"), answer) for answer in ("yes", "no")]
    for number in range(20):
        writer.ask([("image", "a.png")], asked, held_out=number % 2 == 1, most=3)
    writer.write()
    texts = {
        split: [json.loads(line) for line in (tmp_path / f"{split}.jsonl").read_text().splitlines()]
        for split in rows.SPLITS
    }
    said = {split: {row["prompt"][0]["content"][-1]["text"] for row in each} for split, each in texts.items()}
    assert said == {"train": {"a?", "b?"}, "test": {"a?", "b?"}, "templates": {"held out?"}}
    answers = [row["completion"][0]["content"] for row in texts["train"]]
    assert answers.count("yes") == answers.count("no") == 5
