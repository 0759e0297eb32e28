"""A flow's training on the engine."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...core.errors import reading
from ...engine.ema import EMA
from ...engine.logger import Logger
from ...engine.loop import run
from ...engine.optimizer import ParameterGroup
from ...engine.protocol import TrainSpec
from ...engine.ranks import Ranks
from ...language.towers import TextTower, text
from ...nn.adaln import AdaLNBlock
from ...tokens.shards import TokenShards
from ...weights.load import load
from ..config import FlowConfig, dit_config
from ..generator import write_generator
from ..latents import LatentStats
from ..sheet import sheet
from .feed import CaptionReader, FlowFeed, Origin, measure
from .flops import training_flops
from .generator import STATS, FlowGenerator
from .net import DiT
from .objective import FlowBatch, FlowObjective
from .recipe import FlowRecipe, TokensConfig


def train(recipe: FlowRecipe, out: Path, device: str = "cpu", stop_after: int | None = None) -> FlowConfig | None:
    """Train to the end of ``recipe``, continuing from the last checkpoint under ``out`` where there is one.

    Writes what ``engine.loop.run`` does, and at the end the averaged generator in bf16 under ``out/model``.
    """
    return run(FlowSpec(recipe), out, device, stop_after)


class FlowModule(nn.Module):
    """The objective, and how latents are normalised."""

    mean: Tensor
    std: Tensor
    basis: Tensor | None

    def __init__(self, objective: FlowObjective, stats: LatentStats) -> None:
        super().__init__()
        self.objective = objective
        for name in ("mean", "std", "basis"):
            self.register_buffer(name, getattr(stats, name))

    @property
    def stats(self) -> LatentStats:
        """The statistics of the latents."""
        return LatentStats(self.mean, self.std, self.basis)

    def forward(self, task: str, batch: FlowBatch) -> dict[str, Tensor]:
        """Unweighted terms of a batch."""
        device = self.mean.device
        latents = batch.latents.to(device)
        with torch.autocast(device.type, enabled=False):
            latents = latents.with_feats(self.stats.normalise(latents.feats))
        features = None if batch.features is None else batch.features.to(device, non_blocking=True)
        return self.objective(replace(batch, latents=latents, condition=batch.condition.to(device), features=features))


class FlowSpec(TrainSpec):
    """What the engine asks about the training of a flow."""

    def __init__(self, config: FlowRecipe) -> None:
        self.config: FlowRecipe = config

    @cached_property
    def shards(self) -> dict[str, TokenShards]:
        """The shards of each task."""
        return {task.task: TokenShards(task.shards) for task in self.config.tasks}

    @cached_property
    def origin(self) -> Origin:
        """Who made the tokens."""
        first = self.shards[self.config.tasks[0].task]
        return Origin.of(first[0], aligned=self.config.objective.align > 0)

    @cached_property
    def tower(self) -> TextTower | None:
        """The text tower that reads captions, on the CPU, where batches are made."""
        return None if self.config.text_tower is None else text(self.config.text_tower)

    @cached_property
    def reader(self) -> CaptionReader | None:
        """Reads captions."""
        return None if self.tower is None else CaptionReader(self.tower)

    @cached_property
    def generator_config(self) -> FlowConfig:
        """The config of the generator that is trained."""
        config, tower = self.config, self.tower
        inputs = {"classes": config.classes, "text_width": 0 if tower is None else tower.state_width}
        return FlowConfig(
            name=config.name,
            net=dit_config(config.size, self.origin.channels, **inputs),
            tokenizer=self.origin.model,
            tokenizer_weights=self.origin.weights,
            objective=config.objective,
            sampling=config.sampling,
            text_tower=config.text_tower,
            text_weights=None if tower is None else tower.weights_hash,
            labels=config.read_labels(),
            size=config.picture,
            whitened=config.whiten,
        )

    def build(self, ranks: Ranks, stored: dict[str, Any] | None = None) -> FlowModule:
        """A net with random weights. Raises ``ValueError`` where the recipe's is not that of ``stored``."""
        if stored is not None:
            with reading("what it says of its model", "delete its folder"):
                found = FlowConfig.from_dict(stored)
            ours = self.generator_config
            for name in ("net", "objective", "tokenizer_weights", "text_weights", "whitened"):
                if getattr(found, name) != getattr(ours, name):
                    raise ValueError(f"it is of a run with another {name}: give another --out")
        channels = self.origin.channels
        basis = torch.eye(channels) if self.config.whiten else None
        return self._module(LatentStats(torch.zeros(channels), torch.ones(channels), basis))

    def start(self, ranks: Ranks) -> FlowModule:
        """The same with the statistics of the first task's latents."""
        return self._module(measure(self.shards[self.config.tasks[0].task], self.config.whiten))

    def _module(self, stats: LatentStats) -> FlowModule:
        objective = FlowObjective(DiT(self.generator_config.net), self.config.objective, self.origin.features)
        return FlowModule(objective, stats)

    def build_feed(
        self, task: TokensConfig, ranks: Ranks, cursor: dict[str, Any] | None = None, *, workers: bool = True
    ) -> FlowFeed:
        """The feed of a task."""
        return FlowFeed(
            task,
            self.shards[task.task],
            self.origin,
            classes=self.config.classes,
            reader=self.reader,
            seed=self.config.seed,
            rank=ranks.rank,
            world=ranks.world,
            cursor=cursor,
        )

    def describe(self, module: FlowModule) -> dict[str, Any]:
        """The generator's config."""
        return self.generator_config.to_dict()

    def weights(self, module: FlowModule, task: str) -> dict[str, float]:
        """Those of the objective."""
        return module.objective.weights

    def blocks(self, module: FlowModule) -> list[nn.Module]:
        """The transformer's blocks."""
        return [part for part in module.modules() if isinstance(part, AdaLNBlock)]

    def parameter_groups(self, module: FlowModule) -> list[ParameterGroup]:
        """With ``muon_lr`` the blocks' matrices go to Muon, but for modulations, which start at zero; only matrices
        decay."""
        groups: dict[tuple[str, str], list[nn.Parameter]] = {}
        for name, parameter in module.named_parameters():
            matrix = parameter.ndim == 2 and "gamma" not in name and not name.endswith(("label", "nothing"))
            muon = matrix and ".blocks." in name and ".modulation." not in name
            kind = "muon" if muon and self.config.optimizer.muon_lr is not None else "adamw"
            groups.setdefault((kind, "rest" if matrix else "rest/plain"), []).append(parameter)
        return [ParameterGroup(name, own, kind, decay=name == "rest") for (kind, name), own in groups.items()]

    def cost(self, module: FlowModule, task: str, batch: FlowBatch) -> tuple[int, float]:
        """Tokens, and the net's own matrix products (flops.py)."""
        lengths = batch.latents.lengths
        context = [0] * len(lengths) if batch.condition.text is None else [max(1, n) for n in batch.condition.text[1]]
        return sum(lengths), training_flops(module.objective.net.config, lengths, context)

    def preview(self, step: int, module: FlowModule, ema: EMA, logger: Logger) -> None:
        """Pictures of the recipe's prompts or labels by the averaged weights, each of the same seed every time."""
        wanted, sharded = self.config.previews, self.config.parallel.strategy == "fsdp"
        if not (wanted.prompts or wanted.labels) or not logger.active or sharded:
            return
        module.eval()
        with ema.applied():
            generator = FlowGenerator(self.generator_config, module.objective.net, module.stats, self._tokenizer)
            pictures = generator(wanted.prompts or None, class_labels=wanted.labels or None, seeds=0)
        module.train()
        logger.picture(step, sheet(pictures))

    @cached_property
    def _tokenizer(self) -> Any:
        return load(self.config.previews.tokenizer or self.origin.model)

    def export(self, module: FlowModule, state: dict[str, Tensor], folder: Path) -> FlowConfig:
        """Write the generator in bf16; returns its config."""
        prefix = "objective.net."
        net = DiT(self.generator_config.net)
        net.load_state_dict({n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)})
        stats = LatentStats(state["mean"], state["std"], state.get("basis"))
        extras = {STATS + name: tensor for name, tensor in stats.to_state().items()}
        write_generator(folder, self.generator_config, net.bfloat16(), extras)
        return self.generator_config
