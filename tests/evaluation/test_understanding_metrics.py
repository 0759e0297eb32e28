"""Retrieval and zero-shot accuracy from embeddings, on cases counted by hand and by brute force."""

import pytest
import torch
import torch.nn.functional as F

from atoken.metrics import classification, retrieval
from atoken.metrics.classification import topk_accuracy
from atoken.metrics.retrieval import retrieval_recall
from refusals import refused


def test_recall_counted_by_hand():
    sources = torch.eye(3)
    texts = F.normalize(torch.tensor([[1.0, 0, 0], [0.8, 1, 0], [0, 1, 0.5], [0, 1, 0.8]]), dim=1)
    recall = retrieval_recall(sources, texts, torch.tensor([0, 0, 1, 2]), ks=(1, 2))
    assert recall.from_text == {1: 0.5, 2: 1.0}  # the second and the fourth are nearer to source 1
    assert recall.to_text == {1: 1.0, 2: 1.0}


def test_recall_by_brute_force(monkeypatch):
    monkeypatch.setattr(retrieval, "CHUNK", 7)
    generator = torch.Generator().manual_seed(0)
    sources = F.normalize(torch.randn(23, 5, generator=generator), dim=1)
    owner = torch.arange(23).repeat_interleave(2)
    texts = F.normalize(sources[owner] + torch.randn(46, 5, generator=generator), dim=1)
    recall = retrieval_recall(sources, texts, owner)
    scores = texts @ sources.T
    for k in (1, 5, 10):
        text_hits = [int(owner[i]) in scores[i].topk(k).indices.tolist() for i in range(46)]
        source_hits = [bool((owner[scores[:, j].topk(k).indices] == j).any()) for j in range(23)]
        assert recall.from_text[k] == pytest.approx(sum(text_hits) / 46)
        assert recall.to_text[k] == pytest.approx(sum(source_hits) / 23)
    assert 0 < recall.from_text[1] < 1


def test_constant_embeddings_retrieve_nothing():
    recall = retrieval_recall(torch.ones(4, 2), torch.ones(4, 2), torch.arange(4), ks=(1,))
    assert (recall.from_text[1], recall.to_text[1]) == (0, 0)


def test_a_source_without_caption_is_refused():
    with refused("caption"):
        retrieval_recall(torch.eye(3), torch.eye(3), torch.tensor([0, 1, 1]))


def test_accuracy_counts_labels_among_the_nearest_classes(monkeypatch):
    monkeypatch.setattr(classification, "CHUNK", 2)
    classes = F.normalize(torch.tensor([[0.8, 0.4], [0, 1.0]]), dim=1)
    sources = torch.tensor([[1.0, 0], [0.2, 1], [0, 1.0]])
    assert topk_accuracy(sources, classes, torch.tensor([0, 0, 1]), ks=(1, 2)) == {1: pytest.approx(2 / 3), 2: 1.0}
    with refused("labels", "0 ... 1"):
        topk_accuracy(sources, classes, torch.tensor([0, 1, 2]))


def test_embeddings_that_are_no_numbers_are_refused():
    broken = torch.full((2, 2), torch.nan)
    with refused("NaN"):
        topk_accuracy(broken, torch.eye(2), torch.tensor([0, 1]))
    for pair in ((broken, torch.eye(2)), (torch.eye(2), broken)):
        with refused("NaN"):
            retrieval_recall(*pair, torch.arange(2))
