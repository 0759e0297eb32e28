"""Numbers that compare sets: statistics out of files, neighbours, the probe, and what a table says of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from atoken.evaluation.generation.measures import (
    Gaussian,
    frechet,
    gaussian_of,
    nearest,
    read_statistics,
    thumbnails,
)
from atoken.evaluation.generation.report import markdown, table
from atoken.metrics.linear_probe import LinearProbe
from refusals import refused


def test_statistics_of_a_file_are_those_of_the_features(tmp_path):
    features = torch.randn(50, 5, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "reference.npz"
    array = features.numpy()
    np.savez(path, mu=array.mean(0), sigma=np.cov(array, rowvar=False), mu_s=np.zeros(2), sigma_s=np.eye(2))
    found = read_statistics(path)
    assert set(found) == {"pooled", "spatial"}
    assert frechet(found["pooled"], gaussian_of(features)) == pytest.approx(0, abs=1e-5)  # written in fp32
    assert frechet(found["spatial"], Gaussian(torch.ones(2).double(), 4 * torch.eye(2).double())) == pytest.approx(4)
    with refused("5", "2"):
        frechet(found["pooled"], found["spatial"])


def test_statistics_that_do_not_fit(tmp_path):
    path = tmp_path / "reference.npz"
    for mu, sigma in ((np.zeros(3), np.eye(2)), (np.zeros((2, 2)), np.eye(2)), (np.zeros(2), np.full((2, 2), np.nan))):
        np.savez(path, mu=mu, sigma=sigma)
        with refused(path, "sigma"):
            read_statistics(path)
    np.savez(path, mu=np.zeros(2))
    assert read_statistics(path) == {}


def test_the_nearest_of_another_set():
    known = torch.tensor([[0.0, 0], [10, 0], [0, 10]])
    found = nearest(torch.tensor([[9.0, 0], [1, 1], [0, 10]]), known, at_once=2)
    assert found.index.tolist() == [1, 0, 2]
    assert_close(found.distance, torch.tensor([1, 2**0.5, 0]), atol=2e-3, rtol=0)  # cdist by products, fp32
    grey = [np.full((64, 64, 3), value, np.uint8) for value in (10, 40)]
    pixels = thumbnails(grey)
    assert float((pixels[0] - pixels[1]).norm()) == pytest.approx(30, rel=1e-5)


def test_a_probe_learns_what_is_linear_and_nothing_more():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (300,), generator=generator)
    noise = torch.randn(300, 8, generator=generator)
    features = 100 + 5 * torch.eye(8)[labels] + noise
    probe = LinearProbe.fit(features[:200], labels[:200], 3)
    assert probe.accuracy(features[200:], labels[200:]) > 0.95
    blind = LinearProbe.fit(noise[:200], labels[:200], 3)
    assert blind.accuracy(noise[200:], labels[200:]) < 0.55  # a third is chance, four deviations above it
    again = LinearProbe.fit(features[:200], labels[:200], 3)
    assert torch.equal(again.weight, probe.weight)


def test_a_table_has_a_column_for_each_metric_that_some_row_has():
    number = {"value": 0.5, "protocol": {}}
    rows = [
        {"name": "drawn", "metrics": {"lite0-frechet": {"value": 12.345}, "category-accuracy": number}},
        {"name": "real", "metrics": {"category-accuracy": number}},
    ]
    heads, body = table(rows)
    assert heads == ["pictures", "Lite0 Fréchet distance ↓", "category accuracy ↑"]
    assert body == [["drawn", "12.35", "50.0 %"], ["real", "-", "50.0 %"]]
    results = {
        "rows": rows,
        "generator": {"name": "small", "sha256": "1" * 64},
        "sampling": {"steps": 4},
        "conditions": "2 of each of 3 labels",
        "reference": {"set": "photos", "n": 7},
        "n": 6,
        "code": {"atoken": "0", "sha256": "2" * 64},
    }
    page = markdown(results)
    assert "| drawn | 12.35 | 50.0 % |" in page
    assert all(word in page for word in ("small", "steps 4", "2 of each of 3 labels", "photos", "N = 7", "N = 6"))
