"""The model and its processor: counts, stored tokens beside files, saved folders beside the model."""

import json

import numpy as np
import pytest
import torch

from atoken import PRESETS, AToken, Clip
from refusals import refused

transformers = pytest.importorskip("transformers")

from atoken.media.views.packed import PackedAsset  # noqa: E402
from atoken.mllm import auto  # noqa: E402, F401
from atoken.mllm.assemble import assemble  # noqa: E402
from atoken.mllm.layout import LayoutConfig  # noqa: E402
from atoken.tokens.samples import TokenSample  # noqa: E402
from small_language import language_model, seeded, text_tokenizer  # noqa: E402


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def voxels(count: int = 30, side: int = 64) -> PackedAsset:
    random = np.random.default_rng(1)
    places = np.unique(random.integers(0, side, (count, 3)), axis=0)
    patch = np.stack([random.integers(0, 2, len(places)), *random.integers(0, 2, (2, len(places)))], 1)
    return PackedAsset("chair", noise(2, 32, 32, 3), noise(1, 32, 32, 3), {side: (places, patch)})


PICTURE, SMALL, CLIP, ASSET = noise(40, 70, 3), noise(16, 16, 3), Clip(noise(9, 32, 48, 3), fps=2.0), voxels()
LAYOUT = LayoutConfig(slow_steps=2, fast_steps=4)


@pytest.fixture(scope="module")
def tokenizer() -> AToken:
    return seeded(AToken, PRESETS["tiny"]).eval()


def build(tokenizer: AToken, **options):
    options = {"layout": LAYOUT, **options}
    return seeded(lambda: assemble(tokenizer, language_model(), text_tokenizer(), **options))


@pytest.fixture(scope="module")
def built(tokenizer):
    return build(tokenizer)


def user(*parts) -> list[dict]:
    kinds = {str: "text", np.ndarray: "image", Clip: "video", PackedAsset: "3d"}
    named = [(kinds[type(part)], part) for part in parts]
    content = [{"type": kind, "text" if kind == "text" else "source": part} for kind, part in named]
    return [{"role": "user", "content": content}]


def inputs_of(processor, *conversations, **options):
    return processor.apply_chat_template(
        list(conversations), tokenize=True, return_dict=True, add_generation_prompt=True, **options
    )


def test_any_mixture_of_sources_in_one_conversation(built):
    model, processor = built
    conversation = user(PICTURE, "and", CLIP, "and", ASSET, SMALL, "?")
    inputs = inputs_of(processor, conversation)
    features = model.get_image_features(
        **{name: inputs[name] for name in ("pixel_values", "visual_grids", "visual_coords")}
    ).pooler_output
    assert [len(part) for part in features] == [15 + 3 + 2, 2 * 2 + 4 * 1 + 6 + 3, len(ASSET.at(64)[0]) + 2, 1 + 1 + 2]
    assert int((inputs["input_ids"] == model.config.image_token_id).sum()) == sum(map(len, features))
    assert model(**inputs).logits.isfinite().all()
    text = processor.tokenizer.decode(inputs["input_ids"][0])
    assert text.startswith("<|im_start|>user\n<visual>")
    assert "frames at 1.5, 3.5 s: <visual>" in text  # of 9 frames those of 0.5, 1.5, 2.5 and 3.5 s are looked at
    assert text.endswith("?<|im_end|>\n<|im_start|>assistant\n")


