"""Any generator's training on the engine."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from ..core.errors import reading
from ..data.tokens import TokenBatch
from ..engine.ema import EMA
from ..engine.logger import Logger
from ..engine.optimizer import ParameterGroup
from ..engine.protocol import TrainSpec
from ..engine.ranks import Ranks
from ..language.towers import TextTower, text
from ..nn.adaln import AdaLNBlock
from ..nn.block import Block
from ..tokens.shards import TokenShards
from ..weights.load import load
from .condition import Condition
from .config import GeneratorConfig
from .feed import CaptionReader, Origin, TokenFeed
from .generator import Generator, write_generator
from .recipe import GeneratorRecipe, TokensConfig
from .sheet import sheet

NET = "objective.net."
"""Before the names of the net's weights in the module that is trained."""


class GeneratorSpec(TrainSpec):
    """What the engine asks about the training of a generator.

    The module that ``build`` returns has the objective as ``objective``, which has the net as ``net``.
    """

    generator_class: ClassVar[type[Generator]]
    fixed: ClassVar[tuple[str, ...]] = ("net", "objective", "tokenizer_weights", "text_weights")
    """Facts of the generator's config that do not change within a run."""
    config: GeneratorRecipe

    def __init__(self, config: GeneratorRecipe) -> None:
        self.config = config

    @abstractmethod
    def module(self) -> nn.Module:
        """What is trained, with random weights."""

    @abstractmethod
    def generator(self, module: Any) -> Generator:
        """The generator that a module is."""

    @abstractmethod
    def make(self, found: TokenBatch, condition: Condition, seed: int) -> Any:
        """A batch of what is learnt from, with its ``lengths``."""

    def tokens(self) -> dict[str, Any]:
        """Facts of the shards that the net follows."""
        return {}

    def facts(self) -> dict[str, Any]:
        """Facts of the generator's config besides those that all kinds have."""
        return {}

    def extras(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tensors in the generator's file besides the net's, of a module's state."""
        return {}

    @property
    def aligned(self) -> bool:
        """Whether batches need features of the samples."""
        return False

    @cached_property
    def shards(self) -> dict[str, TokenShards]:
        """The shards of each task."""
        return {task.task: TokenShards(task.shards) for task in self.config.tasks}

    @cached_property
    def origin(self) -> Origin:
        """Who made the tokens."""
        first = self.shards[self.config.tasks[0].task]
        return Origin.of(first[0], self.generator_class.tokens, aligned=self.aligned)

    @cached_property
    def tower(self) -> TextTower | None:
        """The text tower that reads captions, on the CPU, where batches are made."""
        return None if self.config.text_tower is None else text(self.config.text_tower)

    @cached_property
    def reader(self) -> CaptionReader | None:
        """Reads captions."""
        return None if self.tower is None else CaptionReader(self.tower)

    @cached_property
    def generator_config(self) -> GeneratorConfig:
        """The config of the generator that is trained."""
        config, tower = self.config, self.tower
        build: Any = self.generator_class.config_class
        return build(
            name=config.name,
            net=config.net_config(0 if tower is None else tower.state_width, **self.tokens()),
            tokenizer=self.origin.model,
            tokenizer_weights=self.origin.weights,
            objective=config.objective,
            sampling=config.sampling,
            text_tower=config.text_tower,
            text_weights=None if tower is None else tower.weights_hash,
            labels=config.read_labels(),
            size=config.picture,
            **self.facts(),
        )

    def build(self, ranks: Ranks, stored: dict[str, Any] | None = None) -> nn.Module:
        """A net with random weights. Raises ``ValueError`` where the recipe's is not that of ``stored``."""
        if stored is not None:
            with reading("what it says of its model", "delete its folder"):
                found = self.generator_class.config_class.from_dict(stored)
            for name in self.fixed:
                if getattr(found, name) != getattr(self.generator_config, name):
                    raise ValueError(f"it is of a run with another {name}: give another --out")
        return self.module()

    def build_feed(
        self, task: TokensConfig, ranks: Ranks, cursor: dict[str, Any] | None = None, *, workers: bool = True
    ) -> TokenFeed:
        """The feed of a task."""
        return TokenFeed(
            task,
            self.shards[task.task],
            self.origin,
            self.generator_class.tokens,
            self.make,
            classes=self.config.classes,
            reader=self.reader,
            seed=self.config.seed,
            rank=ranks.rank,
            world=ranks.world,
            cursor=cursor,
        )

    def describe(self, module: Any) -> dict[str, Any]:
        """The generator's config."""
        return self.generator_config.to_dict()

    def weights(self, module: Any, task: str) -> dict[str, float]:
        """Those of the objective."""
        return module.objective.weights

    def blocks(self, module: Any) -> list[nn.Module]:
        """The transformer's blocks."""
        return [part for part in module.modules() if isinstance(part, AdaLNBlock | Block)]

    def parameter_groups(self, module: Any) -> list[ParameterGroup]:
        """With ``muon_lr`` the blocks' matrices go to Muon, but for modulations, which start at zero; only matrices
        decay."""
        groups: dict[tuple[str, str], list[nn.Parameter]] = {}
        for name, parameter in module.named_parameters():
            matrix = parameter.ndim == 2 and name.endswith(".weight")  # not tables and gains
            muon = matrix and ".blocks." in name and ".modulation." not in name
            kind = "muon" if muon and self.config.optimizer.muon_lr is not None else "adamw"
            groups.setdefault((kind, "rest" if matrix else "rest/plain"), []).append(parameter)
        return [ParameterGroup(name, own, kind, decay=name == "rest") for (kind, name), own in groups.items()]

    def cost(self, module: Any, task: str, batch: Any) -> tuple[int, float]:
        """Tokens, and the net's own matrix products."""
        told = batch.condition.text
        context = [0] * len(batch.lengths) if told is None else [max(1, n) for n in told[1]]
        return sum(batch.lengths), self.config.flops(self.generator_config.net, batch.lengths, context)

    def preview(self, step: int, module: Any, ema: EMA, logger: Logger) -> None:
        """Pictures of the recipe's prompts or labels by the averaged weights, each of the same seed every time."""
        wanted, sharded = self.config.previews, self.config.parallel.strategy == "fsdp"
        if not (wanted.prompts or wanted.labels) or not logger.active or sharded:
            return
        module.eval()
        with ema.applied():
            pictures = self.generator(module)(wanted.prompts or None, class_labels=wanted.labels or None, seeds=0)
        module.train()
        logger.picture(step, sheet(pictures))

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer that previews are drawn with."""
        return load(self.config.previews.tokenizer or self.origin.model)

    def export(self, module: Any, state: dict[str, Tensor], folder: Path) -> GeneratorConfig:
        """Write the generator in bf16; returns its config."""
        net = self.config.build_net(self.generator_config.net)
        net.load_state_dict({n.removeprefix(NET): t for n, t in state.items() if n.startswith(NET)})
        write_generator(folder, self.generator_config, net.bfloat16(), self.extras(state))
        return self.generator_config
