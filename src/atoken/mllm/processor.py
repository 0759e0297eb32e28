"""Conversations with pictures, clips and 3D as the model's inputs: prompts with their placeholders, and the sources."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from transformers import BatchFeature, ProcessorMixin

from ..core.text import shortened
from .layout import MODALITIES, LayoutConfig, chosen_steps, lay_out
from .sources import Reader, Visual

PLACEHOLDER = "<visual>"
"""The one token that stands for each vector of a source."""
MARKERS = {"image": "<image>", "video": "<video>", "3d": "<3d>"}
"""What stands for a whole source in the text of a prompt, until it becomes placeholders."""
PARTS = re.compile("|".join(map(re.escape, MARKERS.values())))
KEYS = ("source", "image", "video", "3d", "path", "url")
"""Keys of a part of a message that may hold the source."""
CHAT_TEMPLATE = """{%- for message in messages -%}
<|im_start|>{{ message['role'] }}
{% if message['content'] is string %}{{ message['content'] }}{% else %}{%- for part in message['content'] -%}
{%- if part['type'] == 'text' -%}{{ part['text'] }}{%- else -%}<{{ part['type'] }}>{%- endif -%}
{%- endfor -%}{% endif %}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}"""
"""ChatML without a system line of its own; a source stands where its part stands among the texts."""


class AtokenMllmProcessor(ProcessorMixin):
    """Reads sources as the model does, and counts placeholders with the function with which the model fills them.

    ``layout``, ``inputs`` and ``weights`` are those of ``Reader``; ``context`` is the most tokens of a prompt.
    """

    def __init__(
        self,
        tokenizer: Any = None,
        layout: dict[str, int] | None = None,
        inputs: str = "hidden",
        weights: str = "",
        context: int = 8192,
        chat_template: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.layout, self.inputs, self.weights, self.context = layout or {}, inputs, weights, context
        self.image_token, self.video_token = MARKERS["image"], MARKERS["video"]
        super().__init__(tokenizer, chat_template=chat_template)

    @property
    def reader(self) -> Reader:
        """What reads sources."""
        return Reader(LayoutConfig(**self.layout), self.inputs, self.weights)

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        videos: Any = None,
        assets: Any = None,
        sources: Any = None,
        padding: bool | str | None = None,
        padding_side: str = "left",
        return_tensors: str | None = "pt",
        **kwargs: Any,
    ) -> BatchFeature:
        """Inputs of the model for prompts, in which ``<image>``, ``<video>`` and ``<3d>`` stand for sources.

        The sources come in the order of their markers through all prompts: by modality (``images``, ``videos``,
        ``assets``), or all of them as ``sources``; lists of lists are taken as one list. A source is whatever
        ``atoken.mllm.sources.Reader.read`` takes. Nothing is ever cut: raises ``ValueError`` that says how many tokens
        there are where a prompt is longer than ``context``, and where markers and sources do not match.
        """
        if kwargs.pop("truncation", None):
            raise ValueError("placeholders are never cut off: leave truncation out, and give fewer or smaller sources")
        if text is None:
            raise ValueError("a prompt needs text, in which <image>, <video> or <3d> says where the sources are")
        texts = [text] if isinstance(text, str) else list(text)
        markers = [marker for prompt in texts for marker in PARTS.findall(prompt)]
        given = {"image": images, "video": videos, "3d": assets}
        visuals = [self.reader.read(source) for source in _in_order(markers, given, sources)]
        layout, filled = self.reader.layout, iter(visuals)
        texts = [PARTS.sub(lambda _: self._placeholders(next(filled), layout), prompt) for prompt in texts]
        padding = len(texts) > 1 if padding is None else padding
        inputs = self.tokenizer(texts, padding=padding, padding_side=padding_side, **kwargs)
        self._check(inputs["input_ids"])
        return BatchFeature({**inputs, **packed(visuals)}, tensor_type=return_tensors)

    def _placeholders(self, visual: Visual, layout: LayoutConfig) -> str:
        return told(visual, layout) + PLACEHOLDER * len(lay_out(visual.geometry, layout))

    def _check(self, rows: Sequence[Sequence[int]]) -> None:
        placeholder = self.tokenizer.convert_tokens_to_ids(PLACEHOLDER)
        for row in rows:
            if len(row) > self.context:
                held = list(row).count(placeholder)
                raise ValueError(
                    f"the prompt is {len(row)} tokens, {held} of them of pictures, clips and 3D, and the model reads "
                    f"{self.context}: give fewer or smaller ones"
                )

    def apply_chat_template(
        self,
        conversation: Any,
        *args: Any,
        tokenize: bool = False,
        return_dict: bool = False,
        return_tensors: str | None = "pt",
        processor_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """As in transformers; parts of messages are of type text, image, video or 3d, and hold a source by any of the
        keys ``source``, ``image``, ``video``, ``3d``, ``path`` and ``url``.
        """
        many = bool(conversation) and not isinstance(conversation[0], Mapping)
        conversations = list(conversation) if many else [conversation]
        prompts = [super(AtokenMllmProcessor, self).apply_chat_template(c, *args, **kwargs) for c in conversations]
        if not tokenize:
            return prompts if many else prompts[0]
        sources = [source for each in conversations for source in sources_of(each)]
        inputs = self(text=prompts, sources=sources, return_tensors=return_tensors, **(processor_kwargs or {}))
        return inputs if return_dict else inputs["input_ids"]

    @property
    def model_input_names(self) -> list[str]:
        """What ``__call__`` returns."""
        return [*self.tokenizer.model_input_names, "pixel_values", "visual_states", "visual_grids", "visual_coords"]


def sources_of(conversation: Iterable[Mapping[str, Any]]) -> Iterator[Any]:
    """The sources of a conversation in their order. Raises ``ValueError`` for a part without one."""
    for message in conversation:
        for part in () if isinstance(message["content"], str) else message["content"]:
            if part["type"] == "text":
                continue
            if part["type"] not in MARKERS:
                raise ValueError(f"a part of a message is {shortened(part['type'])!r}: give text, {', '.join(MARKERS)}")
            found = [part[key] for key in KEYS if part.get(key) is not None]
            if len(found) != 1:
                raise ValueError(
                    f"a part of type {part['type']} needs one source, by one of the keys {', '.join(KEYS)}"
                )
            yield found[0]


def told(visual: Visual, layout: LayoutConfig) -> str:
    """What is said of a source before its placeholders: of a clip when its frames are shown, in seconds."""
    if visual.geometry.modality != "video":
        return ""
    wanted = layout.slow_steps or layout.fast_steps
    times = [visual.times[step] for step in chosen_steps(len(visual.times), wanted)]
    return f"frames at {', '.join(f'{time:.1f}' for time in times)} s: "


def packed(visuals: Sequence[Visual]) -> dict[str, torch.Tensor]:
    """The sources as inputs of the model. Raises ``ValueError`` where some are stored and some are not."""
    if not visuals:
        return {}
    geometries = [visual.geometry for visual in visuals]
    places = [
        torch.cat([torch.full((len(geometry), 1), number, dtype=torch.int32), geometry.coords.int()], 1)
        for number, geometry in enumerate(geometries)
    ]
    grids = torch.tensor([(MODALITIES.index(geometry.modality), *geometry.grid) for geometry in geometries])
    inputs = {"visual_grids": grids, "visual_coords": torch.cat(places)}
    patches = [visual.patches for visual in visuals if visual.patches is not None]
    states = [visual.states for visual in visuals if visual.states is not None]
    if patches and states:
        raise ValueError("stored tokens and files cannot be mixed in one batch: encode the files before")
    return inputs | ({"pixel_values": torch.cat(patches)} if patches else {"visual_states": torch.cat(states)})


def _in_order(markers: Sequence[str], given: Mapping[str, Any], sources: Any) -> list[Any]:
    """One source for each marker. Raises ``ValueError`` for too few or too many."""
    if sources is not None:
        if any(value is not None for value in given.values()):
            raise ValueError("give images, videos and assets, or sources, and not both")
        flat = _flat(sources)
        if len(flat) != len(markers):
            raise ValueError(f"the text has {len(markers)} markers of sources, and there are {len(flat)} sources")
        return flat
    queues = {name: _flat(value) for name, value in given.items()}
    for name, queue in queues.items():
        if (count := list(markers).count(MARKERS[name])) != len(queue):
            raise ValueError(f"the text has {MARKERS[name]} {count} times, and there are {len(queue)} sources for it")
    turns = {MARKERS[name]: iter(queue) for name, queue in queues.items()}
    return [next(turns[marker]) for marker in markers]


def _flat(value: Any) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, list | tuple):
        return [item for part in value for item in _flat(part)]
    return [value]
