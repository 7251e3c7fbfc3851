"""Unlearn authors of TOFU from a small model with every loss, and look whether they stay forgotten.

Every method has the same budget: passes over the forget set are given, and one learning rate is chosen out of the same
few, on the first seed. What is measured is measured again after relearning and after rounding, and always against a
model that was trained without the authors, and then treated the same.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from experiments.bench.machine import describe
from experiments.readme import put_tables
from experiments.tofu.measuring import TREATMENTS, Lab, distance, measured, quick, treated
from experiments.tofu.methods import ADAPTERS, METHODS, way
from experiments.tofu.rows import Questions, pairs, questions
from experiments.tofu.table import tables
from experiments.tofu.training import taught
from experiments.worlds.subwords import subwords_of
from experiments.worlds.training import Size
from unlearn.errors import InputError

HERE = Path(__file__).parent
RESULT = HERE / "result.json"
DATA = Path(os.environ.get("UNLEARN_DATA", Path(__file__).parents[3] / "shared" / "data")) / "tofu"
"""TOFU's files (github.com/locuslab/tofu)."""

MODELS = Path("runs") / "tofu"
REFERENCE, ANOTHER, BEFORE = "retrained", "retrained again", "original"
"""Rows without a method: what all are judged against, the same from other initial weights, the model before."""


def lab(setting: Mapping[str, Any], seed: int, rows: Questions, cache: Path | None) -> Lab:
    """Train, or find, the models of a seed.

    Args:
        setting: The entries of `config.toml`.
        seed: Of weights and order; the retrained model has another.
        rows: All questions.
        cache: Folder in which trained models are kept; None: nowhere.

    Returns:
        Models and questions.
    """
    tokenizer = subwords_of(rows.texts, setting["vocabulary"])
    original = taught(tokenizer, pairs((*rows.forget, *rows.kept)), _size(setting, seed), cache)
    return Lab(tokenizer, rows, original, retrained(setting, seed, rows, tokenizer, cache))


def retrained(
    setting: Mapping[str, Any], seed: int, rows: Questions, tokenizer: Any, cache: Path | None
) -> torch.nn.Module:
    """A model that was never taught the authors to forget.

    Args:
        setting: The entries of `config.toml`.
        seed: Of weights and order, other ones than of the original with this seed.
        rows: All questions.
        tokenizer: Of all models.
        cache: Folder in which trained models are kept; None: nowhere.

    Returns:
        It.
    """
    return taught(tokenizer, pairs(rows.kept), _size(setting, seed + 100), cache)


