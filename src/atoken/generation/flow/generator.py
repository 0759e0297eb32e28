"""``FlowGenerator``: words, labels or images to pictures, by way of a tokenizer's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...codec.windows import TOKEN_BUDGET
from ...core.batching import within_budget
from ...core.mapping import from_mapping
from ...core.text import shortened
from ...language.towers import TextTower, text
from ...nn.packed import dense_coords
from ...pipeline.atoken import AToken
from ...tokens.patch import PATCH
from ...tokens.tokens import Tokens
from ...weights.files import CONFIG, WEIGHTS, check_storage, write_config, write_safetensors
from ...weights.int8 import linear_weights, pack_int8
from ..condition import Condition
from ..config import GeneratorConfig, SampleConfig, check_size
from ..latents import LatentStats
from .net import DiT
from .objective import shift_of
from .sampler import Step, draw

KEPT = ("net.embed.weight", "net.final.weight")
"""Matrices at the latents, small and not to be rounded to a byte."""
LARGEST_SEED = 2**63 - 1


class FlowGenerator(torch.nn.Module):
    """A trained flow with all that drawing needs. ``atoken.load_generator`` brings one from a folder.

    Raises ``ValueError`` for a tokenizer that is not the one whose latents it learnt.
    """

    def __init__(self, config: GeneratorConfig, net: DiT, stats: LatentStats, tokenizer: AToken) -> None:
        super().__init__()
        channels, found = config.net.latent_channels, tokenizer.config.latent_channels
        if tokenizer.weights_hash != config.tokenizer_weights:
            wanted = f"{shortened(config.tokenizer)!r} with weights {shortened(config.tokenizer_weights[:12])}"
            raise ValueError(
                f"the generator {shortened(config.name)!r} draws tokens of {wanted}, and this tokenizer is "
                f"{tokenizer.config.name!r} with weights {tokenizer.weights_hash[:12]}"
            )
        if found != channels or len(stats.mean) != channels:
            raise ValueError(f"the generator draws {channels} channels; tokenizer and statistics must have as many")
        self.config, self.net, self.stats = config, net, stats
        self._tokenizer = [tokenizer]  # in a list: no part of this module's weights

    @property
    def tokenizer(self) -> AToken:
        """What turns its tokens into pictures."""
        return self._tokenizer[0]

    @property
    def device(self) -> torch.device:
        """Where the net computes."""
        return self.net.device

    @cached_property
    def tower(self) -> TextTower:
        """The text tower that it reads with. Raises ``ValueError`` for one with other weights, or without one."""
        if self.config.text_tower is None:
            raise ValueError(f"the generator {shortened(self.config.name)!r} reads no text: give labels")
        tower = text(self.config.text_tower, device=self.device)
        if self.config.text_weights is not None and tower.weights_hash != self.config.text_weights:
            raise ValueError(
                f"the generator {shortened(self.config.name)!r} was trained with another text tower "
                f"{shortened(self.config.text_tower)!r}: its weights were {shortened(self.config.text_weights[:12])}"
            )
        return tower

    @torch.no_grad()
    def __call__(
        self,
        prompts: str | Sequence[str] | None = None,
        *,
        class_labels: Sequence[int | str] | int | str | None = None,
        images: Sequence[Tensor | Tokens] | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        interval: tuple[float, float] | None = None,
        method: str | None = None,
        shift: float | None = None,
        seeds: int | Sequence[int] | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        size: tuple[int, int] | None = None,
        output: str = "pictures",
        token_budget: int = TOKEN_BUDGET,
        on_step: Step | None = None,
    ) -> Any:
        """A picture for each prompt, label or image: a list of uint8 HWC, or of ``Tokens`` with ``output="tokens"``.

        ``class_labels`` are names or numbers; ``images`` are ``Tokens`` of pictures that the result shall follow. What
        is not given is as ``config.sampling`` says (see ``SampleConfig``). Each sample has a seed of its own:
        ``seeds`` is a number for each, or one number from which they count up; ``generator`` draws them (a list of
        generators draws one each); without both they are random. ``size`` is (height, width) in pixels. Raises
        ``ValueError`` with one sentence for bad input, and where drawing ends in NaN.
        """
        if output not in ("pictures", "tokens"):
            raise ValueError(f'output is {output!r}: give "pictures" or "tokens"')
        options = self._options(steps, guidance, interval, method, shift)
        height, width = size or self.config.size
        check_size(height, width)
        condition, count = self._condition(prompts, class_labels, images)
        grid = (1, height // PATCH[1], width // PATCH[2], 1)
        tokens: list[Tokens] = []
        latents = self.sample(
            [dense_coords(grid)] * count,
            condition,
            seeds_of(count, seeds, generator),
            options,
            token_budget=token_budget,
            on_step=on_step,
        )
        _ = self.tokenizer.weights_hash
        for values in latents:
            geometry = {"grid": grid, "size": (height, width), "box": (0, 0, height, width)}
            tokens.append(self.tokenizer.stamp("continuous", values, dense_coords(grid), **geometry))
        return tokens if output == "tokens" else self.tokenizer.decode(tokens, token_budget=token_budget)

    @torch.no_grad()
    def sample(
        self,
        coords: Sequence[Tensor],
        condition: Condition,
        seeds: Sequence[int],
        options: SampleConfig | None = None,
        *,
        token_budget: int = TOKEN_BUDGET,
        on_step: Step | None = None,
    ) -> list[Tensor]:
        """Latents of B samples at any coords int [n, 4] = (t, x, y, z): B times fp32 [n, C], on the CPU.

        Pictures, clips and assets alike. Neighbours are drawn together as ``token_budget`` allows.
        """
        options = options or self.config.sampling
        objective, found = self.config.objective, []
        if options.shift is not None:
            objective = replace(objective, shift=options.shift)
        numbers = range(len(coords))
        batches = [list(batch) for batch in within_budget(numbers, lambda i: len(coords[i]), token_budget)]
        for turn, group in enumerate(batches):
            places = [coords[i] for i in group]
            shift = shift_of(objective, self.config.net.latent_channels, [len(item) for item in places])
            found += draw(
                self.net,
                places,
                condition.part(group[0], group[-1] + 1),
                [seeds[i] for i in group],
                shift,
                objective.prediction,
                options,
                on_step and _later(on_step, turn, len(batches)),
            )
        return [self.stats.restore(x).cpu() for x in found]

    def save_pretrained(self, directory: str | Path, *, storage: str | None = None) -> None:
        """Write config.json and model.safetensors, without the tokenizer. ``storage="int8"``: one byte a weight.

        Raises ``OSError``, and ``ValueError`` for another storage.
        """
        write_generator(Path(directory), self.config, self.net, self.stats, storage)

    @staticmethod
    def from_pretrained(source: str | Path, **options: Any) -> FlowGenerator:
        """What ``save_pretrained`` wrote; see ``atoken.load_generator``."""
        from ..load import load_generator

        return load_generator(source, **options)

    def _options(
        self,
        steps: int | None,
        guidance: float | None,
        interval: tuple[float, float] | None,
        method: str | None,
        shift: float | None,
    ) -> SampleConfig:
        given = {"steps": steps, "guidance": guidance, "interval": interval, "method": method, "shift": shift}
        changed = {name: value for name, value in given.items() if value is not None}
        return from_mapping(SampleConfig, vars(self.config.sampling) | changed, where="how to draw")

    def _condition(self, prompts: Any, labels: Any, images: Any) -> tuple[Condition, int]:
        """What the samples are told, and how many there are. Raises ``ValueError``."""
        words = [prompts] if isinstance(prompts, str) else prompts
        names = [labels] if isinstance(labels, int | str) else labels
        counts = {len(part) for part in (words, names, images) if part is not None}
        if len(counts) != 1 or 0 in counts:
            raise ValueError("give prompts, labels or images, at least one, and as many of each kind that is given")
        condition = Condition(
            labels=None if names is None else torch.tensor([self._label(name) for name in names]),
            text=None if words is None else self._read(words),
            image=None if images is None else self._look(images),
        )
        return condition, counts.pop()

    def _label(self, name: int | str) -> int:
        """The number of a class."""
        names, classes = self.config.labels, self.config.net.classes
        if not classes:
            raise ValueError(f"the generator {shortened(self.config.name)!r} knows no labels: give prompts")
        if isinstance(name, str) and name in names:
            return names.index(name)
        number = int(name) if isinstance(name, int) or (name.isascii() and name.isdecimal() and len(name) < 10) else -1
        if not 0 <= number < classes:
            known = f" such as {', '.join(names[:5])}" if names else ""
            raise ValueError(f"label {shortened(name)!r} is unknown: there are {classes}, 0 ... {classes - 1}{known}")
        return number

    def _read(self, words: Sequence[str]) -> tuple[Tensor, list[int]]:
        """States of the prompts' tokens. Raises ``ValueError`` for an empty prompt."""
        tower = self.tower
        if empty := [word for word in words if not isinstance(word, str) or not word.strip()]:
            raise ValueError(f"a prompt is {shortened(repr(empty[0]))}: say what to draw, such as 'a red heart'")
        states = tower.states(words)
        return torch.cat(states), [len(item) for item in states]

    def _look(self, images: Sequence[Any]) -> tuple[Tensor, Tensor, list[int]]:
        """Image tokens: the normalised latents of ``Tokens`` that the same tokenizer made."""
        for item in images:
            if not isinstance(item, Tokens):
                raise ValueError(f"images are Tokens, as the tokenizer's encode gives them, not {type(item).__name__}")
            self.tokenizer.check_origin(item)
        feats = torch.cat([self.stats.normalise(item.latents.float()) for item in images])
        return feats, torch.cat([item.coords for item in images]), [len(item) for item in images]


