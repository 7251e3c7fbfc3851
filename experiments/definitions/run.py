"""Differential privacy and the definitions of unlearning: measure, print a table, write `result.json`."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from experiments import readme
from experiments.bench.machine import describe
from experiments.definitions.claimed import claimed_and_measured
from experiments.definitions.converse import converse
from experiments.definitions.implies import learner_runs, noisy
from experiments.definitions.rows import Row

FOLDER = Path(__file__).parent


def read_setting(*, quick: bool) -> dict[str, Any]:
    """What is measured, and how much.

    Args:
        quick: A fraction.

    Returns:
        The entries of `config.toml`.
    """
    with (FOLDER / "config.toml").open("rb") as file:
        config = tomllib.load(file)
    changes = config["quick"] if quick else {}
    return {
        name: value | changes.get(name, {}) if isinstance(value, dict) else value
        for name, value in config["full"].items()
    }


def measure(setting: Mapping[str, Any]) -> Iterator[Row]:
    """All lines; all but those of the learner, whose noise is secret, are the same each time.

    Args:
        setting: What, and how much.

    Yields:
        A line as soon as it is measured.
    """
    alpha, sgd = setting["alpha"], setting["sgd"]
    draws = [np.random.default_rng([setting["seed"], part]) for part in range(4)]
    yield from noisy(setting["noisy"], alpha, draws[0])
    yield from learner_runs(setting["learner"], sgd, alpha, draws[1])
    yield from converse(setting["converse"], setting["noisy"], sgd, alpha, draws[2])
    yield from claimed_and_measured(setting["claimed"], sgd, alpha, draws[3])


def run(setting: Mapping[str, Any], output: Path) -> None:
    """Measure, print and write.

    Args:
        setting: What, and how much.
        output: The JSON file to write.
    """
    console, started, work = Console(width=150), time.monotonic(), time.process_time()
    rows = []
    for row in measure(setting):
        rows.append(row)
        console.print(
            f"[dim]{time.monotonic() - started:6.1f} s[/dim]  {row.model}, {row.claim}: {row.verdict}", highlight=False
        )
    console.print(table(rows))
    document = {
        "command": shlex.join(["python", "-m", "experiments.definitions", *sys.argv[1:]]),
        "seconds": round(time.monotonic() - started, 1),
        "processor_seconds": round(time.process_time() - work, 1),
        "load_after": os.getloadavg(),
        "machine": describe(),
        "setting": setting,
        "rows": [row.to_json() for row in rows],
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    console.print(f"written to {output}")


def table(rows: list[Row]) -> Table:
    """The lines as a table."""
    made = Table(
        "", "model", "claim", "k", "claimed", "measured at least", "if Gaussian", "could refute up to", "verdict"
    )
    for row in rows:
        test = row.p_value is not None
        made.add_row(
            row.part,
            row.model,
            row.claim,
            str(row.k),
            "none" if row.verdict == "no claim" else f"{row.claimed:.3g}",
            f"p = {row.p_value:.3g}" if test else f"{row.bound:.3g}",
            "" if row.gaussian is None else f"{row.gaussian:.3g}",
            "" if test else f"{row.certifiable:.3g}",
            row.verdict,
        )
    return made


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m experiments.definitions", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fraction of the work; the file goes to runs/")
    parser.add_argument("--output", type=Path, help="where to write the result instead")
    given = parser.parse_args()
    usual = FOLDER.parents[1] / "runs" / "definitions_quick.json" if given.quick else FOLDER / "result.json"
    run(read_setting(quick=given.quick), given.output or usual)
    if not given.quick and given.output is None:
        readme.write("definitions")
