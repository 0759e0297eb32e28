"""AToken inside diffusers: its calls, its files, its pipelines and the lines of its training scripts."""

import json

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")

from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    WanPipeline,
    WanTransformer3DModel,
)

from atoken import PRESETS, AToken, load
from atoken.adapters.diffusers import AutoencoderAToken
from refusals import refused

EXACT = {"atol": 1e-5, "rtol": 1e-4}  # fp32 sums of at most 3072 terms, batched otherwise


@pytest.fixture(scope="module")
def nano():
    return load("nano", device="cpu")


def pixels(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape))) * 2 - 1


def latents_of(tokens):
    """[C, t, h, w]."""
    return tokens.latents.float().view(*tokens.grid[:3], -1).movedim(-1, 0)


@pytest.mark.slow
def test_pictures_are_those_of_the_tokenizer(nano):
    vae = AutoencoderAToken.from_pretrained("nano")
    x = pixels(2, 3, 48, 64)
    with torch.no_grad():
        z = vae.encode(x).latent_dist.mode()
        decoded = vae.decode(z).sample
    tokens = nano.encode(x, value_range=(-1, 1))
    assert torch.allclose(z, torch.stack([latents_of(each)[:, 0] for each in tokens]), **EXACT)
    expected = nano.decode(tokens, as_tensor=True)
    assert torch.allclose(decoded.clamp(-1, 1), expected, atol=1e-4)
    assert (z.shape, decoded.shape) == ((2, 48, 3, 4), x.shape)


@pytest.mark.slow
def test_clips_are_those_of_the_tokenizer(nano):
    vae = AutoencoderAToken.from_model(nano)
    x = pixels(1, 3, 20, 32, 48)
    with torch.no_grad():
        z = vae.encode(x).latent_dist.mode()
        decoded = vae.decode(z, return_dict=False)[0]
    tokens = nano.encode(x[0], value_range=(-1, 1), fps=8)
    assert torch.allclose(z[0], latents_of(tokens), **EXACT)
    assert torch.allclose(decoded[0].clamp(-1, 1), nano.decode(tokens, as_tensor=True), atol=1e-4)


@pytest.mark.parametrize(("frames", "latent"), [(1, 1), (4, 1), (5, 2), (8, 2)])
def test_frames_that_do_not_fill_a_latent_frame(tiny, frames, latent):
    vae = AutoencoderAToken.from_model(tiny)
    x = pixels(1, 3, frames, 16, 32)
    with torch.no_grad():
        z = vae.encode(x).latent_dist.mode()
        assert z.shape == (1, 48, latent, 1, 2)
        filled = torch.cat([x, *[x[:, :, -1:]] * (4 * latent - frames)], 2)
        assert torch.equal(z, vae.encode(filled).latent_dist.mode())
        assert vae.decode(z).sample.shape == (1, 3, 4 * latent, 16, 32)


@pytest.mark.slow
def test_large_pictures_go_in_the_tiles_of_the_model(nano):
    vae = AutoencoderAToken.from_model(nano)
    assert vae.use_tiling
    x = pixels(1, 3, 416, 400)
    tokens = nano.encode(x, value_range=(-1, 1))[0]
    assert tokens.spatial_tile == vae.tile_sample_min_size
    with torch.no_grad():
        z = vae.encode(x).latent_dist.mode()
        assert torch.allclose(z[0], latents_of(tokens)[:, 0], **EXACT)
        assert torch.allclose(vae.decode(z).sample[0].clamp(-1, 1), nano.decode(tokens, as_tensor=True), atol=1e-4)
        vae.disable_tiling()
        whole = nano.encode(x, value_range=(-1, 1), spatial_tile=0)[0]
        assert torch.allclose(vae.encode(x).latent_dist.mode()[0], latents_of(whole)[:, 0], **EXACT)


@pytest.mark.slow
def test_tiles_and_slices_are_switches(tiny):
    vae = AutoencoderAToken.from_model(tiny)
    x = pixels(2, 3, 64, 64)
    with torch.no_grad():
        whole = vae.encode(x).latent_dist.mode()
        vae.enable_slicing()
        assert torch.allclose(vae.encode(x).latent_dist.mode(), whole, **EXACT)
        assert torch.allclose(vae.decode(whole).sample, vae(x).sample, **EXACT)
        vae.disable_slicing()
        vae.enable_tiling()
        vae.tile_sample_min_size = 32
        tiled = vae.encode(x).latent_dist.mode()
        alone = vae.encode(x[:, :, :32, 32:]).latent_dist.mode()
        assert torch.allclose(tiled[:, :, :2, 2:], alone, **EXACT)
        assert not torch.allclose(tiled, whole, **EXACT)


