"""`python -m experiments.bench [--quick]`: measure, print a table, write a file."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from experiments import readme
from experiments.bench import history
from experiments.bench.bare import ROOT
from experiments.bench.figures import Figure
from experiments.bench.machine import describe
from experiments.bench.run import measure
from experiments.bench.workload import Setting, read_setting


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m experiments.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the data; the file goes to runs/")
    parser.add_argument("--output", type=Path, help="where to write the figures instead")
    given = parser.parse_args()
    usual = ROOT / "runs/bench_quick.json" if given.quick else Path(__file__).with_name("result.json")
    document = run(read_setting(quick=given.quick), given.output or usual, ROOT / "runs")
    if not given.quick:
        history.append("bench", document)
        if given.output is None:
            readme.write("bench")


def run(setting: Setting, output: Path, where: Path) -> dict[str, Any]:
    """Measure, print and write.

    Args:
        setting: What, and how often.
        output: The JSON file to write.
        where: A folder on the disk to be measured; a folder in it is made, and removed.

    Returns:
        What was written.
    """
    console = Console(width=None if sys.stdout.isatty() else 140)
    started, load = time.monotonic(), os.getloadavg()

    def say(line: str) -> None:
        console.print(f"[dim]{time.monotonic() - started:6.1f} s[/dim]  {line}", highlight=False)

    where.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=where) as folder:
        result = measure(setting, Path(folder), say)
    console.print(_table(result.figures))
    document = {
        "command": shlex.join(["python", "-m", "experiments.bench", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - started, 1),
        "load_before": load,
        "load_after": os.getloadavg(),
        "machine": describe(),
        "environment": result.environment,
        "setting": asdict(setting),
        "figures": [figure.to_json() for figure in result.figures],
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    console.print(f"written to {output}")
    return document


def _table(figures: list[Figure]) -> Table:
    table = Table("figure", "what", title="benchmark", row_styles=["", "dim"])
    for column in ("value", "goal", "ours", "baseline"):
        table.add_column(column, justify="right")
    table.add_column("")
    for figure in figures:
        mark = {None: "", True: "[green]reached[/green]", False: "[red]missed[/red]"}[figure.passed]
        numbers = (figure.value, figure.goal, figure.ours, figure.baseline)
        table.add_row(figure.name, figure.what, *(_short(number) for number in numbers), mark)
    return table


def _short(number: float | None) -> str:
    return "" if number is None else f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"


if __name__ == "__main__":
    main()
