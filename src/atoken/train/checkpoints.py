"""Checkpoints in PyTorch's distributed format, which another number of ranks can read."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata

from ..core.errors import ReadError, reading
from ..core.files import sync_tree
from ..core.text import shortened
from ..tokenizer.config import ModelConfig
from .checkpoint_files import (
    PROGRESS,
    REMEDY,
    check_files,
    digests,
    read_progress,
    sealed,
    step_of,
)
from .checkpoint_metadata import Reader, read_metadata
from .distributed import Ranks
from .learner import Learner
from .optimizer import Average

log = logging.getLogger(__name__)


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

    A checkpoint is written beside its place and moved there when it is complete and on the disk; only the last ``keep``
    stay. One that is damaged is left as it is, with a warning, and the one before it is taken.
    """

    def __init__(self, folder: Path, keep: int, ranks: Ranks, model: ModelConfig) -> None:
        self.folder, self.keep, self.ranks, self.model = folder, keep, ranks, model

    def save(
        self, progress: Progress, learner: Learner, average: Average, optimizers: dict[str, torch.optim.Optimizer]
    ) -> None:
        """Write ``step-N``; every rank must call it. Raises ``OSError`` where it cannot be written, on every rank."""
        partial, final = self.folder / f"partial-{progress.step}", self.folder / f"step-{progress.step:07d}"
        tensors = _tensors(learner, average)
        for (kind, name), states in _states(learner, optimizers).items():
            tensors |= {f"optimizer/{kind}/{key}/{name}": value for key, value in states.items()}
        try:
            with self.ranks.together(), _writing(final):
                if self.ranks.first:
                    shutil.rmtree(partial, ignore_errors=True)
                    partial.mkdir(parents=True)
            with self.ranks.together(), _writing(final), _quiet():
                dcp.save(tensors, checkpoint_id=partial, no_dist=self.ranks.world == 1)
            own: dict[str, str] = {}
            with self.ranks.together(), _writing(final):
                own = digests(partial, sorted(path.name for path in partial.iterdir())[self._share])
            gathered = self.ranks.gather((progress.cursors[self.ranks.rank], own))
            with self.ranks.together(), _writing(final):
                if self.ranks.first:
                    self._complete(progress, partial, final, gathered)
        except BaseException:
            if self.ranks.first:
                shutil.rmtree(partial, ignore_errors=True)
            raise

    @property
    def _share(self) -> slice:
        """Which files of a checkpoint this rank reads to check them."""
        return slice(self.ranks.rank, None, self.ranks.world)

    def _complete(
        self, progress: Progress, partial: Path, final: Path, gathered: list[tuple[dict[str, Any], dict[str, str]]]
    ) -> None:
        """Give a written checkpoint its name, and remove the oldest."""
        facts = {
            "step": progress.step,
            "skipped": progress.skipped,
            "cursors": [cursors for cursors, _ in gathered],
            "model": self.model.to_dict(),
            "files": {name: digest for _, part in gathered for name, digest in part.items()},
        }
        (partial / PROGRESS).write_text(sealed(facts), encoding="utf-8")
        sync_tree(partial)
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        sync_tree(final)
        known = [folder for folder in self._found() if (step_of(folder) or 0) <= progress.step]
        for old in known[: -self.keep]:
            shutil.rmtree(old)

    def load(self, learner: Learner, average: Average, optimizers: dict[str, torch.optim.Optimizer]) -> Progress | None:
        """Put the last checkpoint that is whole into place; None where there is none at all.

        Raises ``ValueError`` for another model's, and where all are damaged.
        """
        damages: list[str] = []
        for folder in reversed(self._found()):
            damage, progress = self._restored(folder, learner, average, optimizers)
            if progress is not None:
                if damages and self.ranks.first:
                    log.warning(f"{damages[0]}; the run goes on from {folder.name}")
                return progress
            damages.append(damage)
        if damages:
            raise ValueError(
                f"{damages[0]}; there is no whole checkpoint before it, and without any the run starts anew"
            )
        return None

    def _restored(
        self, folder: Path, learner: Learner, average: Average, optimizers: dict[str, torch.optim.Optimizer]
    ) -> tuple[str, Progress | None]:
        """What is wrong with a checkpoint, on any rank, or its progress after all of it was put into place."""
        facts: dict[str, Any] = {}
        metadata: Metadata | None = None
        with self._damages() as damages:
            facts = read_progress(folder)
            files = facts.pop("files")
            check_files(folder, dict(sorted(files.items())[self._share]))
            metadata = read_metadata(folder)
            with reading(folder / PROGRESS, REMEDY):
                other = ModelConfig.from_dict(facts.pop("model"))  # keys that did not exist then have their defaults
        if damages:
            return damages[0], None
        assert metadata is not None
        self._check_model(folder, other)
        tensors = _tensors(learner, average)
        states = _stored_states(folder, metadata, learner, optimizers)
        for (kind, name), state in states.items():
            tensors |= {f"optimizer/{kind}/{key}/{name}": value for key, value in state.items()}
        if missing := [name for name in tensors if name not in metadata.state_dict_metadata]:
            raise ValueError(f"{folder} has no {missing[0]}, which this recipe trains: give another --out")
        with self._damages() as damages, reading(folder, REMEDY), _quiet(), _first_reason():
            dcp.load(tensors, storage_reader=Reader(folder, metadata), no_dist=self.ranks.world == 1)
        if damages:
            return damages[0], None
        parameters = dict(learner.named_parameters())
        for (kind, name), state in states.items():
            optimizers[kind].state[parameters[name]] = state
        return "", Progress(**facts)

    @contextmanager
    def _damages(self) -> Iterator[list[str]]:
        """Collects the ``ReadError``s that ranks meet inside, so that all do the same about them."""
        found: list[str] = []
        own = None
        try:
            yield found
        except ReadError as error:
            own = str(error)
        found += [damage for damage in self.ranks.gather(own) if damage is not None]

    def _check_model(self, folder: Path, other: ModelConfig) -> None:
        if differing := [key for key, value in vars(self.model).items() if getattr(other, key) != value]:
            raise ValueError(
                f"{folder} is of a run with another model, whose {differing[0]} is "
                f"{getattr(other, differing[0])!r}, not {getattr(self.model, differing[0])!r}: give another --out"
            )

    def _found(self) -> list[Path]:
        """All checkpoints, oldest first."""
        folders = [folder for folder in self.folder.glob("step-*") if step_of(folder) is not None and folder.is_dir()]
        return sorted(folders, key=lambda folder: step_of(folder) or 0)


