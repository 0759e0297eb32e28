"""One table of all samples: Parquet, and Arrow's own file format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import reading
from ..tokens.samples import TokenSample
from ..tokens.shards import TokenShards
from .plain import array_of
from .samples import facts_of, sample_of

BLOCK = 1 << 22
"""Numbers of a row group, roughly."""


def parquet(shards: TokenShards, out: Path) -> int:
    """``tokens.parquet``, a row for each sample: ``key``, ``label`` (null for none), ``captions``, ``modality``,
    ``values`` [N, C] or [N, G], ``coords`` [N, 4] = (t, x, y, z), ``header`` and ``times``; returns their number.

    Raises ``ValueError`` for samples of several kinds or widths, and where pyarrow is missing.
    """
    import_arrow()
    from pyarrow import parquet as writer

    tables = _tables(shards, "parquet")
    first = next(tables)
    with writer.ParquetWriter(out / "tokens.parquet", first.schema) as file:
        file.write_table(first)
        for table in tables:
            file.write_table(table)
    return len(shards)


def arrow(shards: TokenShards, out: Path) -> int:
    """``tokens.arrow``: the table of ``parquet`` in Arrow's IPC file format, which can be mapped."""
    pa = import_arrow()
    tables = _tables(shards, "arrow")
    first = next(tables)
    with pa.ipc.new_file(str(out / "tokens.arrow"), first.schema) as file:
        file.write_table(first)
        for table in tables:
            file.write_table(table)
    return len(shards)


def read_table(path: Path) -> Iterator[TokenSample]:
    """The samples of ``tokens.parquet`` or ``tokens.arrow``. Raises ``ReadError`` or ``ValueError``."""
    pa = import_arrow()
    from pyarrow import parquet as reader

    with reading(path):
        file = reader.ParquetFile(path) if path.suffix == ".parquet" else pa.ipc.open_file(pa.memory_map(str(path)))
        groups = file.num_row_groups if path.suffix == ".parquet" else file.num_record_batches
    for group in range(groups):
        with reading(path):
            rows = file.read_row_group(group) if path.suffix == ".parquet" else file.get_batch(group)
            values, coords = (list(_matrices(rows.column(name))) for name in ("values", "coords"))
            facts = [
                {**row, "header": json.loads(row["header"])}
                for row in rows.select(["key", "label", "captions", "header", "times"]).to_pylist()
            ]
        for each, numbers, places in zip(facts, values, coords, strict=True):
            yield sample_of(each, numbers, places)


def import_arrow() -> Any:
    """The module pyarrow. Raises ``ValueError`` where it is missing."""
    try:
        import pyarrow
        import pyarrow.ipc
    except ImportError:
        raise ValueError("tables need pyarrow: pip install 'atoken[datasets]'") from None
    return pyarrow


def _tables(shards: TokenShards, what: str) -> Iterator[Any]:
    """Parts of the table."""
    pa = import_arrow()
    like: tuple[np.dtype, int] | None = None
    rows: list[tuple[dict[str, Any], np.ndarray, np.ndarray, str]] = []
    waiting = 0
    for number in range(len(shards)):
        sample = shards[number]
        values = array_of(sample.tokens.values)
        found = (values.dtype, values.shape[1])
        if like not in (None, found):
            raise ValueError(
                f"{what} holds values of one kind, and sample {sample.key[:200]} has {found[0]} of width {found[1]}"
            )
        like = found
        rows.append((facts_of(sample), values, sample.tokens.coords.numpy(), sample.tokens.modality))
        waiting += values.size
        if waiting >= BLOCK or number == len(shards) - 1:
            yield _table(pa, rows)
            rows, waiting = [], 0


def _table(pa: Any, rows: list[tuple[dict[str, Any], np.ndarray, np.ndarray, str]]) -> Any:
    facts, values, coords, modalities = zip(*rows, strict=True)
    return pa.table(
        {
            "key": pa.array([each["key"] for each in facts], pa.string()),
            "label": pa.array([each["label"] for each in facts], pa.int64()),
            "captions": pa.array([each["captions"] for each in facts], pa.list_(pa.string())),
            "modality": pa.array(modalities, pa.string()),
            "values": _column(pa, values),
            "coords": _column(pa, coords),
            "header": pa.array([json.dumps(each["header"]) for each in facts], pa.string()),
            "times": pa.array([each["times"] for each in facts], pa.list_(pa.float64())),
        }
    )


def _column(pa: Any, parts: tuple[np.ndarray, ...]) -> Any:
    """Matrices [N, C] of several N as lists of lists of C numbers."""
    flat = np.concatenate(parts)
    inner = pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), flat.shape[1])
    starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(starts), inner)


def _matrices(column: Any) -> Iterator[np.ndarray]:
    chunks = column.chunks if hasattr(column, "chunks") else [column]
    for chunk in chunks:
        for place in range(len(chunk)):
            rows = chunk[place].values  # FixedSizeListArray
            yield rows.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), -1).copy()
