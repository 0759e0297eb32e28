"""An encoder that starts as SigLIP2 computes what SigLIP2 computes, on a small random one."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn.functional import cosine_similarity, normalize
from torch.testing import assert_close

from atoken import PRESETS, AToken
from atoken.backbones.clip import clip
from atoken.media.patchify import image_to_patches
from atoken.nn.packed import Packed
from atoken.train.siglip import siglip2_config, siglip2_encoder, start_from_siglip2
from refusals import refused

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 3, "num_attention_heads": 2}
    text = {**small, "vocab_size": 20, "max_position_embeddings": 8}
    config = transformers.Siglip2Config(vision_config={**small, "num_patches": 16}, text_config=text)
    model = transformers.Siglip2Model(config)
    for parameter in model.parameters():  # biases and norms too, so that none is forgotten
        parameter.data += 0.1 * torch.randn_like(parameter)
    path = tmp_path_factory.mktemp("siglip2")
    model.save_pretrained(path)
    return path


def started(folder, **changes) -> AToken:
    model = AToken(dataclasses.replace(siglip2_config(folder, PRESETS["tiny"]), **changes))
    start_from_siglip2(model, folder)
    return model.eval()


@pytest.mark.parametrize("size", [(64, 64), (48, 96), (128, 32)])
def test_without_rotary_positions_the_features_are_siglip2s(folder, size):
    model, tower = started(folder, rope=False), clip(folder)
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    packed = Packed.cat([image_to_patches(image)[:2] for image in images])
    whole = Packed(torch.cat([packed.feats, torch.zeros(len(packed.feats), 2304)], 1), packed.coords)
    with torch.no_grad():
        for batch in (packed, whole):
            out = model.encode_packed(batch)
            expected = tower.features(images)[0].flatten(2).transpose(1, 2).flatten(0, 1)
            assert_close(out.hidden, expected, atol=1e-4, rtol=1e-4)
            assert_close(out.pooled, normalize(tower.embedding(images), dim=-1), atol=1e-5, rtol=1e-4)


def test_rotary_positions_turn_the_features_and_leave_one_token_alone(folder):
    plain, turned = started(folder, rope=False), started(folder)
    for size, same in (((16, 16), True), ((64, 64), False)):
        image = torch.rand(3, *size, generator=torch.Generator().manual_seed(1))
        packed = Packed.cat([image_to_patches(image)[:2]])
        with torch.no_grad():
            a, b = plain.encode_packed(packed).pooled, turned.encode_packed(packed).pooled
        assert bool(cosine_similarity(a, b) > 1 - 1e-6) is same


def test_every_tensor_of_the_encoder_is_set_and_later_frames_start_at_zero(folder):
    model = started(folder)
    state = siglip2_encoder(folder)
    assert {name for name in model.state_dict() if name.startswith("encoder.")} == set(state)
    assert model.config.text_tower == str(folder)
    assert not state["encoder.input_layer.weight"][:, 768:].any()
    assert state["encoder.input_layer.weight"][:, :768].any()


def test_what_does_not_fit_is_said(folder, tmp_path):
    with refused("input_layer.weight", [32, 3072], [64, 3072]):
        start_from_siglip2(AToken(PRESETS["tiny"]), folder)
    config = dataclasses.replace(siglip2_config(folder, PRESETS["tiny"]), embed_dim=8)
    with refused("encoder.head.projection.weight"):
        start_from_siglip2(AToken(config), folder)
    transformers.SiglipConfig().save_pretrained(tmp_path)
    with refused("'siglip'"):
        siglip2_encoder(tmp_path)