def _stored_states(
    folder: Path, metadata: Metadata, learner: Learner, optimizers: dict[str, torch.optim.Optimizer]
) -> dict[tuple[str, str], dict[str, Tensor]]:
    """Room for the optimizers' states that a checkpoint holds. Raises ``ValueError`` for those of another recipe."""
    parameters = dict(learner.named_parameters())
    states: dict[tuple[str, str], dict[str, Tensor]] = {}
    for path, entry in metadata.state_dict_metadata.items():
        if not path.startswith("optimizer/"):
            continue
        _, kind, key, name = (*path.split("/", 3), "", "", "")[:4]
        if kind not in optimizers or name not in parameters:
            raise ValueError(f"{folder} has {shortened(path)}, which this recipe does not train: give another --out")
        scalar = not getattr(entry, "size", ())
        device = parameters[name].device if optimizers[kind].defaults.get("fused") else "cpu"
        value = torch.zeros((), device=device) if scalar else torch.zeros_like(parameters[name])
        states.setdefault((kind, name), {})[key] = value.detach()
    return states


@contextmanager
def _writing(final: Path) -> Iterator[None]:
    """Turn what torch and the disk raise into one sentence."""
    try:
        yield
    except (CheckpointException, RuntimeError, OSError) as error:
        raise OSError(f"{final} cannot be written (is the disk full?): {_reason(error)}") from error


@contextmanager
def _first_reason() -> Iterator[None]:
    """In place of DCP's table of all ranks' errors, the first of them."""
    try:
        yield
    except CheckpointException as error:
        raise ValueError(_reason(error)) from error


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
