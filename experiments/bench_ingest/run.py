"""`python -m experiments.bench_ingest [--quick]`: what it costs to take in more than fits in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sklearn.linear_model import SGDClassifier

from experiments.bench.machine import python, seconds
from experiments.bench_ingest import data
from experiments.benchmark import Benchmark, Figure, Say
from unlearn import Workspace


def measure(setting: Mapping[str, Any], folder: Path, say: Say) -> list[Figure]:
    """Measure everything.

    Args:
        setting: What, and how much.
        folder: An empty folder on the disk to be measured.
        say: Told what is under way.

    Returns:
        The figures.
    """
    source = folder / "data"
    say(f"{setting['rows']:,} rows are made")
    size = data.make(source, setting)
    say(f"{size:,} bytes are copied, and decoded")
    copied = seconds(lambda: data.copy(source, folder / "copy"))
    for path in (folder / "copy").iterdir():
        path.unlink()
    decoded = seconds(lambda: data.decode(source))
    path = folder / "workspace"
    layout = {"n_shards": setting["shards"], "n_slices": setting["slices"], "classes": [0, 1]}
    Workspace.create(path, SGDClassifier(loss="log_loss"), **layout).close()
    say("they are ingested")
    arguments = (str(path), str(source), str(setting["workers"]))
    found = json.loads(python("-m", "experiments.bench_ingest.driver", *arguments).splitlines()[-1])
    assert found["records"] == setting["rows"], "records were lost"
    assert not found["staged"], "something is left of the work"
    stored = sum(file.stat().st_size for file in path.glob("shards/*/records/*"))
    limit = setting["at_most_bytes"] / 1e6
    worker = max(found["workers"]) - found["worker_libraries"]
    return [
        Figure("data", "Parquet files", size / 1e6, "MB"),
        Figure("copy", "the same bytes read and written again, synced", copied, "s"),
        Figure("decode", "the same rows read from Parquet, in one process, and nothing done with them", decoded, "s"),
        Figure("ingest", f"ingested by {setting['workers']} workers", found["seconds"], "s"),
        Figure("ingest.rate", "of it", size / 1e6 / found["seconds"], "MB/s"),
        Figure("stored", "record files of the workspace", stored / 1e6, "MB"),
        Figure("driver", "peak memory above the libraries", found["driver"] / 1e6, "MB", at_most=limit),
        Figure("worker", "the same, of the worker that needs most", worker / 1e6, "MB", at_most=limit),
        Figure("driver.libraries", "memory once all is imported", found["driver_libraries"] / 1e6, "MB"),
        Figure("worker.libraries", "the same of a worker", found["worker_libraries"] / 1e6, "MB"),
    ]


BENCHMARK = Benchmark("bench_ingest", "more than fits in memory", measure)
