"""Accuracies and controls: other sources are others', none are none, and batches answer as single rows do."""

import numpy as np
import pytest
import torch

import atoken
from atoken import PRESETS, AToken
from refusals import refused

pytest.importorskip("transformers")
pytest.importorskip("peft")

from atoken.mllm.assemble import assemble
from atoken.mllm.load import Mllm
from atoken.mllm.measure import accuracy, answers, majority, shuffled
from atoken.mllm.rows import Row
from small_language import language_model, seeded, text_tokenizer


def row(answer: str, path: str, kind: str = "colour", question: str = "what?") -> Row:
    content = [{"type": "image", "path": path}, {"type": "text", "text": question}]
    return Row("here", [{"role": "user", "content": content}], answer, kind)


def test_accuracy_by_kind():
    rows = [row("red", "a"), row("blue", "b"), row("2", "c", "count")]
    assert accuracy(rows, ["Red.", "green", "2"]) == {"all": 2 / 3, "colour": 0.5, "count": 1.0}
    assert majority([rows[0], rows[0], rows[1]], rows) == ["red", "red", ""]


def test_shuffled_sources_are_those_of_others():
    rows = [row("x", f"{number // 2}.png") for number in range(12)]
    for ours, other in zip(rows, shuffled(rows), strict=True):
        assert other.prompt[0]["content"][0]["path"] != ours.prompt[0]["content"][0]["path"]
        assert other.prompt[0]["content"][1] == ours.prompt[0]["content"][1]
        assert other.answer == ours.answer
    with refused("image"):
        shuffled(rows[:1])


@pytest.mark.slow
def test_a_batch_answers_as_its_rows_do(tmp_path):
    tokenizer = seeded(AToken, PRESETS["tiny"]).eval()
    language = seeded(language_model, initializer_range=0.5)
    mllm = Mllm(*seeded(assemble, tokenizer, language, text_tokenizer()))
    random = np.random.default_rng(0)
    rows = []
    for number, side in enumerate((16, 48, 32, 64)):
        atoken.write_image(tmp_path / f"{number}.png", random.integers(0, 256, (side, 32, 3), dtype=np.uint8))
        rows.append(row("x", str(tmp_path / f"{number}.png"), question="what?" * (number + 1)))
    told = answers(mllm, rows, batch=3)
    with torch.inference_mode():
        alone = [
            mllm.ask(each.prompt[0]["content"][0]["path"], each.prompt[0]["content"][1]["text"], max_new_tokens=8)
            for each in rows
        ]
    assert told == alone
    assert answers(mllm, rows, control="shuffled") != told
    assert answers(mllm, rows, control="text") != told
    with refused("others", "shuffled"):
        answers(mllm, rows, control="others")
