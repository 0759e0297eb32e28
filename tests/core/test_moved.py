"""Import paths that earlier docs named still lead to what they named, and say where it is now."""

import importlib
import sys

import pytest

from atoken.core import moved

DOCUMENTED = {
    "atoken.evaluation.readers": "Item",
    "atoken.media.image": "read_rgba",
    "atoken.media.opener": "open_picture",
    "atoken.media.views": "render_views",
    "atoken.render.cameras": "hammersley_sphere",
    "atoken.render.rasterize": "render",
    "atoken.tokens": "dense_coords",
    "atoken.training.config": "read_config",
    "atoken.training.synthetic_video": "synthetic_clip",
    "atoken.understanding.chance": "WORDS",
    "atoken.understanding.zero_shot": "label_embeddings",
}


def test_every_moved_path_is_tested():
    assert DOCUMENTED.keys() == moved.MODULES.keys() | moved.NAMES.keys()


@pytest.mark.parametrize("path", DOCUMENTED)
def test_name_is_found_where_it_was(path):
    name = DOCUMENTED[path]
    home = moved.MODULES.get(path) or moved.NAMES[path][name]
    with pytest.warns(DeprecationWarning, match=f"{path}.{name} .*{home}.{name}"):
        found = getattr(importlib.import_module(path), name)
    assert found is getattr(importlib.import_module(home), name)


def test_names_that_never_were_are_not_found():
    with pytest.raises(AttributeError, match="volume"):
        _ = importlib.import_module("atoken.render.cameras").volume
    with pytest.raises(AttributeError, match="volume"):
        _ = importlib.import_module("atoken.tokens").volume
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("atoken.render.shaders")


def test_one_finder_however_often_it_is_installed():
    before = len(sys.meta_path)
    moved.install()
    assert len(sys.meta_path) == before