def test_draws_are_repeated_by_their_generator(tiny):
    vae = AutoencoderAToken.from_model(tiny)
    posterior = vae.encode(pixels(1, 3, 32, 32)).latent_dist
    one, two = (posterior.sample(generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, posterior.mode())


def test_gradients_reach_pixels_and_weights(tiny):
    vae = AutoencoderAToken.from_model(tiny)
    vae.enable_tiling()
    vae.tile_sample_min_size = 32
    x = pixels(1, 3, 64, 32).requires_grad_()
    vae(x, sample_posterior=True).sample.square().mean().backward()
    assert bool((x.grad.flatten(2).abs().amax(-1) > 0).all())
    assert float(vae.net.proj.weight.grad.abs().max()) > 0
    tiny.zero_grad()


@pytest.mark.parametrize("shape", [(2, 3, 32, 48), (1, 3, 8, 32, 16)])
def test_codes_and_their_indices(tiny, shape):
    vae = AutoencoderAToken.from_model(tiny, kind="discrete")
    x = pixels(*shape)
    with torch.no_grad():
        out = vae.encode(x)
        z, indices = out.latent_dist.mode(), out.indices
        assert torch.equal(z, out.latent_dist.sample())
        assert torch.equal(vae.decode(indices, decode_from_indices=True).sample, vae.decode(z).sample)
        assert torch.equal(vae.encode(x, return_dict=False)[1], indices)
    assert indices.dtype == torch.int64
    assert (indices.shape[1], indices.shape[2:]) == (8, z.shape[2:])
    tokens = tiny.encode(x, value_range=(-1, 1), kind="discrete", fps=8 if len(shape) == 5 else None)
    codes = torch.stack([each.codes.int().view(*each.grid[:3], -1).movedim(-1, 0) for each in tokens])
    assert float((indices.view(codes.shape) != codes).float().mean()) < 0.01  # numbers at the edge of two levels


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["continuous", "discrete"])
def test_saved_and_loaded(tiny, kind, tmp_path):
    vae = AutoencoderAToken.from_model(tiny, kind=kind, scaling_factor=0.5, latents_std=[2.0] * 48)
    vae.save_pretrained(tmp_path / "vae")
    saved = json.loads((tmp_path / "vae" / "config.json").read_text())
    assert saved["_class_name"] == "AutoencoderAToken"
    for place, options in ((tmp_path / "vae", {}), (tmp_path, {"subfolder": "vae"})):
        again = AutoencoderAToken.from_pretrained(place, **options)
        assert all(again.config[name] == value for name, value in vae.config.items() if not name.startswith("_"))
        x = pixels(1, 3, 32, 32)
        with torch.no_grad():
            assert torch.equal(vae(x).sample, again(x).sample)
    half = AutoencoderAToken.from_pretrained(tmp_path / "vae", torch_dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    assert half.encode(x.bfloat16()).latent_dist.mode().dtype == torch.bfloat16


def test_a_folder_of_the_tokenizer(tiny, tmp_path):
    tiny.save_pretrained(tmp_path)
    vae = AutoencoderAToken.from_pretrained(tmp_path, kind="discrete", torch_dtype=torch.bfloat16)
    assert (vae.kind, vae.dtype) == ("discrete", torch.bfloat16)


@pytest.mark.slow
def test_what_pipelines_read(nano):
    vae = AutoencoderAToken.from_model(nano)
    config = vae.config
    assert 2 ** (len(config.block_out_channels) - 1) == vae.spatial_compression_ratio == config.scale_factor_spatial
    assert config.latent_channels == config.z_dim == 48
    assert config.latents_mean == list(nano.latent_stats.mean)
    assert config.latents_std == list(nano.latent_stats.std)
    assert 2 ** sum(vae.temperal_downsample) == vae.temporal_compression_ratio == config.scale_factor_temporal
    plain = AutoencoderAToken.from_model(AToken(PRESETS["tiny"])).config
    assert (set(plain.latents_mean), set(plain.latents_std)) == ({0.0}, {1.0})


def small_dit(channels):
    torch.manual_seed(0)
    return DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=channels,
        out_channels=channels,
        num_layers=1,
        sample_size=3,
        patch_size=1,
    ).eval()


