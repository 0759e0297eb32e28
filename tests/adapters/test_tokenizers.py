"""The interfaces of LightningDiT, of autoregressive trainers, and of timm's features."""

import numpy as np
import pytest
import torch
from PIL import Image

from atoken import PRESETS, AToken, load
from atoken.adapters.features import ATokenFeatures
from atoken.adapters.tokenizers import CodeTokenizer, LatentTokenizer
from atoken.media.image.crop import adm_crop
from atoken.media.patchify import image_to_patches
from atoken.nn.packed import Packed
from refusals import refused

EXACT = {"atol": 1e-5, "rtol": 1e-4}  # fp32 sums of at most 3072 terms, batched otherwise


def pixels(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape))) * 2 - 1


def test_lightningdit_transforms_encodes_and_decodes(tiny):
    tokenizer = LatentTokenizer(tiny, img_size=48)
    picture = np.random.default_rng(0).integers(0, 256, (100, 130, 3), np.uint8)
    plain = tokenizer.img_transform(p_hflip=0.0)(Image.fromarray(picture))
    flipped = tokenizer.img_transform(p_hflip=1.0)(Image.fromarray(picture))
    expected = torch.tensor(adm_crop(picture, 48)).permute(2, 0, 1) / 127.5 - 1
    assert torch.allclose(plain, expected, atol=1e-6)
    assert torch.equal(flipped, plain.flip(-1))
    assert tokenizer.img_transform(img_size=32)(Image.fromarray(picture)).shape == (3, 32, 32)

    x = torch.stack([plain, flipped])
    torch.manual_seed(1)
    z = tokenizer.encode_images(x)
    patches, coords, _ = image_to_patches(plain)
    with torch.no_grad():
        posterior = tiny.encode_packed(Packed.cat([(patches, coords)])).posterior
    away = (z[0].movedim(0, -1).flatten(0, 1) - posterior.mean) / (0.5 * posterior.logvar).exp()
    assert 0.8 < float(away.std()) < 1.2  # a draw: 432 normal numbers
    shown = tokenizer.decode_to_images(z)
    assert (shown.shape, shown.dtype) == ((2, 48, 48, 3), np.uint8)


@pytest.mark.slow
def test_lightningdit_does_not_read_codes():
    with refused("nano-discrete"):
        LatentTokenizer("nano-discrete")


@pytest.mark.slow
def test_latents_of_nano_show_the_picture():
    tokenizer = LatentTokenizer("nano")
    ramp = np.linspace(40, 200, 64).astype(np.uint8)
    picture = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], 100), -1).astype(np.uint8)
    x = tokenizer.img_transform(0.0, 64)(Image.fromarray(picture))
    shown = tokenizer.decode_to_images(tokenizer.encode_images(x[None]))[0]
    assert float(np.abs(shown.astype(int) - picture).mean()) < 12  # draws of nano's posterior on a smooth ramp


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(2, 3, 32, 48), (1, 3, 8, 32, 32)])
def test_codes_there_and_back(shape):
    tokenizer = CodeTokenizer("nano-discrete")
    model = load("nano-discrete")
    assert (tokenizer.vocab_size, tokenizer.num_codebooks) == (4096, 8)
    x = pixels(*shape)
    codes = tokenizer.encode(x)
    assert codes.dtype == torch.int64
    assert 0 <= int(codes.min()) <= int(codes.max()) < tokenizer.vocab_size
    fps = 8 if len(shape) == 5 else None
    tokens = model.encode(x, value_range=(-1, 1), fps=fps)
    own = torch.stack([each.codes.int().view(*each.grid[:3], -1).movedim(-1, 0) for each in tokens])
    assert float((codes.view(own.shape) != own).float().mean()) < 0.01  # numbers at the edge of two levels
    decoded = tokenizer.decode(codes.int())
    assert decoded.shape == x.shape
    grid = codes.shape[2:]
    expected = model.decode_codes(codes.flatten(2).mT, grid=tuple(grid), fps=fps, as_tensor=True)
    assert torch.allclose(decoded, expected, atol=1e-4)


def test_codes_that_are_none(tiny):
    tokenizer = CodeTokenizer(tiny)
    with refused("4096"):
        tokenizer.decode(torch.full((1, 8, 2, 2), 4096))
    with refused("float"):
        tokenizer.decode(torch.zeros(1, 8, 2, 2))
    with refused("trained for"):
        CodeTokenizer(AToken(PRESETS["nano"]))


def test_features_at_chosen_depths(tiny):
    features = ATokenFeatures(tiny, out_indices=(0, -1))
    x = pixels(2, 3, 32, 64)
    maps = features(x)
    assert [each.shape for each in maps] == [(2, 64, 2, 4)] * 2
    assert features.feature_info.channels() == [64, 64]
    assert features.feature_info.reduction() == [16, 16]
    assert features.feature_info.module_name() == ["blocks.0", "blocks.1"]
    patches, coords, _ = image_to_patches(x[1])
    expected = tiny.encode_packed(Packed.cat([(patches, coords)]), hidden_layers=(1, 2)).hidden_layers
    for found, layer in zip(maps, expected, strict=True):
        assert torch.allclose(found[1].movedim(0, -1).flatten(0, 1), layer, **EXACT)
    assert ATokenFeatures(tiny)(pixels(1, 3, 5, 16, 32))[0].shape == (1, 64, 2, 1, 2)
    maps[0].square().mean().backward()
    tiny.zero_grad()
    with refused("out_indices", "2"):
        ATokenFeatures(tiny, out_indices=(2,))
