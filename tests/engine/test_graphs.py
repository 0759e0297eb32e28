"""CUDA graphs, with a recorder on the CPU in place of the card's: what is copied in, what comes out."""

from contextlib import contextmanager, nullcontext

import pytest
import torch
from torch import nn

from atoken.engine import graphs
from atoken.engine.protocol import Capture


class Recorder:
    """In place of a CUDA graph: ``replay`` computes again what was computed while it recorded."""

    def replay(self):
        self.again()


@pytest.fixture
def recorder(monkeypatch):
    compute = graphs._Graph._compute

    @contextmanager
    def recording(graph, **_):
        graph.kept = []
        yield

    def computing(self, terms):
        found = compute(self, terms)
        if hasattr(self, "graph"):  # what a replay writes to stays where it is

            def again():
                for own, new in zip(_flat(found), _flat(compute(self, terms)), strict=True):
                    own.copy_(new)

            self.graph.again = again
        return found

    stream = type("Stream", (), {"wait_stream": lambda self, other: None})
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(torch.cuda, "Stream", stream)
    monkeypatch.setattr(torch.cuda, "current_stream", stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Recorder)
    monkeypatch.setattr(torch.cuda, "graph", recording)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(graphs._Graph, "_compute", computing)


def _flat(found):
    terms, gradients = found
    return [*terms.values(), *(gradient for gradient in gradients if gradient is not None)]


@pytest.mark.usefixtures("recorder")
def test_a_replay_has_the_terms_and_gradients_of_its_own_batch():
    torch.manual_seed(0)
    module = nn.Linear(3, 1)
    unused = nn.Parameter(torch.zeros(2))
    module.register_parameter("unused", unused)
    prepared = []

    def capture(x):
        def prepare(inputs):
            prepared.append(x.shape)
            return lambda: {"mean": module(inputs[0]).mean(), "square": module(inputs[0]).square().mean()}

        return Capture(str(tuple(x.shape)).encode(), [x], prepare)

    recorded, weights = graphs.Graphs(module, "cpu", autocast=False), {"mean": 2.0, "square": 0.5}
    for rows in (4, 5, 4, 4):
        x = torch.randn(rows, 3)
        terms = recorded.step(capture(x), weights)
        gradients = [parameter.grad for parameter in module.parameters()]
        expected = {"mean": 2.0 * module(x).mean(), "square": 0.5 * module(x).square().mean()}
        for name, term in expected.items():
            torch.testing.assert_close(terms[name], term.detach())
        wanted = torch.autograd.grad(sum(expected.values()), [module.weight, module.bias])
        torch.testing.assert_close(gradients[:2], list(wanted))
        assert gradients[2] is None
        for parameter in module.parameters():
            parameter.grad = None
        with torch.no_grad():
            module.weight.add_(0.1)
    assert prepared == [(4, 3), (5, 3)]