def test_a_dit_pipeline_runs_and_is_saved(tiny, tmp_path):
    vae = AutoencoderAToken.from_model(tiny)
    pipe = DiTPipeline(transformer=small_dit(48), vae=vae, scheduler=DDIMScheduler())
    pipe.set_progress_bar_config(disable=True)

    def draw(pipe):
        generator = torch.Generator().manual_seed(1)
        return pipe(class_labels=[1, 2], num_inference_steps=2, output_type="np", generator=generator).images

    images = draw(pipe)
    assert images.shape == (2, 48, 48, 3)
    assert np.isfinite(images).all()
    pipe.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "model_index.json").read_text())["vae"][1] == "AutoencoderAToken"
    again = DiTPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert isinstance(again.vae, AutoencoderAToken)
    assert np.array_equal(draw(again), images)


def test_a_wan_pipeline_runs(tiny):
    torch.manual_seed(0)
    transformer = WanTransformer3DModel(
        patch_size=(1, 1, 1),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=48,
        out_channels=48,
        text_dim=16,
        freq_dim=16,
        ffn_dim=32,
        num_layers=1,
    )
    vae = AutoencoderAToken.from_model(tiny, latents_mean=[0.5] * 48, latents_std=[2.0] * 48)
    pipe = WanPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=vae,
        scheduler=FlowMatchEulerDiscreteScheduler(),
        transformer=transformer,
    )
    pipe.set_progress_bar_config(disable=True)
    size = {"height": 32, "width": 48, "num_frames": 5, "num_inference_steps": 2, "guidance_scale": 1.0}
    prompt = torch.randn(1, 4, 16)
    out = {}
    for form in ("latent", "pt"):
        generator = torch.Generator().manual_seed(1)
        out[form] = pipe(prompt_embeds=prompt, generator=generator, output_type=form, **size).frames
    assert out["latent"].shape == (1, 48, 2, 2, 3)
    assert out["pt"].shape == (1, 8, 3, 32, 48)  # four frames for each latent frame: three more than were asked for
    with torch.no_grad():
        expected = vae.decode(out["latent"] * 2 + 0.5).sample
    shown = (expected / 2 + 0.5).clamp(0, 1).transpose(1, 2)
    assert torch.allclose(out["pt"], shown, atol=1e-5)


def test_lines_of_training_scripts(tiny):
    vae = AutoencoderAToken.from_model(tiny, scaling_factor=0.5, shift_factor=0.1)
    batch = {"pixel_values": pixels(2, 3, 32, 32)}
    weight_dtype = torch.float32
    vae.requires_grad_(False)
    # examples/text_to_image/train_text_to_image.py
    latents = vae.encode(batch["pixel_values"].to(weight_dtype)).latent_dist.sample()
    latents = latents * vae.config.scaling_factor
    noise = torch.randn_like(latents)
    assert (noise.shape, noise.dtype) == ((2, 48, 2, 2), weight_dtype)
    # examples/dreambooth/train_dreambooth_sd3.py
    model_input = (latents - vae.config.shift_factor) * vae.config.scaling_factor
    assert model_input.to(dtype=weight_dtype).shape == latents.shape
    vae.requires_grad_(True)


BAD = [
    ((1, 3, 30, 32), "30"),
    ((1, 4, 32, 32), "4"),
    ((3, 32, 32), "3"),
    ((1, 3, 0, 32, 32), "0"),
]


@pytest.mark.parametrize(("shape", "named"), BAD)
def test_pixels_of_other_shapes(tiny, shape, named):
    with refused(named):
        AutoencoderAToken.from_model(tiny).encode(torch.zeros(shape))


def test_bytes_are_no_pixels(tiny):
    with refused("uint8"):
        AutoencoderAToken.from_model(tiny).encode(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))


@pytest.mark.slow
def test_what_is_no_model(tiny, tmp_path):
    vae = AutoencoderAToken.from_model(tiny)
    with refused("z", error=ValueError):
        AutoencoderAToken.from_model(tiny, kind="z")
    with refused("latents_mean", "3", "48"):
        AutoencoderAToken.from_model(tiny, latents_mean=[1.0] * 3)
    with refused("trained for"):
        vae = AutoencoderAToken.from_model(AToken(PRESETS["nano"]))
        vae.decode(torch.zeros(1, 8, 2, 2, dtype=torch.int64), decode_from_indices=True)
    AutoencoderKL(norm_num_groups=1, block_out_channels=(1,)).save_pretrained(tmp_path / "kl")
    with refused("AutoencoderKL"):
        AutoencoderAToken.from_pretrained(tmp_path / "kl")
    AutoencoderAToken.from_model(tiny).save_pretrained(tmp_path / "cut")
    from safetensors.torch import load_file, save_file

    path = tmp_path / "cut" / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    del state["net.proj.weight"]
    save_file(state, path, {"format": "pt"})
    with refused("net.proj.weight"):
        AutoencoderAToken.from_pretrained(tmp_path / "cut")
