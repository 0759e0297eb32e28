"""Stages in threads: order, bounds, errors and an early end."""

from __future__ import annotations

import threading

import pytest

from atoken.core.prefetch import prefetch, prefetch_map


def test_in_order():
    assert list(prefetch(range(100))) == list(range(100))
    assert list(prefetch(prefetch(range(10)))) == list(range(10))


def test_at_most_so_many_in_advance():
    made, fourth = [], threading.Event()

    def source():
        for index in range(100):
            made.append(index)
            if index == 3:
                fourth.set()
            yield index

    items = prefetch(source(), depth=2)
    next(items)
    assert fourth.wait(60)  # one taken, two waiting, one in the hand
    assert next(items) == 1
    assert len(made) <= 5
    items.close()
    assert len(made) <= 6


def test_an_error_comes_when_its_turn_comes():
    def source():
        yield 1
        raise ValueError("two is missing")

    items = prefetch(source())
    assert next(items) == 1
    with pytest.raises(ValueError, match="two"):
        next(items)


def test_closing_stops_the_thread_and_the_source():
    closed = threading.Event()

    def source():
        try:
            yield from range(1000)
        finally:
            closed.set()

    items = prefetch(source())
    next(items)
    items.close()
    assert closed.wait(60)
    assert threading.active_count() < 20


def test_stages_run_at_the_same_time():
    """Each stage waits inside of its work until the one before it has begun the next item."""
    begun = [threading.Event() for _ in range(4)]

    def reading():
        for index, event in enumerate(begun):
            event.set()
            yield index

    def computing(items):
        for index in items:
            assert begun[min(index + 1, 3)].wait(60), "the stage before stands still"
            yield index

    assert list(computing(prefetch(reading()))) == [0, 1, 2, 3]


def test_without_threads_stages_take_turns():
    """The counterpart: a plain generator has begun no further item, so that the test above can fail."""
    begun = []
    items = (begun.append(index) or index for index in range(4))
    for index in items:
        assert begun == list(range(index + 1))


def test_a_map_keeps_the_order_and_its_window():
    asked = []
    both = threading.Barrier(2)

    def slow(number):
        asked.append(number)
        if number < 2:
            both.wait(60)  # neither ends before the other has begun
        return number * number

    results = prefetch_map(slow, range(100), 2, window=4)
    assert [next(results) for _ in range(3)] == [0, 1, 4]
    results.close()
    assert max(asked) <= 6


def test_an_error_of_a_map_comes_when_its_turn_comes():
    results = prefetch_map(lambda number: 1 // (2 - number), range(5), 2, window=4)
    assert (next(results), next(results)) == (0, 1)
    with pytest.raises(ZeroDivisionError):
        next(results)
