"""`python -m experiments.bench_ingest.driver WORKSPACE DATA WORKERS`: one ingest, in a process of its own.

Memory is measured from inside, once everything is imported and once the batch is in, so that neither the making of
the data nor the libraries count. Says what it found as one JSON document.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from experiments.bench.machine import memory_after, peak, worker_peaks
from shards.executors.local import LocalExecutor
from unlearn import Workspace


def main(path: Path, source: Path, workers: int) -> None:
    """Ingest, and say what it took."""
    import pyarrow.parquet  # noqa: F401 - a library, and no data
    import safetensors.numpy  # noqa: F401 - likewise
    import skops.io  # noqa: F401 - likewise; the learner's own check wants it, and it brings torch
    import sqlalchemy.dialects.sqlite  # noqa: F401 - likewise

    workspace = Workspace.open(path, executor=LocalExecutor(workers))
    libraries = psutil.Process().memory_info().rss
    started = time.perf_counter()
    workspace.ingest_parquet(source, target="label", subject="person", record_id="id", progress=False)
    took = time.perf_counter() - started
    print(
        json.dumps(
            {
                "seconds": took,
                "driver": peak(psutil.Process()) - libraries,
                "driver_libraries": libraries,
                "workers": worker_peaks(),
                "worker_libraries": _idle(),
                "records": workspace.status().records,
                "staged": len(list(path.glob("shards/*/staging/*"))),
            }
        )
    )
    workspace.close()


def _idle() -> int:
    """Memory of a process that imported all that a worker needs for it, and did nothing yet."""
    return memory_after("import shards.executors.worker, shards.spread, safetensors.numpy, pyarrow.parquet")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
