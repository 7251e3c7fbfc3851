"""Measure every editor on a model that knows a world; cell by cell, so that it can be interrupted and resumed."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import hashlib
import json
import math
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.bench.machine import describe
from experiments.editing.table import SPREAD, spread_table, tables
from experiments.readme import put_tables
from experiments.worlds.consequences import linked
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
from unlearn.language.editing.registry import EDITORS, Guard, edit, prepared
from unlearn.language.editing.rome import Rome
from unlearn.language.editing.serac import Serac
from unlearn.language.editing.t_patcher import TPatcher
from unlearn.language.editing.values import Search
from unlearn.language.metrics import Probe, accuracies, meaningful

HERE = Path(__file__).parent
RESULT = HERE / "result.json"
MODELS = Path("runs") / "worlds"
_WATCHED = 32
"""Sentences on which perplexity is measured, with no limit: edits that destroy the model are shown destroying it."""

_CONTEXTS = Contexts(lengths=(5,) * 5 + (10,) * 5, separator=" . ")
_SEARCH = Search(steps=60, clamp=10.0, weight_decay=0.05)
_RIDGE = 0.1
_OTHERS = Search(steps=60, clamp=10.0, weight_decay=0.05, kl_weight=1.0)

CONFIGS: Mapping[str, Any] = {
    "ft-l": FineTuning(layer=0, learning_rate=5e-3, box=0.02),
    "ft-m": FineTuning(layer=-1, learning_rate=5e-3, box=math.inf),
    "kn": KnowledgeNeurons(contexts=_CONTEXTS),
    "rome": Rome(search=_SEARCH, contexts=_CONTEXTS, ridge=_RIDGE),
    "memit": Memit(layers=(0, 1), search=_SEARCH, contexts=_CONTEXTS, moment_weight=1.0),
    "ike": Ike(number=8, fact="{} . ", use="{} . ", query=""),
    "t-patcher": TPatcher(),
    "serac": Serac(),
    "calinet": CaliNet(),
    "mend": Mend(),
    "ke": KnowledgeEditor(),
}
"""One configuration an editor; those of FT, ROME and MEMIT were chosen on another world, the others are defaults."""

VARIANT = "rome-kl"
"""ROME that keeps what the model says of the same subject's other attributes, one prompt each."""

ROWS = (
    "ft-l", "ft-m", "memit", "rome", VARIANT, "t-patcher", "ike", "calinet", "serac", "mend", "ke", "kn",
)  # fmt: skip
"""Editors in the order in which they are measured: the quick ones first."""


@dataclass(frozen=True, eq=False)
class Lab:
    """A model that knows a world, and the facts to edit, in order.

    Attributes:
        model: Unedited.
        tokenizer: Its tokenizer.
        world: What it knows.
        texts: A sample of its sentences.
        facts: Those to edit, one a person.
        edits: What they are to become.
        probes: What is asked after each edit; of consequences those alone that mean something to this model.
        possible: Kind of consequence to how many the edits have, one number for each edit.
        recall: Share of all that was told that the model knows.
    """

    model: torch.nn.Module
    tokenizer: Any
    world: World
    texts: tuple[str, ...]
    facts: tuple[Fact, ...]
    edits: tuple[Edit, ...]
    probes: tuple[tuple[Probe, ...], ...]
    possible: tuple[Mapping[str, int], ...]
    recall: float


