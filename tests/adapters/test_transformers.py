"""AToken's encoder inside transformers: its Auto classes, and LLaVA with pictures of several sizes."""

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")

from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageTextToText,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.video_processing_auto import AutoVideoProcessor

from atoken import PRESETS, load
from atoken.adapters.transformers import (
    ATokenImageProcessor,
    ATokenLlavaProcessor,
    ATokenVideoProcessor,
    ATokenVisionConfig,
    ATokenVisionModel,
)
from atoken.media.patchify import frames_to_patches, image_to_patches
from atoken.media.pixels import to_pixels
from atoken.nn.packed import Packed
from refusals import refused

EXACT = {"atol": 1e-5, "rtol": 1e-4}  # fp32 sums of at most 3072 terms, batched otherwise


def photo(height, width):
    generator = np.random.default_rng(height * width)
    return generator.integers(0, 256, (height, width, 3), np.uint8)


def encoded(model, picture, **options):
    patches, coords, _ = image_to_patches(to_pixels(picture))
    with torch.no_grad():
        return model.encode_packed(Packed.cat([(patches, coords)]), **options)


def test_each_patch_has_the_hidden_state_of_the_tokenizer(tiny):
    tower = ATokenVisionModel.from_model(tiny)
    pictures = [photo(30, 50), photo(64, 16)]
    inputs = ATokenImageProcessor()(pictures, return_tensors="pt")
    assert inputs["image_sizes"].tolist() == [[32, 64], [64, 16]]
    with torch.no_grad():
        out = tower(**inputs, output_hidden_states=True)
    expected = [encoded(tiny, picture, hidden_layers=(0, 1)) for picture in pictures]
    assert torch.allclose(out.last_hidden_state[0], torch.cat([each.hidden for each in expected]), **EXACT)
    assert torch.allclose(out.pooler_output, torch.cat([each.pooled for each in expected]), **EXACT)
    assert len(out.hidden_states) == tower.config.num_hidden_layers + 1
    assert out.hidden_states[-1] is out.last_hidden_state
    for layer in range(2):
        assert torch.allclose(
            out.hidden_states[layer][0], torch.cat([each.hidden_layers[layer] for each in expected]), **EXACT
        )


def test_pictures_of_one_size_are_a_batch(tiny):
    tower = ATokenVisionModel.from_model(tiny)
    pictures = [photo(32, 48), photo(32, 48)[::-1]]
    values = ATokenImageProcessor()(pictures, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        out = tower(values)
        assert torch.equal(tower(values, return_dict=False)[0], out.last_hidden_state)
    assert out.last_hidden_state.shape == (2, 6, 64)
    assert torch.allclose(out.last_hidden_state[1], encoded(tiny, pictures[1]).hidden, **EXACT)
    assert out.hidden_states is None


def test_a_clip(tiny):
    tower = ATokenVisionModel.from_model(tiny)
    frames = np.stack([photo(20, 32) + shift for shift in range(6)]).astype(np.uint8)
    forms = [frames, torch.from_numpy(frames).permute(0, 3, 1, 2), [Image.fromarray(frame) for frame in frames]]
    values = [ATokenVideoProcessor()(form, return_tensors="pt")["pixel_values_videos"] for form in forms]
    assert values[0].shape == (1, 6, 3, 32, 32)
    assert all(torch.equal(each, values[0]) for each in values)
    with torch.no_grad():
        out = tower(pixel_values_videos=values[0])
        patches, coords, _ = frames_to_patches(frames)
        expected = tiny.encode_packed(Packed.cat([(patches, coords)]))
    assert torch.allclose(out.last_hidden_state[0], expected.hidden, **EXACT)
    assert torch.allclose(out.pooler_output, expected.pooled, **EXACT)


@pytest.mark.slow
def test_the_pooled_output_finds_what_embed_finds():
    nano = load("nano", device="cpu")
    tower = ATokenVisionModel.from_model(nano)
    pictures = [photo(200, 300), photo(40, 40)]
    processor = ATokenImageProcessor(max_num_patches=nano.config.embed_tokens)
    with torch.no_grad():
        pooled = tower(**processor(pictures, return_tensors="pt")).pooler_output
    assert torch.allclose(pooled, nano.embed(pictures), **EXACT)
    assert tower.config.projection_dim == pooled.shape[1]


@pytest.mark.slow
def test_saved_and_loaded_by_the_auto_classes(tiny, tmp_path):
    tower = ATokenVisionModel.from_model(tiny)
    tower.save_pretrained(tmp_path)
    ATokenImageProcessor(max_num_patches=4).save_pretrained(tmp_path)
    ATokenVideoProcessor(max_num_patches=9).save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path)
    assert isinstance(again, ATokenVisionModel)
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in tower.state_dict().items())
    assert AutoConfig.from_pretrained(tmp_path).architecture == tiny.config.to_dict()
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    assert isinstance(processor, ATokenImageProcessor)
    assert processor(photo(64, 64), return_tensors="np")["pixel_values"].shape == (1, 3, 32, 32)
    video = AutoVideoProcessor.from_pretrained(tmp_path)
    assert isinstance(video, ATokenVideoProcessor)
    assert video.max_num_patches == 9


