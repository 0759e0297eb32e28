"""``atoken tokenize``: whole data sets to token shards, by several processes, going on after any end."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import time
from codecs import BOM_UTF8
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
import typer

from ..core.files import atomic_write
from ..core.regular import read_regular
from ..data.items import PARQUET, SAVED, Chunk, is_table, is_tar, plan
from ..data.tokenize import Done, Settings, manifest_name, start_worker, tokenize_chunk
from ..tokenizer.config import PRESETS
from ..tokens.patch import KINDS
from ..weights.load import load
from . import options, paths
from .report import clean, say, seconds_text
from .sources import is_source, owned_files
from .tokenize_cost import show_cost

PLAN = "tokenize.json"
LABELS = "labels.json"
MANIFEST = "manifest.jsonl"
LOCK = ".atoken-lock"
LISTS = (".txt", ".lst")
SHOWN = 20
"""Failures that are printed; the manifest has all."""


def tokenize(
    inputs: Sequence[str],
    settings: Settings,
    per_shard: int,
    by_folder: bool,
    workers: int | None,
    utilisation: float | None = None,
    cluster: str | None = None,
) -> None:
    """Find the samples, do what is not done yet, and report; with ``utilisation`` say what it costs, and do nothing.

    ``cluster`` is the address of Ray's, as ``cluster.tasks`` takes it; without it the work is done on this machine.
    Raises ``typer.Exit(2)`` where some failed.
    """
    _check(settings, per_shard, workers)
    out = Path(settings.out)
    files, problems = find_files(inputs, out)
    if problems:
        raise ValueError("; ".join(problems[:3]))
    paths.check_folder(out)
    chunks, labels = plan(files, per_shard, by_folder)
    if not chunks:
        raise ValueError(f"{', '.join(inputs)}: there is nothing to tokenize")
    if utilisation is not None:
        config = PRESETS.get(settings.model) or load(settings.model, device="cpu").config
        return show_cost(config, settings, chunks, utilisation)
    model = load(settings.model, device="cpu")
    if settings.kind is not None and settings.kind not in model.config.kinds:
        known = " and ".join(model.config.kinds)
        raise ValueError(f"--kind is {settings.kind!r}: {settings.model!r} was trained for {known} tokens")
    if settings.features is not None and not 1 <= settings.features <= model.config.encoder_depth:
        depth = model.config.encoder_depth
        raise ValueError(f"--features is {settings.features}: give blocks of the encoder, from 1 to {depth}")
    if settings.moments and (settings.kind or model.config.kinds[0]) == "discrete":
        raise ValueError("--moments are those of continuous tokens: leave it out, or give --kind continuous")
    facts = {**asdict(settings), "weights": model.weights_hash, "per_shard": per_shard, "labels": by_folder}
    del model
    out.mkdir(parents=True, exist_ok=True)
    with _alone_in(out):
        _begin(out, {name: facts[name] for name in facts if name not in ("out", "device", "model")}, chunks)
        if labels:
            _write(out / LABELS, json.dumps(labels, indent=1) + "\n")
        if not (out / MANIFEST).exists():
            _work(settings, chunks, workers or default_workers(settings.device), cluster)
        _conclude(out, len(chunks))


def _check(settings: Settings, per_shard: int, workers: int | None) -> None:
    options.check_choice("--kind", settings.kind, KINDS)
    options.check_choice("--dtype", settings.dtype, options.DTYPES)
    options.check_choice("--latents", settings.latents, options.LATENTS)
    options.check_device(settings.device)
    options.check_positive("--per-shard", per_shard)
    options.check_positive("--workers", workers)
    options.check_positive("--size", settings.size)
    options.check_positive("--voxels", settings.voxels)
    options.check_positive("--token-budget", settings.token_budget)


def find_files(inputs: Sequence[str], out: Path) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Files and the paths that keys are made of, and a sentence for each input that names none."""
    named: list[str] = []
    for text in inputs:
        path = Path(text)
        listed = path.is_file() and path.suffix.lower() in LISTS
        lines = read_regular(path).removeprefix(BOM_UTF8).splitlines() if listed else []  # names may be no UTF-8
        named += [str(path.parent / os.fsdecode(line)) for line in lines if line] if listed else [text]

    def wanted(path: Path) -> bool:
        return is_tar(path) or is_table(path) or is_source(path)

    what = f"picture, video, 3D file, .tar or {PARQUET}"
    sources, problems = paths.expand(named, wanted, what, belonging=owned_files)
    saved = {source.path.parent for source in sources if source.path.name == SAVED}  # its parts are no files of it
    kept = [
        source
        for source in sources
        if source.path.name == SAVED or not any(folder in source.path.parents for folder in saved)
        if out.resolve() not in source.path.resolve().parents
    ]
    return [(source.path, source.below) for source in kept], problems


