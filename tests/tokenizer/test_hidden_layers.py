"""The residual stream at chosen depths."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from atoken import PRESETS, AToken, Packed
from atoken.nn.packed import dense_coords
from refusals import refused


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return AToken(replace(PRESETS["tiny"], encoder_depth=3)).eval()


@pytest.fixture(scope="module")
def packed():
    """Samples of falling length, which the network computes in another order."""
    grids = [(1, 3, 3, 1), (1, 2, 2, 1), (1, 1, 1, 1)]
    generator = torch.Generator().manual_seed(0)
    parts = [(torch.randn(len(dense_coords(grid)), 768, generator=generator), dense_coords(grid)) for grid in grids]
    return Packed.cat(parts)


def test_hidden_layers_are_what_the_blocks_give_in_the_order_of_the_input(model, packed):
    seen = []
    hooks = [
        block.register_forward_hook(lambda *args: seen.append(args[-1].detach())) for block in model.encoder.blocks
    ]
    encoded = model.encode_packed(packed, hidden_layers=(3, 0, 1))
    for hook in hooks:
        hook.remove()
    layout = packed.layout(model.config.encoder_tile, model.config.head_dim)
    assert layout.order is not None
    last, embedded, first = encoded.hidden_layers
    assert torch.equal(last, layout.scatter(seen[2]))
    assert torch.equal(first, layout.scatter(seen[0]))
    assert torch.equal(model.encoder.post_layernorm(last), encoded.hidden)
    assert not torch.equal(embedded, first)
    assert torch.equal(encoded.moments, model.encode_packed(packed).moments)
    assert model.encode_packed(packed).hidden_layers == ()


def test_gradients_flow_from_a_hidden_layer(model, packed):
    model.zero_grad()
    model.encode_packed(packed, hidden_layers=(1,)).hidden_layers[0].square().sum().backward()
    assert model.encoder.blocks[0].mlp.mlp[0].weight.grad.abs().sum() > 0
    assert model.encoder.blocks[1].mlp.mlp[0].weight.grad is None


@pytest.mark.parametrize("number", [-1, 4])
def test_a_block_that_is_not_there_is_refused(model, packed, number):
    with refused(number, "3 encoder blocks"):
        model.encode_packed(packed, hidden_layers=(1, number))
