"""What is measured of the machine ends soon on a slow one, too."""

from __future__ import annotations

import torch

from atoken.core import machine


def test_a_long_call_is_measured_once(monkeypatch):
    calls: list[int] = []
    monkeypatch.setattr(machine, "LONG", -1.0)
    assert machine.best_seconds(lambda: calls.append(1), "cpu") >= 0
    assert len(calls) == 1
    monkeypatch.setattr(machine, "LONG", 1e9)
    assert machine.best_seconds(lambda: calls.append(1), "cpu") >= 0
    assert len(calls) == 1 + 1 + machine.REPEATS


def test_no_larger_product_where_one_takes_long(monkeypatch):
    sides: list[int] = []
    monkeypatch.setattr(machine, "MATMUL_SIDES", (4, 8))
    monkeypatch.setattr(machine, "LONG", -1.0)
    monkeypatch.setattr(torch, "matmul", lambda a, b: sides.append(len(a)))
    assert machine.matmul_peak("cpu", torch.float32) > 0
    assert sides == [4]
