"""Checkpoints in PyTorch's distributed format, which another number of ranks can read."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException

from ..config import ModelConfig
from .distributed import Ranks
from .learner import Learner
from .optimizer import Average

PROGRESS = "progress.json"


@dataclass
class Progress:
    """How far a run is."""

    step: int = 0
    """Steps done."""
    skipped: int = 0
    """Steps whose gradient was not finite."""
    cursors: list[dict[str, Any]] = field(default_factory=list)
    """For each rank: where the feed of each task stands."""


class Checkpoints:
    """The folder ``checkpoints`` of a run: ``step-N`` holds weights, averages, optimizers and progress after step N.

    A checkpoint is written beside its place and moved there when it is complete; only the last ``keep`` stay.
    """

    def __init__(self, folder: Path, keep: int, ranks: Ranks, model: ModelConfig) -> None:
        self.folder, self.keep, self.ranks, self.model = folder, keep, ranks, model

    def save(
        self, progress: Progress, learner: Learner, average: Average, optimizers: dict[str, torch.optim.Optimizer]
    ) -> None:
        """Write ``step-N``; every rank must call it. Raises ``OSError`` where it cannot be written."""
        partial, final = self.folder / f"partial-{progress.step}", self.folder / f"step-{progress.step:07d}"
        if self.ranks.first:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        self.ranks.wait()
        tensors = _tensors(learner, average)
        for (kind, name), states in _states(learner, optimizers).items():
            tensors |= {f"optimizer/{kind}/{key}/{name}": value for key, value in states.items()}
        try:
            with _quiet():
                dcp.save(tensors, checkpoint_id=partial, no_dist=self.ranks.world == 1)
        except (CheckpointException, RuntimeError, OSError) as error:
            if self.ranks.first:
                shutil.rmtree(partial, ignore_errors=True)
            raise OSError(f"{final} cannot be written (is the disk full?): {_reason(error)}") from error
        cursors = self.ranks.gather(progress.cursors[self.ranks.rank])
        if self.ranks.first:
            facts = {
                "step": progress.step,
                "skipped": progress.skipped,
                "cursors": cursors,
                "model": self.model.to_dict(),
            }
            (partial / PROGRESS).write_text(json.dumps(facts))
            shutil.rmtree(final, ignore_errors=True)
            partial.rename(final)
            for old in self._found()[: -self.keep]:
                shutil.rmtree(old)
        self.ranks.wait()

    def load(self, learner: Learner, average: Average, optimizers: dict[str, torch.optim.Optimizer]) -> Progress | None:
        """Put the last checkpoint into place; None where there is none.

        Raises ``ValueError`` for another model's, and for one that is cut short or damaged.
        """
        found = self._found()
        if not found:
            return None
        with _readable(found[-1]):
            facts = json.loads((found[-1] / PROGRESS).read_text())
            described = facts.pop("model")
        other = ModelConfig.from_dict(described)  # keys that did not exist then have their defaults
        if differing := [key for key, value in vars(self.model).items() if getattr(other, key) != value]:
            raise ValueError(
                f"{found[-1]} is of a run with another model, whose {differing[0]} is "
                f"{getattr(other, differing[0])!r}, not {getattr(self.model, differing[0])!r}: give another --out"
            )
        tensors = _tensors(learner, average)
        parameters = dict(learner.named_parameters())
        states: dict[tuple[str, str], dict[str, Tensor]] = {}
        with _readable(found[-1]):
            stored = dcp.FileSystemReader(found[-1]).read_metadata().state_dict_metadata
        for path, entry in stored.items():
            if path.startswith("optimizer/"):
                _, kind, key, name = path.split("/", 3)
                scalar = not getattr(entry, "size", ())
                device = parameters[name].device if optimizers[kind].defaults.get("fused") else "cpu"
                value = torch.zeros((), device=device) if scalar else torch.zeros_like(parameters[name])
                states.setdefault((kind, name), {})[key] = value.detach()
                tensors[path] = value.detach()
        if missing := [name for name in tensors if name not in stored]:
            raise ValueError(f"{found[-1]} has no {missing[0]}, which this recipe trains: give another --out")
        with _quiet(), _readable(found[-1]):
            dcp.load(tensors, checkpoint_id=found[-1], no_dist=self.ranks.world == 1)
        for (kind, name), state in states.items():
            optimizers[kind].state[parameters[name]] = state
        return Progress(**facts)

    def _found(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("step-*") if (path / PROGRESS).is_file())


@contextmanager
def _readable(checkpoint: Path) -> Iterator[None]:
    """Turn what torch and json raise about the content of a checkpoint into one sentence."""
    try:
        yield
    except (
        CheckpointException,
        RuntimeError,
        ValueError,
        KeyError,
        TypeError,
        EOFError,
        OSError,
        UnpicklingError,
    ) as error:
        raise ValueError(
            f"{checkpoint} is cut short or damaged ({type(error).__name__}): delete it, and the run goes on from "
            "the checkpoint before it, or from the start"
        ) from error


def _reason(error: BaseException) -> str:
    """The first line of the error, or of the first rank's."""
    if isinstance(error, CheckpointException) and error.failures:
        error = next(iter(error.failures.values()))[0]
    return (str(error).splitlines() or [type(error).__name__])[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's warning that one process is not many."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        yield


def _tensors(learner: Learner, average: Average) -> dict[str, Any]:
    """Weights and averages by name, the tensors themselves."""
    weights = {f"weights/{name}": tensor.detach() for name, tensor in learner.state_dict().items()}
    return weights | {f"average/{name}": tensor for name, tensor in average.values.items()}


def _states(learner: Learner, optimizers: dict[str, torch.optim.Optimizer]) -> dict[tuple[str, str], dict[str, Tensor]]:
    """State of every parameter that was ever stepped, by optimizer and name."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in learner.named_parameters()}
    return {
        (kind, names[parameter]): dict(state)
        for kind, optimizer in optimizers.items()
        for parameter, state in optimizer.state.items()
    }
