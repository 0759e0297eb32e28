"""The hash of a model's weights: it changes whenever they do, and only then."""

import copy
import io
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from atoken import PRESETS, AToken, Clip
from atoken.tokenizer import identity
from atoken.tokenizer.identity import tokenizer_hash
from refusals import refused

PICTURE = np.zeros((20, 33, 3), np.uint8)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return AToken(PRESETS["tiny"]).eval()


def test_a_hash_that_another_thread_forgets_is_counted_again(model, monkeypatch):
    digest = model.weights_hash
    is_whole = identity.Identity._is_whole

    def forgotten_meanwhile(self):
        self.forget_hash()
        return is_whole(self)

    monkeypatch.setattr(identity.Identity, "_is_whole", forgotten_meanwhile)
    assert model.weights_hash == model.last_hash == digest


def in_place(model):
    with torch.no_grad():
        model.decoder.out_layer.weight[3, 5] += 1


def data_in_place(model):
    model.proj.weight.data.mul_(2)


def one_column_of_data(model):
    model.proj.weight.data[:, 7] = 0


def data_assigned(model):
    model.proj.weight.data = model.proj.weight.data * 2


def numpy_view(model):
    model.proj.weight.detach().numpy()[:] = 1


def assigned_state(model):
    model.load_state_dict({name: tensor * 2 for name, tensor in model.state_dict().items()}, assign=True)


def optimizer(model):
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, foreach=True)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    sgd.step()


def another_module(model):
    model.proj = nn.Linear(model.config.width, 2 * model.config.latent_channels, bias=False)


def another_config(model):
    model.config = replace(model.config, rope=False)


CHANGES = [
    in_place,
    data_in_place,
    one_column_of_data,
    data_assigned,
    numpy_view,
    assigned_state,
    optimizer,
    another_module,
    another_config,
]


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_noticed(model, change):
    before = model.weights_hash
    tokens = model.encode(PICTURE)
    change(model)
    after = tokenizer_hash(model.config, model.state_dict())
    assert before != after
    assert model.encode(PICTURE).weights == after
    assert model.weights_hash == after
    with refused(before[:12], after[:12]):
        model.decode(tokens)


def test_a_few_numbers_behind_autograd_need_a_word(model):
    before = model.weights_hash
    model.decoder.out_layer.weight.data[3, 5] = 0
    model.forget_hash()
    assert model.weights_hash == tokenizer_hash(model.config, model.state_dict()) != before


def test_parameters_at_the_place_of_old_ones_are_others(model):
    before = model.weights_hash
    old = model.proj.weight
    new = nn.Parameter(old.detach())  # same memory, same version, same numbers: another object
    model.proj.weight = new
    assert model._current_hash() is None
    assert model.weights_hash == before


@pytest.mark.parametrize(
    "move",
    [
        lambda model: model.to(torch.bfloat16),
        lambda model: model.half(),
        copy.deepcopy,
        lambda model: copy.deepcopy(model.bfloat16()),
        lambda model: torch.load(saved(model), weights_only=False),
    ],
)
def test_moved_rounded_and_copied_weights_keep_their_hash(model, move):
    before = model.weights_hash
    assert move(model).weights_hash == before


def saved(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return file


def test_a_copy_notices_changes_of_its_own(model):
    before = model.weights_hash
    other = copy.deepcopy(model)
    data_in_place(other)
    assert other.weights_hash != before
    assert model.weights_hash == before


def test_it_is_counted_once(model, monkeypatch):
    calls = []

    def counted(config, state):
        calls.append(config)
        return tokenizer_hash(config, state)

    monkeypatch.setattr(identity, "tokenizer_hash", counted)
    tokens = model.encode([PICTURE] * 3)
    model.decode(tokens)
    list(model.encode_stream(Clip(np.zeros((20, 16, 16, 3), np.uint8), fps=25)))
    assert len(calls) == 1


def test_pictures_of_one_call_share_one_look(model, monkeypatch):
    looks = []
    look = identity._Marks.__init__

    def counted(self, module):
        looks.append(module)
        look(self, module)

    _ = model.weights_hash
    monkeypatch.setattr(identity._Marks, "__init__", counted)
    model.decode(model.encode([PICTURE] * 5))
    assert len(looks) == 2


def test_a_change_amid_a_stream_is_noticed(model):
    stream = model.encode_stream(Clip(np.zeros((32, 16, 16, 3), np.uint8), fps=25))
    first = next(stream).weights
    data_in_place(model)
    assert next(stream).weights == tokenizer_hash(model.config, model.state_dict()) != first


def test_meta_weights_have_no_marks():
    with torch.device("meta"):
        model = AToken(PRESETS["tiny"])
    model.remember_hash("0" * 64)
    assert model._current_hash() is None


@pytest.mark.slow
def test_threads_may_ask_while_another_forgets(model):
    """What another thread forgets between two looks is counted anew, and is no error."""
    wanted = model.weights_hash
    found, stop = set(), threading.Event()

    def ask():
        while not stop.is_set():
            found.add(model.last_hash)
            found.add(model.weights_hash)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(2) as pool:
            asking = [pool.submit(ask) for _ in range(2)]
            for _ in range(300):
                model.forget_hash()
                model.remember_hash(wanted)
            stop.set()
            for future in asking:
                future.result()
    finally:
        sys.setswitchinterval(interval)
    assert found == {wanted}
