"""Vision towers through transformers, on small random models."""

from __future__ import annotations

import pytest
import torch

from atoken.backbones.clip import clip
from refusals import refused

transformers = pytest.importorskip("transformers")
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD  # noqa: E402

SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folders with whole models, text tower included, as they are published."""

    def make(family: str):
        path = tmp_path_factory.getbasetemp() / family
        if not path.is_dir():
            torch.manual_seed(0)
            vision = {**SMALL, **({"num_patches": 16} if family == "siglip2" else {"image_size": 64})}
            text = {**SMALL, "vocab_size": 100, "max_position_embeddings": 16}
            text.pop("patch_size")
            prefix = {"clip": "CLIP", "siglip": "Siglip", "siglip2": "Siglip2"}[family]
            config = getattr(transformers, f"{prefix}Config")(vision_config=vision, text_config=text)
            getattr(transformers, f"{prefix}Model")(config).save_pretrained(path)
        return path

    return make


def expected(family: str, folder, images: torch.Tensor) -> torch.Tensor:
    """Image features as transformers computes them from what its own processor would give."""
    model = transformers.AutoModel.from_pretrained(folder(family)).eval()
    if family == "siglip2":
        processor = transformers.Siglip2ImageProcessor(max_num_patches=16, patch_size=16)
        inputs = processor(images=list(((images + 1) * 127.5).round().to(torch.uint8)), return_tensors="pt")
    elif family == "siglip":
        inputs = {"pixel_values": images}
    else:
        mean, std = torch.tensor(OPENAI_CLIP_MEAN).view(3, 1, 1), torch.tensor(OPENAI_CLIP_STD).view(3, 1, 1)
        inputs = {"pixel_values": ((images + 1) / 2 - mean) / std}
    with torch.no_grad():
        out = model.get_image_features(**inputs)
    return out if isinstance(out, torch.Tensor) else out.pooler_output


@pytest.mark.slow
@pytest.mark.parametrize("family", ["clip", "siglip", "siglip2"])
def test_embeds_as_transformers_does(family, folder):
    pixels = torch.randint(0, 256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(1))
    images = pixels / 127.5 - 1
    tower = clip(folder(family))
    torch.testing.assert_close(tower.embedding(images), expected(family, folder, images), atol=1e-4, rtol=1e-3)
    (tokens,) = tower.features(images)
    assert tokens.shape == (2, 32, 4, 4)
    assert tower.size == 64
    assert len(tower.weights_hash) == 64


@pytest.mark.slow
def test_sizes_and_gradients(folder):
    fixed, free = clip(folder("siglip")), clip(folder("siglip2"))
    x = torch.rand(1, 3, 40, 100, requires_grad=True)
    assert fixed.features(x)[0].shape == (1, 32, 4, 4)
    assert free.features(x)[0].shape == (1, 32, 2, 6)
    free.embedding(x).square().sum().backward()
    assert x.grad is not None
    assert (x.grad[..., :32, :96] != 0).float().mean() > 0.9
    assert not any(parameter.requires_grad for parameter in free.parameters())
    with refused(16):
        free.features(torch.zeros(1, 3, 8, 64))


def test_feature_maps_are_rows_by_columns(folder):
    tower = clip(folder("siglip2"))
    image = torch.zeros(1, 3, 64, 96)
    changed = image.clone()
    changed[:, :, 16:32, 80:96] = 1.0
    difference = (tower.features(image)[0] - tower.features(changed)[0]).norm(dim=1)[0]  # [rows, columns]
    assert difference.shape == (4, 6)
    assert difference.argmax() == 1 * 6 + 5


def test_what_is_missing_or_wrong_is_said(folder, tmp_path):
    with refused(tmp_path / "none", error=FileNotFoundError):
        clip(tmp_path / "none")
    transformers.SiglipConfig().save_pretrained(tmp_path / "empty")
    with refused(tmp_path / "empty", error=FileNotFoundError):
        clip(tmp_path / "empty")
    path = tmp_path / "bert"
    transformers.BertConfig().save_pretrained(path)
    with refused("siglip2", "bert"):
        clip(path)
