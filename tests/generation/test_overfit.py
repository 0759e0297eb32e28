"""Training and drawing end to end: a small net learns four pictures by heart, in nano's tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import atoken
from atoken import Packed
from atoken.generation.condition import Condition
from atoken.generation.config import DiTConfig, FlowConfig, ObjectiveConfig
from atoken.generation.flow.generator import FlowGenerator
from atoken.generation.flow.net import DiT
from atoken.generation.flow.objective import FlowBatch, FlowObjective
from atoken.generation.latents import Normaliser
from atoken.metrics.psnr import psnr

PHOTOS = Path(atoken.__file__).parent / "assets" / "photos"
CROPS = {"chelsea": (60, 120), "coffee": (100, 150), "astronaut": (20, 150), "rocket": (80, 200)}
SIDE, STEPS, COPIES, LR = 48, 200, 8, 3e-3


@pytest.mark.slow
@pytest.mark.parametrize(("prediction", "whiten", "shift"), [("v", True, None), ("x", False, 2.0)])
def test_one_batch_is_learnt_by_heart(prediction, whiten, shift):
    model = atoken.load("nano")
    pictures = [
        atoken.read_image(PHOTOS / f"{name}.jpg")[top : top + 2 * SIDE : 2, left : left + 2 * SIDE : 2]
        for name, (top, left) in CROPS.items()
    ]
    tokens = model.encode(pictures)
    stats = Normaliser.of((item.latents for item in tokens), whiten=whiten)
    torch.manual_seed(0)
    config, objective = DiTConfig(4, 128, 4, 256, 48, classes=4), ObjectiveConfig(prediction, shift)
    learner = FlowObjective(DiT(config), objective)
    optimizer = torch.optim.AdamW(learner.parameters(), LR, betas=(0.9, 0.99), weight_decay=0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, STEPS, pct_start=0.1)
    batch = Packed.cat([(stats.normalise(item.latents), item.coords) for item in tokens * COPIES])
    condition = Condition(torch.arange(4).repeat(COPIES))
    for step in range(STEPS):
        loss = learner(FlowBatch(batch, condition, step))["velocity"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    facts = FlowConfig(
        "four", config, "nano", model.weights_hash, size=(SIDE, SIDE), objective=objective, whitened=whiten
    )
    gen = FlowGenerator(facts, learner.net.eval(), stats, model)
    drawn = gen(class_labels=[0, 1, 2, 3], steps=40, seeds=100)
    for found, wanted in zip(drawn, model.decode(tokens), strict=True):
        assert psnr(found, wanted) > 25
