"""Where a run's numbers go: the terminal, a JSON-lines file, TensorBoard, and Weights & Biases if asked for."""

from __future__ import annotations

import json
import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ..core.files import atomic_write
from ..media.image.files import write_image
from .config import LogConfig
from .ranks import Ranks

log = logging.getLogger(__name__)


class Logger:
    """Records by step; only the first rank writes. Nothing is written before the first record."""

    def __init__(self, out: Path, config: LogConfig, ranks: Ranks) -> None:
        self.out, self.config, self.active = out, config, ranks.first
        self._from = 0
        self._sinks: list[Any] | None = None
        if config.wandb and not _installed("wandb"):
            raise ValueError("log.wandb is set, and it needs: pip install wandb")

    def rewind(self, step: int) -> None:
        """Forget what was recorded after ``step``, where the run goes on from: those steps come again."""
        self._from = step
        path = self.out / "log.jsonl"
        if not self.active or not path.is_file():
            return
        lines = path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if (at := _step_of(line)) is not None and at <= step]
        if len(kept) < len(lines):
            with atomic_write(path) as temporary:
                temporary.write_bytes(b"".join(kept))

    def record(self, step: int, values: dict[str, float]) -> None:
        """Numbers of one step."""
        if not self.active:
            return
        log.info("  ".join([f"step {step}", *(f"{name} {value:.5g}" for name, value in values.items())]))
        self.out.mkdir(parents=True, exist_ok=True)
        with (self.out / "log.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        for sink in self._open():
            sink.add(step, values)

    def picture(self, step: int, picture: np.ndarray) -> None:
        """A picture uint8 HWC, kept as ``pictures/step-N.png`` and shown where the numbers are."""
        if not self.active:
            return
        write_image(self.out / "pictures" / f"step-{step:07d}.png", picture)
        for sink in self._open():
            sink.show(step, picture)

    def note(self, sentence: str) -> None:
        """A sentence on the terminal."""
        if self.active:
            log.info(sentence)

    def close(self) -> None:
        """Flush everything."""
        for sink in self._sinks or []:
            sink.close()

    def __enter__(self) -> Logger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> list[Any]:
        if self._sinks is None:
            self._sinks = []
            if self.config.tensorboard and _installed("tensorboard"):
                self._sinks.append(_TensorBoard(self.out, self._from + 1))
            if self.config.wandb:
                self._sinks.append(_Wandb(self.out, self.config.wandb))
        return self._sinks


def _step_of(line: bytes) -> int | None:
    """The step of a line of the log; None of one that a kill has cut short."""
    try:
        found = json.loads(line)["step"] if line.endswith(b"\n") else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return found if isinstance(found, int) else None


def _installed(package: str) -> bool:
    """Whether there is such a package; a folder of that name, which runs leave where they stand, is none."""
    found = find_spec(package)
    return found is not None and found.origin is not None


class _TensorBoard:
    def __init__(self, out: Path, first: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer: Any = SummaryWriter(str(out / "tensorboard"), purge_step=first)

    def add(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def show(self, step: int, picture: np.ndarray) -> None:
        self.writer.add_image("reconstructions", picture, step, dataformats="HWC")

    def close(self) -> None:
        self.writer.close()


class _Wandb:
    def __init__(self, out: Path, project: str) -> None:
        import wandb

        self.wandb: Any = wandb
        self.run: Any = wandb.init(project=project, dir=str(out), resume="allow", id=out.resolve().name)

    def add(self, step: int, values: dict[str, float]) -> None:
        self.run.log(values, step=step)

    def show(self, step: int, picture: np.ndarray) -> None:
        self.run.log({"reconstructions": self.wandb.Image(picture)}, step=step)

    def close(self) -> None:
        self.run.finish()
