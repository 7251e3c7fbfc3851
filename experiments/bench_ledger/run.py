"""`python -m experiments.bench_ledger [--quick] [--ledger URL]`: how fast a ledger takes requests, and how it grows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from sklearn.linear_model import SGDClassifier

from experiments.bench.bare import ROOT
from experiments.bench.machine import durable_write, seconds
from experiments.bench_ledger.clients import rate
from experiments.bench_ledger.log import measure_log, measure_verification
from experiments.bench_ledger.subjects import measure_subjects
from experiments.benchmark import Benchmark, Figure, Say
from unlearn import Workspace


def measure(setting: Mapping[str, Any], folder: Path, say: Say, ledger: str | None = None) -> list[Figure]:
    """Measure everything.

    Args:
        setting: What, and how much.
        folder: An empty folder on the disk to be measured.
        say: Told what is under way.
        ledger: URL of a PostgreSQL database, or None for SQLite.

    Returns:
        The figures.
    """
    writes = [1e3 * seconds(lambda number=number: durable_write(folder / f"write-{number}")) for number in range(100)]
    figures = [Figure("disk.write", "a new file of 4 KiB, synced, median", median(writes), "ms")]
    for processes, threads in setting["clients"]:
        say(f"{processes} processes of {threads} clients submit")
        rates = []
        for repeat in range(setting["repeats"]):
            path = folder / f"submit-{processes}-{threads}-{repeat}"
            workspace = Workspace.create(
                path, SGDClassifier(loss="log_loss"), n_shards=2, classes=[0, 1], ledger=ledger
            )
            rates.append(rate(workspace, processes, threads, setting["requests"]))
            workspace.close()
        what = f"{processes} processes of {threads} clients, {setting['requests']} requests of each, all there once"
        figures.append(
            Figure(f"submit.{processes}x{threads}", what, median(rates), "requests/s", at_least=1000, samples=rates)
        )
    if ledger is not None:
        return figures
    figures += measure_subjects(folder, setting["subjects"], say)
    figures += measure_log(folder, setting["events"], setting["appends"], setting["proofs"], say)
    return figures + measure_verification(folder, setting["verified"], say)


BENCHMARK = Benchmark("bench_ledger", "load on the ledger", measure)


def main() -> None:
    """Parse the command line and run."""
    parser = BENCHMARK.parser()
    parser.add_argument("--ledger", help="URL of a PostgreSQL database; measures submissions alone")
    given = parser.parse_args()
    if not given.ledger:
        BENCHMARK.main()
        return
    output = given.output or ROOT / "runs" / f"bench_ledger{'_quick' * given.quick}_postgresql.json"
    there = replace(BENCHMARK, measure=partial(measure, ledger=given.ledger))
    there.run(there.setting(quick=given.quick), output)
