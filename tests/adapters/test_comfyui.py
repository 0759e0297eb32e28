"""The VAE for ComfyUI: the attributes and calls of comfy.sd.VAE, as its nodes make them; ComfyUI itself is not here."""

import importlib.util
import sys
import types
from pathlib import Path

import pytest
import torch

from atoken.adapters.comfyui import ATokenLoader, ATokenVAE
from refusals import refused

FOLDER = Path(__file__).parents[2] / "recipes" / "comfyui"


def pictures(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_pictures_there_and_back(tiny):
    vae = ATokenVAE(tiny)
    x = pictures(2, 40, 70, 4)
    samples = vae.encode(x)
    assert samples.shape == (2, vae.latent_channels, 2, 4)
    middle = x[:, 4:36, 3:67, :3].movedim(-1, 1) * 2 - 1
    tokens = tiny.encode(middle, value_range=(-1, 1))
    assert torch.allclose(samples[1].movedim(0, -1).flatten(0, 1), tokens[1].latents, atol=1e-5)
    images = vae.decode(samples)
    assert (images.shape, images.dtype) == ((2, 32, 64, 3), torch.float32)
    expected = tiny.decode(tokens, as_tensor=True, value_range=(0, 1)).movedim(1, -1)
    assert torch.allclose(images, expected, atol=1e-4)


def test_a_batch_is_a_clip_where_the_model_is_for_video(tiny):
    vae = ATokenVAE(tiny, video=True)
    x = pictures(6, 32, 48, 3)
    samples = vae.encode(x)
    assert samples.shape == (1, 48, 2, 2, 3)
    images = vae.decode(samples)
    assert images.shape == (1, 8, 32, 48, 3)
    tokens = tiny.encode(x.movedim(-1, 0), value_range=(0, 1), fps=8)
    expected = tiny.decode(tokens, as_tensor=True, value_range=(0, 1))
    assert torch.allclose(images[0, :6].movedim(-1, 0), expected, atol=1e-4)
    assert vae.encode(x[None]).equal(samples)
    assert vae.temporal_compression_decode() == vae.upscale_ratio[0](1) == 4
    assert [vae.downscale_ratio[0](frames) for frames in (1, 4, 5)] == [1, 1, 2]


def test_what_nodes_and_samplers_read(tiny):
    vae = ATokenVAE(tiny)
    assert (vae.latent_dim, vae.output_channels, vae.not_video, vae.extra_1d_channel) == (2, 3, True, None)
    assert vae.upscale_ratio == vae.downscale_ratio == vae.spacial_compression_decode() == 16
    assert vae.spacial_compression_encode() == 16
    assert vae.temporal_compression_decode() is None
    assert vae.process_output(torch.tensor([-2.0, 0.0, 1.0])).tolist() == [0, 0.5, 1]
    assert vae.process_input(torch.tensor([0.0, 1.0])).tolist() == [-1, 1]
    assert vae.vae_dtype in vae.working_dtypes
    assert vae.memory_used_encode((1, 3, 64, 64), torch.float32) == 2 * vae.memory_used_encode(
        (1, 3, 64, 32), torch.float32
    )
    assert vae.memory_used_decode((1, 48, 4, 4), torch.float32) == vae.memory_used_encode((1, 3, 64, 64), torch.float32)
    assert vae.get_sd().keys() == tiny.state_dict().keys()
    vae.throw_exception_if_invalid()


@pytest.mark.slow
def test_tiled_calls_of_nodes(tiny):
    vae = ATokenVAE(tiny)
    x = pictures(1, 64, 64, 3)
    samples = vae.encode_tiled(x, tile_x=32, tile_y=32, overlap=8, tile_t=None, overlap_t=None)
    tokens = tiny.encode(x.movedim(-1, 1), value_range=(0, 1), spatial_tile=32)[0]
    assert torch.allclose(samples[0].movedim(0, -1).flatten(0, 1), tokens.latents, atol=1e-5)
    images = vae.decode_tiled(samples, tile_x=2, tile_y=2, overlap=1)
    expected = tiny.decode(tokens, as_tensor=True, value_range=(0, 1)).movedim(0, -1)
    assert torch.allclose(images[0], expected, atol=1e-4)
    assert vae.encode_tiled(x).shape == samples.shape


def test_codes(tiny):
    samples = ATokenVAE(tiny, kind="discrete").encode(pictures(1, 32, 32, 3))
    levels = samples.mul(2).round()  # four levels: -1, -0.5, 0, 0.5
    assert torch.allclose(samples, levels / 2)


@pytest.mark.slow
def test_the_folder_loads_as_custom_nodes(tiny, tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("custom_nodes_atoken", FOLDER / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.NODE_DISPLAY_NAME_MAPPINGS.keys() == module.NODE_CLASS_MAPPINGS.keys()
    node = module.NODE_CLASS_MAPPINGS["ATokenLoader"]
    assert node.RETURN_TYPES == ("VAE",)
    required = node.INPUT_TYPES()["required"]
    tiny.save_pretrained(tmp_path)
    given = {"source": str(tmp_path), "kind": required["kind"][0][0], "video": required["video"][1]["default"]}
    (vae,) = getattr(node(), node.FUNCTION)(**given)
    assert vae.patcher is None
    assert vae.encode(pictures(1, 16, 16, 3)).shape == (1, 48, 1, 1)
    with refused("discrete"):
        ATokenLoader().load("nano", "discrete", False)


@pytest.mark.slow
def test_comfyui_manages_the_memory(tiny, tmp_path, monkeypatch):
    loaded = []
    management = types.SimpleNamespace(
        vae_device=lambda: torch.device("cpu"),
        vae_offload_device=lambda: torch.device("cpu"),
        intermediate_device=lambda: torch.device("cpu"),
        load_models_gpu=lambda models, memory_required: loaded.append((models, memory_required)),
    )
    patcher = types.SimpleNamespace(ModelPatcher=lambda model, load_device, offload_device: model)
    monkeypatch.setitem(sys.modules, "comfy", types.SimpleNamespace(model_management=management))
    monkeypatch.setitem(sys.modules, "comfy.model_patcher", patcher)
    tiny.save_pretrained(tmp_path)
    (vae,) = ATokenLoader().load(str(tmp_path), "continuous", False)
    assert vae.patcher is vae.first_stage_model
    vae.decode(vae.encode(pictures(1, 32, 32, 3)))
    assert [models for models, _ in loaded] == [[vae.patcher]] * 2
    assert all(memory > 0 for _, memory in loaded)
