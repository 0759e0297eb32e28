"""Steps as CUDA graphs: one launch for the thousands of small kernels of a small model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from .backward import weighted
from .protocol import Capture

WARM_UP = 2
"""Passes before the recording, in which libraries choose kernels and make room for themselves."""


class Graphs:
    """Forward and backward passes of a module on CUDA, recorded for each key of ``Capture`` that comes.

    No graph of autograd with the same parameters may be alive where a new key comes: its nodes belong to another
    stream.
    """

    def __init__(self, module: nn.Module, device: str, autocast: bool) -> None:
        self.device, self.autocast = device, autocast
        self.parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self._pool = torch.cuda.graph_pool_handle()
        self._recorded: dict[bytes, _Graph] = {}

    def step(self, capture: Capture, weights: Mapping[str, float]) -> dict[str, Tensor]:
        """Weighted terms of a batch, and the gradients of their sum in the parameters' ``grad``.

        Both are overwritten by the next step.
        """
        if capture.key not in self._recorded:
            self._recorded[capture.key] = _Graph(self, capture, weights)
        return self._recorded[capture.key].replay(capture.inputs)


def _laid_out(gradient: Tensor | None, parameter: Tensor) -> Tensor | None:
    """The gradient with its parameter's strides, as ``backward`` leaves it and fused optimizers want it."""
    if gradient is None or gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


class _Graph:
    """The passes of one key: what a replay reads, the graph, and what it writes."""

    def __init__(self, graphs: Graphs, capture: Capture, weights: Mapping[str, float]) -> None:
        self.graphs, self.weights = graphs, weights
        self.inputs = [tensor.to(graphs.device, copy=True) for tensor in capture.inputs]
        terms = capture.prepare(self.inputs)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self._compute(terms)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        # Other threads go on while this one records.
        with torch.cuda.graph(self.graph, pool=graphs._pool, capture_error_mode="thread_local"):
            self.terms, self.gradients = self._compute(terms)

    def _compute(self, compute: Callable[[], dict[str, Tensor]]) -> tuple[dict[str, Tensor], tuple[Tensor | None, ...]]:
        with torch.autocast("cuda", torch.bfloat16, enabled=self.graphs.autocast):
            terms = weighted(compute(), self.weights)
            total = torch.stack(list(terms.values())).sum()
        parameters = self.graphs.parameters
        found = torch.autograd.grad(total, parameters, allow_unused=True)
        gradients = tuple(_laid_out(g, p) for g, p in zip(found, parameters, strict=True))
        return {name: term.detach() for name, term in terms.items()}, gradients

    def replay(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        for own, tensor in zip(self.inputs, inputs, strict=True):
            own.copy_(tensor, non_blocking=True)
        self.graph.replay()
        for parameter, gradient in zip(self.graphs.parameters, self.gradients, strict=True):
            parameter.grad = gradient
        return self.terms