def lab(setting: Mapping[str, Any], size: Mapping[str, Any], seed: int, cache: Path | None) -> Lab:
    """Train, or load, a model, and draw what to edit.

    Args:
        setting: The entries of `config.toml`.
        size: One of its sizes.
        seed: Of world, model and edits.
        cache: Where trained models are kept; None: nowhere.

    Returns:
        All that is needed to edit.
    """
    everything = linked(world(setting["people"], names="unique", relations=setting["relations"], seed=seed), seed=seed)
    known = everything.world
    model, tokenizer, recall = knowing(
        known,
        Size(
            kind=size["kind"], width=size["width"], layers=size["layers"], heads=size["heads"], seed=seed,
            batch=setting["batch"], learning_rate=size["learning_rate"], steps=setting["steps"],
        ),
        cache,
    )  # fmt: skip
    rng = np.random.default_rng([seed, 7])
    # One fact a person, so that no edit undoes another.
    first = {fact.subject: fact for fact in (known.facts[at] for at in rng.permutation(len(known.facts)))}
    facts = tuple(first.values())
    edits = tuple(known.other(fact, rng) for fact in facts)
    probes, possible = [], []
    for fact, one in zip(facts, edits, strict=True):
        found = everything.consequences(fact, one)
        possible.append(Counter(probe.kind for probe in found))
        asked = known.probes(fact, one, rng, neighbours=setting["neighbours"])
        probes.append((*asked, *meaningful(model, tokenizer, found)))
    sentences = known.sentences
    texts = tuple(sentences[at] for at in rng.permutation(len(sentences))[: setting["texts"]])
    return Lab(model, tokenizer, known, texts, facts, edits, tuple(probes), tuple(possible), recall)


