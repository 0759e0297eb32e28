"""Start a model as the best linear autoencoder of the data's patches.

A transformer autoencoder from random weights spends most of a small training budget on learning what principal
components give at once. Here the patch embedding holds the leading principal directions, the latent the first of
them, the decoder their transpose, and every residual branch starts at zero. The understanding head starts as the
mean of the tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..nn.block import Block
from ..nn.pooling import AttentionPooling
from ..pipeline.atoken import AToken
from ..tokens.patch import FRAME_FEATURES

START_LOGVAR = -9.0
"""Log-variance of the posterior at the start: noise of 1 % of a latent's deviation, 0.02 dB of the reconstruction."""


def principal_directions(patches: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Leading directions [count, C] of patches [N, C] about zero, and the root mean square along each [count]."""
    moments = patches.T.double() @ patches.double() / len(patches)
    values, vectors = torch.linalg.eigh(moments)
    return vectors.flip(1)[:, :count].T.float(), values.flip(0)[:count].clamp_min(1e-12).sqrt().float()


@torch.no_grad()
def linear_start(model: AToken, patches: Tensor, balance: float = 0.5) -> None:
    """Set ``model`` (without final norms) to the linear optimum for patches fp32 [N, 768]; latents get unit scale.

    Residual channel i carries component i divided by its root mean square to the power ``balance``. Raises
    ``ValueError`` for a model whose final norms would bend it.
    """
    config = model.config
    if config.latent_norm or config.output_norm:
        raise ValueError(f"a linear start needs a model without final norms, and {config.name!r} has them")
    width, latents = config.width, config.latent_channels
    directions, deviation = principal_directions(patches, width - 1)  # the last channel carries a constant
    scale = deviation**balance

    encoder, decoder = model.encoder, model.decoder
    for parameter in (encoder.input_layer.weight, encoder.input_layer.bias, model.proj.weight):
        parameter.zero_()
    encoder.input_layer.weight[: width - 1, :FRAME_FEATURES] = directions / scale[:, None]
    encoder.input_layer.bias[width - 1] = 1.0
    first = torch.arange(latents)
    model.proj.weight[first, first] = (scale / deviation)[:latents]
    model.proj.weight[latents:, width - 1] = START_LOGVAR

    decoder.input_layer.weight.zero_()
    decoder.input_layer.weight[first, first] = (deviation / scale)[:latents]
    decoder.out_layer.weight.zero_()
    decoder.out_layer.weight[:FRAME_FEATURES, : width - 1] = directions.T * scale
    for side in (encoder, decoder):
        side.pos_embedder.position_embedding.weight.zero_()
        for block in side.blocks:
            assert isinstance(block, Block)
            _zero(block.attn.to_out)
            _zero(block.mlp.mlp[2])
    _pool_by_mean(encoder.head)


def _pool_by_mean(head: AttentionPooling) -> None:
    """Equal attention to every token, which passes it on unchanged: the embedding is the mean of the tokens."""
    width = head.probe.shape[0]
    _zero(head.attention.to_q)
    _zero(head.mlp.mlp[2])
    for weight, bias in (
        (head.attention.to_kv.weight[width:], head.attention.to_kv.bias[width:]),
        (head.attention.to_out.weight, head.attention.to_out.bias),
    ):
        weight.copy_(torch.eye(width))
        bias.zero_()


def _zero(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        parameter.zero_()
