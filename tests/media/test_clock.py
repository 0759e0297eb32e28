"""Times of frames from their stamps: kept where they can be, mended between neighbours, joined without the jump."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from atoken.media.video.clock import PATIENCE, Clock, Stamped

PIXELS = np.zeros((1, 1, 3), np.uint8)


def read(stamps, *, may_leap=False, joined=(), base=None):
    """Times of frames of 10 with these stamps, and the notes."""
    notes = []
    frames = [
        Stamped(None if stamp is None else Fraction(stamp), Fraction(10), PIXELS, index in joined)
        for index, stamp in enumerate(stamps)
    ]
    clock = Clock(base, may_leap=may_leap, note=notes.append)
    return [float(time) for time, _ in clock.times(iter(frames))], notes


def test_stamps_are_kept_and_count_from_the_first():
    assert read([100, 110, 115, 400]) == ([0, 10, 15, 300], [])
    assert read([100, 110], base=Fraction(60)) == ([40, 50], [])


@pytest.mark.parametrize(
    ("stamps", "times"),
    [
        ([0, 10, 10, 20, 30], [0, 10, 15, 20, 30]),
        ([0, 0, 0, 30, 40], [0, 10, 20, 30, 40]),
        ([0, 20, 10, 30], [0, 20, 25, 30]),  # goes back
        ([0, 10, None, 20], [0, 10, 15, 20]),
        ([0, 10, 10], [0, 10, 15]),  # the last one: nothing gets longer
        ([None, 10, 20], [0, 10, 20]),
    ],
)
def test_a_frame_without_a_stamp_of_its_own_lies_between_its_neighbours(stamps, times):
    assert read(stamps) == (times, [])


def test_frames_without_any_stamp_follow_each_other():
    assert read([None] * 30) == ([index * 10 for index in range(30)], [])


def test_stamps_that_stand_still_are_noted_and_bounded():
    taken = 0

    def frames():
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield Stamped(Fraction(0), Fraction(10), PIXELS)

    notes = []
    times = Clock(None, may_leap=False, note=notes.append).times(frames())
    next(times)
    next(times)
    assert taken <= PATIENCE + 1  # so many frames are in memory
    assert [float(time) for time, _ in times] == [10 * index for index in range(2, 1000)]
    assert len(notes) == 1


@pytest.mark.parametrize("length", [2, 5, 40])
def test_stamps_that_begin_anew_go_on(length):
    first, second = list(range(0, 1000, 10)), list(range(0, 10 * length, 10))
    times, notes = read(first + second)
    assert times == [10 * index for index in range(100 + length)]
    assert len(notes) == 1


def test_a_joint_is_known_from_its_packet():
    """Two frames of overlap are too few to tell a jump from repeated stamps, unless the joint is marked."""
    stamps = [0, 10, 20, 30, 10, 20, 30, 40, 50]
    times, notes = read(stamps, joined={4})
    assert times == [10 * index for index in range(9)]
    assert len(notes) == 1
    assert read([0, 10, 20, 30], joined={2}) == ([0, 10, 20, 30], [])  # segments whose stamps go on


def test_a_leap_is_no_pause_only_where_stamps_may_leap():
    assert read([0, 10, 500, 510]) == ([0, 10, 500, 510], [])
    times, notes = read([0, 10, 500, 510], may_leap=True)
    assert times == [0, 10, 20, 30]
    assert len(notes) == 1
