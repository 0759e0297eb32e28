"""The model in lmms-eval, which finds it by the entry-point group ``lmms_eval.models`` as ``atoken_mllm``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest

from .load import MOST_NEW, load_mllm

NAME = "atoken_mllm"


def manifest() -> ModelManifest:
    """What lmms-eval registers."""
    return ModelManifest(NAME, chat_class_path=f"{__name__}.AtokenMllm")


class AtokenMllm(lmms):
    """Answers the chat requests of lmms-eval one by one, greedily.

    ``--model_args pretrained=DIR``, with ``tokenizer`` and ``language_model`` as of ``load_mllm``. Raises
    ``ValueError`` for other arguments, for sampling and for beams.
    """

    is_simple = False

    def __init__(
        self,
        pretrained: str,
        tokenizer: str | None = None,
        language_model: str | None = None,
        device: str | None = None,
        batch_size: int | str = 1,
        **unknown: Any,
    ) -> None:
        super().__init__()
        if unknown:
            raise ValueError(f"{NAME} knows no argument {sorted(unknown)[0]!r}")
        self.mllm = load_mllm(pretrained, tokenizer=tokenizer, language_model=language_model, device=device)

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """The answer to each request."""
        answers = []
        for request in requests:
            context, doc_to_messages, options, number, task, split = request.args
            answer = self._answer(list(doc_to_messages(self.task_dict[task][split][number])), dict(options))
            self.cache_hook.add_partial("generate_until", (context, options), answer)
            answers.append(answer)
        return answers

    def _answer(self, messages: list[dict[str, Any]], options: dict[str, Any]) -> str:
        if options.get("do_sample") or options.get("temperature") or int(options.get("num_beams") or 1) > 1:
            raise ValueError(f"{NAME} answers greedily: leave do_sample, temperature and num_beams out")
        model, processor = self.mllm.model, self.mllm.processor
        inputs = processor.apply_chat_template(
            list(_messages(messages)), tokenize=True, return_dict=True, add_generation_prompt=True
        )
        length = inputs["input_ids"].shape[1]
        with torch.inference_mode():
            found = model.generate(
                **inputs.to(model.device),
                max_new_tokens=int(options.get("max_new_tokens") or MOST_NEW),
                do_sample=False,
            )
        text = processor.tokenizer.decode(found[0, length:], skip_special_tokens=True).strip()
        ends = options.get("until") or []
        for end in [ends] if isinstance(ends, str) else ends:
            text = text.split(end)[0] if end else text
        return str(text)

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Not there: the tasks of this project's tables generate."""
        raise NotImplementedError(f"{NAME} generates answers, and gives no likelihoods")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Not there: the tasks of this project's tables have one round."""
        raise NotImplementedError(f"{NAME} answers single rounds")


def _messages(messages: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Their pictures and videos, which lmms-eval has under ``url``, as sources."""
    for message in messages:
        content = message["content"]
        if isinstance(content, str):
            yield message
            continue
        parts = [part if part["type"] == "text" else {"type": part["type"], "source": part["url"]} for part in content]
        yield {**message, "content": parts}
