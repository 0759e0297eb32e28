"""Small data sets in the layouts of the real ones, and a plan over them."""

from __future__ import annotations

import pytest
import torch
from evaluation_pictures import smooth

from atoken import PRESETS, AToken, write_image
from atoken.evaluation.datasets import picture_folder
from atoken.evaluation.judges import Lite0Judge, PixelJudge
from atoken.evaluation.methods import ATokenMethod
from atoken.evaluation.protocols import PROTOCOLS
from atoken.evaluation.run import Plan


@pytest.fixture
def pictures(tmp_path):
    """A folder of five pictures, four of one size."""
    for name in "abcd":
        write_image(tmp_path / f"set/{name}.png", smooth(name))
    write_image(tmp_path / "set/e.png", smooth("e", 33, 47))
    return tmp_path / "set"


@pytest.fixture(scope="session")
def tiny():
    torch.manual_seed(0)
    return AToken(PRESETS["tiny"]).eval()


@pytest.fixture(scope="session")
def network():
    from atoken.backbones.lite0 import lite0

    return lite0()


@pytest.fixture
def plan(pictures, tiny, network):
    """Psnr, ssim and the Lite0 distances of a random model on the pictures in their own size."""
    metrics = ("psnr", "ssim", "lite0-distance", "lite0-frechet")
    return Plan(
        protocol=PROTOCOLS["native"],
        metrics=metrics,
        items=picture_folder(pictures),
        data="set",
        methods=[ATokenMethod(tiny, "tiny", kind) for kind in ("continuous", "discrete")],
        judges=[PixelJudge(metrics), Lite0Judge(network, metrics)],
        batch=2,
        device="cpu",
    )
