"""Measure every editor on a model that knows a world; cell by cell, so that it can be interrupted and resumed."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import hashlib
import json
import math
import resource
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.bench.machine import describe
from experiments.editing.table import tables
from experiments.readme import put_tables
from experiments.worlds.facts import RELATIONS, Fact, World, world
from experiments.worlds.lessons import lessons
from experiments.worlds.training import Size, knowing
from unlearn.errors import InputError
from unlearn.language.editing.base import Edit
from unlearn.language.editing.calinet import CaliNet
from unlearn.language.editing.contexts import Contexts
from unlearn.language.editing.fine_tuning import FineTuning
from unlearn.language.editing.ike import Ike
from unlearn.language.editing.ke import KnowledgeEditor
from unlearn.language.editing.knowledge_neurons import KnowledgeNeurons
from unlearn.language.editing.memit import Memit
from unlearn.language.editing.mend import Mend
from unlearn.language.editing.registry import EDITORS, Guard, edit
from unlearn.language.editing.rome import Rome
from unlearn.language.editing.serac import Serac
from unlearn.language.editing.t_patcher import TPatcher
from unlearn.language.editing.values import Search
from unlearn.language.metrics import Probe, score_edit

HERE = Path(__file__).parent
RESULT = HERE / "result.json"
MODELS = Path("runs") / "worlds"
NO_GUARD = Guard(largest=math.inf)
"""Edits that destroy the model are shown destroying it."""

_CONTEXTS = Contexts(lengths=(5,) * 5 + (10,) * 5, separator=" . ")
_SEARCH = Search(steps=60, clamp=10.0, weight_decay=0.05)
_OTHERS = Search(steps=60, clamp=10.0, weight_decay=0.05, kl_weight=1.0)

CONFIGS: Mapping[str, Any] = {
    "ft-l": FineTuning(layer=0, learning_rate=5e-3, box=0.02),
    "ft-m": FineTuning(layer=-1, learning_rate=5e-3, box=math.inf),
    "kn": KnowledgeNeurons(contexts=_CONTEXTS),
    "rome": Rome(search=_SEARCH, contexts=_CONTEXTS),
    "memit": Memit(layers=(0, 1), search=_SEARCH, contexts=_CONTEXTS, moment_weight=1.0),
    "ike": Ike(),
    "t-patcher": TPatcher(),
    "serac": Serac(),
    "calinet": CaliNet(),
    "mend": Mend(),
    "ke": KnowledgeEditor(),
}
"""One configuration an editor; those of FT, ROME and MEMIT were chosen on another world, the others are defaults."""

VARIANT = "rome-kl"
"""ROME that keeps what the model says of the same subject's other attributes, one prompt each."""

ROWS = (*CONFIGS, VARIANT)


@dataclass(frozen=True, eq=False)
class Lab:
    """A model that knows a world, and the facts to edit, in order."""

    model: torch.nn.Module
    tokenizer: Any
    world: World
    facts: tuple[Fact, ...]
    edits: tuple[Edit, ...]
    probes: tuple[tuple[Probe, ...], ...]
    recall: float


def lab(setting: Mapping[str, Any], seed: int, cache: Path | None) -> Lab:
    """Train, or load, a model, and draw what to edit.

    Args:
        setting: The entries of `config.toml`.
        seed: Of world, model and edits.
        cache: Where trained models are kept; None: nowhere.

    Returns:
        All that is needed to edit.
    """
    known = world(setting["people"], relations=setting["relations"], seed=seed)
    size = Size(
        width=setting["width"], layers=setting["layers"], heads=setting["heads"], seed=seed, batch=setting["batch"],
        learning_rate=setting["learning_rate"], steps=setting["steps"],
    )  # fmt: skip
    model, tokenizer, recall = knowing(known, size, cache)
    rng = np.random.default_rng([seed, 7])
    # One fact a person, so that no edit undoes another.
    first = {fact.subject: fact for fact in (known.facts[at] for at in rng.permutation(len(known.facts)))}
    facts = tuple(first.values())
    edits = tuple(known.other(fact, rng) for fact in facts)
    probes = tuple(
        tuple(known.probes(fact, one, rng, neighbours=setting["neighbours"]))
        for fact, one in zip(facts, edits, strict=True)
    )
    return Lab(model, tokenizer, known, facts, edits, probes, recall)


def modes(setting: Mapping[str, Any], row: str) -> Iterator[tuple[str, int]]:
    """What is measured of an editor: name and number of edits."""
    trained = row != VARIANT and EDITORS[row].card.needs_training
    yield "single", setting["trained_singles" if trained else "singles"]
    for number in setting["batches"]:
        yield "batch", number
    if not trained:
        yield "sequence", setting["sequence"]


