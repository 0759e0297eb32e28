"""Each task learns one batch by heart."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from atoken import AToken
from atoken.backbones.lite0 import lite0
from atoken.data.batch import Sample, pack
from atoken.data.config import CropsConfig
from atoken.losses.perceptual import lite_terms
from atoken.losses.total import Weights, weighted
from atoken.nn.packed import dense_coords
from atoken.train.config import TaskConfig, TrainConfig
from atoken.train.module import TrainModule
from atoken.train.networks import TextConfig
from atoken.train.tasks import Distillation, Reconstruction, TextPairs, build_tasks
from refusals import refused

from .conftest import SMALL

STEPS = 120


def sample(modality, grid, features, caption, seed):
    generator = torch.Generator().manual_seed(seed)
    coords = dense_coords(grid)
    if modality == "3d":
        coords = coords[torch.randperm(len(coords), generator=generator)[:8].sort().values]
    feats = torch.rand(len(coords), features, generator=generator) * 1.6 - 0.8
    return Sample(modality, feats, coords, grid, caption)


BATCHES = {
    "image": pack([sample("image", (1, 2, 2, 1), 768, f"picture {i}", i) for i in range(3)], seed=1),
    "video": pack([sample("video", (2, 2, 1, 1), 3072, f"clip {i}", i) for i in range(3)], seed=1),
    "3d": pack([sample("3d", (1, 4, 4, 4), 768, f"thing {i}", i) for i in range(3)], seed=1),
    "mixed": pack([sample("image", (1, 2, 2, 1), 768, "a", 1), sample("video", (2, 1, 2, 1), 3072, "b", 2)], seed=1),
}


class Words:
    """A text tower that gives every text a fixed direction."""

    name, width, weights_hash = "words", 64, ""

    def __call__(self, texts):
        generators = [torch.Generator().manual_seed(sum(text.encode())) for text in texts]
        return F.normalize(torch.stack([torch.randn(64, generator=g) for g in generators]), dim=-1)


class Sure:
    """A teacher that is sure of another text for each picture."""

    texts = Words()(["a", "b", "c", "d"])

    def scores(self, images):
        assert images.shape[1:] == (3, 32, 32)
        return 20 * F.one_hot(torch.arange(len(images)) % 4, 4).float()


def learn(task, batch, steps=STEPS, **changes):
    torch.manual_seed(0)
    learner = TrainModule(AToken(replace(SMALL, **changes)).train(), {"task": task})
    optimizer = torch.optim.AdamW(learner.parameters(), 3e-3)
    totals = []
    for _ in range(steps):
        terms = weighted(learner("task", batch), Weights(reconstruction=1.0))
        total = torch.stack(list(terms.values())).sum()
        totals.append(float(total.detach()))
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimizer.step()
    return totals, terms


@pytest.mark.slow
@pytest.mark.parametrize("name", BATCHES)
def test_reconstruction_of_every_modality(name):
    totals, terms = learn(Reconstruction(Weights()), BATCHES[name])
    assert set(terms) == {"l1", "kl"}
    assert totals[-1] < 0.15 * totals[0]


@pytest.mark.slow
def test_reconstruction_through_rounded_codes():
    totals, terms = learn(Reconstruction(Weights()), BATCHES["image"], kinds=("discrete",))
    assert set(terms) == {"l1"}
    assert totals[-1] < 0.25 * totals[0]


def test_grey_frames_that_pad_images_do_not_count():
    task, model = Reconstruction(Weights()), AToken(SMALL)
    alone = pack([sample("image", (1, 2, 2, 1), 768, "a", 1)])
    padded = replace(alone, packed=replace(alone.packed, feats=F.pad(alone.packed.feats, (0, 2304))))
    torch.testing.assert_close(task(model, padded)["l1"], task(model, alone)["l1"])


def test_a_mixed_batch_that_is_right_where_it_counts_has_the_least_log_mse():
    """The grey frames that pad stills counted, and were learnt."""
    batch = BATCHES["mixed"]
    padding = ~batch.valid(batch.packed.feats)
    assert padding.any()

    class Perfect(AToken):
        def decode_packed(self, packed, features):
            return batch.packed.feats + 0.3 * padding

    terms = Reconstruction(Weights(log_mse=1.0))(Perfect(SMALL), batch)
    assert float(terms["l1"]) == 0
    assert float(terms["log_mse"]) == pytest.approx(math.log(1e-6))


@pytest.mark.slow
def test_perceptual_terms_join_images_only():
    task = Reconstruction(Weights(), lite_terms(lite0(("stem", "stage1", "head")), 32), limit=2)
    terms = task(AToken(SMALL), BATCHES["image"])
    assert set(terms) == {"l1", "kl", "lpips", "gram", "clip"}
    assert set(task(AToken(SMALL), BATCHES["mixed"])) == {"l1", "kl"}


@pytest.mark.slow
def test_distillation_of_a_teacher_of_images():
    task = Distillation(TextConfig(temperature=2.0), lambda batch: Sure(), 32)
    totals, terms = learn(task, BATCHES["image"], logit_scale=3.5)
    assert set(terms) == {"semantic"}
    assert totals[-1] < 0.05 * totals[0]


def test_scores_that_come_with_the_pictures_replace_the_teacher():
    class Silent:
        texts = Sure.texts

    said = 20 * torch.eye(4)[:3]
    batch = BATCHES["image"]
    samples = tuple(replace(item, scores=row) for item, row in zip(batch.samples, said, strict=True))
    model, batches = AToken(SMALL), (batch, replace(batch, samples=samples))
    losses = [
        Distillation(TextConfig(), lambda batch, teacher=teacher: teacher, 32)(model, batch)["semantic"]
        for teacher, batch in zip((Sure(), Silent()), batches, strict=True)
    ]
    torch.testing.assert_close(*losses)


def test_captions_seen_again_are_not_embedded_again():
    asked = []

    class Listening(Words):
        def __call__(self, texts):
            asked.append(list(texts))
            return super().__call__(texts)

    task = TextPairs(Listening(), SMALL)
    first, second = task.embeddings(["b", "a", "b"]), task.embeddings(["a", "c"])
    assert asked == [["a", "b"], ["c"]]
    torch.testing.assert_close(torch.cat([first, second]), Words()(["b", "a", "b", "a", "c"]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["video", "3d"])
def test_pairs_of_clips_or_assets_and_captions(name):
    task = TextPairs(Words(), SMALL)
    totals, _ = learn(task, BATCHES[name])
    assert totals[-1] < 0.05 * totals[0]
    assert task.loss.bias.item() != SMALL.logit_bias


@pytest.mark.slow
def test_a_task_about_text_needs_captions():
    with refused("caption"):
        TextPairs(Words(), SMALL)(AToken(SMALL), pack([sample("video", (1, 1, 1, 1), 3072, None, 0)]))


def test_image_text_beside_all_minilm_needs_labels():
    task = TaskConfig("image-text", tokens=16, ratio=1.0, crops=CropsConfig("x"))
    with refused("text.classes"):
        build_tasks(TrainConfig("tiny", steps=5000, tasks=(task,)), "cpu", SMALL)
