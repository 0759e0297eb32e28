"""The seam of time tiles is found where it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from atoken import PRESETS, AToken, Clip
from atoken.evaluation.psnr import psnr
from atoken.evaluation.seam import measure_seam
from atoken.evaluation.stills import measure_stills


@pytest.fixture
def model():
    torch.manual_seed(0)
    return AToken(PRESETS["tiny"]).eval()


def noise(count):
    return np.random.default_rng(count).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


def test_borders_and_insides_by_hand(model):
    frames = noise(36)
    seam = measure_seam(model, [Clip(frames, fps=25)])
    decoded = model.decode(model.encode(Clip(frames, fps=25)))
    scores = np.array([psnr(a, b) for a, b in zip(decoded, frames, strict=True)])
    beside = np.isin(np.arange(36), [15, 16, 31, 32])
    assert seam.borders == 2
    assert seam.border == pytest.approx(scores[beside].mean())
    assert seam.inside == pytest.approx(scores[~beside].mean())


def test_a_jump_at_the_border_shows(model, monkeypatch):
    frames = noise(32)
    jump = frames.copy()
    jump[16:] = np.clip(jump[16:].astype(int) + 20, 0, 255)
    monkeypatch.setattr(model, "decode", lambda tokens: jump)
    seam = measure_seam(model, [Clip(frames, fps=25)])
    assert seam.inside_steps > seam.border_steps + 5


def test_no_border(model):
    with pytest.raises(ValueError, match="no clip is longer than one tile of 16 frames"):
        measure_seam(model, [Clip(noise(16), fps=25)])


def test_stills_take_as_many_tokens_as_the_video(model):
    frames = noise(8).repeat(2, 1).repeat(2, 2)  # 32 x 32, so that nothing is lost by halving but what resampling loses
    found = measure_stills(model, [Clip(frames, fps=25)])
    assert (found.video_tokens, found.image_tokens) == (8, 8)
    decoded = model.decode(model.encode(Clip(frames, fps=25)))
    assert found.video == pytest.approx(np.mean([psnr(a, b) for a, b in zip(decoded, frames, strict=True)]))


def test_perfect_images_of_smooth_frames_score_high(model, monkeypatch):
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    frames = np.broadcast_to(ramp[None, :, None, None], (4, 64, 64, 3)).copy()
    monkeypatch.setattr(model, "encode", lambda source: [source])
    monkeypatch.setattr(model, "decode", lambda tokens: getattr(tokens[0], "frames", tokens[0]))
    found = measure_stills(model, [Clip(frames, fps=25)])
    assert found.video == float("inf")
    assert found.images > 45
    with pytest.raises(ValueError, match="no clips"):
        measure_stills(model, [])