def write_generator(
    directory: Path, config: GeneratorConfig, net: DiT, stats: LatentStats, storage: str | None = None
) -> None:
    """What ``save_pretrained`` writes. Raises ``OSError``, and ``ValueError`` for an unknown storage."""
    check_storage(storage)
    state = {f"net.{name}": tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    if storage == "int8":
        state = pack_int8(state, {f"net.{name}" for name in linear_weights(net)} - set(KEPT))
    state |= {f"stats.{name}": tensor.cpu().contiguous() for name, tensor in stats.to_state().items()}
    write_safetensors(directory / WEIGHTS, state)
    write_config(directory / CONFIG, config.to_dict())


def seeds_of(
    count: int, seeds: int | Sequence[int] | None, generator: torch.Generator | Sequence[torch.Generator] | None
) -> list[int]:
    """A seed for each of ``count`` samples. Raises ``ValueError`` where they do not fit."""
    if seeds is not None and generator is not None:
        raise ValueError("give seeds or a generator, not both")
    if isinstance(seeds, int):
        found = [seeds + index for index in range(count)]
    elif seeds is not None:
        found = [int(seed) for seed in seeds]
    elif isinstance(generator, torch.Generator) or generator is None:
        drawn = torch.randint(LARGEST_SEED, (count,), generator=generator, device=_device_of(generator))
        found = drawn.tolist()
    else:
        found = [int(torch.randint(LARGEST_SEED, (), generator=g, device=g.device)) for g in generator]
    if len(found) != count:
        raise ValueError(f"{len(found)} seeds or generators for {count} samples: give one each")
    if wrong := [seed for seed in found if not 0 <= seed <= LARGEST_SEED]:
        raise ValueError(f"seed {wrong[0]}: give a number from 0 to {LARGEST_SEED}")
    return found


def _device_of(generator: torch.Generator | None) -> torch.device:
    return torch.device("cpu") if generator is None else generator.device


def _later(on_step: Step, turn: int, turns: int) -> Step:
    """Steps of one batch of several, counted through."""
    return lambda done, total: on_step(turn * total + done, turns * total)
