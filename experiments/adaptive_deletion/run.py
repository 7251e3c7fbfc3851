"""`python -m experiments.adaptive_deletion.run`: measure, print a table, write `result.json`. See README.md."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from experiments import readme
from experiments.adaptive_deletion.accuracy import Cost, measure_accuracy
from experiments.adaptive_deletion.answers import measure_answers
from experiments.adaptive_deletion.copycat import measure_copycat
from experiments.adaptive_deletion.digits import read_digits
from experiments.adaptive_deletion.figures import Figure
from experiments.adaptive_deletion.setting import Setting, read_setting
from experiments.adaptive_deletion.states import measure_states
from experiments.adaptive_deletion.twins import measure_twins


def measure(setting: Setting) -> tuple[list[Figure], list[Cost]]:
    """All figures; equal settings give equal figures."""
    draws = [np.random.default_rng([setting.seed, i]) for i in range(6)]
    digits, n_shards = read_digits(setting.digits, draws[0]), setting.digits.n_shards
    figures = [
        *measure_twins(setting.twins, draws[1]),
        *measure_states(setting.states, digits, n_shards, draws[2]),
        *measure_answers(setting.votes, digits, n_shards, draws[3]),
        *measure_copycat(setting.copycat, draws[4]),
    ]
    return figures, measure_accuracy(setting.accuracy, digits, draws[5])


def run(setting: Setting, output: Path) -> None:
    """Measure, print and write.

    Args:
        setting: What, and how often.
        output: The JSON file to write.
    """
    started = time.monotonic()
    figures, costs = measure(setting)
    console = Console(width=160)
    console.print(_figures(figures), _costs(costs))
    document = {
        "command": "python -m experiments.adaptive_deletion.run",
        "seconds": round(time.monotonic() - started, 1),
        "setting": asdict(setting),
        "figures": [asdict(one) for one in figures],
        "accuracy": [asdict(one) for one in costs],
    }
    output.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    console.print(f"written to {output}")


def _figures(figures: list[Figure]) -> Table:
    table = Table("figure", "setting", "indicator", "95 %", "at most", "more")
    for one in figures:
        given, more = (", ".join(f"{name} {_short(v)}" for name, v in part.items()) for part in (one.setting, one.more))
        interval = f"{one.low:.3f} to {one.high:.3f}"
        table.add_row(one.name, given, f"{one.indicator:.3f}", interval, _short(one.bound), more)
    return table


def _costs(costs: list[Cost]) -> Table:
    table = Table("shards", "sigma", "test accuracy", "epsilon", "epsilon, as if afresh")
    for one in costs:
        numbers = (one.n_shards, one.sigma, one.test_accuracy, one.epsilon, one.epsilon_afresh)
        table.add_row(*(_short(number) for number in numbers))
    return table


def _short(value: float | str | None) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:.4g}"


if __name__ == "__main__":
    run(read_setting(), Path(__file__).with_name("result.json"))
    readme.write("adaptive_deletion")
