"""The model that a stage begins with."""

from __future__ import annotations

from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.batch import Batch
from ..data.feeds import Feed
from ..pipeline.atoken import AToken
from ..tokenizer.config import ModelConfig
from ..tokenizer.identity import without_head
from ..tokens.patch import FRAME_FEATURES
from ..weights.load import load
from .config import SIGLIP2, TrainConfig
from .discrete_start import discrete_start
from .growth import deepen, still_start
from .linear_start import linear_start
from .siglip import start_from_siglip2

LOOK_AT = 32
"""Batches that linear and discrete starts are computed from; numbers that the run itself does not reach."""


def start_model(config: TrainConfig, feed: Feed[Batch] | None) -> AToken:
    """The model before the first step, in fp32 on the CPU; ``feed`` gives pictures for the starts that look at some.

    A preset with more blocks than ``init_from`` begins with new ones that add nothing yet. Raises ``ValueError`` where
    ``init_from`` does not fit the recipe.
    """
    wanted = config.model_config
    if config.init_from is None:
        model = AToken(wanted)
    elif config.init_from.startswith(SIGLIP2):
        model = AToken(wanted)
        start_from_siglip2(model, config.init_from.removeprefix(SIGLIP2))
    else:
        model = load(config.init_from, device="cpu")
        _check(model.config, wanted, config)
        if (wanted.encoder_depth, wanted.decoder_depth) != (model.config.encoder_depth, model.config.decoder_depth):
            model = deepen(model, wanted.encoder_depth, wanted.decoder_depth)
        if wanted.gaussians not in (None, model.config.gaussians):
            model = with_head(model, wanted)
        if config.start != "discrete":
            model = with_latents(model, config.latent_channels or model.config.latent_channels, wanted.kinds)
        if wanted.text_tower not in (None, model.config.text_tower):
            model = with_tower(model, wanted)
    if config.start is not None:
        assert feed is not None
        batches = [feed.batch(number).packed for number in islice(count(config.steps), LOOK_AT)]
        if config.start == "linear":
            linear_start(model, torch.cat([batch.feats for batch in batches]))
        else:
            model = discrete_start(model, batches)
    moving = any(task.kind.decodes and task.kind.modality == "video" for task in config.tasks)
    if moving and not model.decoder.out_layer.weight[FRAME_FEATURES:].any():  # it has learned from images alone
        still_start(model)
    return model


def freeze(model: AToken, frozen: tuple[str, ...]) -> None:
    """Weights whose names begin with one of ``frozen`` do not learn. Raises ``ValueError`` where none is left."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(frozen))
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("train config: frozen leaves no weight to learn")


def fixed_fields(config: TrainConfig) -> dict[str, Any]:
    """What a recipe says of its model's config, whatever ``init_from`` and ``start`` bring: a run that continues has
    the same."""
    wanted = config.model_config
    if config.init_from is None or config.init_from.startswith(SIGLIP2):
        return dict(vars(wanted))
    names = ["width", "heads", "mlp_width", "encoder_depth", "decoder_depth", "kinds"]
    if wanted.gaussians is not None:
        names.append("gaussians")
    if config.start != "discrete":
        names += ["latent_channels"] * (config.latent_channels is not None)
        names += ["text_tower"] * (wanted.text_tower is not None)
    return {name: getattr(wanted, name) for name in names}


@torch.no_grad()
def with_latents(model: AToken, channels: int, kinds: tuple[str, ...]) -> AToken:
    """A copy of ``model`` with more latent channels that decodes its mean latents to just the same patches.

    The decoder's columns for the new channels start at zero, so that nothing changes; the encoder's rows for their
    means start as noise of the size of the trained rows, so that the decoder has something to learn from at once; the
    rows for their log-variances are the mean of the trained ones. The paper does not say how it widens 32 to 48.
    Raises ``ValueError`` where the latents would become fewer.
    """
    old = model.config
    if channels < old.latent_channels:
        raise ValueError(f"{old.name!r} has {old.latent_channels} latent channels, which cannot become {channels}")
    grown = AToken(replace(old, latent_channels=channels, kinds=kinds))
    state = model.state_dict()
    if more := channels - old.latent_channels:
        means, logvars = state["proj.weight"].chunk(2)  # [C, W] each
        noise = torch.randn(more, old.width, generator=torch.Generator().manual_seed(channels)) * means.std()
        state["proj.weight"] = torch.cat([means, noise, logvars, logvars.mean(0, keepdim=True).expand(more, -1)])
        columns = state["decoder.input_layer.weight"]  # [W, C]
        state["decoder.input_layer.weight"] = torch.cat([columns, columns.new_zeros(old.width, more)], 1)
    grown.load_state_dict(state)
    return grown


def with_head(model: AToken, wanted: ModelConfig) -> AToken:
    """A copy of ``model`` with the Gaussian head of ``wanted``, in place of its own, if it has one.

    The new head is untrained, unless only ``neighbours`` are new: then it goes on computing what the old one does.
    """
    solid = AToken(replace(model.config, gaussians=wanted.gaussians))
    own = model.config.gaussians
    assert wanted.gaussians is not None
    told = own is not None and not own.neighbours and replace(own, neighbours=wanted.gaussians.neighbours)
    state = model.state_dict()
    solid.load_state_dict(state if told == wanted.gaussians else without_head(state), strict=False)
    return solid


def with_tower(model: AToken, wanted: ModelConfig) -> AToken:
    """A copy of ``model`` whose embeddings go to the space of the tower of ``wanted``; a new matrix there is random."""
    names = ("text_tower", "embed_dim", "embed_tokens", "logit_scale", "logit_bias")
    aligned = AToken(replace(model.config, **{name: getattr(wanted, name) for name in names}))
    state = {name: t for name, t in model.state_dict().items() if not name.startswith("encoder.head.projection")}
    aligned.load_state_dict(state, strict=False)
    return aligned


def _check(found: ModelConfig, wanted: ModelConfig, config: TrainConfig) -> None:
    for field in ("width", "heads", "mlp_width"):
        if getattr(found, field) != getattr(wanted, field):
            raise ValueError(
                f"init_from {config.init_from} has {field} {getattr(found, field)}, "
                f"and {config.model!r} has {getattr(wanted, field)}"
            )


def finished(config: ModelConfig, state: dict[str, Tensor], folder: Path) -> AToken:
    """Write the model of ``state`` in bf16 under ``folder`` and return it in fp32, in evaluation mode."""
    model = AToken(config)
    model.load_state_dict(state)
    rounded = AToken(config).to(torch.bfloat16)
    rounded.load_state_dict(state)
    rounded.save_pretrained(folder)
    return model.eval()
