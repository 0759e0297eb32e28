"""Videos to tokens and back: streamed, whole, in part, with and without the decoder's cache."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import atoken
from atoken import PRESETS, AToken, Clip, Packed, TokenFile, Tokens, TokenWriter
from atoken.codec import videos
from atoken.media.patchify import frames_to_patches, patches_to_frames
from atoken.media.pixels import to_uint8
from atoken.nn.packed import dense_coords
from refusals import refused

pytest.importorskip("av")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return AToken(PRESETS["tiny"]).eval()


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (39, 20, 33, 3), dtype=np.uint8)


def cached(golden):
    return golden.model(decoder_tile=3, decoder_cache=1)


def test_stream_equals_whole_bit_for_bit(model, frames):
    whole = model.encode(Clip(frames, fps=25))
    chunks = list(model.encode_stream(Clip(frames, fps=25)))
    assert [chunk.grid for chunk in chunks] == [(4, 2, 3, 1), (4, 2, 3, 1), (2, 2, 3, 1)]
    joined = videos.join(chunks)
    assert torch.equal(joined.values, whole.values)
    assert torch.equal(joined.coords, whole.coords)
    assert torch.equal(whole.coords, dense_coords((10, 2, 3, 1)))
    decoded = model.decode(whole)
    streamed = np.concatenate([clip.frames for clip in model.decode_stream(iter(chunks))])
    assert np.array_equal(streamed, decoded)
    assert decoded.shape == frames.shape


@pytest.mark.parametrize("kind", ["continuous", "discrete"])
def test_equals_the_packed_computation(model, frames, kind):
    tokens = model.encode(Clip(frames, fps=25), kind=kind)
    patches, coords, grid = frames_to_patches(frames)
    posterior = model.encode_packed(Packed.cat([(patches, coords)])).posterior
    assert (tokens.grid, tokens.size, tokens.box) == (grid, (20, 33), (0, 0, 20, 33))
    if kind == "continuous":
        torch.testing.assert_close(tokens.values, posterior.mode().detach(), atol=1e-5, rtol=0)
    else:
        expected = model.fsq.codes_to_indices(model.fsq(posterior.mode()))
        assert (tokens.values.int() == expected.int()).float().mean() > 0.999
    with torch.no_grad():
        whole = model.decode_packed(Packed.cat([(tokens.latents, coords)]))
    expected = to_uint8(patches_to_frames(whole, grid, tokens.box))[: len(frames)].numpy()
    assert np.abs(model.decode(tokens).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("count", [1, 3, 4, 5, 16, 17])
def test_as_many_frames_out_as_in(model, frames, count):
    times = np.cumsum(np.linspace(0.01, 0.2, count)).tolist()
    tokens = model.encode(Clip(frames[:count], times=times))
    assert tokens.times is not None
    assert tokens.times.tolist() == times
    assert model.decode(tokens).shape == (count, 20, 33, 3)
    assert [t for clip in model.decode_stream(tokens) for t in clip.times] == times


def test_golden_cache_streams(golden):
    model = cached(golden)
    coords = golden["video/coords"]
    grid = tuple((coords.amax(0) + 1).tolist()[1:])
    latents = golden["video/moments"][:, :48].contiguous()
    memory, patches = model.tile_memory(), []
    size = grid[1] * grid[2]
    for start in range(0, grid[0], 3):
        part = latents[start * size : (start + 3) * size]
        tile = (len(part) // size, *grid[1:])
        patches.append(model.decode_tile(Packed.cat([(part, dense_coords(tile))]), memory))
    streamed = torch.cat(patches)
    torch.testing.assert_close(streamed[:, ::24], golden["video/decoded_kv_stride12_cache4"], atol=2e-5, rtol=0)
    assert torch.equal(streamed, model.decode_packed(Packed(latents, coords)))


@pytest.mark.slow
def test_cache_matters_but_not_in_the_first_tile(golden, frames):
    plain, with_cache = golden.model(decoder_tile=3), cached(golden)
    assert plain.weights_hash == with_cache.weights_hash
    tokens = plain.encode(Clip(frames[:24], fps=25))
    a, b = plain.decode(tokens), with_cache.decode(tokens)
    assert np.array_equal(a[:12], b[:12])
    assert not np.array_equal(a[12:], b[12:])


@pytest.mark.slow
def test_stride_of_the_decoder_may_differ_from_the_encoders(golden, frames):
    model = cached(golden)
    chunks = list(model.encode_stream(Clip(frames, fps=25)))
    streamed = np.concatenate([clip.frames for clip in model.decode_stream(iter(chunks))])
    assert np.array_equal(streamed, model.decode(videos.join(chunks)))
    assert len(streamed) == len(frames)


@pytest.mark.slow
@pytest.mark.parametrize("part", [(0, 1), (5, 7), (14, 18), (16, 32), (38, 39), (0, 39)])
@pytest.mark.parametrize("cache", [False, True])
def test_random_access(golden, frames, part, cache):
    model = cached(golden) if cache else golden.model()
    tokens = model.encode(Clip(frames, fps=25))
    some = tokens.frames(*part)
    assert np.array_equal(model.decode(some), model.decode(tokens)[slice(*part)])
    assert some.times.tolist() == [i / 25 for i in range(*part)]
    assert some.frames(0, 1).first_frame == part[0]


def test_random_access_computes_only_the_tiles_it_needs(model, frames, monkeypatch):
    tokens = model.encode(Clip(frames, fps=25))
    computed = []
    decode = model.decode_tile
    monkeypatch.setattr(model, "decode_tile", lambda packed, memory: computed.append(1) or decode(packed, memory))
    model.decode(tokens.frames(17, 30))
    assert len(computed) == 1
    model.decode(tokens.frames(15, 33))
    assert len(computed) == 4
    with refused(5, 40, 39):
        tokens.frames(5, 40)


def test_a_part_that_ends_with_its_tile_may_come_before_the_next_one(model, frames):
    tokens = model.encode(Clip(frames, fps=25))
    first, second, _ = model.encode_stream(Clip(frames, fps=25))
    clips = list(model.decode_stream([first.frames(4, 16), second]))
    assert np.array_equal(np.concatenate([clip.frames for clip in clips]), model.decode(tokens)[4:32])
    assert [time for clip in clips for time in clip.times] == tokens.times[4:32].tolist()


def test_parts_among_tiles(model, frames, tmp_path):
    tokens = model.encode(Clip(frames, fps=25))
    whole, (first, second, _) = model.decode(tokens), model.encode_stream(Clip(frames, fps=25))
    (alone,) = model.decode_stream([second.frames(3, 9)])
    assert np.array_equal(alone.frames, whole[19:25])
    with refused("begin"):
        videos.join([first, second.frames(3, 9)])
    with refused("begin"):
        list(model.decode_stream([first, second.frames(3, 9)]))
    with TokenWriter(tmp_path / "a.atok") as writer:
        writer.write(first)
        with refused("begin"):
            writer.write(second.frames(3, 9))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["continuous", "discrete"])
def test_token_file_step_by_step(model, frames, kind, tmp_path):
    path = tmp_path / "clip.atok"
    with TokenWriter(path) as writer:
        for chunk in model.encode_stream(Clip(frames, fps=25), kind=kind):
            writer.write(chunk)
    whole, loaded = model.encode(Clip(frames, fps=25), kind=kind), Tokens.load(path)
    for name, value in vars(whole).items():
        other = getattr(loaded, name)
        assert torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other, name
    decoded = model.decode(whole)
    assert np.array_equal(np.concatenate([c.frames for c in model.decode_stream(path)]), decoded)
    whole.save(tmp_path / "saved.atok")
    with TokenFile(tmp_path / "saved.atok") as file:
        assert file.tokens == len(whole)
        part = np.concatenate([c.frames for c in model.decode_stream(file.frames(20, 25))])
    assert np.array_equal(part, decoded[20:25])
    some = whole.frames(20, 25)
    some.save(path)
    assert np.array_equal(model.decode(Tokens.load(path)), decoded[20:25])


def test_any_safetensors_reader_opens_a_streamed_file(model, frames, tmp_path):
    from safetensors import safe_open

    for kind in ("continuous", "discrete"):
        path = tmp_path / f"{kind}.atok"
        with TokenWriter(path) as writer:  # 3 tokens a step: odd numbers of bytes in front of the times
            for chunk in model.encode_stream(Clip(frames[:7, :16], fps=25), kind=kind):
                writer.write(chunk)
        with safe_open(path, "pt") as file:
            assert file.get_tensor("times").tolist() == [i / 25 for i in range(7)]


def test_streamed_file_is_all_or_nothing(model, frames, tmp_path):
    path = tmp_path / "clip.atok"

    def broken():
        yield from Clip(frames[:20], fps=25)
        raise RuntimeError("stop")

    def write(frames):
        with TokenWriter(path) as writer:
            for chunk in model.encode_stream(frames):
                writer.write(chunk)

    with pytest.raises(RuntimeError, match="stop"):
        write(broken())
    with refused(path):
        write([])
    assert list(tmp_path.iterdir()) == []


def test_damaged_token_file(model, frames, tmp_path):
    path = tmp_path / "clip.atok"
    model.encode(Clip(frames, fps=25)).save(path)
    data = bytearray(path.read_bytes())
    data[-2000] ^= 1
    faults = {
        bytes(data): "checksum",
        bytes(data[:-100]): "truncated",
        b"": "empty",
        b"hello world": "not a token",
    }
    for content, what in faults.items():
        path.write_bytes(content)
        with refused(path, what):
            TokenFile(path)


def test_a_file_and_its_arrays_agree(model, film):
    path = film.write("a.mp4", "libx264", film.frames(20, 32, 48))
    video = list(atoken.open_video(path))
    clip = Clip([f.pixels for f in video], times=[f.time for f in video])
    assert torch.equal(model.encode(path).values, model.encode(clip).values)
    pictures_too = model.encode([path, video[0].pixels])
    assert [item.modality for item in pictures_too] == ["video", "image"]


def test_embed(model, frames):
    vectors = model.embed([Clip(frames, fps=25), frames[0]])
    assert vectors.shape == (2, 64)
    patches, coords, _ = frames_to_patches(frames)
    with torch.no_grad():
        expected = model.encode_packed(Packed.cat([(patches, coords)])).pooled
    torch.testing.assert_close(vectors[:1], expected, atol=1e-5, rtol=0)


def test_bare_arrays_have_no_times(model, frames):
    with refused("atoken.Clip"):
        model.encode(frames)


@pytest.mark.slow
def test_shipped_weights_run_on_video(frames):
    model = atoken.load("nano")
    assert model.decode(model.encode(Clip(frames[:5], fps=25))).shape == (5, 20, 33, 3)
