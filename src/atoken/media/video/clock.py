"""When each frame of a video is shown: the stamps of its file, mended where they repeat, are missing or jump."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import numpy as np

PATIENCE = 8
"""Frames without a usable stamp that wait for the next one that has one; a bound on memory."""
LEAP = 10
"""Seconds of a step forward that is no pause but a jump, in formats whose stamps may start anew; FFmpeg's own."""


class Stamped(NamedTuple):
    """A decoded frame as its file stamps it."""

    stamp: Fraction | None
    """Seconds on the file's own axis; None where it does not say."""
    duration: Fraction
    """Seconds, positive."""
    pixels: np.ndarray
    """uint8 [H, W, 3], RGB."""
    joined: bool = False
    """Whether another stream seems to begin here."""


class Clock:
    """Gives frames their times, in seconds from the first frame on, ascending.

    A frame keeps its own stamp whatever its neighbours have. One that repeats a stamp, goes back or has none lies
    between the neighbours that have one. Where all stamps from some frame on go back (joined streams), or leap ahead
    by more than ``LEAP`` with ``may_leap``, the times go on without the jump, and ``note`` gets a sentence.
    ``base`` is the stamp of time 0 where it is known.
    """

    def __init__(self, base: Fraction | None, *, may_leap: bool, note: Callable[[str], None]) -> None:
        self.base, self.may_leap, self.note = base, may_leap, note
        self.last: Fraction | None = None
        self.end = Fraction(0)
        """When the last frame with a certain time is over."""
        self._stands = False

    def times(self, frames: Iterable[Stamped]) -> Iterator[tuple[Fraction, Stamped]]:
        """Each frame with its time."""
        waiting: list[Stamped] = []
        for frame in frames:
            if self.base is None and frame.stamp is not None:
                self.base = frame.stamp - self.end
            time = None if frame.stamp is None or self.base is None else frame.stamp - self.base
            if time is not None and self.last is not None and self._jumps(frame, time):
                yield from self._settled(waiting, at_end=True)
                waiting = []
                self._shift(time, frame)
                yield self.last, frame
            elif time is not None and (self.last is None or time > self.last):
                yield from self._spread(waiting, time)
                waiting, self._stands = [], False
                yield self._at(time, frame), frame
            else:
                waiting.append(frame)
                if self._stands or self.last is None or len(waiting) == PATIENCE:
                    yield from self._settled(waiting, at_end=False)
                    waiting = []
        yield from self._settled(waiting, at_end=True)

    def _at(self, time: Fraction, frame: Stamped) -> Fraction:
        self.last, self.end = time, time + frame.duration
        return time

    def _jumps(self, frame: Stamped, time: Fraction) -> bool:
        assert self.last is not None
        return (frame.joined and time <= self.last) or (self.may_leap and time - self.end > LEAP)

    def _shift(self, time: Fraction, frame: Stamped) -> None:
        """Let the time axis of the file begin anew, so that ``frame`` follows the last one."""
        assert self.base is not None
        self.note(
            f"its time stamps jump from {float(self.end):.2f} s to {float(time):.2f} s, as where streams are joined: "
            "the times go on without the jump"
        )
        self.base += time - self.end
        self._at(self.end, frame)

    def _spread(self, waiting: list[Stamped], until: Fraction) -> Iterator[tuple[Fraction, Stamped]]:
        """Frames without a usable stamp, evenly between the last time and ``until``."""
        last = self.last or Fraction(0)
        for index, frame in enumerate(waiting):
            yield last + (until - last) * (index + 1) / (len(waiting) + 1), frame

    def _settled(self, waiting: list[Stamped], *, at_end: bool) -> Iterator[tuple[Fraction, Stamped]]:
        """Frames that wait for a stamp that does not come."""
        stamps = [frame.stamp for frame in waiting if frame.stamp is not None]
        ascend = all(b > a for a, b in pairwise(stamps))
        if self.last is not None and self.base is not None and len(stamps) == len(waiting) > 1 and ascend:
            self._shift(stamps[0] - self.base, waiting[0])
            for frame, stamp in zip(waiting, stamps, strict=True):
                yield self._at(stamp - self.base, frame), frame
        elif at_end and len(stamps) == len(waiting):
            yield from self._spread(waiting, self.end)
        else:
            if stamps and not self._stands:
                self.note(f"its time stamps stand still at {float(self.last or 0):.2f} s: frames follow at its rate")
            self._stands = True
            for frame in waiting:
                yield self._at(self.end, frame), frame
