"""Seeds of what is drawn at random: no two tasks, ranks or batches of a run draw the same."""

from __future__ import annotations

import zlib


def feed_seed(seed: int, task: str, rank: int) -> tuple[int, int, int]:
    """What the generators of a feed begin with; a batch's number follows.

    Always of one length: numpy takes (0, 1) and (0, 1, 0) for one seed.
    """
    return seed, zlib.crc32(task.encode()), rank
