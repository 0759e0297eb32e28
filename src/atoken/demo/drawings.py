"""The drawing part of the demo: prompts drawn with several seeds and guidances, which two sliders choose from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..core.text import escaped
from ..generation.generator import Generator
from . import page

PROMPTS = ("a red heart", "a wooden chair", "a purple banana")
"""The last is one that no caption of nano-draw's training holds (recipes/generation/unseen.txt)."""
SEEDS, GUIDANCE, STEPS = (1, 2, 3), (1.0, 3.0, 6.0), 20


def section(generator: Generator) -> page.Section:
    """What ``generator`` draws of ``PROMPTS``; all pictures are computed here and lie in the page."""
    figures = "".join(_figure(prompt, grid(generator, prompt)) for prompt in PROMPTS)
    sliders = _slider("seed", SEEDS, 0) + _slider("guidance", GUIDANCE, 1)
    drawer, tokenizer = generator.config.name, generator.config.tokenizer
    return page.Section(
        "Words become tokens, and tokens a picture",
        f"A small generator, {drawer}, draws tokens of {tokenizer} from words, beginning with noise, in {STEPS} steps; "
        "the decoder makes pixels of them. The seed is where the noise comes from, and guidance how far the words are "
        "exaggerated.",
        f"<div class='draws' style='--seeds: {len(SEEDS)}; --guidances: {len(GUIDANCE)}; --seed: 0; --guidance: 1'>"
        f"<p class='sliders'>{sliders}</p><div class='things'>{figures}</div></div>",
    )


def grid(generator: Generator, prompt: str) -> np.ndarray:
    """All pictures of a prompt in one, uint8 HWC: a row for each guidance, a column for each seed."""
    rows = [
        np.concatenate(generator([prompt] * len(SEEDS), seeds=list(SEEDS), guidance=strength, steps=STEPS), 1)
        for strength in GUIDANCE
    ]
    return np.concatenate(rows)


def _figure(prompt: str, pictures: np.ndarray) -> str:
    words = escaped(prompt)
    picture = f"<div class='drawn'><img src='{page.embed(pictures, quality=85)}' alt='{words}'></div>"
    return f"<figure>{picture}<figcaption>{words}</figcaption></figure>"


def _slider(name: str, values: Sequence[float], start: int) -> str:
    shown = ",".join(f"{value:g}" for value in values)
    return (
        f"<label>{name} <output>{values[start]:g}</output> <input type='range' min='0' max='{len(values) - 1}' "
        f"value='{start}' data-name='{name}' data-values='{shown}'></label>"
    )