def modes(setting: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """What is measured of every editor: name and number of edits, what tells most first."""
    yield "single", setting["singles"]
    for number in setting["batches"]:
        yield "batch", number
    yield "sequence", setting["sequence"]


def taught(here: Lab, row: str, setting: Mapping[str, Any]) -> tuple[Any, float]:
    """The configuration of an editor, with lessons about what is never edited and all that is learnt from them.

    Args:
        here: Model and edits.
        row: Which editor.
        setting: The entries of `config.toml`.

    Returns:
        It, and the processor seconds its training took.
    """
    config = CONFIGS[row]
    if not hasattr(config, "lessons"):
        return config, 0.0
    edits = here.edits[: max(setting["singles"], *setting["batches"], setting["sequence"])]
    config = dataclasses.replace(config, lessons=lessons(here.world, edits, each=setting["lessons"]))
    if EDITORS[row].prepare is None:
        return config, 0.0
    started = time.process_time()
    config = prepared(here.model, here.tokenizer, row, config, edits=edits)
    return config, time.process_time() - started


def cell(here: Lab, row: str, config: Any, mode: str, number: int) -> dict[str, Any]:
    """Edit and score.

    Args:
        here: Model and edits.
        row: Which editor.
        config: Its configuration, trained; None for the variant, which has another for each edit.
        mode: `"single"`: each edit alone; `"batch"`: all at once; `"sequence"`: one after the other.
        number: How many edits.

    Returns:
        Shares by kind of probe, how many consequences were asked of how many there are, and processor seconds and
        numbers an edit; or `failed`, with what it said.
    """
    chosen = list(range(number))
    groups = [[at] for at in chosen] if mode == "single" else [chosen]
    guard = Guard(here.texts[:_WATCHED], math.inf)
    found: list[dict[str, float]] = []
    asked_of: Counter[str] = Counter()
    seconds = 0.0
    sizes: list[int] = []
    for group in groups:
        # Edits of weights lie on the model they were made in, so each group gets its own copy.
        model = copy.deepcopy(here.model)
        steps = [[at] for at in group] if mode == "sequence" else [group]
        started = time.process_time()
        try:
            made = [
                edit(
                    model, here.tokenizer, [here.edits[at] for at in step], "rome" if row == VARIANT else row,
                    _variant(here, step[0]) if row == VARIANT else config, texts=here.texts, guard=guard,
                )
                for step in steps
            ]  # fmt: skip
        except InputError as error:
            return {"failed": str(error)}
        seconds += time.process_time() - started
        sizes.append(sum(one.size for one in made))
        probes = asked_after(here, group)
        asked_of.update(probe.kind for probe in probes if probe.needs)
        found.append(accuracies(model, here.tokenizer, [here.edits[at] for at in group], probes))
    kinds = sorted({kind for one in found for kind in one})
    means: dict[str, Any] = {kind: float(np.mean([one[kind] for one in found if kind in one])) for kind in kinds}
    possible = sum((Counter(here.possible[at]) for at in chosen), Counter[str]())
    return means | {
        "asked": {kind: [asked_of[kind], count] for kind, count in sorted(possible.items())},
        "seconds": seconds / number,
        "numbers": float(np.mean(sizes)) / max(1, number // len(groups)),
    }


def asked_after(here: Lab, group: Sequence[int]) -> list[Probe]:
    """What is asked after some edits.

    Args:
        here: Model and edits.
        group: Numbers of the edits that were made together.

    Returns:
        Their probes, but those about facts that are edited too, or on which two of the edits differ.
    """
    edited = {here.edits[at].prompt for at in group}
    probes = [
        probe for at in group for probe in here.probes[at] if "locality" not in probe.kind or probe.prompt not in edited
    ]
    owners = {(probe.prompt, probe.answer) for probe in probes if probe.kind == "portability_reversed"}
    twice = {prompt for prompt, count in Counter(prompt for prompt, _ in owners).items() if count > 1}
    return [probe for probe in probes if probe.kind != "portability_reversed" or probe.prompt not in twice]


def _variant(here: Lab, at: int) -> Rome:
    others = tuple(RELATIONS[name][0] for name in here.world.values if name != here.facts[at].relation)
    return Rome(search=dataclasses.replace(_OTHERS, kl_prompts=others), contexts=_CONTEXTS, ridge=_RIDGE)


def measure(document: dict[str, Any], setting: Mapping[str, Any], until: float, path: Path, cache: Path | None) -> None:
    """Measure what is missing.

    Args:
        document: What was measured before; grows, and is written after each cell.
        setting: The entries of `config.toml`.
        until: No cell is begun after this moment, of `time.monotonic`.
        path: The file it is written to.
        cache: Where trained models are kept; None: nowhere.
    """
    for size in setting["sizes"]:
        for seed in size["seeds"]:
            here: Lab | None = None
            configs: dict[str, tuple[Any, float]] = {}
            for mode, number in modes(setting):
                for row in ROWS:
                    # The variant has another configuration for each edit, so it makes no two at once.
                    if row == VARIANT and mode == "batch":
                        continue
                    name = f"{size['name']}/{row}/{mode}/{number}/{seed}"
                    digest = _digest(setting, size, row)
                    if document["cells"].get(name, {}).get("digest") == digest:
                        continue
                    if time.monotonic() > until:
                        return
                    if here is None:
                        here = lab(setting, size, seed, cache)
                        document["recall"][f"{size['name']}/{seed}"] = here.recall
                    if row != VARIANT and row not in configs:
                        configs[row] = taught(here, row, setting)
                    config, training = configs.get(row, (None, 0.0))
                    found = cell(here, row, config, mode, number) | {"training_seconds": training}
                    document["cells"][name] = found | {"digest": digest}
                    path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
                    shares = {key: round(value, 2) for key, value in found.items() if isinstance(value, float)}
                    print(name, shares or found["failed"], flush=True)


_DECIDE = ("people", "relations", "steps", "batch", "neighbours", "texts", "lessons")
"""Entries of the configuration that decide what a cell says; the others say which cells there are."""


def _digest(setting: Mapping[str, Any], size: Mapping[str, Any], row: str) -> str:
    config = Rome(search=_OTHERS, contexts=_CONTEXTS, ridge=_RIDGE) if row == VARIANT else CONFIGS[row]
    model = sorted((key, value) for key, value in size.items() if key not in ("name", "seeds"))
    said = f"{[setting[key] for key in _DECIDE]} {model} {config!r}"
    return hashlib.sha256(said.encode()).hexdigest()[:16]


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
        spread = [spread_table(json.loads(SPREAD.read_text(encoding="utf-8")))] if SPREAD.exists() else []
        put_tables("\n\n".join([tables(document), *spread]), HERE / "README.md")
