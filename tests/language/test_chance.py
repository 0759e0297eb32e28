"""A text fits where it does better than everyday words do by chance."""

from __future__ import annotations

import pytest
import torch

from atoken.language.chance import WORDS, fits


def test_a_text_fits_above_the_median_of_the_words():
    words = torch.linspace(0, 1, 65)
    assert not fits(0.5, words)
    assert fits(0.51, words)


@pytest.mark.slow
def test_the_best_of_several_random_labels_is_held_to_fit_half_of_the_time():
    generator = torch.Generator().manual_seed(0)
    words = torch.randn(1000, generator=generator)
    for tries in (1, 2, 10):
        draws = torch.randn(2000, tries, generator=generator).amax(1)
        share = sum(fits(float(best), words, tries) for best in draws) / len(draws)
        assert 0.4 < share < 0.6, "sampling: standard deviation 0.016 from the words, 0.011 from the draws"


def test_the_words_are_different():
    assert len(set(WORDS)) == len(WORDS) == 64
