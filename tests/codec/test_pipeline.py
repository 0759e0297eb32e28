"""Stages in threads: order, bounds, errors and an early end."""

from __future__ import annotations

import threading
import time

import pytest

from atoken.codec.pipeline import ahead


def test_in_order():
    assert list(ahead(range(100))) == list(range(100))
    assert list(ahead(ahead(range(10)))) == list(range(10))


def test_at_most_so_many_in_advance():
    made = []
    items = ahead((made.append(i) or i for i in range(100)), depth=2)
    next(items)
    time.sleep(0.1)
    assert len(made) <= 4  # one taken, two waiting, one in the hand
    items.close()


def test_an_error_comes_when_its_turn_comes():
    def source():
        yield 1
        raise ValueError("two is missing")

    items = ahead(source())
    assert next(items) == 1
    with pytest.raises(ValueError, match="two is missing"):
        next(items)


def test_closing_stops_the_thread_and_the_source():
    closed = threading.Event()

    def source():
        try:
            yield from range(1000)
        finally:
            closed.set()

    items = ahead(source())
    next(items)
    items.close()
    assert closed.wait(5)
    assert threading.active_count() < 20


def test_stages_run_at_the_same_time():
    def slow(items):
        for item in items:
            time.sleep(0.02)
            yield item

    start = time.perf_counter()
    assert len(list(slow(ahead(slow(ahead(slow(range(20)))))))) == 20
    assert time.perf_counter() - start < 20 * 0.06 * 0.8
