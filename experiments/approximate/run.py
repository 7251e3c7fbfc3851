"""`python -m experiments.approximate`: cell by cell; what was measured before is kept, and what is missing measured."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments import readme
from experiments.approximate import ulira
from experiments.approximate.cases import Case, read
from experiments.approximate.lab import Lab, options, timed
from experiments.approximate.plot import draw
from experiments.approximate.tuning import Values, configuration, trials
from experiments.bench.bare import ROOT
from experiments.bench.machine import describe
from unlearn.errors import ConfigurationError, InputError
from unlearn.methods import METHODS
from unlearn.methods.base import Examples

HERE = Path(__file__).parent
PARTS = ("table", "successive", "ulira")
REFERENCES = ("original", "retrain", "retrain_again")
"""Rows of the table that are no methods: untouched, retrained, and retrained under another seed."""

Cell = dict[str, Any]
Say = Callable[[str], None]


def read_setting(*, quick: bool) -> dict[str, Any]:
    """The entries of `config.toml`, those of `[quick]` laid over them if asked for."""
    with (HERE / "config.toml").open("rb") as file:
        config = tomllib.load(file)
    return _over(config["full"], config["quick"] if quick else {})


def _over(full: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _over(value, changes.get(name, {})) if isinstance(value, dict) else changes.get(name, value)
        for name, value in full.items()
    }


class Results:
    """The cells that were measured, in a file that is always whole.

    Args:
        file: The JSON file; cells in it that were measured under the same settings count.
        setting: The entries of `config.toml`.
    """

    def __init__(self, file: Path, setting: Mapping[str, Any]) -> None:
        self._file, self._setting = file, setting
        old = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        self._cells: dict[str, Cell] = old.get("cells", {})
        self._cpu: float = old.get("processor_seconds", 0.0)

    def get(self, name: str, settings: Mapping[str, Any], measure: Callable[[], Cell]) -> tuple[Cell, bool]:
        """A cell, measured if it is not there.

        Args:
            name: Of the cell.
            settings: All that decides it, but for the code.
            measure: Measures it.

        Returns:
            The cell, and whether it was measured now.
        """
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
        if self._cells.get(name, {}).get("settings") == digest:
            return self._cells[name], False
        started = time.process_time()
        self._cells[name] = {"settings": digest} | measure()
        self._cpu += time.process_time() - started
        self._write()
        return self._cells[name], True

    def _write(self) -> None:
        document = {
            "command": shlex.join(["python", "-m", "experiments.approximate", *sys.argv[1:]]),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "processor_seconds": round(self._cpu, 1),
            "load": os.getloadavg(),
            "machine": describe(),
            "setting": self._setting,
            "cells": self._cells,
        }
        self._file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._file.with_suffix(".partial")
        unfinished.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        unfinished.replace(self._file)


class Labs:
    """Labs by data and seed; the models of one stay in memory until another data set's turn.

    Args:
        setting: The entries of `config.toml`.
    """

    def __init__(self, setting: Mapping[str, Any]) -> None:
        self._setting = setting
        self._data = ""
        self._case: Case | None = None
        self._labs: dict[int, Lab] = {}

    def case(self, data: str) -> Case:
        """The data."""
        if self._case is None or data != self._data:
            self._data, self._case, self._labs = data, read(self._setting["data"][data]), {}
        return self._case

    def lab(self, data: str, seed: int) -> Lab:
        """One seed of it; the forget set of tuning is that of no other."""
        case = self.case(data)
        if seed not in self._labs:
            block = -1 if seed == self._setting["tuning_seed"] else self._setting["seeds"].index(seed)
            self._labs[seed] = Lab(case, seed, case.forgotten(block), self._setting["attacked"])
        return self._labs[seed]


def tune(method: str, lab: Lab, setting: Mapping[str, Any]) -> Cell:
    """Try all configurations of a method.

    Args:
        method: Its name.
        lab: That of tuning.
        setting: The entries of `config.toml`.

    Returns:
        What was tried, and `chosen`, the values with the least average gap; None where every one failed.
    """
    tried = []
    extra = options(method, lab)
    for values in trials(method, setting):
        figures = apply(method, values, lab, setting["fixed"], extra)
        tried.append({"values": values} | figures)
    whole = [one for one in tried if "failed" not in one]
    best = min(whole, key=lambda one: one["gap"]) if whole else None
    return {"tried": tried, "chosen": None if best is None else best["values"]}


def apply(method: str, values: Values, lab: Lab, fixed: Values, extra: Mapping[str, Any]) -> Cell:
    """Unlearn once and judge.

    Args:
        method: Its name.
        values: Its configuration.
        lab: The model and what to forget of it.
        fixed: Of all configurations.
        extra: Further arguments of the method.

    Returns:
        The figures, or `failed` with what the method said.
    """
    # Models, sets and modules are made when first asked for: before the clock starts.
    given = (lab.original, lab.forget, lab.retain, configuration(method, values, fixed, lab.seed))
    unlearn = METHODS[method]
    try:
        model, seconds = timed(lambda: unlearn(*given, **extra))
        return dict(lab.judge(model, seconds))
    except (ConfigurationError, InputError) as error:  # nothing finite is left, or a model the method cannot take
        return {"failed": str(error)}


def reference(row: str, lab: Lab) -> Cell:
    """Judge a model that no method made.

    Args:
        row: One of `REFERENCES`.
        lab: The models.

    Returns:
        The figures; the original takes no time.
    """
    made = {
        "original": lambda: (lab.original, 0.0),
        "retrain": lambda: lab.retrained,
        "retrain_again": lambda: lab.retrained_again,
    }[row]()
    return dict(lab.judge(*made))


def measure_table(results: Results, setting: Mapping[str, Any], labs: Labs, data: Sequence[str]) -> Iterator[str]:
    """Measure all cells of the table.

    Args:
        results: Where they go.
        setting: The entries of `config.toml`.
        labs: The models.
        data: For these data sets.

    Yields:
        The name of each cell that was measured now.
    """
    for name in data:
        yield from _measure_data(name, results, setting, labs)


def _measure_data(data: str, results: Results, setting: Mapping[str, Any], labs: Labs) -> Iterator[str]:
    about = {"data": setting["data"][data], "attacked": setting["attacked"]}

    def cell(row: str, seed: int, settings: Mapping[str, Any], measure: Callable[[Lab], Cell]) -> Iterator[str]:
        name = f"{data}.{row}.{seed}"
        if results.get(name, settings, lambda: measure(labs.lab(data, seed)))[1]:
            yield name

    for row in REFERENCES:
        for seed in setting["seeds"]:
            yield from cell(row, seed, about, partial(reference, row))
    for method in setting["spaces"]:
        chosen, new = tuned(method, data, results, setting, labs)
        if new:
            yield f"{data}.{method}.tuning"
        if chosen is not None:
            once = partial(unlearn_once, method, chosen, setting["fixed"])
            for seed in setting["seeds"]:
                yield from cell(method, seed, about | {"values": chosen, "fixed": setting["fixed"]}, once)


def unlearn_once(method: str, values: Values, fixed: Values, lab: Lab) -> Cell:
    """Make what the method needs, unlearn and judge."""
    return apply(method, values, lab, fixed, options(method, lab))


def tuned(
    method: str, data: str, results: Results, setting: Mapping[str, Any], labs: Labs
) -> tuple[Values | None, bool]:
    """The configuration that was chosen for a method, and whether it was chosen now."""
    names = ("tuning_seed", "trials", "attacked", "fixed")
    about = {name: setting[name] for name in names}
    about |= {"data": setting["data"][data], "space": setting["spaces"][method]}
    name = f"{data}.{method}.tuning"
    cell, new = results.get(name, about, lambda: tune(method, labs.lab(data, setting["tuning_seed"]), setting))
    return cell["chosen"], new


def measure_successive(results: Results, setting: Mapping[str, Any], labs: Labs) -> Iterator[str]:
    """Measure the curves of successive requests.

    Args:
        results: Where they go.
        setting: The entries of `config.toml`.
        labs: The models.

    Yields:
        The name of each cell that was measured now.
    """
    how = setting["successive"]
    data = how["data"]
    case = labs.case(data)
    order = case.in_order()
    base = Lab(case, how["seed"], np.isin(case.subject, order[: how["each"]]), setting["attacked"])
    stages = {
        n: Lab(case, how["seed"], np.isin(case.subject, order[: n * how["each"]]), setting["attacked"], base)
        for n in how["judged_after"]
    }
    about = {"successive": how, "data": setting["data"][data], "attacked": setting["attacked"]}
    for row in ("original", "retrain_again"):
        if results.get(f"successive.{row}", about, partial(known, row, stages))[1]:
            yield f"successive.{row}"
    for method in setting["spaces"]:
        chosen, new = tuned(method, data, results, setting, labs)
        if new:
            yield f"{data}.{method}.tuning"
        if chosen is None:
            continue
        one_by_one = partial(successive, method, chosen, stages, order, setting)
        if results.get(f"successive.{method}", about | {"values": chosen, "fixed": setting["fixed"]}, one_by_one)[1]:
            yield f"successive.{method}"


def known(row: str, stages: Mapping[int, Lab]) -> Cell:
    """The same points of a model that no method made."""
    return {"points": {str(n): reference(row, lab) for n, lab in stages.items()}}


def successive(
    method: str, values: Values, stages: Mapping[int, Lab], order: np.ndarray, setting: Mapping[str, Any]
) -> Cell:
    """Forget request after request, each from the model that the one before left.

    Args:
        method: Its name.
        values: Its configuration.
        stages: Number of requests to the lab of all that is forgotten until then.
        order: Subjects in the order of their requests.
        setting: The entries of `config.toml`.

    Returns:
        `points`: figures after so many requests; `failed` with what the method said, where it stopped.
    """
    how = setting["successive"]
    last = stages[max(stages)]
    case, model, spent = last.case, last.original, 0.0
    extra = options(method, last)
    points: dict[str, dict[str, float]] = {}
    for n in range(1, how["requests"] + 1):
        gone = np.isin(case.subject, order[: n * how["each"]])
        now = np.isin(case.subject, order[(n - 1) * how["each"] : n * how["each"]])
        forget, retain = _rows(case, now), _rows(case, ~gone)
        config = configuration(method, values, setting["fixed"], how["seed"] + n)
        try:
            model, seconds = timed(
                lambda start=model, forget=forget, retain=retain, config=config: METHODS[method](
                    start, forget, retain, config, **extra
                )
            )
            spent += seconds
            if n in stages:
                points[str(n)] = stages[n].judge(model, spent)
        except (ConfigurationError, InputError) as error:
            return {"points": points, "failed": f"request {n}: {error}"}
    return {"points": points}


def measure_ulira(results: Results, setting: Mapping[str, Any], labs: Labs) -> Iterator[str]:
    """Attack every method by U-LiRA, under the configuration of the table.

    Args:
        results: Where figures go.
        setting: The entries of `config.toml`.
        labs: The models of tuning.

    Yields:
        The name of each cell that was measured now.
    """
    how = setting["ulira"]
    data = setting["data"][how["data"]]
    pool = read(data | {"records": how["pool"]})
    block = labs.case(how["data"]).forgotten(0)
    forgotten = np.zeros(len(pool.train), dtype=np.bool_)
    forgotten[: len(block)] = block  # the pool begins with the records of the table
    population = ulira.Population(pool, forgotten, len(block) - int(block.sum()), how)
    about = {"ulira": how, "data": data}
    for row in ulira.REFERENCES:
        if results.get(f"ulira.{row}", about, partial(ulira.measure, row, population, {}, {}))[1]:
            yield f"ulira.{row}"
    for method in setting["spaces"]:
        chosen, new = tuned(method, how["data"], results, setting, labs)
        if new:
            yield f"{how['data']}.{method}.tuning"
        if chosen is None:
            continue
        attack = partial(ulira.measure, method, population, chosen, setting["fixed"])
        if results.get(f"ulira.{method}", about | {"values": chosen, "fixed": setting["fixed"]}, attack)[1]:
            yield f"ulira.{method}"


def _rows(case: Case, chosen: np.ndarray) -> Examples:
    return case.train.take(torch.from_numpy(np.flatnonzero(chosen)))


def run(
    results: Results,
    setting: Mapping[str, Any],
    parts: tuple[str, ...],
    say: Say,
    *,
    data: Sequence[str],
    minutes: float | None = None,
) -> bool:
    """Measure what is missing.

    Args:
        results: Where cells go.
        setting: The entries of `config.toml`.
        parts: Of `PARTS`.
        say: Told of each cell.
        data: Of the table, these data sets.
        minutes: Begin no further cell after so many; None: measure all.

    Returns:
        Whether all is there.
    """
    torch.set_num_threads(1)
    started, labs = time.monotonic(), Labs(setting)
    measures = {
        "table": partial(measure_table, data=data),
        "successive": measure_successive,
        "ulira": measure_ulira,
    }
    for part in parts:
        for cell in measures[part](results, setting, labs):
            say(f"{time.monotonic() - started:7.1f} s  {cell}")
            if minutes is not None and time.monotonic() - started > 60 * minutes:
                return False
    return True


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m experiments.approximate", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fraction of the work; the file goes to runs/")
    parser.add_argument("--part", choices=PARTS, help="one part only")
    parser.add_argument("--data", nargs="+", metavar="NAME", help="of the table, these data sets only")
    parser.add_argument("--minutes", type=float, help="begin no further cell after so many")
    parser.add_argument(
        "--report", action="store_true", help="measure nothing: write tables and picture of what is there"
    )
    parser.add_argument("--output", type=Path, help="where to write the figures instead")
    given = parser.parse_args()
    usual = ROOT / "runs" / "approximate_quick.json" if given.quick else HERE / "result.json"
    output = given.output or usual
    if not given.report:
        setting = read_setting(quick=given.quick)
        parts = PARTS if given.part is None else (given.part,)
        data = given.data or list(setting["data"])
        unknown = set(data) - set(setting["data"])
        if unknown:
            parser.error(f"no data called {', '.join(sorted(unknown))}: there are {', '.join(setting['data'])}")
        results = Results(output, setting)
        done = run(results, setting, parts, partial(print, flush=True), data=data, minutes=given.minutes)
        print(f"{'all is' if done else 'not all is'} measured; figures are in {output}")
    if output == HERE / "result.json":
        readme.write("approximate")
    print(f"drawn in {draw(output)}")
