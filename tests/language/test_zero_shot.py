"""Zero-shot classification and teachers, on vectors small enough to check by hand."""

from __future__ import annotations

import math

import torch
from torch.testing import assert_close

from atoken import PRESETS, AToken, ModelConfig
from atoken.backbones.lite0 import lite0
from atoken.language.aligned import tower_of
from atoken.language.zero_shot import label_embeddings, probabilities
from atoken.train.teachers import ClassTeacher
from refusals import refused


class Letters:
    """Texts by their first letter and their length."""

    name, width, weights_hash = "letters", 2, "0" * 64

    def __call__(self, texts):
        return torch.tensor([[1.0, 0.0] if item.startswith("a") else [0.0, 1.0] for item in texts])


def test_prompts_are_averaged():
    vectors = label_embeddings(Letters(), ["ape", "bee"], ("{}", "the {}"))
    half = math.sqrt(0.5)
    assert_close(vectors, torch.tensor([[half, half], [0.0, 1.0]]))
    with refused("'photo'", "{}"):
        label_embeddings(Letters(), ["ape"], ("photo",))
    with refused("labels"):
        label_embeddings(Letters(), [])


def test_probabilities():
    scores = probabilities(torch.eye(2), torch.eye(2), math.log(math.log(3.0)))
    assert_close(scores, torch.tensor([[0.75, 0.25], [0.25, 0.75]]))


def test_the_class_teacher_softens_the_classifiers_prediction():
    network = lite0()
    teacher = ClassTeacher(network, torch.zeros(1000, 2))
    images = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    scores = teacher.scores(images)
    assert_close((scores / 2).softmax(-1), (network.logits(images) / 2).softmax(-1))
    assert teacher.scores(images[..., :100]).shape == (1, 1000)
    with refused(1000, 12):
        ClassTeacher(network, torch.zeros(12, 2))


def test_a_model_without_texts_says_so():
    with refused("tiny", "text_tower"):
        tower_of(AToken(PRESETS["tiny"]))


def test_embeddings_take_the_width_of_the_text_tower():
    values = {**PRESETS["tiny"].to_dict(), "embed_dim": 24, "text_tower": "all-minilm"}
    model = AToken(ModelConfig.from_dict(values))
    vectors = model.embed([torch.zeros(3, 32, 32, dtype=torch.uint8)])
    assert vectors.shape == (1, 24)
    assert_close(vectors.norm(dim=1), torch.ones(1))
    with refused("all-minilm", 384, "tiny", 24):
        tower_of(model)
    with refused("embed_dim"):
        ModelConfig.from_dict({**values, "embed_dim": 0})
