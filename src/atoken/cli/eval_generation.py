"""``atoken eval-generation``: drawn pictures beside real ones, as a table, a JSON file and sheets."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import typer

from ..core.device import enough_memory, find_device
from ..core.text import clean
from ..engine.ranks import EndedByOthers, Ranks, joined
from ..evaluation.generation import sheets
from ..evaluation.generation.captioned import (
    HELD_OUT,
    TRAIN,
    evenly,
    nearest_captions,
    read_index,
    read_pictures,
    read_prompts,
)
from ..evaluation.generation.measures import read_statistics
from ..evaluation.generation.networks import Inception, Lite0, Network, compute_features, load_features
from ..evaluation.generation.pictures import PictureSet, has_pictures, identity_of, of_archive, of_arrays, of_folder
from ..evaluation.generation.report import FORMAT, Captioned, Protocols, Seen, against_reference, notes, table
from ..evaluation.generation.samples import begin, draw_parts, gather
from ..evaluation.progress import RESULTS
from ..evaluation.provenance import code_version, environment
from ..evaluation.results import write_results
from ..generation.generator import Generator
from ..generation.load import load_generator
from ..language.towers import MINILM, text
from ..media.image.files import write_image
from ..tokenizer.identity import fingerprint
from . import options, paths
from .commands.generation import EvaluationRequest
from .report import counting, show_table

FEATURES = "features"
SEEDS = 4
"""Pictures of each of --prompts."""
DRAWS = "generation/load.py"
"""Where the code that draws begins."""


class Evaluation:
    """One run: what is drawn, what looks at it, and where it goes."""

    def __init__(self, request: EvaluationRequest, ranks: Ranks) -> None:
        self.request, self.ranks = request, ranks
        self.networks: dict[str, Network] = {"lite0": Lite0(ranks.device)}
        if request.inception:
            self.networks["inception"] = Inception(request.inception, ranks.device)
        self.entries = [] if request.data is None else read_index(request.data)
        held = [entry for entry in self.entries if entry.split == HELD_OUT]
        self.held_entries = evenly(held, request.samples) if held else []
        self.train_entries = [entry for entry in self.entries if entry.split == TRAIN]

    @cached_property
    def generator(self) -> Generator:
        """The generator that draws."""
        request = self.request
        dtype = options.parse_dtype(request.dtype)
        return load_generator(request.model, tokenizer=request.tokenizer, device=self.ranks.device, dtype=dtype)

    @cached_property
    def count(self) -> int:
        """Samples that are drawn."""
        if self.held_entries:
            return len(self.held_entries)
        return self.request.samples or 50_000

    @property
    def conditions(self) -> str:
        """What the samples were told, in words."""
        if self.held_entries:
            return f"told the style and the first caption of {self.count} held-out pictures"
        classes = self.generator.config.net.classes
        each, rest = divmod(self.count, classes)
        balanced = f"{each} of each of {classes} labels"
        return balanced if not rest else f"{balanced}, and one more of the first {rest}"

    def draw(self, numbers: Sequence[int]) -> list[np.ndarray]:
        """Pictures of the samples with these numbers. Raises ``ValueError``."""
        generator, seeds = self.generator, [self.request.seed + number for number in numbers]
        told: dict[str, Any]
        if self.held_entries:
            told = {"prompts": [self.held_entries[number].prompt for number in numbers]}
        else:
            told = {"class_labels": [number % generator.config.net.classes for number in numbers]}
        return self._drawn(told, seeds)

    def _drawn(self, told: dict[str, Any], seeds: list[int]) -> list[np.ndarray]:
        with enough_memory(f"not enough memory for {len(seeds)} pictures at once: a smaller --batch"):
            pictures: list[np.ndarray] = self.generator(**told, seeds=seeds, **self.request.how)
        return pictures

    def plan(self) -> dict[str, Any]:
        """All that decides the samples, JSON-ready."""
        generator, request = self.generator, self.request
        config = generator.config
        return {
            "generator": {
                "name": config.name,
                "kind": config.generator,
                "sha256": fingerprint(generator.net.state_dict() | generator.extras()),
                "tokenizer": config.tokenizer,
                "tokenizer_sha256": config.tokenizer_weights,
            },
            "sampling": {**dataclasses.asdict(generator.options(request.how)), "seed": request.seed},
            "size": list(config.size),
            "prompts": identity_of([entry.prompt for entry in self.held_entries]),
            "n": self.count,
            "batch": request.batch,
            "dtype": request.dtype,
        }

    def drawn(self) -> PictureSet:
        """Draw what is not drawn yet, all ranks together."""
        request, ranks = self.request, self.ranks
        if request.is_archive:
            if self.held_entries:
                raise ValueError(f"{request.model} does not say what its pictures were told: --data needs a generator")
            return of_archive(Path(request.model))
        with ranks.together():
            if not self.held_entries and not self.generator.config.net.classes:
                raise ValueError("this generator knows no labels: give --data, a folder of captioned pictures")
            plan = self.plan()
            if ranks.first:
                begin(request.out, plan)
        own = -(-self.count // (request.batch * ranks.world))
        with ranks.together(), counting(own, "drawing") as advance:
            share = (ranks.rank, ranks.world)
            draw_parts(request.out, self.count, request.batch, self.draw, share=share, advance=advance)
        with ranks.together():
            if ranks.first:
                gather(request.out, self.count, request.batch)
        return gather(request.out, self.count, request.batch)

    def look(self, pictures: PictureSet, only: Sequence[str] | None = None) -> Seen:
        """A set with its features, all ranks together; ``only`` names networks."""
        request, ranks = self.request, self.ranks
        features, digest = {}, ""
        for name, network in self.networks.items():
            if only is not None and name not in only:
                continue
            own = -(-pictures.count // (request.batch * ranks.world))
            with ranks.together(), counting(own, f"{name} of {pictures.name}") as advance:
                share, folder = (ranks.rank, ranks.world), request.out / FEATURES
                compute_features(pictures, network, folder, request.batch, ranks.device, share=share, advance=advance)
            features[name], digest = load_features(pictures, network, request.out / FEATURES, request.batch)
        return Seen(pictures, features, digest)

    def protocols(self, drawn: PictureSet) -> Protocols:
        """What every number carries."""
        height, width = drawn.read(0, 1)[0].shape[:2]
        return Protocols(self.networks, {"size": [height, width], "code": code_version(DRAWS)})

    def results(self, rows: list[dict[str, Any]], drawn: Seen, reference: dict[str, Any]) -> dict[str, Any]:
        """Everything, JSON-ready."""
        plan: dict[str, Any] = {} if self.request.is_archive else self.plan()
        return {
            "format": FORMAT,
            "version": 1,
            "generator": plan.get("generator"),
            "sampling": plan.get("sampling", {}),
            "conditions": None if self.request.is_archive else self.conditions,
            "samples": drawn.describe(),
            "reference": reference,
            "n": drawn.pictures.count,
            "rows": rows,
            "code": code_version(DRAWS),
            "environment": environment(self.ranks.device),
        }


def evaluate(request: EvaluationRequest) -> None:
    """Draw, look, measure and write. Raises ``ValueError`` or ``OSError`` with one sentence."""
    paths.check_folder(request.out)
    device = str(find_device(request.device, "--device"))
    try:
        with joined(device) as ranks:
            if request.overwrite and ranks.first and request.out.is_dir():
                for path in (request.out / RESULTS, *request.out.glob("*.npz"), request.out / "plan.json"):
                    path.unlink(missing_ok=True)
                shutil.rmtree(request.out / "parts", ignore_errors=True)
            with ranks.together():
                run = Evaluation(request, ranks)
            results = _captioned(run) if request.data else _referenced(run)
            if ranks.first:
                _say(request, results)
    except EndedByOthers:
        raise typer.Exit(2) from None


def _referenced(run: Evaluation) -> dict[str, Any]:
    """Drawn pictures against an npz file or a folder of real ones."""
    path = run.request.reference
    assert path is not None
    with run.ranks.together():
        pictures, statistics, reference = None, {}, {"set": path.name, "n": None}
        if path.is_dir():
            side = None if run.request.is_archive else min(run.generator.config.size)
            if side is None:
                side = min(of_archive(Path(run.request.model)).read(0, 1)[0].shape[:2])
            pictures = of_folder(path, side)
        else:
            statistics = read_statistics(path)
            pictures = of_archive(path) if has_pictures(path) else None
            if pictures is None and not statistics:
                raise ValueError(f"{path} holds neither pictures (arr_0) nor statistics (mu and sigma)")
            if pictures is None and not run.request.inception:
                raise ValueError(f"{path} holds statistics of the FID Inception and no pictures: give --inception")
    real = None if pictures is None else run.look(pictures)  # before hours of drawing, for what cannot be read
    drawn = run.look(run.drawn())
    if real is not None:
        reference = real.describe() | ({"statistics": f"of {path.name}"} if statistics else {})
    numbers = against_reference(drawn, real, statistics, reference, run.protocols(drawn.pictures))
    name = Path(run.request.model).name if run.request.is_archive else run.generator.config.name
    return run.results([{"name": name, "metrics": numbers}], drawn, reference)


def _captioned(run: Evaluation) -> dict[str, Any]:
    """Drawn pictures of held-out captions beside the held-out pictures, training ones, and other ways to show some."""
    request, ranks = run.request, run.ranks
    assert request.data is not None
    with ranks.together():
        prompts = read_prompts(request.prompts, run.entries) if request.prompts else []
        held = read_pictures(request.data, "held-out pictures", run.held_entries)
        train = read_pictures(request.data, "training pictures", run.train_entries)
    held_out, known = run.look(held), run.look(train)
    drawn = run.look(run.drawn())
    rebuilt = run.look(_rebuilt(run, held), ["lite0"])
    captioned = Captioned(held_out, known, run.held_entries, run.train_entries, request.seed)
    fetched = run.look(_fetched(run, train), ["lite0"])
    if not ranks.first:
        return {}
    protocols = run.protocols(drawn.pictures)
    near = captioned.nearest(drawn)
    numbers = captioned.row(drawn, protocols, near)
    numbers |= {
        name: number
        for name, number in against_reference(drawn, held_out, {}, held_out.describe(), protocols).items()
        if name not in numbers
    }
    rows = [
        {"name": run.generator.config.name, "metrics": numbers},
        {"name": "training pictures of the same kinds", "metrics": captioned.floor(protocols)},
        {"name": "training picture of the nearest caption", "metrics": captioned.row(fetched, protocols, None)},
        {
            "name": f"held-out pictures through {run.generator.config.tokenizer}",
            "metrics": captioned.row(rebuilt, protocols, captioned.nearest(rebuilt)),
        },
        {
            "name": "held-out pictures",
            "metrics": captioned.row(held_out, protocols, captioned.nearest(held_out)),
        },
    ]
    results = run.results(rows, drawn, held_out.describe())
    count = drawn.pictures.count
    same = list(range(count))
    write_image(request.out / "drawn.png", sheets.pairs(drawn.pictures, held, same, sheets.spread_over(count)))
    for name, found in zip(("nearest-lite0", "nearest-pixels"), near, strict=True):
        index = found.index.tolist()
        write_image(request.out / f"{name}.png", sheets.pairs(drawn.pictures, train, index, sheets.closest(found)))
    if prompts:
        seeds = [request.seed + number for number in range(SEEDS)]
        shown = [run._drawn({"prompts": [prompt] * SEEDS}, seeds) for prompt in prompts]
        write_image(request.out / "prompts.png", sheets.captioned(prompts, shown))
        results["prompts"] = prompts
    return results


def _rebuilt(run: Evaluation, held: PictureSet) -> PictureSet:
    """The held-out pictures through the generator's tokenizer: what drawing can hardly surpass."""
    tokenizer, kind = run.generator.tokenizer, run.generator.tokens

    def read(first: int, last: int) -> list[np.ndarray]:
        tokens = tokenizer.encode(list(held.read(first, last)), kind=kind)
        back: list[np.ndarray] = tokenizer.decode(tokens)
        return back

    identity = identity_of(held.identity, tokenizer.weights_hash, kind)
    return PictureSet(f"{held.name} through {run.generator.config.tokenizer}", held.count, read, identity)


def _fetched(run: Evaluation, train: PictureSet) -> PictureSet:
    """For each held-out caption the training picture of its style whose caption is nearest to it in the text tower."""
    tower = text(MINILM, device=run.ranks.device)
    chosen = nearest_captions(run.held_entries, run.train_entries, tower)
    return of_arrays("nearest captions", [train.read(i, i + 1)[0] for i in chosen], train.identity, chosen)


def _say(request: EvaluationRequest, results: dict[str, Any]) -> None:
    write_results(results, request.out / RESULTS)
    show_table(*table(results["rows"]))
    for note in notes(results):
        typer.echo(clean(note))
    typer.echo(clean(request.out / RESULTS))
