"""What the log says of the tokenizer's steps."""

import torch

from atoken import AToken
from atoken.data.batch import Sample, pack
from atoken.nn.packed import dense_coords
from atoken.train.module import TrainModule
from atoken.train.tasks import AssetReconstruction, GaussiansAlone
from atoken.train.trainer import TokenizerSpec

from .conftest import SMALL


def test_what_is_decoded_once_is_no_arithmetic_of_a_step(config):
    asset = pack([Sample("3d", torch.zeros(4, 768), dense_coords((1, 2, 2, 1)), (1, 2, 2, 1))])
    spec, tasks = TokenizerSpec(config), {"head": GaussiansAlone(None), "all": AssetReconstruction(config.loss)}
    module = TrainModule(AToken(SMALL), tasks)
    assert spec.cost(module, "head", asset) == (4, 0)
    assert spec.cost(module, "all", asset)[1] > 0
