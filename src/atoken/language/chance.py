"""Whether a text fits at all: its best cosine beside those of everyday words, most of which fit nothing that is there.

Cosines of texts with pictures lie in a narrow band that differs from model to model, so that no fixed threshold tells
what fits. The best cosine that each of ``WORDS`` finds in the same place is what chance gives there, however many files
there are: a text that does no better than half of them has found nothing.
"""

from __future__ import annotations

import numpy as np

# fmt: off
WORDS = (
    "dog", "horse", "bird", "fish", "butterfly", "elephant", "snake", "spider", "tree", "flower", "mushroom",
    "forest", "mountain", "beach", "night sky", "snow", "apple", "bread", "pizza", "soup", "cheese", "wine",
    "ice cream", "car", "train", "airplane", "boat", "bicycle", "bridge", "street", "house", "church", "castle",
    "kitchen", "office", "table", "bed", "clock", "bottle", "knife", "umbrella", "candle", "shirt", "shoe",
    "hat", "glasses", "man", "child", "crowd", "face", "hand", "dancer", "computer", "camera", "robot", "hammer",
    "guitar", "book", "newspaper", "map", "ball", "balloon", "fire", "brick wall",
)
# fmt: on
"""Everyday things of all kinds; few enough that a text tower reads them in a fraction of a second."""


def fits(best: float, words: np.ndarray, tries: int = 1) -> bool:
    """Whether ``best``, the highest of ``tries`` cosines, is above what as many everyday words reach half of the time.

    ``words`` [M] are the best cosines of ``WORDS`` in the same place. The highest of n draws stays below the quantile
    0.5 ** (1 / n) of their distribution with probability one half.
    """
    return best > float(np.quantile(words, 0.5 ** (1 / tries)))
