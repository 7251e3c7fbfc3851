"""`python -m experiments.audit_calibration.run`: measure, print a table, write `result.json`. See README.md."""

from __future__ import annotations

import json
import time
import tomllib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from experiments import readme
from experiments.audit_calibration.coverage import measure_many_runs, measure_one_run, measure_power
from experiments.audit_calibration.null import measure_null
from experiments.audit_calibration.rates import Rate


def read_setting() -> dict[str, Any]:
    """The entries of `config.toml`."""
    with Path(__file__).with_name("config.toml").open("rb") as file:
        return tomllib.load(file)


def measure(setting: Mapping[str, Any]) -> list[Rate]:
    """All rates; equal settings give equal rates."""
    alpha, delta = setting["alpha"], setting["delta"]
    draws = [np.random.default_rng([setting["seed"], i]) for i in range(4)]
    return [
        *measure_null(setting["null"], alpha, delta, draws[0]),
        *measure_many_runs(setting["coverage"], alpha, delta, draws[1]),
        *measure_one_run(setting["coverage"], alpha, delta, draws[2]),
        *measure_power(setting["coverage"], alpha, delta, draws[3]),
    ]


def run(setting: Mapping[str, Any], output: Path) -> None:
    """Measure, print and write.

    Args:
        setting: What, and how often.
        output: The JSON file to write.
    """
    started = time.monotonic()
    rates = measure(setting)
    console = Console(width=160)
    console.print(_table(rates, setting["alpha"]))
    document = {
        "command": "python -m experiments.audit_calibration.run",
        "seconds": round(time.monotonic() - started, 1),
        "setting": setting,
        "rates": [asdict(one) for one in rates],
    }
    output.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    console.print(f"written to {output}")


def _table(rates: list[Rate], alpha: float) -> Table:
    table = Table("", "mechanism", "rule", "too high", "95 %", "median bound", "epsilon", "")
    for one in rates:
        table.add_row(
            one.group,
            one.setting,
            one.rule,
            f"{one.rate:.4f}",
            f"{one.low:.4f} to {one.high:.4f}",
            "" if one.median is None else f"{one.median:.3f}",
            f"{one.truth:.3f}",
            "" if one.within else f"above {alpha:g}",
        )
    return table


if __name__ == "__main__":
    run(read_setting(), Path(__file__).with_name("result.json"))
    readme.write("audit_calibration")
