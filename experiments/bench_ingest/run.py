"""`python -m experiments.bench_ingest [--quick]`: measure, print a table, write a file."""

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
from typing import Any

from rich.console import Console
from rich.table import Table
from sklearn.linear_model import SGDClassifier

from experiments.bench.bare import ROOT
from experiments.bench.machine import describe, python, seconds
from experiments.bench_ingest import data
from experiments.bench_ledger.figures import Figure
from unlearn import Workspace

CONFIG = Path(__file__).with_name("config.toml")


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m experiments.bench_ingest", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fraction of the data; the file goes to runs/")
    parser.add_argument("--output", type=Path, help="where to write the figures instead")
    given = parser.parse_args()
    usual = ROOT / "runs" / "bench_ingest_quick.json" if given.quick else Path(__file__).with_name("result.json")
    run(read_setting(quick=given.quick), given.output or usual, ROOT / "runs")


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


def run(setting: dict[str, Any], output: Path, where: Path) -> None:
    """Measure, print and write.

    Args:
        setting: What, and how much.
        output: The JSON file to write.
        where: A folder on the disk to be measured; a folder in it is made, and removed.
    """
    console = Console(width=None if sys.stdout.isatty() else 140)
    started, load = time.monotonic(), os.getloadavg()

    def say(line: str) -> None:
        console.print(f"[dim]{time.monotonic() - started:6.1f} s[/dim]  {line}", highlight=False)

    where.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-ingest-", dir=where) as folder:
        figures = measure(setting, Path(folder), say)
    console.print(_table(figures))
    document = {
        "command": shlex.join(["python", "-m", "experiments.bench_ingest", *sys.argv[1:]]),
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


def measure(setting: dict[str, Any], folder: Path, say: Callable[[str], None]) -> list[Figure]:
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


def _table(figures: list[Figure]) -> Table:
    table = Table("figure", "what", title="more than fits in memory", row_styles=["", "dim"])
    for column in ("value", "goal"):
        table.add_column(column, justify="right")
    table.add_column("")
    for figure in figures:
        mark = {None: "", True: "[green]reached[/green]", False: "[red]missed[/red]"}[figure.passed]
        goal = "" if figure.at_most is None else f"<= {figure.at_most:g}"
        value = f"{figure.value:,.0f}" if figure.value >= 1000 else f"{figure.value:.3g}"
        table.add_row(figure.name, figure.what, f"{value} {figure.unit}", goal, mark)
    return table
