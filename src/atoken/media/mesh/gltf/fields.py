"""A JSON object whose members are asked for by type, so that any other type ends in one sentence."""

from __future__ import annotations

from typing import Any

import numpy as np

from ....core.text import shortened
from ..source import Source


class Fields:
    """Members of one JSON object of a glTF file; ``where`` is its place in the file for messages."""

    def __init__(self, source: Source, values: Any, where: str) -> None:
        self.source = source
        self.where = where
        self.values: dict[str, Any] = values if isinstance(values, dict) else self._wrong("", values, "an object")

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def _wrong(self, key: str, value: object, expected: str) -> Any:
        place = f"{self.where}.{key}".strip(".") or "the JSON"
        raise self.source.error(f"is damaged: {place} is {shortened(repr(value), 40)}, not {expected}; export it again")

    def whole(self, key: str, default: int | None = None) -> int:
        """A whole number of at least 0."""
        value = self.values.get(key, default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
            return self._wrong(key, value, "a whole number")
        return value

    def number(self, key: str, default: float) -> float:
        """A finite number."""
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300 or value != value:
            return self._wrong(key, value, "a number")
        return float(value)

    def numbers(self, key: str, default: list[float]) -> np.ndarray:
        """Finite numbers, float64, as many as ``default`` has; any number where that is empty."""
        values = self.values.get(key, default)
        count = len(default) or None
        if not isinstance(values, list) or (count is not None and len(values) != count):
            return self._wrong(key, values, f"a list of {count} numbers")
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
                self._wrong(key, value, "a number")
        return np.array([float(value) for value in values], np.float64)

    def text(self, key: str, default: str | None = None) -> str:
        """A string."""
        value = self.values.get(key, default)
        return value if isinstance(value, str) else self._wrong(key, value, "text")

    def fields(self, key: str) -> Fields:
        """An object; an empty one where it is missing."""
        return Fields(self.source, self.values.get(key, {}), f"{self.where}.{key}".strip("."))

    def extension(self, name: str) -> Fields | None:
        """The extension ``name`` of this object, or None."""
        extensions = self.fields("extensions")
        return extensions.fields(name) if name in extensions else None

    def each(self, key: str) -> list[Any]:
        """A list; an empty one where it is missing."""
        value = self.values.get(key, [])
        return value if isinstance(value, list) else self._wrong(key, value, "a list")

    def wholes(self, key: str) -> list[int]:
        """A list of whole numbers of at least 0; an empty one where it is missing."""
        items = Fields(self.source, {str(i): value for i, value in enumerate(self.each(key))}, f"{self.where}.{key}")
        return [items.whole(str(i)) for i in range(len(items.values))]

    def entry(self, key: str, index: int) -> Fields:
        """The object ``index`` of a list at the top of the file."""
        listed = self.each(key)
        if not 0 <= index < len(listed):
            raise self.source.error(f"is damaged: it refers to {key}[{index}], which does not exist; export it again")
        return Fields(self.source, listed[index], f"{key}[{index}]")
