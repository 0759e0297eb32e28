"""Zero-shot classification, retrieval and teachers, on vectors small enough to check by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from atoken import PRESETS, AToken, ModelConfig
from atoken.perceptual.lite0 import lite0
from atoken.understanding.aligned import tower_of
from atoken.understanding.retrieval import recalls
from atoken.understanding.teachers import ClassTeacher
from atoken.understanding.zero_shot import label_embeddings, probabilities, top_k_accuracy


class Letters:
    """Texts by their first letter and their length."""

    name, width, weights_hash = "letters", 2, "0" * 64

    def __call__(self, texts):
        return torch.tensor([[1.0, 0.0] if item.startswith("a") else [0.0, 1.0] for item in texts])


def test_prompts_are_averaged():
    vectors = label_embeddings(Letters(), ["ape", "bee"], ("{}", "the {}"))
    half = math.sqrt(0.5)
    assert_close(vectors, torch.tensor([[half, half], [0.0, 1.0]]))
    with pytest.raises(ValueError, match=r"no \{\} for the label"):
        label_embeddings(Letters(), ["ape"], ("photo",))
    with pytest.raises(ValueError, match="at least one"):
        label_embeddings(Letters(), [])


def test_probabilities_and_accuracy():
    scores = probabilities(torch.eye(2), torch.eye(2), math.log(math.log(3.0)))
    assert_close(scores, torch.tensor([[0.75, 0.25], [0.25, 0.75]]))
    scores = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    assert [top_k_accuracy(scores, torch.tensor([0, 1]), k) for k in (1, 2, 9)] == [0.5, 1.0, 1.0]


def test_recalls_with_several_texts_an_image():
    images = torch.eye(3)
    texts = torch.tensor([[1.0, 0, 0], [0.6, 0.8, 0], [0, 1.0, 0]])
    found = recalls(images, texts, torch.tensor([0, 0, 1]), ks=(1, 2))
    assert found == pytest.approx(
        {"text_to_image_R@1": 2 / 3, "text_to_image_R@2": 1.0, "image_to_text_R@1": 1.0, "image_to_text_R@2": 1.0}
    )


def test_ties_count_against_the_model():
    same = torch.ones(4, 1)
    found = recalls(same, same, torch.arange(4), ks=(1, 3, 4))
    assert [found[f"{way}_R@{k}"] for way in ("text_to_image", "image_to_text") for k in (1, 3, 4)] == [0, 0, 1] * 2
    with pytest.raises(ValueError, match="one owner each"):
        recalls(same, same, torch.tensor([0, 1, 2, 4]))


def test_the_class_teacher_softens_the_classifiers_prediction():
    network = lite0()
    teacher = ClassTeacher(network, torch.zeros(1000, 2))
    images = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    scores = teacher.scores(images)
    assert_close((scores / 2).softmax(-1), (network.logits(images) / 2).softmax(-1))
    assert teacher.scores(images[..., :100]).shape == (1, 1000)
    with pytest.raises(ValueError, match="1000 classes apart, and there are 12 texts"):
        ClassTeacher(network, torch.zeros(12, 2))


def test_a_model_without_texts_says_so():
    with pytest.raises(ValueError, match="not aligned with texts"):
        tower_of(AToken(PRESETS["tiny"]))


def test_embeddings_take_the_width_of_the_text_tower():
    values = {**PRESETS["tiny"].to_dict(), "embed_dim": 24, "text_tower": "all-minilm"}
    model = AToken(ModelConfig.from_dict(values))
    vectors = model.embed([torch.zeros(3, 32, 32, dtype=torch.uint8)])
    assert vectors.shape == (1, 24)
    assert_close(vectors.norm(dim=1), torch.ones(1))
    with pytest.raises(ValueError, match="'all-minilm' has 384 numbers and 'tiny' 24"):
        tower_of(model)
    with pytest.raises(ValueError, match="embed_dim must be positive"):
        ModelConfig.from_dict({**values, "embed_dim": 0})
