"""What all generators share: words, labels or images to pictures, by way of a tokenizer's tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..codec.windows import TOKEN_BUDGET
from ..core.batching import within_budget
from ..core.files import whole_folder
from ..core.mapping import from_mapping
from ..core.text import shortened
from ..language.towers import TextTower, text
from ..nn.packed import dense_coords
from ..pipeline.atoken import AToken
from ..tokens.patch import PATCH
from ..tokens.tokens import Tokens
from ..weights.config import CONFIG, WEIGHTS, write_config
from ..weights.files import check_storage, write_safetensors
from ..weights.int8 import linear_weights, pack_int8
from .condition import Condition
from .config import GeneratorConfig, check_size
from .net import ConditionedNet

NET = "net."
"""Before the names of the net's weights in a file."""
LARGEST_SEED = 2**63 - 1
Step = Callable[[int, int], None]
"""Told after each step how many of how many are done."""


class Generator(torch.nn.Module, ABC):
    """A trained net with all that drawing needs. ``atoken.load_generator`` brings one from a folder.

    Raises ``ValueError`` for a tokenizer that is not the one whose tokens it learnt.
    """

    tokens: ClassVar[str]
    """Kind of the tokens that it draws, "continuous" or "discrete"."""
    config_class: ClassVar[type[GeneratorConfig]]
    net_class: ClassVar[Callable[..., ConditionedNet]]
    """Builds the net that ``config.net`` describes."""
    kept: ClassVar[Collection[str]]
    """Matrices of the net that int8 storage does not round to a byte: small ones at the tokens."""

    def __init__(self, config: GeneratorConfig, net: ConditionedNet, tokenizer: AToken) -> None:
        super().__init__()
        if tokenizer.weights_hash != config.tokenizer_weights:
            wanted = f"{shortened(config.tokenizer)!r} with weights {shortened(config.tokenizer_weights[:12])}"
            raise ValueError(
                f"the generator {shortened(config.name)!r} draws tokens of {wanted}, and this tokenizer is "
                f"{tokenizer.config.name!r} with weights {tokenizer.weights_hash[:12]}"
            )
        tokenizer.config.check_kind(self.tokens)
        self.config, self.net = config, net
        self._tokenizer = [tokenizer]  # in a list: no part of this module's weights

    def extras(self) -> dict[str, Tensor]:
        """Tensors in its file besides the net's, by name."""
        return {}

    @classmethod
    def extra_tensors(cls, config: GeneratorConfig) -> dict[str, Tensor]:
        """Tensors of the names and shapes of those in a file besides the net's."""
        return {}

    @classmethod
    @abstractmethod
    def assemble(
        cls, config: GeneratorConfig, net: ConditionedNet, extras: Mapping[str, Tensor], tokenizer: AToken
    ) -> Generator:
        """The generator of what a file holds; ``extras`` are what ``extra_tensors`` names."""

    @abstractmethod
    def features(self, tokens: Tokens) -> Tensor:
        """Numbers [N, C] of a picture's tokens, as the net sees them where an image is the condition."""

    @abstractmethod
    def draw(
        self,
        coords: Sequence[Tensor],
        condition: Condition,
        seeds: Sequence[int],
        options: Any,
        on_step: Step | None,
    ) -> list[Tensor]:
        """Values [n, ...] of the tokens of B samples together, on any device; see ``sample``."""

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
        seeds: int | Sequence[int] | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        size: tuple[int, int] | None = None,
        output: str = "pictures",
        token_budget: int = TOKEN_BUDGET,
        on_step: Step | None = None,
        **how: Any,
    ) -> Any:
        """A picture for each prompt, label or image: a list of uint8 HWC, or of ``Tokens`` with ``output="tokens"``.

        ``class_labels`` are names or numbers; ``images`` are ``Tokens`` of pictures that the result shall follow. Each
        sample has a seed of its own: ``seeds`` is a number for each, or one number from which they count up;
        ``generator`` draws them (a list of generators draws one each); without both they are random. ``size`` is
        (height, width) in pixels. ``how`` are ``steps``, ``guidance`` and the other fields of ``config.sampling``,
        which holds where they are not given. Raises ``ValueError`` with one sentence for bad input, and where drawing
        ends in NaN.
        """
        if output not in ("pictures", "tokens"):
            raise ValueError(f'output is {output!r}: give "pictures" or "tokens"')
        options = self.options(how)
        height, width = size or self.config.size
        check_size(height, width)
        condition, count = self._condition(prompts, class_labels, images)
        grid = (1, height // PATCH[1], width // PATCH[2], 1)
        tokens: list[Tokens] = []
        drawn = self.sample(
            [dense_coords(grid)] * count,
            condition,
            seeds_of(count, seeds, generator),
            options,
            token_budget=token_budget,
            on_step=on_step,
        )
        for values in drawn:
            geometry = {"grid": grid, "size": (height, width), "box": (0, 0, height, width)}
            tokens.append(self.tokenizer.stamp(self.tokens, values, dense_coords(grid), **geometry))
        return tokens if output == "tokens" else self.tokenizer.decode(tokens, token_budget=token_budget)

    @torch.no_grad()
    def sample(
        self,
        coords: Sequence[Tensor],
        condition: Condition,
        seeds: Sequence[int],
        options: Any = None,
        *,
        token_budget: int = TOKEN_BUDGET,
        on_step: Step | None = None,
    ) -> list[Tensor]:
        """Values of the tokens of B samples at any coords int [n, 4] = (t, x, y, z), on the CPU.

        Of each sample latents fp32 [n, C], or codes uint16 [n, G]. Pictures, clips and assets alike. ``options`` are of
        the class of ``config.sampling``. Neighbours are drawn together as ``token_budget`` allows.
        """
        options, found = options or self.config.sampling, []
        numbers = range(len(coords))
        batches = [list(batch) for batch in within_budget(numbers, lambda i: len(coords[i]), token_budget)]
        for turn, group in enumerate(batches):
            found += self.draw(
                [coords[i] for i in group],
                condition.part(group[0], group[-1] + 1),
                [seeds[i] for i in group],
                options,
                on_step and _later(on_step, turn, len(batches)),
            )
        return [values.cpu() for values in found]

    def save_pretrained(self, directory: str | Path, *, storage: str | None = None) -> None:
        """Write config.json and model.safetensors, without the tokenizer. ``storage="int8"``: one byte a weight.

        Raises ``OSError``, and ``ValueError`` for another storage.
        """
        write_generator(Path(directory), self.config, self.net, self.extras(), storage, self.kept)

    @staticmethod
    def from_pretrained(source: str | Path, **options: Any) -> Generator:
        """What ``save_pretrained`` wrote; see ``atoken.load_generator``."""
        from .load import load_generator

        return load_generator(source, **options)

    def options(self, how: Mapping[str, Any]) -> Any:
        """How to draw: what is given, and what the config says elsewhere. Raises ``ValueError``."""
        given = {name: value for name, value in how.items() if value is not None}
        sampling = self.config.sampling
        return from_mapping(type(sampling), vars(sampling) | given, where="how to draw")

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
        """Image tokens: what the net sees of ``Tokens`` that the same tokenizer made."""
        for item in images:
            if not isinstance(item, Tokens):
                raise ValueError(f"images are Tokens, as the tokenizer's encode gives them, not {type(item).__name__}")
            self.tokenizer.check_origin(item)
        feats = torch.cat([self.features(item) for item in images])
        return feats, torch.cat([item.coords for item in images]), [len(item) for item in images]


def write_generator(
    directory: Path,
    config: GeneratorConfig,
    net: ConditionedNet,
    extras: Mapping[str, Tensor],
    storage: str | None = None,
    kept: Collection[str] = (),
) -> None:
    """What ``save_pretrained`` writes; ``kept`` names matrices of the net that int8 does not round to a byte.

    Raises ``OSError``, and ``ValueError`` for an unknown storage.
    """
    check_storage(storage)
    state = {NET + name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    if storage == "int8":
        state = pack_int8(state, {NET + name for name in linear_weights(net) - set(kept)})
    state |= {name: tensor.cpu().contiguous() for name, tensor in extras.items()}
    with whole_folder(directory) as folder:
        write_safetensors(folder / WEIGHTS, state)
        write_config(folder / CONFIG, config.to_dict())


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
