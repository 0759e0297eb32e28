"""A run on a small collection of pictures that takes a second."""

import json
from dataclasses import replace

import pytest

from atoken.data.config import CropsConfig
from atoken.engine.config import ParallelConfig
from atoken.losses.total import Weights
from atoken.tokenizer.config import PRESETS
from atoken.train.config import TaskConfig, TokenizerLogConfig, TokenizerOptimizerConfig, TrainConfig

SMALL = replace(PRESETS["tiny"], name="small", kinds=("continuous",), latent_norm=False, output_norm=False)


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


def records(out):
    """The lines of a run's log."""
    return [json.loads(line) for line in (out / "log.jsonl").open()]


def terms(out):
    """Step and weighted terms of each line, without speed."""
    return {
        record["step"]: {name: value for name, value in record.items() if "/" in name or name == "grad_norm"}
        for record in records(out)
    }
