"""`python -m experiments.bench_ray [--quick]`: measure, print a table, write a file."""

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
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table
from sklearn.linear_model import SGDClassifier

from experiments.bench.bare import ROOT
from experiments.bench.machine import describe
from experiments.bench_ledger.figures import Figure
from experiments.bench_ray.trainings import Training, time_training
from shards.executors.local import LocalExecutor
from shards.executors.ray import RayExecutor
from shards.learners.sklearn import SklearnLearner
from shards.learners.torch import TorchLearner

CONFIG = Path(__file__).with_name("config.toml")
OVERHEAD_MS = 30.0
SPEEDUP = 1.7

ALONE = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    # Else Ray listens on the machine's own address.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
"""A Ray that nobody else sees; it has to be said before Ray is loaded."""


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m experiments.bench_ray", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fraction of the work; the file goes to runs/")
    parser.add_argument("--output", type=Path, help="where to write the figures instead")
    given = parser.parse_args()
    usual = ROOT / "runs" / "bench_ray_quick.json" if given.quick else Path(__file__).with_name("result.json")
    run(read_setting(quick=given.quick), given.output or usual)


def read_setting(*, quick: bool) -> dict[str, Any]:
    """What is measured, and how much.

    Args:
        quick: A fraction.

    Returns:
        The entries of `config.toml`.
    """
    with CONFIG.open("rb") as file:
        config = tomllib.load(file)
    full, changes = config["full"], config["quick"] if quick else {}
    return {
        name: value | changes.get(name, {}) if isinstance(value, dict) else changes.get(name, value)
        for name, value in full.items()
    }


def run(setting: dict[str, Any], output: Path) -> None:
    """Measure, print and write.

    Args:
        setting: What, and how much.
        output: The JSON file to write.
    """
    os.environ.update(ALONE)
    os.environ.pop("RAY_ADDRESS", None)
    console = Console(width=None if sys.stdout.isatty() else 140)
    started, load = time.monotonic(), os.getloadavg()

    def say(line: str) -> None:
        console.print(f"[dim]{time.monotonic() - started:6.1f} s[/dim]  {line}", highlight=False)

    with tempfile.TemporaryDirectory(prefix="bench-ray-") as folder:
        figures = measure(setting, Path(folder), say)
    console.print(_table(figures))
    machine = describe()
    document = {
        "command": shlex.join(["python", "-m", "experiments.bench_ray", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - started, 1),
        "load_before": load,
        "load_after": os.getloadavg(),
        "machine": machine | {"versions": machine["versions"] | {"ray": version("ray")}},
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
        folder: An empty folder.
        say: Told what is under way.

    Returns:
        The figures.
    """
    repeats = setting["repeats"]
    say("starting Ray")
    both = {"local": LocalExecutor(), "ray": RayExecutor()}
    figures = _overhead(setting["overhead"], both, repeats, folder, say)
    figures += _workers(setting["workers"], repeats, folder, say)
    for shards in setting["growth"]["shards"]:
        figures += _growth(shards, setting["growth"], both, folder, say)
    return figures


def _overhead(
    wanted: dict[str, Any],
    both: dict[str, LocalExecutor | RayExecutor],
    repeats: int,
    folder: Path,
    say: Callable[[str], None],
) -> list[Figure]:
    shards, slices = wanted["shards"], wanted["slices"]
    say(f"{shards} shards of {slices} tiny steps")
    learner = SklearnLearner(SGDClassifier(loss="log_loss"))
    timing = time_training(Training(learner, shards, slices, wanted["records"]), both, repeats, folder)
    pairs = zip(timing.samples["ray"], timing.samples["local"], strict=True)
    each = [1e3 * (ray - local) / shards for ray, local in pairs]
    what = f"{shards} shards of {slices} tiny steps"
    return [
        Figure("overhead.local", what, timing.seconds("local"), "s", samples=timing.samples["local"]),
        Figure("overhead.ray", f"{what}, on Ray", timing.seconds("ray"), "s", samples=timing.samples["ray"]),
        Figure(
            "overhead.task", "what Ray adds to a task (a shard)", median(each), "ms", at_most=OVERHEAD_MS, samples=each
        ),
    ]


def _workers(wanted: dict[str, Any], repeats: int, folder: Path, say: Callable[[str], None]) -> list[Figure]:
    say(f"{wanted['shards']} long steps by one worker and by two")
    learner = TorchLearner("mlp", {"hidden": [256, 256]}, epochs=wanted["epochs"], batch_size=32)
    executors = {
        "local.1": LocalExecutor(1),
        "local.2": LocalExecutor(2),
        "ray.1": RayExecutor(in_flight=1),
        "ray.2": RayExecutor(in_flight=2),
    }
    timing = time_training(Training(learner, wanted["shards"], 1, wanted["records"]), executors, repeats, folder)
    figures = [
        Figure(
            f"workers.{name}",
            f"{wanted['shards']} long steps, {name[-1]} worker{'s' * (name[-1] == '2')}",
            timing.seconds(name),
            "s",
            samples=seconds,
        )
        for name, seconds in timing.samples.items()
    ]
    for place, goal in (("local", None), ("ray", SPEEDUP)):
        gains = timing.ratios(f"{place}.1", f"{place}.2")
        what = f"one worker over two, {'on Ray' if place == 'ray' else 'here'}"
        figures.append(Figure(f"workers.{place}.gain", what, median(gains), "x", at_least=goal, samples=gains))
    return figures


def _growth(
    shards: int,
    wanted: dict[str, Any],
    both: dict[str, LocalExecutor | RayExecutor],
    folder: Path,
    say: Callable[[str], None],
) -> list[Figure]:
    say(f"the same work in {shards:,} shards")
    learner = SklearnLearner(SGDClassifier(loss="log_loss"), epochs=wanted["epochs"])
    timing = time_training(Training(learner, shards, 1, wanted["records"]), both, wanted["repeats"], folder)
    what = f"{wanted['records']:,} records in {shards:,} shards"
    figures = [
        Figure(f"growth.{shards}.{name}", f"{what}, {name}", timing.seconds(name), "s", samples=seconds)
        for name, seconds in timing.samples.items()
    ]
    ratios = timing.ratios("ray", "local")
    return [*figures, Figure(f"growth.{shards}.ratio", "Ray over local", median(ratios), "x", samples=ratios)]


def _table(figures: list[Figure]) -> Table:
    table = Table("figure", "what", title="Ray beside the local executor", row_styles=["", "dim"])
    for column in ("value", "goal"):
        table.add_column(column, justify="right")
    table.add_column("")
    for figure in figures:
        mark = {None: "", True: "[green]reached[/green]", False: "[red]missed[/red]"}[figure.passed]
        bounds = ((">=", figure.at_least), ("<=", figure.at_most))
        goal = " ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)
        table.add_row(figure.name, figure.what, f"{figure.value:.3g} {figure.unit}", goal, mark)
    return table
