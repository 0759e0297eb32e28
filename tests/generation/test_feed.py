"""Captions are read once and stay as they are, within the memory that they may take."""

from __future__ import annotations

import torch
from generators import Tower

from atoken.generation import feed
from atoken.generation.feed import CaptionReader


class Counting(Tower):
    """Notes what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []

    def states(self, texts):
        self.read += texts
        return super().states(texts)


def test_captions_are_read_once_and_again_where_memory_is_short(monkeypatch):
    tower, words = Counting(), ["a cat", "dogs", "one bird", "x"]
    wanted = {word: Tower().states([word])[0] for word in words}
    room = len(wanted[words[0]]) + len(wanted[words[1]])
    monkeypatch.setattr(feed, "REMEMBERED", 4 * tower.state_width * room)
    reader = CaptionReader(tower)
    for captions in ([words[0], None, words[1]], [words[1], words[0], words[0]], words, words[::-1], [None]):
        states, lengths = reader(captions)
        assert lengths == [0 if word is None else len(wanted[word]) for word in captions]
        assert torch.equal(states, torch.cat([torch.empty(0, tower.state_width), *(wanted[w] for w in captions if w)]))
    assert tower.read[:2] == words[:2]
    assert tower.read.count(words[0]) > 1, "two captions fit, four were asked for"
    assert tower.read[:4] != [*words[:2], *words[:2]], "what is known is not read again"
