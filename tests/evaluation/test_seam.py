"""The seam of time tiles is found where it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from atoken import PRESETS, AToken, Clip
from atoken.evaluation.seam import measure_seam
from atoken.evaluation.stills import measure_stills
from atoken.metrics.psnr import psnr
from refusals import refused


@pytest.fixture
def model():
    torch.manual_seed(0)
    return AToken(PRESETS["tiny"]).eval()


def noise(count):
    return np.random.default_rng(count).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


def test_borders_and_insides_by_hand(model):
    frames = noise(36)
    seam = measure_seam(model, [Clip(frames, fps=25)])
    whole, later = (
        np.array([psnr(a, b) for a, b in zip(model.decode(model.encode(Clip(part, fps=25))), part, strict=True)])
        for part in (frames, frames[8:])
    )
    later = np.concatenate([np.zeros(8), later])
    assert seam.borders == 3  # at 16 and 32, and with tiles from 8 on at 24
    assert seam.border == pytest.approx((whole[[15, 16, 31, 32]].sum() + later[[23, 24]].sum()) / 6)
    assert seam.inside == pytest.approx((later[[15, 16, 31, 32]].sum() + whole[[23, 24]].sum()) / 6)


def test_a_jump_at_the_border_shows(model, monkeypatch):
    frames = noise(32) // 2
    monkeypatch.setattr(model, "encode", lambda clip: clip)

    def decode(clip):
        jump = clip.frames.copy()
        jump[16:] += 20
        return jump

    monkeypatch.setattr(model, "decode", decode)
    seam = measure_seam(model, [Clip(frames, fps=25)])
    assert seam.inside_steps > seam.border_steps + 5


def test_a_cut_on_a_border_is_no_seam(model, monkeypatch):
    """Frames that are hard for their own sake, whatever the tiles."""
    monkeypatch.setattr(model, "encode", lambda clip: clip)
    monkeypatch.setattr(model, "decode", lambda clip: clip.frames ^ np.uint8(1))
    frames = noise(40)
    frames[15:17] = 0
    seam = measure_seam(model, [Clip(frames, fps=25)])
    assert seam.border == pytest.approx(seam.inside)


def test_tiles_without_a_middle(model):
    short = AToken(replace(PRESETS["tiny"], decoder_tile=1))
    with refused("inside"):
        measure_seam(short, [Clip(noise(8), fps=25)])


def test_no_border(model):
    with refused("tile", 16):
        measure_seam(model, [Clip(noise(16), fps=25), []])


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
    with refused("clips"):
        measure_stills(model, [])
