"""Reconstruction steps as CUDA graphs: one launch for the thousands of small kernels of a small model."""

from __future__ import annotations

from dataclasses import replace
from hashlib import blake2b

import torch
from torch import Tensor

from ..data.batch import Batch
from ..losses.total import Weights, weighted
from .learner import Learner
from .tasks import Reconstruction, noise_of

WARM_UP = 2
"""Passes before the recording, in which libraries choose kernels and make room for themselves."""


class Graphs:
    """The passes there and back of a learner on CUDA, recorded for each arrangement of tokens that comes.

    Only of pictures and clips: feeds make them in a few sizes, while every asset has its own voxels. No graph of
    autograd with the same parameters may be alive where a new arrangement comes: its nodes belong to another stream.
    """

    def __init__(self, learner: Learner, loss: Weights, autocast: bool) -> None:
        self.learner, self.loss, self.autocast = learner, loss, autocast
        self.parameters = [parameter for parameter in learner.parameters() if parameter.requires_grad]
        self._pool = torch.cuda.graph_pool_handle()
        self._recorded: dict[bytes, _Graph] = {}

    def step(self, name: str, batch: Batch) -> dict[str, Tensor] | None:
        """Weighted terms of a batch of task ``name``, and the gradients of their sum in the parameters' ``grad``.

        Both are overwritten by the next step. None, and nothing done, for a batch that is no graph's.
        """
        task, packed = self.learner.tasks[name], batch.packed
        modalities = {sample.modality for sample in batch.samples}
        if not isinstance(task, Reconstruction) or modalities not in ({"image"}, {"video"}):
            return None
        facts = f"{name} {list(packed.feats.shape)} {len(batch.samples)}".encode() + packed.coords.numpy().tobytes()
        key = blake2b(facts).digest()
        if key not in self._recorded:
            self._recorded[key] = _Graph(self, task, batch)
        return self._recorded[key].replay(batch)


def _laid_out(gradient: Tensor | None, parameter: Tensor) -> Tensor | None:
    """The gradient with its parameter's strides, as ``backward`` leaves it and fused optimizers want it."""
    if gradient is None or gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


class _Graph:
    """One arrangement of tokens: what a replay reads, the graph, and what it writes."""

    def __init__(self, graphs: Graphs, task: Reconstruction, batch: Batch) -> None:
        self.graphs, self.task = graphs, task
        self.model = graphs.learner.model
        _ = batch.packed.lengths, batch.packed.extents
        self.packed = batch.packed.to(self.model.device)
        self.batch = replace(batch, packed=self.packed)
        self.noise = noise_of(self.model, batch)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self._compute()
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        # Other threads go on while this one records.
        with torch.cuda.graph(self.graph, pool=graphs._pool, capture_error_mode="thread_local"):
            self.terms, self.gradients = self._compute()

    def _compute(self) -> tuple[dict[str, Tensor], tuple[Tensor | None, ...]]:
        with torch.autocast("cuda", torch.bfloat16, enabled=self.graphs.autocast):
            found = self.task.terms(self.model, self.batch, self.packed, self.noise)
            terms = weighted(found, self.graphs.loss)
            total = torch.stack(list(terms.values())).sum()
        parameters = self.graphs.parameters
        found_gradients = torch.autograd.grad(total, parameters, allow_unused=True)
        gradients = tuple(_laid_out(g, p) for g, p in zip(found_gradients, parameters, strict=True))
        return {name: term.detach() for name, term in terms.items()}, gradients

    def replay(self, batch: Batch) -> dict[str, Tensor]:
        self.packed.feats.copy_(batch.packed.feats, non_blocking=True)
        if self.noise is not None:
            noise = noise_of(self.model, batch)
            assert noise is not None
            self.noise.copy_(noise)
        self.graph.replay()
        for parameter, gradient in zip(self.graphs.parameters, self.gradients, strict=True):
            parameter.grad = gradient
        return self.terms
