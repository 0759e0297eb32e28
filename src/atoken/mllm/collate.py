"""Rows as batches of the model: prompts with their sources, and labels of the answers alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..core.text import shortened
from ..tokens.shards import TokenShards
from .processor import AtokenMllmProcessor, packed
from .rows import Row

NOT_LEARNT = -100
"""The label of positions that no loss is taken of."""


class Collator:
    """Rows to one batch of the model: prompts with their sources, and labels of the answers alone.

    Rows are padded on the left, so that all answers end together. Sources are read here, or taken from ``shards``.
    """

    def __init__(self, processor: AtokenMllmProcessor, shards: TokenShards | None = None) -> None:
        self.processor, self.shards = processor, shards
        self.pad = processor.tokenizer.pad_token_id

    def __call__(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        """Raises ``ValueError`` that names the row where a source cannot be read or the row is too long."""
        prompts, answers, visuals = [], [], []
        for row in rows:
            ids, seen = self.prompt(row)
            ended = self.processor.tokenizer(f"{row.answer}<|im_end|>", add_special_tokens=False)["input_ids"]
            if len(ids) + len(ended) > self.processor.context:
                raise ValueError(
                    f"{row.where} is {len(ids) + len(ended)} tokens, and the model reads {self.processor.context}"
                )
            prompts.append(ids)
            answers.append(ended)
            visuals += seen
        longest = max(len(a) + len(b) for a, b in zip(prompts, answers, strict=True))
        fill = [longest - len(a) - len(b) for a, b in zip(prompts, answers, strict=True)]
        joined = list(zip(fill, prompts, answers, strict=True))
        return {
            "input_ids": torch.tensor([[self.pad] * gap + a + b for gap, a, b in joined]),
            "attention_mask": torch.tensor([[0] * gap + [1] * (longest - gap) for gap, _, _ in joined]),
            "labels": torch.tensor([[NOT_LEARNT] * (gap + len(a)) + b for gap, a, b in joined]),
            **packed(visuals),
        }

    def prompt(self, row: Row) -> tuple[list[int], list[Any]]:
        """Ids of the prompt, and its sources as they were read."""
        try:
            messages = [{**message, "content": self._read(message["content"])} for message in row.prompt]
            inputs = self.processor.apply_chat_template(
                messages, tokenize=True, return_dict=True, return_tensors=None, add_generation_prompt=True
            )
        except (ValueError, OSError, KeyError) as error:
            raise ValueError(f"{row.where}: {shortened(error, 400)}") from None
        visuals = [part["source"] for message in messages for part in message["content"] if "source" in part]
        return list(inputs["input_ids"][0]), visuals

    def _read(self, content: str | Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        return [dict(part) if part["type"] == "text" else self._source(part) for part in parts]

    def _source(self, part: Mapping[str, Any]) -> dict[str, Any]:
        if "key" in part:
            if self.shards is None:
                raise ValueError(f"the source {shortened(part['key'])} is a key, and no shards are named")
            if part["key"] not in self.shards.numbers:
                raise ValueError(f"the shards have no sample {shortened(part['key'])}")
        source = self.shards[part["key"]] if self.shards is not None and "key" in part else part["path"]
        return {"type": part["type"], "source": self.processor.reader.read(source)}
