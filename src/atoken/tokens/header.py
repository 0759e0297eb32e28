"""What a token file says of its tokens besides their numbers: the facts, and how they stand in the file's header."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from torch import Tensor

from ..core.text import shortened
from .checks import OPTIONAL, check_header

Header = TypeVar("Header", bound="TokenHeader")

VERSION = 2
"""Newest version of the format that is read. Files are written with the smallest version that says all they need."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenHeader:
    """All that is needed to decode tokens but the numbers and their coordinates.

    Raises ``ValueError`` with one sentence where a fact is malformed or contradicts another.
    """

    kind: str
    """"continuous" or "discrete"."""
    grid: tuple[int, int, int, int]
    """Patches along t, x (rows), y (columns), z."""
    size: tuple[int, int]
    """Original height and width in pixels."""
    box: tuple[int, int, int, int]
    """Valid pixels on the padded canvas: top, left, height, width."""
    model: str
    """Name of the model that made the tokens."""
    weights: str
    """SHA-256 of that model's weights."""
    modality: str = "image"
    value_range: tuple[float, float] = (-1.0, 1.0)
    """Range of the pixels that the model saw."""
    fsq: tuple[tuple[int, ...], ...] = ((4,) * 6,) * 8
    """Levels of each quantized number, one tuple for each code (kind "discrete")."""
    times: Tensor | None = None
    """Video: when each real frame is shown, float64 [F] in seconds."""
    first_frame: int = 0
    """Video: place of the first of these frames on the padded time axis; ``frames`` moves it."""
    transform: tuple[tuple[float, ...], ...] | None = None
    """3D: 4 x 4 matrix from the unit cube [-0.5, 0.5]^3 to the asset's own frame."""
    spatial_tile: int | None = None
    """Side in pixels of the square tiles that the model saw one by one; None where it saw whole frames."""
    light: str | None = None
    """3D: the light in which the views were rendered; None where it is not said."""
    compute_dtype: str | None = None
    """Dtype of the weights that the encoder computed with, as "float32" or "bfloat16"; None where it is not said."""

    def __post_init__(self) -> None:
        check_header(self)

    @classmethod
    def of(cls, other: TokenHeader) -> TokenHeader:
        """The header alone, of tokens for example."""
        return TokenHeader(**{field.name: getattr(other, field.name) for field in dataclasses.fields(TokenHeader)})

    def frames(self: Header, start: int, stop: int) -> Header:
        """The same tokens, standing for the frames ``start`` ... ``stop - 1`` of a video alone.

        Decoding them computes only the tiles that hold these frames. Raises ``ValueError`` for tokens of no video and
        for frames that are not there.
        """
        if self.times is None:
            raise ValueError(f"only a video has frames, and these are tokens of modality {self.modality!r}")
        if not 0 <= start < stop <= len(self.times):
            raise ValueError(f"frames {start} ... {stop} are not among the {len(self.times)} of the video")
        return replace(self, times=self.times[start:stop], first_frame=self.first_frame + start)

    def to_metadata(self) -> dict[str, str]:
        """The header of the file, every value a string, in the order of the file; ``times`` are a tensor there."""
        optional = {name: getattr(self, name) for name in OPTIONAL if getattr(self, name) is not None}
        header = {
            "format": "atok",
            "version": max((OPTIONAL[name].version for name in optional), default=1),
            **{name: getattr(self, name) for name in ("modality", "kind", "model", "weights", "grid", "size", "box")},
            "value_range": self.value_range,
        }
        if self.kind == "discrete":
            header["fsq"] = self.fsq
        if self.first_frame:
            header["first_frame"] = self.first_frame
        if self.transform is not None:
            header["transform"] = self.transform
        return {
            key: value if isinstance(value, str) else json.dumps(value) for key, value in (header | optional).items()
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], times: Tensor | None) -> TokenHeader:
        """The inverse of ``to_metadata``; unknown keys are left out (docs/tokens.md). Raises ``ValueError``."""
        check_version(metadata)
        try:
            return TokenHeader(**_facts(metadata), times=times)
        except (KeyError, TypeError, RecursionError, json.JSONDecodeError) as error:
            raise ValueError(f"the header is not complete ({shortened(error)})") from None


def check_version(metadata: Mapping[str, str]) -> None:
    """Raise ``ValueError`` where the header is not that of a token file, or of a newer one."""
    version = metadata.get("version", "")
    if metadata.get("format") != "atok":
        raise ValueError("not a token file: a safetensors file without the atok header")
    if not (version.isascii() and version.isdecimal() and len(version) < 10):
        raise ValueError(f"the header is not complete (version {shortened(version)!r})")
    if int(version) > VERSION:
        raise ValueError(f"written by a newer version of the format ({version}; this one reads up to {VERSION})")


def _facts(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The facts as Python values. Raises ``KeyError``, ``TypeError``, ``RecursionError`` or ``JSONDecodeError``."""

    def numbers(key: str) -> tuple[Any, ...]:
        return tuple(json.loads(metadata[key]))

    def rows(key: str) -> tuple[tuple[Any, ...], ...]:
        return tuple(map(tuple, numbers(key)))

    facts: dict[str, Any] = {name: metadata[name] for name in ("kind", "model", "weights", "modality")}
    facts |= {name: numbers(name) for name in ("grid", "size", "box", "value_range")}
    facts |= {"fsq": rows("fsq")} if metadata["kind"] == "discrete" else {}
    facts |= {"transform": rows("transform")} if "transform" in metadata else {}
    facts["first_frame"] = json.loads(metadata.get("first_frame", "0"))
    for name in OPTIONAL:
        if name in metadata:
            facts[name] = metadata[name] if OPTIONAL[name].is_text else json.loads(metadata[name])
    return facts
