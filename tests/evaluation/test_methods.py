"""Codecs, the linear projection and other tokenizers as rows of the table."""

import io
import sys

import numpy as np
import pytest
import torch
from evaluation_pictures import smooth
from PIL import Image
from safetensors.torch import load_file, save_file

from atoken import PRESETS
from atoken.evaluation.codecs import OPTIONS, PictureCodec, best_fit
from atoken.evaluation.linear import LinearProjection, to_patches
from atoken.evaluation.methods import TokenizerMethod, bytes_of_tokens
from atoken.evaluation.tokenizers import KLAutoencoder
from atoken.evaluation.video_codecs import VideoCodec
from atoken.metrics.psnr import psnr
from refusals import refused


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["JPEG", "WebP", "AVIF"])
def test_codecs_take_the_best_quality_within_the_bytes(codec):
    picture = smooth("x", 96, 128)

    def size(quality):
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, codec.upper(), quality=quality, **OPTIONS[codec])
        return len(stream.getvalue())

    limit = size(40) + 3
    outcome = PictureCodec(codec, lambda clip: limit).reconstruct([picture[None]])[0]
    assert not outcome.over
    best = max(quality for quality in range(20, 70) if size(quality) <= limit)
    assert outcome.bits == 8 * size(best)
    assert psnr(outcome.frames[0], picture) > 28
    tight = PictureCodec(codec, lambda clip: 20).reconstruct([picture[None]])[0]
    assert tight.over
    assert tight.bits == 8 * size(0)


def test_the_search_finds_the_last_quality_that_fits():
    for limit in (0, 5, 37, 99, 100, 200):
        assert len(best_fit(lambda quality: b"x" * quality, limit)) == min(limit, 100)
    assert len(best_fit(lambda quality: b"x" * (quality + 10), 3)) == 10


def test_bytes_of_tokens_are_those_of_eight_12_bit_codes():
    config = PRESETS["so400m"]
    assert bytes_of_tokens(config, np.zeros((1, 256, 256, 3))) == 3072
    assert bytes_of_tokens(config, np.zeros((1, 17, 16, 3))) == 24
    assert bytes_of_tokens(config, np.zeros((9, 16, 16, 3))) == 36


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["H.264", "AV1"])
def test_video_codecs_stay_within_the_bytes(codec):
    pytest.importorskip("av")
    whole = smooth("v", 70, 100)
    clip = np.stack([whole[i : i + 65, i : i + 95] for i in range(5)])
    outcome = VideoCodec(codec, lambda clip: 4000).reconstruct([clip])[0]
    assert not outcome.over
    assert outcome.bits <= 8 * 4000
    assert outcome.frames.shape == clip.shape
    coarse = VideoCodec(codec, lambda clip: 4000, 0.25).reconstruct([clip])[0]
    assert coarse.bits < outcome.bits
    assert psnr(coarse.frames, clip) < psnr(outcome.frames, clip)
    assert VideoCodec(codec, lambda clip: 10).reconstruct([clip])[0].over


def test_the_linear_projection_is_the_best_of_its_rank(tmp_path):
    pixels = torch.from_numpy(np.stack([smooth(name, 64, 64) for name in "pqrstuvw"])).permute(0, 3, 1, 2) / 127.5 - 1
    patches = to_patches(pixels).flatten(0, 2)  # [128, 768]
    linear = LinearProjection.fit(patches.split(50), 5, "eight pictures")
    centred = (patches - patches.mean(0)).double()
    left = torch.linalg.svdvals(centred)[5:].square().sum() / centred.numel()
    error = (linear.decode(linear.encode(pixels), (64, 64)) - pixels).double().square().mean()
    assert float(error) == pytest.approx(float(left), rel=1e-4)

    linear.save(tmp_path / "linear.safetensors")
    again = LinearProjection.load(tmp_path / "linear.safetensors", 3)
    said = again.describe()
    assert (said["of"], said["latent_channels"]) == ("eight pictures", 3)
    assert torch.allclose(again.encode(pixels), linear.encode(pixels)[..., :3], atol=0.02)
    with refused(5, 6):
        LinearProjection.load(tmp_path / "linear.safetensors", 6)


def test_a_tokenizer_sees_unit_range_and_any_size():
    class Halves:
        name = "halves"

        def encode(self, pixels):
            assert pixels.dtype == torch.float32
            assert -1 <= float(pixels.min()) <= float(pixels.max()) <= 1
            return pixels / 2

        def decode(self, latents, size):
            return latents * 2

        def describe(self):
            return {}

    clips = [np.stack([smooth(a, 30, 21), smooth(b, 30, 21)]) for a, b in ("ab", "cd", "ef")]
    outcomes = TokenizerMethod(Halves(), "cpu", batch=4).reconstruct(clips)
    for clip, outcome in zip(clips, outcomes, strict=True):
        assert np.abs(outcome.frames.astype(int) - clip).max() <= 1  # fp16 in between
        assert outcome.bits == clip.size * 16


def test_pixels_that_are_no_numbers_are_refused():
    class Broken:
        name = "broken"

        def encode(self, pixels):
            return pixels * 1e6  # more than fp16 holds

        def decode(self, latents, size):
            return latents - latents

    with refused("broken", "NaN"):
        TokenizerMethod(Broken(), "cpu").reconstruct([smooth("n", 16, 16)[None]])


@pytest.mark.slow
def test_diffusers_autoencoder_with_random_weights(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    module = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 8),
        norm_num_groups=4,
        latent_channels=6,
    ).eval()
    module.save_pretrained(tmp_path / "vae")
    method = TokenizerMethod(KLAutoencoder.load(tmp_path / "vae", "cpu", torch.float32), "cpu")
    picture = smooth("d", 34, 47)
    outcome = method.reconstruct([picture[None]])[0]
    padded = np.pad(picture, ((0, 2), (0, 1), (0, 0)), mode="edge")
    pixels = torch.from_numpy(padded).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        latents = module.encode(pixels).latent_dist.mode()
        expected = module.decode(latents.half().float()).sample[0, :, :34, :47]
    expected = ((expected + 1) * 127.5).round().clamp(0, 255).permute(1, 2, 0).numpy()
    assert np.abs(outcome.frames[0] - expected).max() <= 1
    assert outcome.bits == 6 * 9 * 12 * 16
    said = method.describe()
    assert (said["model"], said["stride"], len(said["sha256"])) == ("AutoencoderKL", 4, 64)
    assert "torchvision" not in sys.modules
    with refused(tmp_path, "config.json", error=FileNotFoundError):
        KLAutoencoder.load(tmp_path, "cpu", torch.float32)
    weights = tmp_path / "vae/diffusion_pytorch_model.safetensors"
    state = load_file(weights)
    for changed, *named in (
        ({**state, "quant_conv.weight": torch.zeros(3, 3, 1, 1)}, tmp_path / "vae", "quant_conv"),
        (
            {key: value for key, value in state.items() if key != "quant_conv.weight"},
            tmp_path / "vae",
            "quant_conv.weight",
        ),
    ):
        save_file(changed, weights, {"format": "pt"})
        with refused(*named):
            KLAutoencoder.load(tmp_path / "vae", "cpu", torch.float32)
    config = tmp_path / "vae/config.json"
    config.write_text(config.read_text().replace("AutoencoderKL", "VQModel"))
    with refused(tmp_path / "vae", "VQModel"):
        KLAutoencoder.load(tmp_path / "vae", "cpu", torch.float32)
