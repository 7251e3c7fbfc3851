"""Parquet files larger than memory should be asked to hold, made and copied in parts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet


def make(folder: Path, setting: Mapping[str, Any]) -> int:
    """Write rows of random values, which no compression makes smaller.

    Args:
        folder: Where to; is made.
        setting: `rows`, `width`, `files`, `group`, `people` as in `config.toml`.

    Returns:
        Bytes of the files.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    ends = np.linspace(0, setting["rows"], setting["files"] + 1).astype(int).tolist()
    for number, (first, last) in enumerate(pairwise(ends)):
        writer = None
        for start in range(first, last, setting["group"]):
            rows = np.arange(start, min(start + setting["group"], last))
            table = _table(rng, rows, setting["width"], setting["people"])
            writer = writer or parquet.ParquetWriter(
                folder / f"part-{number:03d}.parquet", table.schema, use_dictionary=False, compression="none"
            )
            writer.write_table(table)
        if writer is not None:
            writer.close()
    pa.default_memory_pool().release_unused()
    return sum(path.stat().st_size for path in folder.iterdir())


def _table(rng: np.random.Generator, rows: np.ndarray, width: int, people: int) -> pa.Table:
    values = rng.standard_normal((len(rows), width), dtype=np.float32)
    return pa.table(
        {
            "id": [f"record-{row:08d}" for row in rows],
            "person": [f"person-{row:06d}" for row in rng.integers(0, people, len(rows))],
            "image": pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), width),
            "label": (values[:, 0] > 0).astype(np.int64),
        }
    )


def copy(source: Path, target: Path) -> None:
    """Read and write the same bytes again, through to the disk: what no ingest is faster than.

    Args:
        source: A folder of files.
        target: Where to; is made.
    """
    target.mkdir()
    for path in sorted(source.iterdir()):
        with path.open("rb") as given, (target / path.name).open("xb") as taken:
            while block := given.read(1 << 24):
                taken.write(block)
            taken.flush()
            os.fsync(taken.fileno())


def decode(source: Path) -> int:
    """Read the same rows as Arrow and do nothing with them.

    Args:
        source: A folder of files.

    Returns:
        How many rows there are.
    """
    rows = 0
    for path in sorted(source.iterdir()):
        with parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            rows += sum(len(batch) for batch in file.iter_batches(10_000, use_threads=False))
    return rows
