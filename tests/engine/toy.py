"""The smallest training on the engine: a regression with a model, a feed and a loss of its own."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from atoken.data.batch import TensorBatch
from atoken.data.config import TurnConfig
from atoken.data.seeds import feed_seed
from atoken.engine.config import LogConfig, OptimizerConfig, ParallelConfig, RunConfig
from atoken.engine.protocol import TrainSpec


@dataclass(frozen=True)
class ToyConfig(RunConfig):
    """A recipe: what every run has, and the width of the model."""

    width: int = 32


CONFIG = ToyConfig(
    tasks=(TurnConfig("sine", ratio=1.0),),
    steps=300,
    optimizer=OptimizerConfig(lr=0.02, warmup=10, weight_decay=0.0, ema=0.9),
    parallel=ParallelConfig(autocast=False),
    log=LogConfig(every=50, checkpoint_every=100, tensorboard=False),
)


class Sines:
    """Batch n is the same in every run: points and their sines, fp32 [64, 1]."""

    def __init__(self, seed: tuple[int, ...]) -> None:
        self.seed = seed

    def batch(self, number: int) -> TensorBatch:
        generator = torch.Generator().manual_seed(hash((*self.seed, number)))
        x = torch.rand(64, 1, generator=generator) * 6 - 3
        return TensorBatch({"x": x, "y": x.sin()})


class Regression(nn.Module):
    """Returns the unweighted terms of a batch; dropout draws from the generators that the engine seeds."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, width), nn.Tanh(), nn.Linear(width, 1))
        self.dropout = nn.Dropout(0.1)

    def forward(self, task: str, batch: TensorBatch) -> dict[str, torch.Tensor]:
        tensors = batch.to(self.net[0].weight.device)
        noisy = self.net(tensors["x"] + 0.01 * self.dropout(torch.ones_like(tensors["x"])))
        return {"mse": (noisy - tensors["y"]).square().mean(), "size": self.net[2].weight.square().mean()}


class Toy(TrainSpec):
    """What the engine asks."""

    def __init__(self, config: ToyConfig = CONFIG) -> None:
        self.config: ToyConfig = config

    def build(self, ranks, stored=None):
        return Regression(self.config.width)

    def build_feed(self, task, ranks, cursor=None, *, workers=True):
        return Sines(feed_seed(self.config.seed, task.task, ranks.rank))

    def weights(self, module, task):
        return {"mse": 1.0, "size": 1e-4}

    def export(self, module, state, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        save_file(state, folder / "model.safetensors")
        return state
