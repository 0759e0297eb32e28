"""The tokenizer's training on the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.errors import reading
from ..data.batch import Batch
from ..data.feeds import Feed, build_feed, without_workers
from ..engine.ema import EMA
from ..engine.logger import Logger
from ..engine.loop import run
from ..engine.optimizer import ParameterGroup
from ..engine.protocol import Capture, TrainSpec
from ..engine.ranks import Ranks
from ..losses.total import TERMS, factor
from ..nn.layout import tile_of
from ..pipeline.atoken import AToken
from ..tokenizer.config import ModelConfig
from .config import TaskConfig, TokenizerOptimizerConfig, TrainConfig
from .flops import training_flops
from .module import TrainModule
from .previews import Previews
from .start import finished, fixed_fields, freeze, start_model
from .tasks import Reconstruction, build_tasks, noise_of


def train(config: TrainConfig, out: Path, device: str = "cpu", stop_after: int | None = None) -> AToken | None:
    """Train to the end of ``config``, continuing from the last checkpoint under ``out`` where there is one.

    Writes ``log.jsonl``, ``checkpoints/``, ``pictures/``, and at the end the averaged model in bf16 under
    ``out/model``; returns that model on the CPU. ``stop_after`` ends this call (with a checkpoint) after that step, as
    Ctrl-C and SIGTERM do after the step they arrive in; then None is returned. A continued run computes exactly what
    an uninterrupted one does. Under ``torchrun`` this is one rank of many.
    """
    return run(TokenizerSpec(config), out, device, stop_after)


class TokenizerSpec(TrainSpec):
    """What the engine asks about the training of a tokenizer."""

    forward_methods = ("reconstruct",)
    previews: Previews | None = None

    def __init__(self, config: TrainConfig) -> None:
        self.config: TrainConfig = config

    def build(self, ranks: Ranks, stored: dict[str, Any] | None = None) -> TrainModule:
        """A model with random weights. Raises ``ValueError`` where what the recipe fixes is not that of ``stored``."""
        if stored is None:
            return self._module(AToken(self.config.model_config), ranks)
        with reading("what it says of its model", "delete its folder"):
            found = ModelConfig.from_dict(stored)  # keys that did not exist then have their defaults
        for key, wanted in fixed_fields(self.config).items():
            if getattr(found, key) != wanted:
                raise ValueError(
                    f"it is of a run with another model, whose {key} is {getattr(found, key)!r}, not {wanted!r}: give "
                    "another --out"
                )
        self.previews = Previews(self.config.log)
        return self._module(AToken(found), ranks)

    def start(self, ranks: Ranks) -> TrainModule:
        """The model of ``init_from`` and ``start``."""
        config, feed = self.config, None
        self.previews = Previews(config.log)
        if config.start is not None:
            pictures = [task for task in config.tasks if task.kind.modality == "image"]
            feed = self.build_feed((pictures or config.tasks)[0], ranks)
        return self._module(start_model(config, feed), ranks)

    def _module(self, model: AToken, ranks: Ranks) -> TrainModule:
        freeze(model, self.config.frozen)
        own = None if self.config.bottleneck is None else self.config.bottleneck.build()
        return TrainModule(model, build_tasks(self.config, ranks.device, model.config, own), own)

    def build_feed(
        self, task: TaskConfig, ranks: Ranks, cursor: dict[str, Any] | None = None, *, workers: bool = True
    ) -> Feed[Batch]:
        """The feed of a task."""
        task = task if workers else without_workers(task)
        return build_feed(task, self.config.seed, ranks.rank, ranks.world, cursor)

    def describe(self, module: TrainModule) -> dict[str, Any]:
        """The model's config."""
        return module.model.config.to_dict()

    def weights(self, module: TrainModule, task: str) -> Mapping[str, float]:
        """Those of the recipe's ``loss``, and of terms of its own."""
        return {name: factor(name, self.config.loss) for name in TERMS} | dict(module.tasks[task].weights)

    def parameter_groups(self, module: TrainModule) -> list[ParameterGroup]:
        """As ``parameter_groups`` says."""
        return parameter_groups(module, self.config.optimizer)

    def cost(self, module: TrainModule, task: str, batch: Batch) -> tuple[int, float]:
        """Tokens, and the network's own matrix products (train/flops.py)."""
        tokens, kind, config = len(batch.packed.coords), module.tasks[task], module.model.config
        if kind.keeps_decoded:  # what is decoded once and kept; the head itself is small
            return tokens, 0.0
        tiles, _ = tile_of(batch.packed.coords, config.encoder_tile)
        segments = torch.bincount(batch.packed.coords[:, 0].long() * (int(tiles.max()) + 1) + tiles).tolist()
        return tokens, training_flops(config, segments, batch.packed.feats.shape[1], decode=kind.decodes)

    def capture(self, module: TrainModule, task: str, batch: Batch) -> Capture | None:
        """Reconstruction of pictures or of clips: feeds make them in a few sizes, while every asset has its own
        voxels. Not with terms or a bottleneck of the recipe's own, which may wait for the device."""
        kind, model, packed = module.tasks[task], module.model, batch.packed
        own = self.config.bottleneck or self.config.terms
        modalities = {sample.modality for sample in batch.samples}
        if own or not isinstance(kind, Reconstruction) or modalities not in ({"image"}, {"video"}):
            return None
        facts = f"{task} {list(packed.feats.shape)} {len(batch.samples)}".encode() + packed.coords.numpy().tobytes()
        noise = noise_of(model, batch)

        def prepare(inputs: Sequence[Tensor]) -> Callable[[], dict[str, Tensor]]:
            _ = packed.lengths, packed.extents
            here = packed.to(model.device).with_feats(inputs[0])
            known, drawn = replace(batch, packed=here), None if noise is None else inputs[1]
            return lambda: kind.terms(model, known, here, drawn)

        inputs = [packed.feats] if noise is None else [packed.feats, noise]
        return Capture(blake2b(facts).digest(), inputs, prepare)

    def preview(self, step: int, module: TrainModule, ema: EMA, logger: Logger) -> None:
        """Reconstructions, and PSNR on photographs."""
        if self.previews is not None:
            self.previews.show(step, module, ema, logger)

    def export(self, module: TrainModule, state: dict[str, Tensor], folder: Path) -> AToken:
        """Write the model in bf16 with the scale and bias that its first task of pairs has learnt; returns it in
        fp32."""
        config = module.model.config
        learnt = [name.removesuffix("log_scale") for name in state if name.endswith(".log_scale")]
        if learnt and config.text_tower is not None:
            scale, bias = (float(state[learnt[0] + name]) for name in ("log_scale", "bias"))
            config = replace(config, logit_scale=scale, logit_bias=bias)
        own = {name.removeprefix("model."): tensor for name, tensor in state.items() if name.startswith("model.")}
        return finished(config, own, folder)


def parameter_groups(module: torch.nn.Module, config: TokenizerOptimizerConfig) -> list[ParameterGroup]:
    """With ``muon_lr`` matrices inside blocks go to Muon; the encoder has a scale of its own; only matrices decay.

    Names are "encoder" or "rest", with "/plain" where weights do not decay.
    """
    groups: dict[tuple[str, str], list[torch.nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        matrix = parameter.ndim == 2 and "gamma" not in name and "position_embedding" not in name
        kind = "muon" if config.muon_lr is not None and matrix and ".blocks." in name else "adamw"
        part = "encoder" if ".encoder." in f".{name}" else "rest"
        groups.setdefault((kind, part if matrix else f"{part}/plain"), []).append(parameter)
    return [
        ParameterGroup(
            name,
            parameters,
            kind,
            lr_scale=config.encoder_scale if name in ("encoder", "encoder/plain") else 1.0,
            decay=name in ("encoder", "rest"),
        )
        for (kind, name), parameters in groups.items()
    ]