def test_prompts_of_a_batch_do_not_see_each_other(built):
    model, processor = built
    conversations = user(PICTURE, "what is it?"), user("and", CLIP, SMALL, "that, over there?"), user("hello")
    together = inputs_of(processor, *conversations)
    logits = model(**together).logits
    for row, conversation in enumerate(conversations):
        alone = model(**inputs_of(processor, conversation)).logits[0]
        # fp32 sums in another order, two layers: some 1e-6 of values about 1
        torch.testing.assert_close(logits[row, -len(alone) :], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("inputs", ["hidden", "latents", "codes"])
def test_stored_tokens_answer_as_files_do(tokenizer, inputs):
    layout = LayoutConfig(slow_steps=2, fast_steps=4, frames_per_token=4)
    model, processor = build(tokenizer, inputs=inputs, layout=layout)
    sources = [PICTURE, CLIP, ASSET]
    live = inputs_of(processor, user(*sources, "?"))
    kind = "discrete" if inputs == "codes" else "continuous"
    tokens = [tokenizer.encode(source, kind=kind) for source in sources]
    hidden = [
        model.model.vision_tower.encode_packed(_packed(processor, source), pool=False).hidden for source in sources
    ]
    samples = [
        TokenSample(key="a", tokens=made, extras={"hidden": states.detach()})
        for made, states in zip(tokens, hidden, strict=True)
    ]
    stored = processor(text="<image><video><3d>?", sources=samples)
    prompt = processor(text="<image><video><3d>?", sources=sources)
    assert "pixel_values" not in stored
    torch.testing.assert_close(model(**stored).logits, model(**prompt).logits, rtol=1e-4, atol=1e-5)
    options = {"max_new_tokens": 5, "do_sample": False}
    answer = model.generate(**prompt, **options)
    assert torch.equal(model.generate(**stored, **options), answer)
    assert live["visual_grids"].equal(stored["visual_grids"])


def _packed(processor, source):
    from atoken.media.pixels import from_uint8
    from atoken.nn.packed import Packed

    visual = processor.reader.read(source)
    patches = from_uint8(visual.patches).view(len(visual.geometry), -1)
    return Packed.cat([(patches, visual.geometry.coords)])


def test_generation_uses_the_sources_once_and_beams_agree_with_it(built):
    model, processor = built
    inputs = inputs_of(processor, user(PICTURE, "a?"), user(SMALL, PICTURE, "b?"))
    greedy = model.generate(**inputs, max_new_tokens=6, do_sample=False)
    without_cache = model.generate(**inputs, max_new_tokens=6, do_sample=False, use_cache=False)
    assert torch.equal(greedy, without_cache)
    beams = model.generate(**inputs, max_new_tokens=3, num_beams=2, do_sample=False)
    assert beams.shape == (2, inputs["input_ids"].shape[1] + 3)


def test_the_answer_depends_on_the_source(built):
    model, processor = built
    other = model(**inputs_of(processor, user(255 - PICTURE, "?"))).logits
    assert not torch.allclose(model(**inputs_of(processor, user(PICTURE, "?"))).logits[0, -1], other[0, -1], atol=1e-4)


def test_gradients_reach_the_projector_and_never_the_tower(built):
    model, processor = built
    inputs = inputs_of(processor, user(PICTURE, ASSET, CLIP, "?"))
    model(**inputs, labels=inputs["input_ids"]).loss.backward()
    assert all(parameter.grad is None for parameter in model.model.vision_tower.parameters())
    grads = {name: parameter.grad for name, parameter in model.model.multi_modal_projector.named_parameters()}
    assert all(grad is not None and bool(grad.any()) for grad in grads.values())
    model.zero_grad()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_saved_model_loads_by_the_auto_classes(built, tmp_path, dtype):
    model, processor = built
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again = transformers.AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=dtype).eval()
    reader = transformers.AutoProcessor.from_pretrained(tmp_path)
    inputs = inputs_of(reader, user(PICTURE, CLIP, "?"))
    ours = inputs_of(processor, user(PICTURE, CLIP, "?"))
    assert all(torch.equal(inputs[name], ours[name]) for name in ours)
    tower = again.model.vision_tower
    assert {parameter.dtype for parameter in tower.parameters()} == {torch.float32}
    assert tower.weights_hash == model.model.vision_tower.weights_hash
    assert again.lm_head.weight is again.model.language_model.embed_tokens.weight
    logits = again(**inputs).logits
    if dtype == torch.float32:
        assert torch.equal(logits, model(**ours).logits)
    else:  # 8 bits of each number through two layers
        torch.testing.assert_close(logits.float(), model(**ours).logits, rtol=0.1, atol=0.05)


@pytest.mark.slow
def test_the_pipeline_of_transformers_answers(built, tmp_path):
    from PIL import Image

    model, processor = built
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    pipe = transformers.pipeline("image-text-to-text", model=str(tmp_path), device="cpu")
    conversation = [
        {"role": "user", "content": [{"type": "image", "path": str(tmp_path / "a.png")}, {"type": "text", "text": "?"}]}
    ]
    told = pipe(conversation, max_new_tokens=4, do_sample=False, return_full_text=False)
    expected = model.generate(**inputs_of(processor, user(PICTURE, "?")), max_new_tokens=4, do_sample=False)[0, -4:]
    assert told[0]["generated_text"] == processor.tokenizer.decode(expected, skip_special_tokens=True)


@pytest.mark.slow
def test_another_tower_is_refused(built, tmp_path):
    model, _ = built
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["tower"]["encoder"] = "0" * 64
    (tmp_path / "config.json").write_text(json.dumps(config))
    with refused("tiny", "0" * 12, model.model.vision_tower.weights_hash[:12]):
        transformers.AutoModelForImageTextToText.from_pretrained(tmp_path)


def test_too_long_a_prompt_says_how_many_tokens_it_is(tokenizer):
    _, processor = build(tokenizer)
    processor.context = 20
    with refused(20, "prompt is", "pictures"):
        inputs_of(processor, user(PICTURE, "?"))
    with refused("truncation"):
        processor(text="<image>", images=SMALL, truncation=True)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"text": "<image>"}, ("<image>", "1", "0")),
        ({"text": "no marker", "images": SMALL}, ("<image>", "0", "1")),
        ({"text": "<image><video>", "sources": [SMALL]}, ("2", "1")),
        ({"text": "<image>", "sources": [SMALL], "images": SMALL}, ("not both",)),
        ({"images": SMALL}, ("text",)),
    ],
)
def test_markers_and_sources_must_match(built, options, named):
    with refused(*named):
        built[1](**options)


def test_wrong_inputs_of_the_model_are_refused(built):
    model, processor = built
    inputs = inputs_of(processor, user(PICTURE, "?"))
    inputs["input_ids"] = inputs["input_ids"][:, :10]
    inputs["attention_mask"] = inputs["attention_mask"][:, :10]
    with refused("placeholders", 20):
        model(**inputs)
    with refused("pixel_values", "visual_states"):
        model.get_image_features(visual_grids=inputs["visual_grids"], visual_coords=inputs["visual_coords"])


def test_parts_of_messages_are_checked(built):
    _, processor = built
    for part, named in (({"type": "sound", "path": "a.wav"}, "sound"), ({"type": "image"}, "source")):
        with refused(named):
            inputs_of(processor, [{"role": "user", "content": [part]}])


def test_a_tokenizer_of_another_format_is_refused(tokenizer):
    words = text_tokenizer()
    words.get_vocab = lambda: {"<s>": 0}
    with refused("<|im_start|>", "ChatML"):
        assemble(tokenizer, language_model(), words)
