"""What encode, decode and embed say of arguments that cannot be."""

import numpy as np
import pytest

import atoken

PICTURE = np.zeros((20, 20, 3), np.uint8)


@pytest.fixture(scope="module")
def model() -> atoken.AToken:
    return atoken.AToken(atoken.PRESETS["tiny"]).eval()


def test_no_sources_are_no_results(model):
    assert model.encode([]) == []
    assert model.decode([]) == []
    assert model.embed([]).shape == (0, 64)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda model: model.encode(PICTURE, kind="foo"), "kind is 'foo': give 'continuous' or 'discrete'"),
        (lambda model: model.encode(PICTURE, kind="discrete", sample=True), "cannot be sampled"),
        (lambda model: model.encode(np.zeros((0, 20, 20, 3), np.uint8)), "the array is empty"),
        (lambda model: model.encode(None), "NoneType"),
        (lambda model: model.embed([PICTURE, 3]), "int"),
        (lambda model: model.decode("photo.atok"), "not str; atoken.Tokens.load reads"),
        (lambda model: model.decode(None), "not NoneType"),
        (lambda model: model.decode([model.encode(PICTURE), 3]), "not int"),
    ],
)
def test_one_sentence(model, call, words):
    with pytest.raises(ValueError, match=r".") as caught:
        call(model)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
