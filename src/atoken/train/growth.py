"""Make a trained model deeper, or ready for moving pictures, without changing what it computes for images."""

from __future__ import annotations

from dataclasses import replace

import torch

from ..nn.block import Block
from ..pipeline.atoken import AToken
from ..tokenizer.config import ModelConfig
from ..tokens.patch import FRAME_FEATURES, PATCH


@torch.no_grad()
def deepen(model: AToken, encoder_depth: int, decoder_depth: int, name: str | None = None) -> AToken:
    """A copy of ``model`` with more blocks, the new ones after the old ones on each side and adding nothing yet.

    A new block's last linear layers are zero, so that its residual branches are; everything else in it is random.
    Raises ``ValueError`` where a side would become shallower.
    """
    old = model.config
    if encoder_depth < old.encoder_depth or decoder_depth < old.decoder_depth:
        raise ValueError(
            f"{old.name!r} has {old.encoder_depth} + {old.decoder_depth} blocks and cannot be deepened to "
            f"{encoder_depth} + {decoder_depth}"
        )
    config: ModelConfig = replace(old, name=name or old.name, encoder_depth=encoder_depth, decoder_depth=decoder_depth)
    grown = AToken(config).to(model.device)
    grown.load_state_dict(model.state_dict(), strict=False)
    for blocks, first in ((grown.encoder.blocks, old.encoder_depth), (grown.decoder.blocks, old.decoder_depth)):
        for block in list(blocks)[first:]:
            assert isinstance(block, Block)
            for layer in (block.attn.to_out, block.mlp.mlp[2]):
                for parameter in layer.parameters():
                    parameter.zero_()
    return grown


@torch.no_grad()
def still_start(model: AToken) -> None:
    """Let an image model decode every video patch as a still: the output rows of frames 1 to 3 repeat frame 0's.

    The encoder goes on reading frame 0 alone (its other columns are zero since it never saw another frame).
    """
    weight = model.decoder.out_layer.weight
    weight.copy_(weight[:FRAME_FEATURES].repeat(PATCH[0], 1))
    model.encoder.input_layer.weight[:, FRAME_FEATURES:] = 0
