"""What encode, decode and embed say of arguments that cannot be."""

import numpy as np
import pytest

import atoken
from refusals import refused

PICTURE = np.zeros((20, 20, 3), np.uint8)
CLIP = atoken.Clip(PICTURE[None], fps=25)


@pytest.fixture(scope="module")
def model() -> atoken.AToken:
    return atoken.AToken(atoken.PRESETS["tiny"]).eval()


def test_no_sources_are_no_results(model):
    assert model.encode([]) == []
    assert model.decode([]) == []
    assert model.embed([]).shape == (0, 64)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda model: model.encode(PICTURE, kind="foo"), ("kind", "foo", "continuous", "discrete")),
        (lambda model: model.encode(PICTURE, kind="discrete", sample=True), ("discrete",)),
        (lambda model: model.encode(np.zeros((0, 20, 20, 3), np.uint8)), ("empty",)),
        (lambda model: model.encode(PICTURE, spatial_tile=100), ("spatial_tile", 100, 16)),
        (lambda model: list(model.encode_stream(CLIP, spatial_tile=-16)), ("spatial_tile", -16)),
        (lambda model: model.encode(None), ("NoneType",)),
        (lambda model: model.embed([PICTURE, 3]), ("int",)),
        (lambda model: model.decode("photo.atok"), ("str", "atoken.Tokens.load")),
        (lambda model: model.decode(None), ("NoneType",)),
        (lambda model: model.decode([model.encode(PICTURE), 3]), ("int",)),
    ],
)
def test_one_sentence(model, call, named):
    with refused(*named):
        call(model)
