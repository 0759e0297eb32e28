"""The index of captioned pictures, who is compared with whom, and prompts that no caption holds."""

from __future__ import annotations

import json

import pytest
import torch

from atoken.evaluation.generation.captioned import (
    Entry,
    alike,
    evenly,
    holder_of,
    nearest_captions,
    read_index,
    read_prompts,
)
from refusals import refused


def entry(key: str, style: str = "stamp", category: str = "food", split: str = "train", *captions: str) -> Entry:
    return Entry(key, style, category, split, captions or (key,))


def line(**changes: object) -> str:
    values = {"key": "a", "style": "stamp", "category": "food", "split": "train", "captions": ["a"]}
    return json.dumps(values | changes)


def test_an_index_is_read_and_says_which_line_is_wrong(tmp_path):
    path = tmp_path / "index.jsonl"
    with refused("index.jsonl", "draw_data", error=FileNotFoundError):
        read_index(tmp_path)
    path.write_text("\n".join([line(), line(key="b", split="held_out", captions=["a bun", "bun"])]))
    found = read_index(tmp_path)
    assert found == [entry("a"), entry("b", "stamp", "food", "held_out", "a bun", "bun")]
    assert found[1].prompt == "stamp of a bun"
    for wrong in ("{", "[]", line(captions=[]), line(captions="a"), line(style=3), json.dumps({"key": "a"})):
        path.write_text("\n".join([line(), wrong]))
        with refused(path, "line 2"):
            read_index(tmp_path)
    path.write_text(line())
    with refused(path, "held_out"):
        read_index(tmp_path)


def test_some_from_all_over():
    entries = [entry(str(number)) for number in range(10)]
    assert [each.key for each in evenly(entries, 3)] == ["0", "3", "6"]
    assert evenly(entries, None) == entries
    with refused("--samples", 11, 10):
        evenly(entries, 11)


def test_training_pictures_of_the_same_kinds_are_drawn_once_each():
    pool = [entry("1"), entry("2"), entry("3", "emoji", "food"), entry("4", "emoji", "tools"), entry("5")]
    wanted = [entry("x")] * 3 + [entry("y", "emoji", "tools"), entry("z", "emoji", "plants")]
    chosen = alike(wanted, pool, seed=0)
    assert sorted(chosen[:3]) == [0, 1, 4]
    assert chosen[3] == 3
    assert pool[chosen[4]].style == "emoji"  # of its category there is none
    assert alike(wanted, pool, seed=0) == chosen
    assert any(alike(wanted, pool, seed=seed) != chosen for seed in range(1, 9))


def test_the_nearest_caption_is_of_the_same_style():
    def tower(texts):  # letters that are there
        found = torch.tensor([[float(letter in text) for letter in "abcdef"] for text in texts])
        return found / found.norm(dim=1, keepdim=True)

    pool = [
        entry("1", "stamp", "food", "train", "abc", "f"),
        entry("2", "emoji", "food", "train", "abd"),
        entry("3", "stamp", "food", "train", "ad"),
    ]
    wanted = [entry("x", style, "food", "held_out", "abd") for style in ("stamp", "emoji", "clip art")]
    assert nearest_captions(wanted, pool, tower) == [2, 1, 1]  # cosines 0.67, 1 and 0.82
    assert nearest_captions([entry("y", "stamp", "food", "held_out", "f")], pool, tower) == [0]


def test_prompts_that_a_caption_holds_are_refused(tmp_path):
    entries = [entry("a", "stamp", "food", "train", "yellow banana", "big, purple grapes")]
    assert holder_of("a purple banana", entries) is None
    assert holder_of("The banana, yellow", entries) == "yellow banana"
    path = tmp_path / "prompts.txt"
    path.write_text("a purple banana\n\n a green fire truck \n")
    assert read_prompts(path, entries) == ["a purple banana", "a green fire truck"]
    path.write_text("a purple banana\npurple grapes\n")
    with refused(path, "purple grapes"):
        read_prompts(path, entries)
    path.write_text("\n")
    with refused(path, "prompt"):
        read_prompts(path, entries)


@pytest.mark.parametrize("prompt", ["", "the"])
def test_a_prompt_without_words_is_in_every_caption(prompt):
    assert holder_of(prompt, [entry("a")]) == "a"
