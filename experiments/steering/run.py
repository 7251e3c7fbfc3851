"""Steer a base model by the difference of two small ones, for six purposes; cell by cell, so that it can be resumed.

The helpers are one small model before and after tuning. Beside every steered model stands the same base model tuned
directly, in the same way, with its weights: `gap closed` is how much of what that gains steering gains as well.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from experiments.bench.machine import describe
from experiments.readme import put_tables
from experiments.steering.adaptations import ADAPTATIONS, adapted
from experiments.steering.cost import cost
from experiments.steering.people import forgetting, learning
from experiments.steering.plot import draw
from experiments.steering.table import tables

HERE = Path(__file__).parent
RESULT = HERE / "result.json"


def read_setting(*, quick: bool) -> dict[str, Any]:
    """What is measured.

    Args:
        quick: A fraction.

    Returns:
        The entries of `config.toml`.
    """
    settings = tomllib.loads((HERE / "config.toml").read_text(encoding="utf-8"))
    return _over(settings["full"], settings["quick"] if quick else {})


def cells(setting: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is to be measured: the name of each cell, and all that decides it."""
    for size, decides in setting["cost"].items():
        yield f"cost/{size}", decides
    for seed in setting["seeds"]:
        for name in ("forgetting", "learning", *ADAPTATIONS):
            part = setting[name if name in ADAPTATIONS else "people"]
            yield f"{name}/{seed}", {"setting": part, "alphas": setting["alphas"], "seed": seed}


def measured(cell: str, decides: Mapping[str, Any]) -> dict[str, Any]:
    """Measure a cell.

    Args:
        cell: Its name.
        decides: As `cells` has it.

    Returns:
        What was found.
    """
    name, _, _ = cell.partition("/")
    if name == "cost":
        return cost(decides)
    if name in ADAPTATIONS:
        return adapted(name, **decides)
    return {"forgetting": forgetting, "learning": learning}[name](**decides)


def measure(document: dict[str, Any], setting: Mapping[str, Any], until: float, path: Path) -> None:
    """Measure what is missing.

    Args:
        document: What was measured before; grows, and is written after each cell.
        setting: The entries of `config.toml`.
        until: No cell is begun after this moment, of `time.monotonic`.
        path: The file it is written to.
    """
    for cell, decides in cells(setting):
        digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]
        if document["cells"].get(cell, {}).get("digest") == digest:
            continue
        if time.monotonic() > until:
            return
        started = time.process_time()
        found = _rounded(measured(cell, decides))
        document["cells"][cell] = found | {"digest": digest, "seconds": round(time.process_time() - started, 1)}
        document["processor_seconds"] = round(sum(one["seconds"] for one in document["cells"].values()), 1)
        path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        print(f"{cell}: {document['cells'][cell]['seconds']} s", flush=True)


def read(path: Path) -> dict[str, Any]:
    """What was measured before.

    Args:
        path: The file.

    Returns:
        The document, an empty one if there is no file.
    """
    if path.exists():
        return dict(json.loads(path.read_text(encoding="utf-8")))
    return {"machine": describe(), "cells": {}}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it.

    Args:
        arguments: Of the command line; None: those of this process.
    """
    parser = argparse.ArgumentParser(prog="python -m experiments.steering", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny worlds; the result goes to runs/")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no further cell after so many minutes")
    parser.add_argument("--report", action="store_true", help="measure nothing: write the README's tables, and draw")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    path = Path("runs") / "steering.json" if given.quick else RESULT
    path.parent.mkdir(exist_ok=True)
    if not given.report:
        setting = read_setting(quick=given.quick)
        measure(read(path) | {"setting": setting}, setting, time.monotonic() + given.minutes * 60, path)
    if not given.quick and path.exists():
        put_tables(tables(read(path)), HERE / "README.md")
        draw(path)


def _over(full: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _over(value, changes.get(name, {})) if isinstance(value, dict) else changes.get(name, value)
        for name, value in full.items()
    }


def _rounded(value: Any) -> Any:
    """The same with six digits, so that the file stays small."""
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    return float(f"{value:.6g}") if isinstance(value, float) else value
