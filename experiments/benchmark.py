"""What benchmarks share: a measured figure with the bound it should keep, the table, and the file they write."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from experiments import readme
from experiments.bench import history
from experiments.bench.bare import ROOT
from experiments.bench.machine import describe

Say = Callable[[str], None]
"""Told what is under way, a line at a time."""


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        name: Short name, unique.
        what: What was measured, in words.
        value: The figure.
        unit: Of the figure.
        at_least: A lower bound, or None.
        at_most: An upper bound, or None.
        samples: What the figure is the median of.
    """

    name: str
    what: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    samples: Sequence[float] = ()

    @property
    def passed(self) -> bool | None:
        """Whether it keeps its bound; None without one."""
        if self.at_least is None and self.at_most is None:
            return None
        return (self.at_least is None or self.value >= self.at_least) and (
            self.at_most is None or self.value <= self.at_most
        )

    def to_json(self) -> dict[str, Any]:
        """The figure as JSON."""
        return {**asdict(self), "passed": self.passed}


@dataclass(frozen=True)
class Benchmark:
    """One benchmark, run as `python -m experiments.NAME [--quick] [--output FILE]`.

    Attributes:
        name: Name of its package; `config.toml` and `result.json` lie there.
        title: Of its table.
        measure: Makes the figures from a setting, in an empty folder.
        where: A folder on the disk to be measured, in which that folder is made; None: any.
        versions: Of further libraries that matter, by name.
    """

    name: str
    title: str
    measure: Callable[[Mapping[str, Any], Path, Say], list[Figure]]
    where: Path | None = ROOT / "runs"
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where its configuration and its result lie."""
        return Path(__file__).with_name(self.name)

    def parser(self) -> argparse.ArgumentParser:
        """Of the options that every benchmark has."""
        parser = argparse.ArgumentParser(
            prog=f"python -m experiments.{self.name}", description="Measure, print a table, write a file."
        )
        parser.add_argument("--quick", action="store_true", help="a fraction of the work; the file goes to runs/")
        parser.add_argument("--output", type=Path, help="where to write the figures instead")
        return parser

    def main(self) -> None:
        """Parse the command line and run."""
        given = self.parser().parse_args()
        self.run(self.setting(quick=given.quick), given.output or self.usual_output(quick=given.quick))

    def usual_output(self, *, quick: bool) -> Path:
        """The file that the figures are written to where no other is given."""
        return ROOT / "runs" / f"{self.name}_quick.json" if quick else self.folder / "result.json"

    def setting(self, *, quick: bool) -> dict[str, Any]:
        """What is measured, and how much.

        Args:
            quick: A fraction.

        Returns:
            The entries of `config.toml`.
        """
        with (self.folder / "config.toml").open("rb") as file:
            config = tomllib.load(file)
        full, changes = config["full"], config["quick"] if quick else {}
        return {
            name: value | changes.get(name, {}) if isinstance(value, dict) else changes.get(name, value)
            for name, value in full.items()
        }

    def run(self, setting: Mapping[str, Any], output: Path) -> None:
        """Measure, print and write.

        Args:
            setting: What, and how much.
            output: The JSON file to write.
        """
        console = Console(width=None if sys.stdout.isatty() else 140)
        started, load = time.monotonic(), os.getloadavg()

        def say(line: str) -> None:
            console.print(f"[dim]{time.monotonic() - started:6.1f} s[/dim]  {line}", highlight=False)

        if self.where is not None:
            self.where.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{self.name.replace('_', '-')}-", dir=self.where) as folder:
            figures = self.measure(setting, Path(folder), say)
        console.print(self._table(figures))
        machine = describe()
        document = {
            "command": shlex.join(["python", "-m", f"experiments.{self.name}", *sys.argv[1:]]),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - started, 1),
            "load_before": load,
            "load_after": os.getloadavg(),
            "machine": machine | {"versions": machine["versions"] | self.versions},
            "setting": setting,
            "figures": [figure.to_json() for figure in figures],
        }
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        if output == self.usual_output(quick=False):
            history.append(self.name, document)
            readme.write(self.name)
        console.print(f"written to {output}")
        # For whoever reads the end alone. No failure: how fast a machine is, is not for the program to judge.
        for figure in figures:
            if figure.passed is False:
                console.print(f"missed: {figure.name}", highlight=False)

    def _table(self, figures: Sequence[Figure]) -> Table:
        table = Table("figure", "what", title=self.title, row_styles=["", "dim"])
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