def chosen(here: Lab, name: str, setting: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Choose a method's learning rate: forgotten like the retrained model, and nothing else lost.

    Args:
        here: Models and questions.
        name: A method.
        setting: The entries of `config.toml`.
        seed: Of the method.

    Returns:
        The rate with the largest (1 - distance of truth ratios) x mean probability of retained answers, and what was
        found for each.
    """
    reference, _ = quick(here.retrained, here, setting)
    tried = {}
    for rate in setting["rates"]:
        try:
            found, kept = quick(_unlearnt(here, name, setting, rate, seed), here, setting)
        except InputError as error:
            tried[str(rate)] = {"failed": str(error), "score": -1.0}
            continue
        apart = distance(found, reference)
        tried[str(rate)] = {"distance": apart, "retain": kept, "score": (1 - apart) * kept}
    return {"rate": max(setting["rates"], key=lambda rate: tried[str(rate)]["score"]), "tried": tried}


def measure(document: dict[str, Any], setting: Mapping[str, Any], until: float, path: Path, cache: Path | None) -> None:
    """Measure what is missing.

    Args:
        document: What was measured before; grows, and is written after each cell.
        setting: The entries of `config.toml`.
        until: No cell is begun after this moment, of `time.monotonic`.
        path: The file it is written to.
        cache: Where trained models are kept; None: nowhere.
    """
    rows = questions(DATA, setting)
    for seed in setting["seeds"]:
        here: Lab | None = None
        for name, treatment in _order(setting, seed):
            cell = f"{name}/{treatment}/{seed}"
            digest = _digest(setting, name)
            if document["cells"].get(cell, {}).get("digest") == digest:
                continue
            if time.monotonic() > until:
                return
            here = here or lab(setting, seed, rows, cache)
            started = time.process_time()
            found = _found(here, name, treatment, setting, seed, document, cache)
            spent = {"digest": digest, "seconds": time.process_time() - started}
            document["cells"][cell] = found | spent
            path.write_text(json.dumps(_rounded(document), indent=1, sort_keys=True) + "\n", encoding="utf-8")
            print(cell, {key: round(value, 3) for key, value in found.items() if isinstance(value, float)}, flush=True)


def _order(setting: Mapping[str, Any], seed: int) -> list[tuple[str, str]]:
    """What to measure, in order: all as it is, each method tuned before, on the first seed; then the audits."""
    tuning = seed == setting["seeds"][0]
    first, *audits = TREATMENTS
    names = (REFERENCE, BEFORE, *METHODS, ANOTHER)
    found = []
    for name in names:
        found += [(name, "tuning"), (name, first)] if tuning and name in METHODS else [(name, first)]
    return found + [(name, treatment) for name in names for treatment in audits]


def _found(
    here: Lab,
    name: str,
    treatment: str,
    setting: Mapping[str, Any],
    seed: int,
    document: Mapping[str, Any],
    cache: Path | None,
) -> dict[str, Any]:
    if treatment == "tuning":
        return chosen(here, name, setting, seed)
    if name not in here.made:
        here.made[name] = _made(here, name, setting, seed, document, cache)
    return measured(treated(here.made[name], here, treatment, setting), here, setting)


def _made(
    here: Lab, name: str, setting: Mapping[str, Any], seed: int, document: Mapping[str, Any], cache: Path | None
) -> torch.nn.Module:
    """The model of a row, before any audit."""
    if name == REFERENCE:
        return here.retrained
    if name == BEFORE:
        return here.original
    if name == ANOTHER:
        following = setting["seeds"][(setting["seeds"].index(seed) + 1) % len(setting["seeds"])]
        return retrained(setting, following + 1000 * (following == seed), here.rows, here.tokenizer, cache)
    rate = document["cells"][f"{name}/tuning/{setting['seeds'][0]}"]["rate"]
    return _unlearnt(here, name, setting, rate, seed)


def _unlearnt(here: Lab, name: str, setting: Mapping[str, Any], rate: float, seed: int) -> torch.nn.Module:
    run = way(name, setting, rate, seed)
    return run(here.original, here.tokenizer, pairs(here.rows.forget), pairs(here.rows.retain))


def _size(setting: Mapping[str, Any], seed: int) -> Size:
    return Size(
        width=setting["width"], layers=setting["layers"], learning_rate=setting["learning_rate"],
        steps=setting["steps"], batch=setting["batch"], seed=seed,
    )  # fmt: skip


def _digest(setting: Mapping[str, Any], name: str) -> str:
    of_methods = {"rates", "epochs", "unlearning_batch", "keep_weight", "reinforcement"}
    aside = {"seeds"} if name in METHODS else {"seeds", *of_methods}
    decides = {key: value for key, value in setting.items() if key not in aside}
    return hashlib.sha256(
        f"{sorted(decides.items())} {METHODS.get(name)!r}{ADAPTERS.get(name, '')}".encode()
    ).hexdigest()[:16]


def _rounded(value: Any) -> Any:
    """The same with six digits, so that the file stays small."""
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


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
    parser = argparse.ArgumentParser(prog="python -m experiments.tofu", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tiny model; the result goes to runs/")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no further cell after so many minutes")
    parser.add_argument("--report", action="store_true", help="measure nothing: write the README's tables")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    path = Path("runs") / "tofu.json" if given.quick else RESULT
    path.parent.mkdir(exist_ok=True)
    setting = tomllib.loads((HERE / "config.toml").read_text(encoding="utf-8"))["quick" if given.quick else "full"]
    if not given.report:
        until = time.monotonic() + given.minutes * 60
        measure(read(path) | {"setting": setting}, setting, until, path, None if given.quick else MODELS)
    if not given.quick and path.exists():
        put_tables(tables(read(path)), HERE / "README.md")
