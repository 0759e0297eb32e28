"""Chunks of a data set on the machines of a Ray cluster: tasks that may be done again anywhere.

A chunk's shard and then its manifest appear by renaming (``data.tokenize``), so that a chunk that is done twice,
because its machine was lost in the middle, leaves the same bytes once, and a later run goes on by the manifests.
"""

from __future__ import annotations

import os
import re
import socket
from collections import deque
from collections.abc import Generator, Sequence
from typing import Any

import torch

from ..data.items import Chunk
from ..data.tokenize import Done, Settings, tokenize_chunk

RETRIES = 3
"""How often a chunk is begun anew whose process or machine was lost."""
AHEAD = 2
"""Tasks for each processor (or GPU) of the cluster that are submitted at one time."""
WAIT = 10
"""Seconds to wait for an answer of a cluster."""
STORE = 100_000_000
"""Bytes of Ray's object store where it is started here: results are a few numbers."""


def on_ray(
    address: str, settings: Settings, chunks: Sequence[Chunk], waiting: Sequence[int]
) -> Generator[Done, None, None]:
    """Do the chunks ``waiting`` names on a Ray cluster, each as it is done.

    ``address`` is that of a cluster, "auto" for the one that this machine belongs to, or "local" for one that is
    started here and ends with this. All its machines have atoken, the sources and the folder of the tokens at the same
    paths. A task takes a GPU where the cluster has some, unless ``settings`` ask for the CPU, else a processor.
    Raises ``ValueError`` where Ray is missing or there is no cluster, and ``OSError`` for a chunk that was lost
    ``RETRIES`` times.
    """
    ray = _ray()
    _join(ray, address)
    try:
        found = ray.cluster_resources()
        gpu = settings.device != "cpu" and found.get("GPU", 0) >= 1
        slots = int(found["GPU"] if gpu else found.get("CPU", 1))
        task = ray.remote(num_cpus=1, num_gpus=1 if gpu else 0, max_retries=RETRIES)(_chunk)
        left = deque(waiting)
        running: list[Any] = []
        while left or running:
            while left and len(running) < AHEAD * max(slots, 1):
                number = left.popleft()
                running.append(task.remote(settings, number, chunks[number], os.getcwd()))
            ready, running = ray.wait(running)
            for done in ready:
                yield _result(ray, done)
    finally:
        ray.shutdown()


def _chunk(settings: Settings, number: int, chunk: Chunk, folder: str) -> Done:
    """In a process of Ray's, which keeps the model for its next task; one thread, so that the bits are the same."""
    torch.set_num_threads(1)
    os.chdir(folder)  # that paths are relative to
    return tokenize_chunk(settings, number, chunk)


def _result(ray: Any, done: Any) -> Done:
    try:
        return Done(*ray.get(done))
    except ray.exceptions.RayTaskError as error:
        raise error.cause or OSError(str(error)) from None
    except ray.exceptions.RayError as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise OSError(
            f"a process of the cluster was lost more than {RETRIES} times ({reason[:200]}): running the same command "
            "again continues"
        ) from None


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would send statistics home
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise ValueError("--ray needs: pip install 'atoken[cluster]'") from None
    return ray


def _join(ray: Any, address: str) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error", "include_dashboard": False}
    try:
        if match := re.fullmatch(r"(?:ray://)?([^/]+):(\d+)", address):
            socket.create_connection((match[1], int(match[2])), WAIT).close()  # Ray itself would try for minutes
        if address == "local":
            ray.init(address="local", object_store_memory=STORE, **options)
        else:
            del options["include_dashboard"]
            ray.init(address=address, **options)
    except (OSError, ValueError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"--ray {address}: there is no such cluster ({reason[:200]})") from None
