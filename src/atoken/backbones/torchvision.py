"""Plain convolutional trunks (VGG16, AlexNet) from torchvision's state-dict files, without torchvision."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.hashing import file_hash
from ..weights.files import read_state_dict
from .network import FrozenNetwork, weight_file

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Trunk(FrozenNetwork):
    """Convolutions, each with a ReLU, and max pools, from the keys ``features.N.weight`` of a state dict.

    ``plan`` lists the steps: ``(N, stride, padding)`` for the convolution of that number and ``"pool"`` for a pool of
    ``pool`` = (kernel, stride). ``layers`` maps the names of the outputs to convolution numbers; ``least`` is the
    shortest side that leaves something after the last pool. Raises ``ValueError`` where a weight is missing or of
    another shape.
    """

    size = 224

    def __init__(
        self,
        name: str,
        path: Path,
        plan: tuple[tuple[int, int, int] | str, ...],
        pool: tuple[int, int],
        layers: dict[str, int],
        least: int,
    ) -> None:
        super().__init__(name, file_hash(path), IMAGENET_MEAN, IMAGENET_STD)
        self.layers, self.least = tuple(layers), least
        self.plan, self.pool, self.outputs = plan, pool, {number: layer for layer, number in layers.items()}
        state = read_state_dict(path)
        self.weights, self.biases = nn.ParameterDict(), nn.ParameterDict()
        channels = 3
        for number in self._numbers():
            for kind, home in (("weight", self.weights), ("bias", self.biases)):
                if (key := f"features.{number}.{kind}") not in state:
                    raise ValueError(f"{path} is not a {name} of torchvision: {key} is missing")
                home[str(number)] = nn.Parameter(state[key].float())
            shape = self.weights[str(number)].shape
            if len(shape) != 4 or shape[1] != channels or self.biases[str(number)].shape != shape[:1]:
                raise ValueError(f"{path} is not a {name} of torchvision: features.{number} is {list(shape)}")
            channels = shape[0]
        self.freeze()

    def features(self, images: Tensor) -> list[Tensor]:
        """Outputs of ``layers``, after their ReLU, for images [B, 3, H, W] in [-1, 1]."""
        x, found = self.normalise(images), []
        for step in self.plan:
            if isinstance(step, str):
                x = F.max_pool2d(x, *self.pool)
                continue
            number, stride, padding = step
            x = F.relu(F.conv2d(x, self.weights[str(number)], self.biases[str(number)], stride, padding))
            if number in self.outputs:
                found.append(x)
        return found

    def _numbers(self) -> Iterator[int]:
        return (step[0] for step in self.plan if not isinstance(step, str))


def load_trunk(
    name: str,
    path: str | Path,
    plan: tuple[tuple[int, int, int] | str, ...],
    pool: tuple[int, int],
    layers: dict[str, int],
    least: int,
    device: str | torch.device,
) -> Trunk:
    """The trunk from a file; ``FileNotFoundError`` that says where to get it."""
    where = f"give the {name} state dict that torchvision publishes (download.pytorch.org/models/{name}-*.pth)"
    return Trunk(name, weight_file(path, f"weights of {name}", where), plan, pool, layers, least).to(device)
