"""The kept vectors of files."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from atoken.core import files
from atoken.language import index as indices
from atoken.language.index import Entry, Index
from refusals import refused

ONE = Index(
    "one", (Entry("a.png", 1, 2), Entry("no\udcffutf\n.png", 3, 4)), np.eye(2, dtype=np.float32), np.ones(3, np.float32)
)
TWO = Index("two", (Entry("c.png", 5, 6),), -np.eye(2, dtype=np.float32)[:1])


def test_what_is_saved_is_loaded(tmp_path):
    assert Index.load(tmp_path) is None
    ONE.save(tmp_path)
    again = Index.load(tmp_path)
    assert (again.weights, again.entries) == (ONE.weights, ONE.entries)
    assert np.array_equal(again.vectors, ONE.vectors)
    assert np.array_equal(again.words, ONE.words)


def test_an_interrupted_save_leaves_the_old_index(tmp_path, monkeypatch):
    ONE.save(tmp_path)

    def cut(*paths):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", cut)
    with pytest.raises(KeyboardInterrupt):
        TWO.save(tmp_path)
    assert Index.load(tmp_path).weights == "one"


def test_a_reader_sees_one_index_or_the_other_while_two_write(tmp_path):
    ONE.save(tmp_path)
    stop = threading.Event()

    def write(index):
        while not stop.is_set():
            index.save(tmp_path)

    writers = [threading.Thread(target=write, args=(index,)) for index in (ONE, TWO)]
    for writer in writers:
        writer.start()
    try:
        seen = [Index.load(tmp_path) for _ in range(200)]
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    for index in seen:
        whole = ONE if index.weights == "one" else TWO
        assert index.entries == whole.entries
        assert np.array_equal(index.vectors, whole.vectors)


def test_a_damaged_index_is_refused_by_name(tmp_path):
    path = tmp_path / indices.VECTORS
    ONE.save(tmp_path)
    whole = path.read_bytes()
    replace(ONE, vectors=np.eye(3, dtype=np.float32)).save(tmp_path)
    contents = [b"", whole[:-1], whole.replace(b'"path"', b'"past"'), whole.replace(b"words", b"worms")]
    for content in (path.read_bytes(), *contents):
        path.write_bytes(content)
        with refused(path, f"remove {tmp_path}"):
            Index.load(tmp_path)
    for other in (
        {"vectors": np.eye(2, dtype=np.float32) * np.nan},
        {"vectors": np.eye(2, dtype=np.int32)},
        {"words": np.eye(2, dtype=np.float32)},
        {"words": np.array([np.inf], np.float32)},
    ):
        replace(ONE, **other).save(tmp_path)
        with refused(path, f"remove {tmp_path}"):
            Index.load(tmp_path)
