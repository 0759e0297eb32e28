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
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata

from ..core.errors import ReadError, reading
from ..core.files import sync_tree
from ..core.text import shortened
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
from .ema import EMA
from .optimizer import STATES
from .ranks import Ranks

Optimizers = dict[str, torch.optim.Optimizer]

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


@dataclass(frozen=True)
class Stored:
    """A checkpoint whose files are whole."""

    folder: Path
    progress: Progress
    model: Any
    """What ``describe`` said of its module, as JSON has it."""
    metadata: Metadata

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Inside, a ``ValueError`` about ``model`` names its file."""
        try:
            yield
        except ValueError as error:
            raise type(error)(f"{self.folder / PROGRESS}: {error}") from error


class Checkpoints:
    """The folder ``checkpoints`` of a run: ``step-N`` holds weights, averages, optimizers and progress after step N.

    A checkpoint is written beside its place and moved there when it is complete and on the disk; only the last ``keep``
    stay. One that is damaged is left as it is, with a warning, and the one before it is taken.
    """

    def __init__(self, folder: Path, keep: int, ranks: Ranks) -> None:
        self.folder, self.keep, self.ranks = folder, keep, ranks

    def save(
        self, progress: Progress, model: dict[str, Any], module: nn.Module, ema: EMA, optimizers: Optimizers
    ) -> None:
        """Write ``step-N`` of a module that ``model`` describes; every rank must call it.

        Raises ``OSError`` where it cannot be written, on every rank.
        """
        partial, final = self.folder / f"partial-{progress.step}", self.folder / f"step-{progress.step:07d}"
        tensors = _tensors(module, ema)
        for (kind, name), states in _states(module, optimizers).items():
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
                    self._complete(progress, model, partial, final, gathered)
        except BaseException:
            if self.ranks.first:
                shutil.rmtree(partial, ignore_errors=True)
            raise

    @property
    def _share(self) -> slice:
        """Which files of a checkpoint this rank reads to check them."""
        return slice(self.ranks.rank, None, self.ranks.world)

    def _complete(
        self,
        progress: Progress,
        model: dict[str, Any],
        partial: Path,
        final: Path,
        gathered: list[tuple[dict[str, Any], dict[str, str]]],
    ) -> None:
        """Give a written checkpoint its name, and remove the oldest."""
        facts = {
            "step": progress.step,
            "skipped": progress.skipped,
            "cursors": [cursors for cursors, _ in gathered],
            "model": model,
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

    def newest(self) -> Stored | None:
        """The last checkpoint that is whole, checked by all ranks; None where there is none at all.

        Raises ``ValueError`` where all are damaged.
        """
        damages: list[str] = []
        for folder in reversed(self._found()):
            with self._damages() as found:
                facts = read_progress(folder)
                check_files(folder, dict(sorted(facts.pop("files").items())[self._share]))
                metadata = read_metadata(folder)
            if not found:
                if damages and self.ranks.first:
                    log.warning(f"{damages[0]}; the run goes on from {folder.name}")
                model = facts.pop("model")
                return Stored(folder, Progress(**facts), model, metadata)
            damages.append(found[0])
        if damages:
            raise ValueError(
                f"{damages[0]}; there is no whole checkpoint before it, and without any the run starts anew"
            )
        return None

    def load(self, stored: Stored, module: nn.Module, ema: EMA, optimizers: Optimizers) -> None:
        """Put a checkpoint into place. Raises ``ValueError`` for one of another recipe, and on all ranks where one of
        them cannot read it, which takes a checkpoint of before there were checksums."""
        folder, metadata = stored.folder, stored.metadata
        tensors = _tensors(module, ema)
        states = _stored_states(folder, metadata, module, optimizers)
        for (kind, name), state in states.items():
            tensors |= {f"optimizer/{kind}/{key}/{name}": value for key, value in state.items()}
        if missing := [name for name in tensors if name not in metadata.state_dict_metadata]:
            raise ValueError(f"{folder} has no {missing[0]}, which this recipe trains: give another --out")
        with self.ranks.together(), reading(folder, REMEDY), _quiet(), _first_reason():
            dcp.load(tensors, storage_reader=Reader(folder, metadata), no_dist=self.ranks.world == 1)
        parameters = dict(module.named_parameters())
        for (kind, name), state in states.items():
            optimizers[kind].state[parameters[name]] = state

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

    def _found(self) -> list[Path]:
        """All checkpoints, oldest first."""
        folders = [folder for folder in self.folder.glob("step-*") if step_of(folder) is not None and folder.is_dir()]
        return sorted(folders, key=lambda folder: step_of(folder) or 0)


def _stored_states(
    folder: Path, metadata: Metadata, module: nn.Module, optimizers: Optimizers
) -> dict[tuple[str, str], dict[str, Tensor]]:
    """Room for the optimizers' states that a checkpoint holds, as far as they are of this recipe.

    Raises ``ValueError`` for any other, before there is room for it.
    """
    parameters = dict(module.named_parameters())
    states: dict[tuple[str, str], dict[str, Tensor]] = {}
    for path, entry in metadata.state_dict_metadata.items():
        if not path.startswith("optimizer/"):
            continue
        _, kind, key, name = (*path.split("/", 3), "", "", "")[:4]
        if kind not in optimizers or name not in parameters or key not in STATES[kind]:
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


def _tensors(module: nn.Module, ema: EMA) -> dict[str, Any]:
    """Weights and averages by name, the tensors themselves."""
    weights = {f"weights/{name}": tensor.detach() for name, tensor in module.state_dict().items()}
    return weights | {f"average/{name}": tensor for name, tensor in ema.values.items()}


def _states(module: nn.Module, optimizers: Optimizers) -> dict[tuple[str, str], dict[str, Tensor]]:
    """State of every parameter that was ever stepped, by optimizer and name."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}
    return {
        (kind, names[parameter]): dict(state)
        for kind, optimizer in optimizers.items()
        for parameter, state in optimizer.state.items()
    }
