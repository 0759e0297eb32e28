"""One process or many: joining them, spreading the model over them, and agreeing on numbers."""

from __future__ import annotations

import functools
import gc
import os
import traceback
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from ..nn.adaln import AdaLNBlock
from ..nn.attention import SelfAttention
from ..nn.block import Block
from .config import ParallelConfig

Value = TypeVar("Value")


class EndedByOthers(Exception):
    """Ends a rank whose run failed with an error that the first rank has said."""


@dataclass(frozen=True)
class Ranks:
    """Which process this is, of how many, and its device."""

    rank: int = 0
    world: int = 1
    device: str = "cpu"

    @property
    def first(self) -> bool:
        """Whether this process writes and speaks for all."""
        return self.rank == 0

    def mean(self, values: list[float]) -> list[float]:
        """Mean of each number over the ranks."""
        return [value / self.world for value in self._reduced(values, dist.ReduceOp.SUM)]

    def any(self, flag: bool) -> bool:
        """Whether the flag is up on some rank."""
        return self._reduced([float(flag)], dist.ReduceOp.MAX)[0] > 0

    def gather(self, value: Value) -> list[Value]:
        """The value of every rank, on every rank."""
        values = [value] * self.world
        if self.world > 1:
            dist.all_gather_object(values, value)
        return values

    @contextmanager
    def together(self) -> Iterator[None]:
        """Inside, what fails on one rank ends all of them: the first raises the error, the others ``EndedByOthers``.

        For what each rank does by itself: a rank that failed would leave the others waiting for it. Every rank must
        come here.
        """
        own: ValueError | OSError | None = None
        try:
            yield
        except (ValueError, OSError) as error:
            own = error
        failures = [failure for failure in self.gather(own) if failure is not None]
        if failures and not self.first:
            raise EndedByOthers(str(failures[0])) from own
        if failures:
            raise own if own is not None else failures[0]

    def same(self, sentence: str) -> Exception:
        """What to raise where every rank has found the same fault: the first one says it."""
        return ValueError(sentence) if self.first else EndedByOthers(sentence)

    def _reduced(self, values: list[float], operation: dist.ReduceOp.RedOpType) -> list[float]:
        if self.world == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor, operation)
        return tensor.tolist()


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """The processes that ``torchrun`` started, or this one alone; ``device`` "cuda" becomes the rank's own card.

    What is spread over them must be local to a function called inside: a DDP that outlives its group of gloo waits for
    ever for a thread that waits for Python.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Ranks(device=device)
        return
    own_card: AbstractContextManager[object] = nullcontext()
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        own_card = torch.cuda.device(device)
    with own_card:
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
        try:
            yield Ranks(dist.get_rank(), world, device)
        except BaseException as error:
            traceback.clear_frames(error.__traceback__)
            raise
        finally:
            gc.collect()
            dist.destroy_process_group()


@contextmanager
def own_random_state(device: str) -> Iterator[None]:
    """Inside, torch's global generators may be seeded; after it they stand where they stood before."""
    cards = [torch.device(device)] if device.startswith("cuda") else []
    with torch.random.fork_rng(cards):
        yield


def parallelize(
    module: nn.Module,
    blocks: Sequence[nn.Module],
    config: ParallelConfig,
    ranks: Ranks,
    forward_methods: Sequence[str] = (),
) -> nn.Module:
    """What to call instead of ``module``: its ``blocks`` compiled, recomputed and sharded, as configured."""
    for block in blocks:
        # Methods are replaced, as wrappers would change names. Recomputation goes around what is compiled: torch
        # compiles nothing around a recomputation. Attention stays out: it would be compiled anew for other lengths.
        if config.compile:
            for part in block.modules():
                if isinstance(part, SelfAttention):
                    part.attend = torch.compiler.disable(part.attend)
            block.forward = torch.compile(block.forward, dynamic=True)
        if config.checkpointing:  # blocks draw no random numbers, whose state a graph of CUDA could not keep
            random = not isinstance(block, Block | AdaLNBlock)
            again = functools.partial(checkpoint, use_reentrant=False, preserve_rng_state=random)
            block.forward = functools.partial(again, block.forward)
    if ranks.world == 1:
        return module
    if config.strategy == "ddp":
        # Tasks leave different parts of the model unused.
        return DistributedDataParallel(module, find_unused_parameters=True)
    precision = torch.bfloat16 if config.autocast else None
    policy = MixedPrecisionPolicy(param_dtype=precision, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for block in blocks:
        fully_shard(block, mp_policy=policy)
    fully_shard(module, mp_policy=policy)
    for name in forward_methods:
        register_fsdp_forward_method(module, name)
    return module


def accumulating(module: nn.Module, last: bool) -> AbstractContextManager[object]:
    """Inside, DDP only adds gradients up, unless this is the last batch of the step, which exchanges them.

    FSDP exchanges them after every batch: it cannot wait where a task leaves some blocks unused.
    """
    if isinstance(module, DistributedDataParallel) and not last:
        return module.no_sync()
    return nullcontext()


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A copy of a tensor with all its shards, on the CPU; every rank must call it."""
    full = getattr(tensor, "full_tensor", None)
    return (full() if full else tensor).detach().to("cpu", copy=True)
