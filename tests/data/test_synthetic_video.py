"""Clips made from photographs: the same for the same seed, moving, inside the photograph; strides of training clips."""

from __future__ import annotations

import numpy as np
import pytest

from atoken.data.synthetic_video import strided, synthetic_clip
from refusals import refused


@pytest.fixture
def stamp():
    stamp = np.zeros((40, 30, 4), np.uint8)
    stamp[5:35, 5:25] = (255, 0, 255, 255)
    return stamp


def make(film, stamps, seed, **options):
    return np.stack(
        list(synthetic_clip([film.photo], stamps, seed=seed, **{"frames": 12, "size": (48, 64), **options}))
    )


def test_deterministic_by_seed(film, stamp):
    first = make(film, [stamp], 3)
    assert first.shape == (12, 48, 64, 3)
    assert np.array_equal(first, make(film, [stamp], 3))
    assert not np.array_equal(first, make(film, [stamp], 4))


def test_every_clip_moves_and_stays_inside_the_photograph(film):
    photo = film.photo.copy()
    photo[photo.max(-1) < 8] = 8  # so that black is only what lies outside
    film.photo = photo
    for seed in range(24):
        clip = make(film, [], seed)
        assert (clip.max(-1) == 0).mean() < 0.002, seed
        assert np.abs(clip[-1].astype(int) - clip[0]).mean() > 0.5, seed


def test_stamps_appear(film, stamp):
    pink = [(make(film, [stamp], seed)[..., 1] < 20).mean() for seed in range(12)]
    plain = [(make(film, [], seed)[..., 1] < 20).mean() for seed in range(12)]
    assert sum(a > b + 0.01 for a, b in zip(pink, plain, strict=True)) >= 4


def test_steps_are_smaller_at_a_higher_rate(film):
    steps = [np.abs(np.diff(make(film, [], 2, fps=fps).astype(int), axis=0)).mean() for fps in (10, 50)]
    assert steps[0] > steps[1] > 0


def test_refused():
    with refused("photograph"):
        next(synthetic_clip([], [], seed=0))


@pytest.mark.parametrize(("diverse", "allowed"), [(False, {1, 2, 3}), (True, set(range(4, 13)))])
def test_strides(diverse, allowed):
    rng, seen = np.random.default_rng(0), set()
    for _ in range(300):
        numbers = strided(400, 16, rng, diverse=diverse)
        assert len(numbers) == 16
        assert 0 <= numbers[0] <= numbers[-1] < 400
        seen |= set(np.diff(numbers).tolist())
    assert seen == allowed
    assert set(np.diff(strided(20, 16, rng, diverse=diverse))) == {1}  # no wider stride fits
    with refused("10"):
        strided(10, 16, rng, diverse=False)