def default_workers(device: str | None) -> int:
    """A process for each GPU, or for each processor; one where ``device`` names a GPU."""
    if device is None and torch.cuda.is_available():
        return torch.cuda.device_count()
    if device not in (None, "cpu"):
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _alone_in(out: Path) -> Iterator[None]:
    """Keep other runs out of a folder. Raises ``ValueError`` where one is there."""
    try:
        import fcntl
    except ImportError:  # Windows: nothing is locked
        yield
        return
    with open(out / LOCK, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another run is writing {out}: wait for it, or give another --out") from None
        except OSError:
            pass  # a file system without locks
        yield


def _begin(out: Path, facts: dict[str, object], chunks: Sequence[Chunk]) -> None:
    """Write down what is done, or see that an earlier run wrote down the same. Raises ``ValueError``."""
    digest = hashlib.sha256()
    for chunk in chunks:
        names = [file.path for file in chunk.files] or [chunk.name]
        sizes = [os.stat(name).st_size if os.path.exists(name) else -1 for name in names]
        digest.update(repr((chunk, sizes)).encode("utf-8", "surrogateescape"))
    facts = {**facts, "samples": digest.hexdigest(), "shards": len(chunks)}
    path = out / PLAN
    if not path.exists():
        if taken := [*sorted(out.glob("*.atoks"))[:1]]:
            raise ValueError(f"{taken[0]} is there already, of another run: give another --out")
        _write(path, json.dumps(facts, indent=1) + "\n")
        return
    try:
        known = dict(json.loads(path.read_text()))
    except ValueError:
        raise ValueError(f"{path} is damaged: give another --out") from None
    for name in facts:
        if (known.get(name) or None) != (facts[name] or None):  # earlier versions had fewer options
            what = "the files differ" if name in ("samples", "shards") else f"--{name} was {known.get(name)}"
            raise ValueError(f"{out} holds the tokens of another run ({what}, by {PLAN}): give another --out")


def _work(settings: Settings, chunks: Sequence[Chunk], workers: int, cluster: str | None) -> None:
    """Do the chunks that are not done, saying a line about each. Raises ``OSError`` where a process was killed."""
    out = Path(settings.out)
    waiting = [number for number in range(len(chunks)) if not (out / manifest_name(number)).exists()]
    if len(waiting) < len(chunks):
        say(f"{len(chunks) - len(waiting)} of {len(chunks)} shards are done already")
    if not waiting:
        return
    start = time.monotonic()
    done: list[Done] = []
    if cluster is None:
        results = _in_processes(settings, chunks, waiting, workers)
    else:
        from ..cluster.tasks import on_ray

        results = on_ray(cluster, settings, chunks, waiting)
    with closing(results):
        for each in results:
            done.append(each)
            _say_progress(done, len(waiting), time.monotonic() - start)


def _in_processes(
    settings: Settings, chunks: Sequence[Chunk], waiting: Sequence[int], workers: int
) -> Generator[Done, None, None]:
    """Do chunks in processes of this machine, each in turn. Raises ``OSError`` where one was killed."""
    context = multiprocessing.get_context("spawn")
    workers, left = min(workers, len(waiting)), deque(waiting)
    try:
        with ProcessPoolExecutor(workers, context, start_worker, (context.Value("i", 0), settings.device)) as pool:
            running: deque[Future[Done]] = deque()
            while left or running:
                while left and len(running) < 2 * workers:
                    number = left.popleft()
                    running.append(pool.submit(tokenize_chunk, settings, number, chunks[number]))
                yield running.popleft().result()
    except BrokenProcessPool:
        raise OSError(
            "a process was killed, most likely for want of memory: take fewer --workers or a smaller --token-budget; "
            "running the same command again continues"
        ) from None


def _say_progress(done: Sequence[Done], total: int, seconds: float) -> None:
    last, tokens = done[-1], sum(each.tokens for each in done)
    left = seconds / len(done) * (total - len(done))
    failed = f", {last.failed} failed" if last.failed else ""
    say(
        f"[{len(done)}/{total}] shard {last.number}: {last.samples} samples{failed}; {tokens / seconds:,.0f} tokens a "
        f"second, about {seconds_text(left)} left"
    )


def _conclude(out: Path, shards: int) -> None:
    """Join the manifests of the shards, and report. Raises ``typer.Exit(2)`` where samples failed."""
    parts = [out / manifest_name(number) for number in range(shards)]
    if not (out / MANIFEST).exists():
        with atomic_write(out / MANIFEST) as temporary, temporary.open("wb") as joined:
            for part in parts:
                joined.write(part.read_bytes())
    for part in parts:
        part.unlink(missing_ok=True)
    counts: Counter[str] = Counter()
    failures: list[str] = []
    with (out / MANIFEST).open() as lines:
        for line in map(json.loads, lines):
            counts["tokens"] += line.get("tokens", 0)
            counts["failed" if "error" in line else "samples"] += 1
            if "error" in line and len(failures) < SHOWN:
                reason = line["error"]
                failures.append(reason if line["source"] in reason else f"{line['source']}: {reason}")
    typer.echo(clean(f"{counts['samples']} samples, {counts['tokens']} tokens, {counts['failed']} failed, in {out}"))
    for failure in failures:
        say(f"error: {failure}")
    if counts["failed"] > len(failures):
        say(f"error: and {counts['failed'] - len(failures)} more: {out / MANIFEST} has all")
    if failures:
        raise typer.Exit(2)


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text)