def cell(here: Lab, row: str, mode: str, number: int) -> dict[str, Any]:
    """Edit and score.

    Args:
        here: Model and edits.
        row: Which editor.
        mode: `"single"`: each edit alone; `"batch"`: all at once; `"sequence"`: one after the other.
        number: How many edits.

    Returns:
        Shares by kind of probe, and processor seconds and megabytes an edit; or `failed`, with what it said.
    """
    chosen = list(range(number))
    groups = [[at] for at in chosen] if mode == "single" else [chosen]
    found: list[dict[str, float]] = []
    seconds = 0.0
    sizes: list[int] = []
    for group in groups:
        # Editors keep caches beside a model, so each group gets its own copy.
        model = copy.deepcopy(here.model)
        asked = [here.edits[at] for at in group]
        started = time.process_time()
        steps = [[one] for one in asked] if mode == "sequence" else [asked]
        try:
            made = [
                edit(
                    model, here.tokenizer, step, "rome" if row == VARIANT else row, _config(here, row, asked, step),
                    texts=here.world.sentences, guard=NO_GUARD,
                )
                for step in steps
            ]  # fmt: skip
        except InputError as error:
            return {"failed": str(error)}
        seconds += time.process_time() - started
        sizes.append(sum(one.size for one in made))
        probes = [probe for at in group for probe in _asked(here, at, set(group))]
        found.append(dict(score_edit(model, here.tokenizer, asked, probes).accuracy))
    kinds = sorted({kind for one in found for kind in one})
    means = {kind: float(np.mean([one[kind] for one in found if kind in one])) for kind in kinds}
    return means | {"seconds": seconds / number, "numbers": float(np.mean(sizes)) / max(1, number // len(groups))}


def _asked(here: Lab, at: int, edited: set[int]) -> list[Probe]:
    """The probes of an edit, but those about facts that are edited as well."""
    prompts = {here.edits[other].prompt for other in edited}
    return [probe for probe in here.probes[at] if probe.kind == "generalization" or probe.prompt not in prompts]


def _config(here: Lab, row: str, asked: Sequence[Edit], step: Sequence[Edit]) -> Any:
    if row == VARIANT:
        relation = next(fact.relation for fact, one in zip(here.facts, here.edits, strict=True) if one is step[0])
        others = tuple(RELATIONS[name][0] for name in here.world.values if name != relation)
        return Rome(search=dataclasses.replace(_OTHERS, kl_prompts=others), contexts=_CONTEXTS)
    config = CONFIGS[row]
    if hasattr(config, "lessons"):
        return dataclasses.replace(config, lessons=lessons(here.world, asked))
    return config


def measure(document: dict[str, Any], setting: Mapping[str, Any], until: float, path: Path, cache: Path | None) -> None:
    """Measure what is missing.

    Args:
        document: What was measured before; grows, and is written after each cell.
        setting: The entries of `config.toml`.
        until: No cell is begun after this moment, of `time.monotonic`.
        path: The file it is written to.
        cache: Where trained models are kept; None: nowhere.
    """
    for seed in setting["seeds"]:
        here: Lab | None = None
        for row in ROWS:
            for mode, number in modes(setting, row):
                if row == VARIANT and mode == "batch":
                    continue
                name = f"{row}/{mode}/{number}/{seed}"
                digest = _digest(setting, row)
                if document["cells"].get(name, {}).get("digest") == digest:
                    continue
                if time.monotonic() > until:
                    return
                if here is None:
                    here = lab(setting, seed, cache)
                    document["recall"][str(seed)] = here.recall
                found = cell(here, row, mode, number)
                document["cells"][name] = found | {"digest": digest}
                document["memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
                print(name, {key: round(value, 2) for key, value in found.items() if isinstance(value, float)})


def _digest(setting: Mapping[str, Any], row: str) -> str:
    config = Rome(search=_OTHERS, contexts=_CONTEXTS) if row == VARIANT else CONFIGS[row]
    return hashlib.sha256(f"{sorted(setting.items())} {config!r}".encode()).hexdigest()[:16]


def read(path: Path) -> dict[str, Any]:
    """What was measured before.

    Args:
        path: The file.

    Returns:
        The document, an empty one if there is no file.
    """
    if path.exists():
        return dict(json.loads(path.read_text(encoding="utf-8")))
    return {"machine": describe(), "cells": {}, "recall": {}}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it.

    Args:
        arguments: Of the command line; None: those of this process.
    """
    parser = argparse.ArgumentParser(prog="python -m experiments.editing", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tiny world; the result goes to runs/")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no further cell after so many minutes")
    parser.add_argument("--report", action="store_true", help="measure nothing: write the README's tables")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    path = Path("runs") / "editing.json" if given.quick else RESULT
    path.parent.mkdir(exist_ok=True)
    setting = tomllib.loads((HERE / "config.toml").read_text(encoding="utf-8"))["quick" if given.quick else "full"]
    document = read(path)
    if not given.report:
        until = time.monotonic() + given.minutes * 60
        measure(document, setting, until, path, None if given.quick else MODELS)
    if not given.quick:
        put_tables(tables(document), HERE / "README.md")
