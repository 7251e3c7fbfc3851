"""`python -m experiments.bench_ledger [--quick] [--ledger URL]`: measure, print a table, write a file."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table
from sklearn.linear_model import SGDClassifier

from experiments.bench.bare import ROOT
from experiments.bench.machine import describe, durable_write, seconds
from experiments.bench_ledger.clients import rate
from experiments.bench_ledger.figures import Figure
from experiments.bench_ledger.log import measure_log, measure_verification
from experiments.bench_ledger.subjects import measure_subjects
from unlearn import Workspace

CONFIG = Path(__file__).with_name("config.toml")


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m experiments.bench_ledger", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fraction of the load; the file goes to runs/")
    parser.add_argument("--ledger", help="URL of a PostgreSQL database; measures submissions alone")
    parser.add_argument("--output", type=Path, help="where to write the figures instead")
    given = parser.parse_args()
    usual = Path(__file__).with_name("result.json")
    if given.quick or given.ledger:
        usual = ROOT / "runs" / f"bench_ledger{'_quick' * given.quick}{'_postgresql' * bool(given.ledger)}.json"
    run(read_setting(quick=given.quick), given.output or usual, ROOT / "runs", given.ledger)


def read_setting(*, quick: bool) -> dict[str, Any]:
    """What is measured, and how much.

    Args:
        quick: A fraction.

    Returns:
        The entries of `config.toml`.
    """
    with CONFIG.open("rb") as file:
        config = tomllib.load(file)
    return config["full"] | (config["quick"] if quick else {})


def run(setting: dict[str, Any], output: Path, where: Path, ledger: str | None = None) -> None:
    """Measure, print and write.

    Args:
        setting: What, and how much.
        output: The JSON file to write.
        where: A folder on the disk to be measured; a folder in it is made, and removed.
        ledger: URL of a PostgreSQL database, or None for SQLite.
    """
    console = Console(width=None if sys.stdout.isatty() else 140)
    started, load = time.monotonic(), os.getloadavg()

    def say(line: str) -> None:
        console.print(f"[dim]{time.monotonic() - started:6.1f} s[/dim]  {line}", highlight=False)

    where.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-ledger-", dir=where) as folder:
        figures = measure(setting, Path(folder), say, ledger)
    console.print(_table(figures))
    document = {
        "command": shlex.join(["python", "-m", "experiments.bench_ledger", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - started, 1),
        "load_before": load,
        "load_after": os.getloadavg(),
        "machine": describe(),
        "setting": setting,
        "figures": [figure.to_json() for figure in figures],
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    console.print(f"written to {output}")
    # For whoever reads the end alone. No failure: how fast a machine is, is not for the program to judge.
    for figure in figures:
        if figure.passed is False:
            console.print(f"missed: {figure.name}", highlight=False)


def measure(
    setting: dict[str, Any], folder: Path, say: Callable[[str], None], ledger: str | None = None
) -> list[Figure]:
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


def _table(figures: list[Figure]) -> Table:
    table = Table("figure", "what", title="load on the ledger", row_styles=["", "dim"])
    for column in ("value", "goal"):
        table.add_column(column, justify="right")
    table.add_column("")
    for figure in figures:
        mark = {None: "", True: "[green]reached[/green]", False: "[red]missed[/red]"}[figure.passed]
        bounds = ((">=", figure.at_least), ("<=", figure.at_most))
        goal = " ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)
        value = f"{figure.value:,.0f}" if figure.value >= 1000 else f"{figure.value:.3g}"
        table.add_row(figure.name, figure.what, f"{value} {figure.unit}", goal, mark)
    return table