def test_a_new_tower_is_random_and_finite():
    torch.manual_seed(0)
    tower = AutoModel.from_config(ATokenVisionConfig(architecture=PRESETS["tiny"].to_dict()))
    assert all(bool(torch.isfinite(tensor).all()) for tensor in tower.state_dict().values())
    assert float(tower.encoder.head.probe.detach().std()) == pytest.approx(0.02, rel=0.5)  # of 64 numbers


def llava(tower):
    torch.manual_seed(0)
    text = LlamaConfig(
        vocab_size=10,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        bos_token_id=None,
        eos_token_id=None,
    )
    config = LlavaConfig(
        vision_config=tower.config,
        text_config=text,
        image_token_index=1,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    model = LlavaForConditionalGeneration(config).eval()
    model.model.vision_tower.load_state_dict(tower.state_dict())
    return model


def processor_of():
    words = Tokenizer(models.WordLevel({"<pad>": 0, "<image>": 1, "what": 2, "is": 3, "it": 4}, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", additional_special_tokens=["<image>"], padding_side="left"
    )
    return ATokenLlavaProcessor(
        ATokenImageProcessor(),
        tokenizer,
        patch_size=16,
        vision_feature_select_strategy="full",
        image_token="<image>",
    )


@pytest.mark.slow
def test_llava_reads_pictures_at_their_own_sizes(tiny, tmp_path):
    tower = ATokenVisionModel.from_model(tiny)
    model = llava(tower)
    pictures = [photo(32, 48), photo(16, 32)]
    inputs = processor_of()(
        text=["<image> what is it", "<image> it"], images=pictures, return_tensors="pt", padding=True
    )
    assert (inputs["input_ids"] == 1).sum(1).tolist() == [6, 2]
    with torch.no_grad():
        both = model(**inputs).logits[:, -1]
        alone = [
            model(**processor_of()(text=[text], images=[picture], return_tensors="pt")).logits[0, -1]
            for text, picture in zip(["<image> what is it", "<image> it"], pictures, strict=True)
        ]
        other = model(**{**inputs, "pixel_values": -inputs["pixel_values"]}).logits[:, -1]
    assert torch.allclose(both, torch.stack(alone), **EXACT)
    assert not torch.allclose(both, other, **EXACT)
    model.save_pretrained(tmp_path)
    again = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float32)
    with torch.no_grad():
        assert torch.equal(again(**inputs).logits[:, -1], both)
        words = again.generate(**inputs, max_new_tokens=2, do_sample=False, pad_token_id=0)
    assert words.shape == (2, inputs["input_ids"].shape[1] + 2)


def test_gradients_reach_the_tower(tiny):
    tower = ATokenVisionModel.from_model(tiny)
    tower(torch.rand(1, 3, 16, 32)).last_hidden_state.square().mean().backward()
    assert float(tower.get_input_embeddings().weight.grad.abs().max()) > 0
    tiny.zero_grad()


def test_what_cannot_be(tiny):
    tower = ATokenVisionModel.from_model(tiny)
    with refused("30"):
        tower(torch.zeros(1, 3, 30, 32))
    with refused("pixel_values"):
        tower()
    with refused("image_sizes", "64"):
        tower(torch.zeros(1, 3, 32, 32), image_sizes=[[64, 32]])
    with refused("float"):
        ATokenImageProcessor()(np.zeros((3, 32, 32), np.float32))
    with refused("float"):
        ATokenVideoProcessor()(np.zeros((4, 32, 32, 3), np.float32))
    with refused("shape"):
        ATokenVideoProcessor()([np.zeros((4, 32, 32, 3), np.uint8), np.zeros((5, 32, 32, 3), np.uint8)])
    with refused("max_num_patches"):
        ATokenImageProcessor(max_num_patches=0)(photo(16, 16))
    with refused("hidden_size", "5"):
        ATokenVisionConfig(architecture=PRESETS["tiny"].to_dict(), hidden_size=5)
