"""The kept vectors of files."""

from __future__ import annotations

import pytest
import torch

from atoken.understanding import index as indices
from atoken.understanding.index import Entry, Index


def test_an_end_between_its_two_files_leaves_no_index(tmp_path, monkeypatch):
    entries = (Entry("a.png", 1, 2), Entry("b.png", 3, 4))
    Index("one", entries, torch.eye(2)).save(tmp_path)
    assert torch.equal(Index.load(tmp_path).vectors, torch.eye(2))
    write, names = indices.atomic_write, []

    def cut(path):
        names.append(path.name)
        if len(names) == 2:
            raise KeyboardInterrupt
        return write(path)

    monkeypatch.setattr(indices, "atomic_write", cut)
    with pytest.raises(KeyboardInterrupt):
        Index("two", entries, -torch.eye(2)).save(tmp_path)
    assert Index.load(tmp_path) is None
