"""What the tower makes of sources is what ``AToken.encode`` makes of them, live and stored."""

import numpy as np
import pytest
import torch

import atoken
from atoken import PRESETS, AToken, Clip
from atoken.mllm.layout import LayoutConfig
from atoken.mllm.sources import Reader, prepare, visual_of
from atoken.mllm.tower import encode, state_size
from atoken.tokens.samples import TokenSample
from refusals import refused


@pytest.fixture(scope="module")
def model() -> AToken:
    torch.manual_seed(0)
    return AToken(PRESETS["tiny"]).eval()


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def reader(model: AToken, inputs: str, **layout: int) -> Reader:
    return Reader(LayoutConfig(**layout), inputs, model.weights_hash)


def live(model: AToken, reader: Reader, *sources) -> list[torch.Tensor]:
    visuals = [reader.read(source) for source in sources]
    return encode(
        model,
        torch.cat([visual.patches for visual in visuals]),
        [visual.geometry for visual in visuals],
        reader.inputs,
        frames_per_token=reader.layout.frames_per_token,
    )


SOURCES = {"picture": noise(40, 70, 3), "clip": Clip(noise(21, 32, 48, 3), fps=8.0)}


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize(("inputs", "kind"), [("latents", "continuous"), ("codes", "discrete")])
@pytest.mark.parametrize("tile", [None, 32])
def test_live_states_are_the_tokens_of_encode(model, name, inputs, kind, tile, tmp_path):
    model.config = atoken.ModelConfig(**{**vars(PRESETS["tiny"]), "spatial_tile": tile})
    ours = reader(model, inputs, frames_per_token=4)
    tokens = model.encode(SOURCES[name], kind=kind)
    tokens.save(tmp_path / "a.atok")
    stored = ours.read(tmp_path / "a.atok")
    (states,) = live(model, ours, SOURCES[name])
    assert stored.geometry.grid == ours.read(SOURCES[name]).geometry.grid
    assert stored.times == ours.read(SOURCES[name]).times
    if inputs == "codes":
        assert torch.equal(states, stored.states)
    else:  # fp32 sums of other batches: some 1e-6 of values about 1
        torch.testing.assert_close(states, stored.states, rtol=1e-4, atol=1e-5)


def test_sources_of_one_batch_do_not_see_each_other(model):
    model.config = PRESETS["tiny"]
    ours = reader(model, "hidden", frames_per_token=4)
    together = live(model, ours, *SOURCES.values())
    for source, states in zip(SOURCES.values(), together, strict=True):
        torch.testing.assert_close(live(model, ours, source)[0], states, rtol=1e-4, atol=1e-5)


def test_frames_have_their_own_time(model):
    """One by one a frame is a patch whose other frames are 0, at the frame's own step."""
    from atoken.media.patchify import frames_to_patches
    from atoken.nn.packed import Packed

    ours = reader(model, "latents")
    visual = ours.read(SOURCES["clip"])
    assert visual.geometry.grid == (21, 2, 3, 1)
    assert visual.times == tuple(index / 8 for index in range(21))
    spread = np.zeros((84, 32, 48, 3), np.float32)
    spread[::4] = SOURCES["clip"].frames / np.float32(127.5) - 1
    feats, coords, _ = frames_to_patches(spread)
    expected = model.encode_packed(Packed.cat([(feats, coords)]), pool=False).posterior.mode()
    torch.testing.assert_close(live(model, ours, SOURCES["clip"])[0], expected, rtol=1e-4, atol=1e-5)


def test_layers_of_hidden_states(model):
    visual = reader(model, "hidden").read(SOURCES["picture"])
    (last,) = encode(model, visual.patches, [visual.geometry], "hidden", layer=2)
    (normed,) = encode(model, visual.patches, [visual.geometry], "hidden")
    torch.testing.assert_close(model.encoder.post_layernorm(last), normed)
    assert normed.shape == (15, state_size(model.config, "hidden"))


def test_large_pictures_and_long_clips_are_scaled_to_the_budgets():
    layout = LayoutConfig(max_pixels=64 * 64, slow_steps=2, fast_steps=5, video_tokens=2 * 4 + 5)
    assert prepare(noise(100, 200, 3), layout).shape == (32, 80, 3)
    clip = prepare(Clip(noise(100, 128, 128, 3), fps=10.0), layout)
    assert [frame.shape for frame in clip.frames] == [(64, 64, 3)] * 5
    assert len(visual_of(clip, layout).geometry) == 5 * 16
    gaps = np.diff(clip.times)
    assert gaps.min() > 0.6 * gaps.max()


def test_stored_tokens_of_others_are_refused(model):
    tokens = model.encode(SOURCES["picture"])
    with refused("0" * 12, model.weights_hash[:12]):
        Reader(LayoutConfig(), "latents", "0" * 64).read(tokens)
    with refused("codes"):
        reader(model, "codes").read(tokens)
    with refused("hidden"):
        reader(model, "hidden").read(TokenSample(key="a", tokens=tokens))
    with refused("frames_per_token"):
        reader(model, "latents").read(model.encode(SOURCES["clip"]))
    with refused("states", "hidden, latents, codes"):
        Reader(LayoutConfig(), "states", "")


def test_patches_that_do_not_fit_are_refused(model):
    visual = reader(model, "hidden").read(SOURCES["picture"])
    with refused(15, 14):
        encode(model, visual.patches[1:], [visual.geometry], "hidden")
