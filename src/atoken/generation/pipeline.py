"""A generator with the calls of a diffusers pipeline, for code that expects one; diffusers itself is not needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from .generator import Generator
from .load import load_generator

OUTPUTS = ("pil", "np")


@dataclass(frozen=True)
class PipelineOutput:
    """What a pipeline's call returns."""

    images: Any
    """A list of PIL images, or float32 [B, H, W, 3] in 0 ... 1."""


class GenerationPipeline:
    """``pipe(class_labels=[207], guidance_scale=2.0).images``: called as diffusers' pipelines are."""

    def __init__(self, model: Generator) -> None:
        self.model = model

    @classmethod
    def from_pretrained(cls, source: str | Path, **options: Any) -> GenerationPipeline:
        """The pipeline of a generator's folder; ``options`` are those of ``atoken.load_generator``."""
        return cls(load_generator(source, **options))

    @property
    def labels(self) -> dict[str, int]:
        """Numbers of the classes by name."""
        return {name: number for number, name in enumerate(self.model.config.labels)}

    def get_label_ids(self, label: str | Sequence[str]) -> list[int]:
        """Numbers of classes. Raises ``ValueError`` for an unknown one."""
        names = [label] if isinstance(label, str) else list(label)
        if unknown := [name for name in names if name not in self.labels]:
            raise ValueError(f"label {unknown[0]!r} is unknown")
        return [self.labels[name] for name in names]

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        class_labels: Sequence[int] | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        num_images_per_prompt: int = 1,
        height: int | None = None,
        width: int | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        output_type: str = "pil",
    ) -> PipelineOutput:
        """``.images`` of prompts or labels. Raises ``ValueError`` as the generator does, and for another output."""
        if output_type not in OUTPUTS:
            raise ValueError(f"output_type is {output_type!r}: give {' or '.join(OUTPUTS)}")
        if num_images_per_prompt < 1:
            raise ValueError(f"num_images_per_prompt is {num_images_per_prompt}: give 1 or more")
        words = [prompt] if isinstance(prompt, str) else prompt
        size = self.model.config.size
        pictures = self.model(
            None if words is None else [word for word in words for _ in range(num_images_per_prompt)],
            class_labels=None
            if class_labels is None
            else [n for n in class_labels for _ in range(num_images_per_prompt)],
            steps=num_inference_steps,
            guidance=guidance_scale,
            size=(height or size[0], width or size[1]),
            generator=generator,
        )
        if output_type == "np":
            return PipelineOutput(np.stack(pictures).astype(np.float32) / 255)
        return PipelineOutput([Image.fromarray(picture) for picture in pictures])
