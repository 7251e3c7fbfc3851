"""Does MEMIT hold many edits here? How its update is spread, for states that are searched once a last layer.

python -m experiments.editing.spread [--size N] [--minutes N]
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from experiments.editing.run import CONFIGS, HERE, MODELS, Lab, asked_after, lab
from experiments.editing.table import SPREAD
from unlearn.language.editing.base import Task
from unlearn.language.editing.memit import Memit, spread, wished_states
from unlearn.language.metrics import accuracies


def settings(grid: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every combination, those with the same last layer together.

    Args:
        grid: `[spread]` of `config.toml`.

    Returns:
        `layers`, `moment_weight`, `ridge` and `texts` of each.
    """
    names = ("layers", "texts", "ridge", "moment_weight")
    found = [dict(zip(names, values, strict=True)) for values in itertools.product(*(grid[name] for name in names))]
    return sorted(found, key=lambda one: one["layers"][-1])


def measure(document: dict[str, Any], here: Lab, size: str, grid: Mapping[str, Any], until: float, path: Path) -> None:
    """Measure what is missing.

    Args:
        document: Name of a setting to shares; grows, and is written after each.
        here: Model and edits.
        size: Name of the model.
        grid: `[spread]` of `config.toml`.
        until: Nothing is begun after this moment, of `time.monotonic`.
        path: The file it is written to.
    """
    edits = here.edits[: grid["edits"]]
    probes = [probe for probe in asked_after(here, range(len(edits))) if not probe.needs]
    config: Memit = CONFIGS["memit"]
    wished: dict[int, torch.Tensor] = {}
    for one in settings(grid):
        name = json.dumps({"size": size, "edits": len(edits), **one}, sort_keys=True)
        if name in document or one["layers"][-1] >= here.blocks - 1:
            continue
        if time.monotonic() > until:
            return
        changed = replace(
            config, layers=tuple(one["layers"]), ridge=one["ridge"], moment_weight=float(one["moment_weight"])
        )
        task = Task(here.model, here.tokenizer, edits, here.texts[: one["texts"]])
        last = changed.layers[-1]
        if last not in wished:
            # With all texts, whatever the second moment is to see.
            wished[last] = wished_states(replace(task, texts=here.texts), changed)
        with spread(task, changed, wished[last]):
            document[name] = accuracies(here.model, here.tokenizer, edits, probes)
        path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        print(name, {kind: round(share, 2) for kind, share in document[name].items()}, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it.

    Args:
        arguments: Of the command line; None: those of this process.
    """
    parser = argparse.ArgumentParser(prog="python -m experiments.editing.spread", description=__doc__)
    parser.add_argument("--size", type=int, default=0, help="which of the sizes of config.toml, from 0")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin nothing further after so many minutes")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    until = time.monotonic() + given.minutes * 60
    configuration = tomllib.loads((HERE / "config.toml").read_text(encoding="utf-8"))
    size = configuration["full"]["sizes"][given.size]
    document = json.loads(SPREAD.read_text(encoding="utf-8")) if SPREAD.exists() else {}
    here = lab(configuration["full"], size, 0, MODELS)
    measure(document, here, size["name"], configuration["spread"], until, SPREAD)


if __name__ == "__main__":
    main()
