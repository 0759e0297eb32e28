"""From features to rows of numbers, each with its protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...metrics.linear_probe import DECAY, LinearProbe
from .captioned import Entry, alike
from .measures import (
    NEIGHBOURS,
    SPLITS,
    THUMBNAIL,
    Gaussian,
    Nearest,
    frechet,
    gaussian_of,
    inception_numbers,
    nearest,
    spread,
    thumbnails,
)
from .networks import POOLED, Network
from .pictures import PictureSet

FORMAT = "atoken-generation"
FLOORS = 5
"""Draws of training pictures, each of as many as are compared."""
LABELS = {
    "lite0-frechet": ("Lite0 Fréchet distance", "lower"),
    "category-accuracy": ("category accuracy", "higher"),
    "nearest-lite0": ("nearest training picture, Lite0", ""),
    "nearest-pixels": ("nearest training picture, pixels", ""),
    "fid": ("FID", "lower"),
    "sfid": ("sFID", "lower"),
    "is": ("inception score", "higher"),
    "precision": ("precision", "higher"),
    "recall": ("recall", "higher"),
}
DIGITS = {"lite0-frechet": 2, "fid": 2, "sfid": 2, "is": 1, "nearest-lite0": 2, "nearest-pixels": 1}
FORMULAS: dict[str, dict[str, Any]] = {
    "category-accuracy": {
        "probe": "multinomial logistic regression on Lite0 features of all training pictures",
        "decay": DECAY,
    },
    "nearest-lite0": {"distance": "Euclidean, of features", "value": "median"},
    "nearest-pixels": {
        "distance": f"root mean square of {THUMBNAIL} x {THUMBNAIL} x 3 in 0 ... 255",
        "value": "median",
    },
    "fid": {"formula": "torch-fidelity"},
    "sfid": {"formula": "Fréchet distance of spatial features (arXiv 2103.03841)"},
    "is": {"formula": "torch-fidelity", "splits": SPLITS},
    "precision": {"formula": "torch-fidelity", "neighbours": NEIGHBOURS},
    "recall": {"formula": "torch-fidelity", "neighbours": NEIGHBOURS},
}


@dataclass(frozen=True)
class Seen:
    """A set of pictures and what the networks saw of it."""

    pictures: PictureSet
    features: Mapping[str, Mapping[str, Tensor]]
    """By network, "lite0" or "inception", and by name."""
    digest: str
    """SHA-256 of the pictures."""

    @property
    def lite0(self) -> Tensor:
        """fp32 [N, 1280]."""
        return self.features["lite0"][POOLED]

    def all(self) -> list[np.ndarray]:
        """Every picture."""
        return list(self.pictures.read(0, self.pictures.count))

    def describe(self) -> dict[str, Any]:
        """Name, number, preparation and hash as JSON-ready values."""
        facts = {"set": self.pictures.name, "n": self.pictures.count, "preparation": self.pictures.preparation}
        return {**facts, "sha256": self.digest}


@dataclass(frozen=True)
class Protocols:
    """What every number carries."""

    networks: Mapping[str, Network]
    common: Mapping[str, Any]

    def number(self, name: str, value: float, network: str, n: int, reference: Any, **parts: Any) -> dict[str, Any]:
        """A number, JSON-ready."""
        label, better = LABELS[name]
        protocol = {"network": self.networks[network].describe(), **FORMULAS.get(name, {}), "n": n, **self.common}
        return {
            "value": value,
            **parts,
            "label": label,
            "better": better,
            "protocol": {**protocol, "reference": reference},
        }


def against_reference(
    drawn: Seen, real: Seen | None, statistics: Mapping[str, Gaussian], reference: Any, protocols: Protocols
) -> dict[str, Any]:
    """The row of drawn pictures against a reference: pictures, statistics of Inception features, or both."""
    numbers, n = {}, drawn.pictures.count
    if real is not None:
        distance = frechet(gaussian_of(drawn.lite0), gaussian_of(real.lite0))
        numbers["lite0-frechet"] = protocols.number("lite0-frechet", distance, "lite0", n, real.describe())
    if "inception" in drawn.features:
        seen = None if real is None else dict(real.features["inception"])
        found = {name: gaussian_of(values) for name, values in (seen or {}).items()} | dict(statistics)
        for name, value in inception_numbers(dict(drawn.features["inception"]), found, seen).items():
            numbers[name] = protocols.number(name, value, "inception", n, None if name == "is" else reference)
    return numbers


class Captioned:
    """Drawn pictures beside held-out and training ones of the same captions, and what else one could have shown."""

    def __init__(
        self, held_out: Seen, train: Seen, held_entries: Sequence[Entry], train_entries: Sequence[Entry], seed: int
    ) -> None:
        self.held_out, self.train, self.seed = held_out, train, seed
        self.held_entries, self.train_entries = held_entries, train_entries
        categories = sorted({entry.category for entry in (*held_entries, *train_entries)})
        self.truth = torch.tensor([categories.index(entry.category) for entry in held_entries])
        learnt = torch.tensor([categories.index(entry.category) for entry in train_entries])
        self.probe = LinearProbe.fit(train.lite0, learnt, len(categories))
        self.known = thumbnails(train.all())
        self.target = gaussian_of(held_out.lite0)

    def nearest(self, seen: Seen) -> tuple[Nearest, Nearest]:
        """The nearest training pictures, by features and by pixels."""
        return nearest(seen.lite0, self.train.lite0), nearest(thumbnails(seen.all()), self.known)

    def row(self, seen: Seen, protocols: Protocols, found: tuple[Nearest, Nearest] | None) -> dict[str, Any]:
        """Numbers of one set of pictures, one for each held-out caption; ``found``: its nearest training pictures."""
        n, reference = seen.pictures.count, self.held_out.describe()
        numbers: dict[str, Any] = {}
        if seen is not self.held_out:
            distance = frechet(gaussian_of(seen.lite0), self.target)
            numbers["lite0-frechet"] = protocols.number("lite0-frechet", distance, "lite0", n, reference)
        accuracy = self.probe.accuracy(seen.lite0, self.truth)
        train = self.train.describe()
        numbers["category-accuracy"] = protocols.number("category-accuracy", accuracy, "lite0", n, train)
        for name, near in zip(("nearest-lite0", "nearest-pixels"), found or (), strict=False):
            numbers[name] = protocols.number(name, float(near.distance.median()), "lite0", n, train)
        return numbers

    def floor(self, protocols: Protocols) -> dict[str, Any]:
        """The distance of as many training pictures of the same styles and categories, the mean of several draws."""
        values = []
        for turn in range(FLOORS):
            chosen = alike(self.held_entries, self.train_entries, self.seed + turn)
            values.append(frechet(gaussian_of(self.train.lite0[chosen]), self.target))
        number = spread(values)
        parts = {"least": number["least"], "largest": number["largest"], "draws": FLOORS}
        n, reference = len(self.held_entries), self.held_out.describe()
        return {"lite0-frechet": protocols.number("lite0-frechet", number["value"], "lite0", n, reference, **parts)}


def table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Heads and cells: one row a set of pictures, one column a metric that some set has."""
    names = [name for name in LABELS if any(name in row["metrics"] for row in rows)]
    arrows = {"higher": " ↑", "lower": " ↓", "": ""}
    heads = ["pictures", *(LABELS[name][0] + arrows[LABELS[name][1]] for name in names)]
    return heads, [[row["name"], *(cell(name, row["metrics"].get(name)) for name in names)] for row in rows]


def cell(name: str, number: Mapping[str, Any] | None) -> str:
    """A number with the digits that it deserves."""
    if number is None:
        return "-"
    if name in DIGITS:
        return f"{number['value']:.{DIGITS[name]}f}"
    return f"{100 * number['value']:.1f} %"


def markdown(results: Mapping[str, Any]) -> str:
    """The table and what it was measured by, for pages."""
    heads, body = table(results["rows"])
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in body]
    return "\n".join([*lines, "", *(f"{note}  " for note in notes(results))]).rstrip()


def notes(results: Mapping[str, Any]) -> list[str]:
    """Sentences below the table."""
    drawn, sampling = results["generator"], results["sampling"]
    how = ", ".join(f"{name} {value}" for name, value in sampling.items() if value is not None)
    said = [f"{drawn['name']} (weights {drawn['sha256'][:12]}): {how}; {results['conditions']}."] if drawn else []
    reference = results["reference"]
    against = reference["set"] if reference["n"] is None else f"{reference['set']} (N = {reference['n']})"
    version, code = results["code"]["atoken"], results["code"]["sha256"][:12]
    said.append(f"N = {results['n']}, against {against}; AToken {version}, code {code}.")
    return said
