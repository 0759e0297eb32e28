"""A small collection of pictures and a run on it that takes a second."""

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from atoken.cli import app
from atoken.data.config import CropsConfig
from atoken.engine.config import ParallelConfig
from atoken.losses.total import Weights
from atoken.tokenizer.config import PRESETS
from atoken.train.config import TaskConfig, TokenizerLogConfig, TokenizerOptimizerConfig, TrainConfig

SMALL = replace(PRESETS["tiny"], name="small", kinds=("continuous",), latent_norm=False, output_norm=False)


@pytest.fixture
def folder(tmp_path):
    """A collection of three pictures with some structure, the last one too small for a crop of 64."""
    rng = np.random.default_rng(0)
    index, offset, parts = [], 0, []
    for height, width, weight in ((80, 96, 1.0), (64, 64, 2.0), (48, 120, 1.0)):
        coarse = rng.integers(0, 256, (height // 8, width // 8, 3)).repeat(8, 0).repeat(8, 1)
        picture = np.clip(coarse + rng.normal(0, 9, (height, width, 3)), 0, 255).astype(np.uint8)
        index.append({"offset": offset, "height": height, "width": width, "weight": weight})
        parts.append(picture.tobytes())
        offset += picture.size
    (tmp_path / "train.bin").write_bytes(b"".join(parts))
    (tmp_path / "train.json").write_text(json.dumps(index))
    return tmp_path


@pytest.fixture
def config(folder, monkeypatch):
    monkeypatch.setitem(PRESETS, "small", SMALL)
    crops = CropsConfig(str(folder), (32, 64), (0.5, 0.5))
    return TrainConfig(
        "small",
        steps=6,
        tasks=(TaskConfig("image-reconstruction", tokens=64, ratio=1.0, crops=crops),),
        start="linear",
        optimizer=TokenizerOptimizerConfig(
            lr=5e-4, muon_lr=0.02, encoder_scale=1.0, warmup=2, schedule="linear", decay=2, final=0.0, ema=0.999
        ),
        loss=Weights(reconstruction=1.0, log_mse=0.1),
        parallel=ParallelConfig(autocast=False),
        log=TokenizerLogConfig(every=2, checkpoint_every=100, tensorboard=False),
    )


@pytest.fixture
def atoken():
    """Run a command; an exception that it lets through fails the test."""
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def records(out):
    """The lines of a run's log."""
    return [json.loads(line) for line in (out / "log.jsonl").open()]


def terms(out):
    """Step and weighted terms of each line, without speed."""
    return {
        record["step"]: {name: value for name, value in record.items() if "/" in name or name == "grad_norm"}
        for record in records(out)
    }
