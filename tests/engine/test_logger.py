"""What a run writes down, and what it forgets where it goes on from an earlier step."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import numpy as np
import pytest

from atoken import read_image
from atoken.engine.config import LogConfig
from atoken.engine.logger import Logger
from atoken.engine.ranks import Ranks
from train.conftest import records

PLAIN = LogConfig(tensorboard=False)


def test_records_are_lines_of_json_and_of_the_log(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "atoken"), Logger(tmp_path / "run", PLAIN, Ranks()) as book:
        assert not (tmp_path / "run").exists()
        book.record(1, {"grad_norm": 0.5})
        book.record(2, {"grad_norm": 0.25, "psnr": 30.0})
        book.note("a sentence")
    assert records(tmp_path / "run") == [{"step": 1, "grad_norm": 0.5}, {"step": 2, "grad_norm": 0.25, "psnr": 30.0}]
    assert [record.getMessage().split() for record in caplog.records] == [
        ["step", "1", "grad_norm", "0.5"],
        ["step", "2", "grad_norm", "0.25", "psnr", "30"],
        ["a", "sentence"],
    ]


def test_only_the_first_rank_writes(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "atoken"), Logger(tmp_path / "run", PLAIN, Ranks(1, 2)) as book:
        book.record(1, {"grad_norm": 0.5})
        book.picture(1, np.zeros((8, 8, 3), np.uint8))
        book.note("a sentence")
        book.rewind(0)
    assert not (tmp_path / "run").exists()
    assert not caplog.records


def test_a_picture_is_kept_by_its_step(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    with Logger(tmp_path, PLAIN, Ranks()) as book:
        book.picture(3, picture)
    assert np.array_equal(read_image(tmp_path / "pictures/step-0000003.png"), picture)


@pytest.mark.parametrize("tail", ["", '{"step": 4, "no', "\n", "null\n", '{"step": "5"}\n', "[" * 100_000 + "\n"])
def test_steps_that_come_again_are_forgotten(tmp_path, tail):
    lines = [json.dumps({"step": step}) + "\n" for step in (1, 2, 2, 3)]
    (tmp_path / "log.jsonl").write_text("".join(lines) + tail)
    book = Logger(tmp_path, PLAIN, Ranks())
    book.rewind(2)
    assert (tmp_path / "log.jsonl").read_text() == "".join(lines[:3])
    book.record(3, {"grad_norm": 1.0})
    assert [record["step"] for record in records(tmp_path)] == [1, 2, 2, 3]


def test_curves_of_tensorboard_go_on_from_the_step_too(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for first, steps in ((0, (1, 2, 3)), (2, (3, 4))):
        with Logger(tmp_path, replace(PLAIN, tensorboard=True), Ranks()) as book:
            book.rewind(first)
            for step in steps:
                book.record(step, {"grad_norm": float(first)})
    curve = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("grad_norm")
    assert [(point.step, point.value) for point in curve] == [(1, 0.0), (2, 0.0), (3, 2.0), (4, 2.0)]
