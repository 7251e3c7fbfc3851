"""Measure every editor on a model that knows a world; cell by cell, so that it can be interrupted and resumed."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import functools
import hashlib
import json
import math
import time
import tomllib
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from experiments.bench.machine import describe
from experiments.editing.labs import DATA, Lab, in_context, lab, most
from experiments.editing.table import tables
from experiments.readme import put_tables
from experiments.worlds.in_context import Course
from unlearn.errors import InputError
from unlearn.language.editing.base import Applied
from unlearn.language.editing.calinet import CaliNet
from unlearn.language.editing.contexts import Contexts
from unlearn.language.editing.fine_tuning import FineTuning
from unlearn.language.editing.ike import Ike
from unlearn.language.editing.ke import KnowledgeEditor
from unlearn.language.editing.knowledge_neurons import KnowledgeNeurons
from unlearn.language.editing.locate import locate
from unlearn.language.editing.memit import Memit
from unlearn.language.editing.mend import Mend
from unlearn.language.editing.registry import EDITORS, EditWarning, Guard, edit, prepared
from unlearn.language.editing.rome import Rome
from unlearn.language.editing.serac import Serac
from unlearn.language.editing.t_patcher import TPatcher
from unlearn.language.editing.together import Together
from unlearn.language.editing.values import Search
from unlearn.language.metrics import Probe, accuracies
from unlearn.language.text import Site

HERE = Path(__file__).parent
RESULT = HERE / "result.json"
MODELS = Path("runs") / "worlds"
_WATCHED = 32
"""Sentences on which perplexity is measured, with no limit: edits that destroy the model are shown destroying it."""

_CONTEXTS = Contexts(lengths=(5,) * 5 + (10,) * 5, separator=" . ")
_SEARCH = Search(steps=60, clamp=10.0, weight_decay=0.05)
_RIDGE = 0.1
_OTHERS = Search(steps=120, clamp=10.0, weight_decay=0.05, kl_weight=0.1)
_SHORT = Contexts(lengths=(1,) * 8 + (2,) * 8 + (3,) * 8 + (5,) * 8 + (10,) * 8, separator=" ")
_TOGETHER = Together(keep_weight=3.0, contexts=10)
_EACH = Rome(search=_SEARCH, contexts=_CONTEXTS, ridge=0.001, keys="each")
_LAST = dataclasses.replace(_EACH, layer=-2, site="last")

CONFIGS: Mapping[str, Any] = {
    "ft-l": FineTuning(layer=0, learning_rate=5e-3, box=0.02),
    "ft-m": FineTuning(layer=-1, learning_rate=5e-3, box=math.inf),
    "kn": KnowledgeNeurons(contexts=_CONTEXTS),
    "rome": Rome(search=_SEARCH, contexts=_CONTEXTS, ridge=_RIDGE),
    "rome-each": _EACH,
    "rome-last": _LAST,
    "memit": Memit(layers=(0, 1), search=_SEARCH, contexts=_CONTEXTS, moment_weight=1.0),
    "memit-last": Memit(
        layers=(-2, -1), search=_SEARCH, contexts=_CONTEXTS, moment_weight=300.0, ridge=_RIDGE, site="last"
    ),
    "memit-together": Memit(contexts=_SHORT, moment_weight=30.0, ridge=0.001, together=_TOGETHER),
    "memit-last-together": Memit(
        layers=(-2, -1), contexts=_SHORT, moment_weight=30.0, ridge=0.001, together=_TOGETHER, site="last"
    ),
    "ike": Ike(number=8, fact="{} . ", use="{} . ", query=""),
    "t-patcher": TPatcher(),
    "serac": Serac(),
    "calinet": CaliNet(),
    "mend": Mend(),
    "ke": KnowledgeEditor(),
}
"""One configuration a row; those of FT, ROME and MEMIT were chosen on another world, the others are defaults."""

KEEPING: Mapping[str, Rome] = {
    "rome-kl": dataclasses.replace(_EACH, search=_OTHERS),
    "rome-last-kl": dataclasses.replace(_LAST, search=_OTHERS),
}
"""ROME that also keeps what the model says of the same subject's other attributes, one prompt each; so it has another
configuration for each edit."""

ROWS = (
    "ft-l", "ft-m", "memit", "memit-together", "memit-last", "memit-last-together", "rome", "rome-each", "rome-kl",
    "rome-last", "rome-last-kl", "t-patcher", "ike", "calinet", "serac", "mend", "ke", "kn",
)  # fmt: skip
"""Editors and their variants in the order in which they are measured: the quick ones first."""

COURSE = Course()
"""How the model learns to use what stands before a question, before IKE edits it."""


def _course(setting: Mapping[str, Any]) -> Course:
    return dataclasses.replace(COURSE, steps=setting.get("course", COURSE.steps))


_TRACED = 20
"""So many facts of a model are traced."""

_MANY = 30
"""More edits than these take long."""


def editor_of(row: str) -> str:
    """The editor of which a row is a variant, or which it is."""
    return row if row in EDITORS else row.split("-")[0]


class Bench:
    """One model and one seed: trained, and editors taught, when they are first asked for.

    Args:
        setting: The entries of `config.toml`.
        size: One of its sizes.
        seed: Of world, model and edits.
        cache: Where trained models are kept; None: nowhere.
    """

    def __init__(self, setting: Mapping[str, Any], size: Mapping[str, Any], seed: int, cache: Path | None) -> None:
        self._make = functools.partial(lab, setting, size, seed, cache)
        self._demonstrations = size.get("demonstrations", CONFIGS["ike"].number)
        self._course = _course(setting)
        self._cache = cache
        self._ready: dict[str, tuple[Lab, Any, float]] = {}

    @functools.cached_property
    def lab(self) -> Lab:
        """Model and edits."""
        return self._make()

    def ready(self, row: str) -> tuple[Lab, Any, float]:
        """An editor with lessons about what is never edited, and all that is learnt from them.

        Args:
            row: Which.

        Returns:
            What it edits, its configuration (for one of `KEEPING`, what all edits share), and the processor seconds
            that its training took, or that of the model for it.
        """
        if row not in self._ready:
            self._ready[row] = self._taught(row)
        return self._ready[row]

    def _taught(self, row: str) -> tuple[Lab, Any, float]:
        here, config = self.lab, _config_of(row)
        if row == "memit-together":
            # All blocks but the last, whose output at the subject reaches no answer.
            return here, dataclasses.replace(config, layers=tuple(range(here.blocks - 1))), 0.0
        if not hasattr(config, "lessons"):
            return here, config, 0.0
        config = dataclasses.replace(config, lessons=here.lessons)
        started = time.process_time()
        if row == "ike":
            config = dataclasses.replace(config, number=self._demonstrations)
            here = in_context(here, config, self._course, self._cache)
        elif EDITORS[row].prepare is not None:
            config = prepared(here.model, here.tokenizer, row, config, edits=here.edits)
        else:
            return here, config, 0.0
        return here, config, time.process_time() - started


def cell(here: Lab, row: str, config: Any, mode: str, number: int) -> dict[str, Any]:
    """Edit and score; IKE with as many demonstrations as leave place for its facts, halved until they do.

    Args:
        here: Model and edits.
        row: Which editor.
        config: Its configuration, trained.
        mode: `"single"`: each edit alone; `"batch"`: all at once; `"sequence"`: one after the other.
        number: How many edits.

    Returns:
        Shares by kind of probe, how many consequences were asked of how many there are, and processor seconds and
        numbers an edit; or `failed`, with what it said.
    """
    found = _scored(here, row, config, mode, number)
    while row == "ike" and "failed" in found and config.number:
        config = dataclasses.replace(config, number=config.number // 2)
        found = _scored(here, row, config, mode, number)
    return found | ({"demonstrations": config.number} if row == "ike" and "failed" not in found else {})


def _scored(here: Lab, row: str, config: Any, mode: str, number: int) -> dict[str, Any]:
    chosen = list(range(number))
    groups = [[at] for at in chosen] if mode == "single" else [chosen]
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
                _edited(
                    model, here, step, editor_of(row), _keeping(here, config, step[0]) if row in KEEPING else config
                )
                for step in steps
            ]
            seconds += time.process_time() - started
            probes = asked_after(here, group)
            found.append(accuracies(model, here.tokenizer, [here.edits[at] for at in group], probes))
        except InputError as error:
            return {"failed": str(error)}
        sizes.append(sum(one.size for one in made))
        asked_of.update(probe.kind for probe in probes if probe.needs)
    kinds = sorted({kind for one in found for kind in one})
    means: dict[str, Any] = {kind: float(np.mean([one[kind] for one in found if kind in one])) for kind in kinds}
    possible = sum((Counter(here.possible[at]) for at in chosen), Counter[str]())
    return means | {
        "asked": {kind: [asked_of[kind], count] for kind, count in sorted(possible.items())},
        "seconds": seconds / number,
        "numbers": float(np.mean(sizes)) / max(1, number // len(groups)),
    }


def traced(here: Lab) -> dict[str, Any]:
    """Where the model looks up the facts that are edited.

    Args:
        here: Model and edits.

    Returns:
        Mean effect of each block's MLP at the two tokens that can be edited, and probabilities of the answers.
    """
    found = locate(here.model, here.tokenizer, here.edits[:_TRACED])
    effects = {site: found.at(site).tolist() for site in get_args(Site)}
    return {"effects": effects, "clean": found.clean, "corrupted": found.corrupted, "facts": found.facts}


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


def _edited(model: torch.nn.Module, here: Lab, step: Sequence[int], editor: str, config: Any) -> Applied:
    guard = Guard(here.texts[:_WATCHED], math.inf)
    with warnings.catch_warnings():
        # The table says what did not take.
        warnings.simplefilter("ignore", EditWarning)
        edits = [here.edits[at] for at in step]
        return edit(model, here.tokenizer, edits, editor, config, texts=here.texts, guard=guard)


def _keeping(here: Lab, config: Rome, at: int) -> Rome:
    return dataclasses.replace(config, search=dataclasses.replace(config.search, kl_prompts=here.others[at]))


def _config_of(row: str) -> Any:
    return KEEPING[row] if row in KEEPING else CONFIGS[row]


def measure(document: dict[str, Any], setting: Mapping[str, Any], until: float, path: Path, cache: Path | None) -> None:
    """Measure what is missing.

    Args:
        document: What was measured before; grows, and is written after each cell.
        setting: The entries of `config.toml`.
        until: No cell is begun after this moment, of `time.monotonic`.
        path: The file it is written to.
        cache: Where trained models are kept; None: nowhere.
    """
    benches: dict[str, Bench] = {}
    for size, seed, mode, number, row in plan(setting):
        name = f"{size['name']}/{row}/{mode}/{number}/{seed}"
        digest = _digest(setting, size, row)
        if document["cells"].get(name, {}).get("digest") == digest:
            continue
        if time.monotonic() > until:
            return
        model = f"{size['name']}/{seed}"
        bench = benches.setdefault(model, Bench(setting, size, seed, cache))
        here, config, training = bench.ready(row)
        document["recall"][model] = bench.lab.recall
        traces = document.setdefault("traces", {})
        if traces.get(model, {}).get("digest") != _digest(setting, size):
            traces[model] = traced(bench.lab) | {"digest": _digest(setting, size)}
        if here is not bench.lab:
            document["recall"][f"{model}, for {row}"] = here.recall
        found = cell(here, row, config, mode, number) | {"digest": digest}
        if row == "ike":
            training = max(training, _took(document["cells"], size["name"], seed, digest))
        document["cells"][name] = found | {"training_seconds": training}
        path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        shares = {key: round(value, 2) for key, value in found.items() if isinstance(value, float)}
        print(name, shares or found["failed"], flush=True)


def _took(cells: Mapping[str, Mapping[str, Any]], size: str, seed: int, digest: str) -> float:
    """How long a model was taught for IKE that may by now be one of those kept."""
    return max(
        (
            found["training_seconds"]
            for name, found in cells.items()
            if name.startswith(f"{size}/ike/") and name.endswith(f"/{seed}") and found["digest"] == digest
        ),
        default=0.0,
    )


def plan(setting: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], int, str, int, str]]:
    """All cells, those that take long after all others.

    Args:
        setting: The entries of `config.toml`.

    Yields:
        Size, seed, mode, number of edits, and editor.
    """
    for long in (False, True):
        for size in setting["sizes"]:
            for seed in size["seeds"]:
                for mode, number, row in cells(setting | size):
                    if (number > _MANY) is long:
                        yield size, seed, mode, number, row


def cells(setting: Mapping[str, Any]) -> Iterator[tuple[str, int, str]]:
    """What is measured of one model, what tells most first.

    Args:
        setting: The entries of `config.toml`, with those of the size over them.

    Returns:
        Mode, number of edits, and editor.
    """
    modes = [("single", setting["singles"]), *(("batch", number) for number in setting["batches"])]
    for mode, number in [*modes, ("sequence", setting["sequence"])]:
        for row in ROWS:
            # Of a file, a subject's other attributes are not known; and no two edits share a configuration.
            if row not in KEEPING or not (mode == "batch" or "file" in setting):
                yield mode, number, row


_DECIDE = ("people", "relations", "steps", "batch", "neighbours", "texts", "lessons")
"""Entries of the configuration that decide what a cell says; the others say which cells there are."""


def _digest(setting: Mapping[str, Any], size: Mapping[str, Any], row: str | None = None) -> str:
    """Of all that decides a cell; without a row, of all that decides what is edited."""
    model = sorted((key, value) for key, value in size.items() if key not in ("name", "seeds"))
    config = None if row is None else _config_of(row)
    course = _course(setting) if row == "ike" else ""
    said = f"{[setting[key] for key in _DECIDE]} {most(setting | size)} {model} {config!r} {course}"
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
    absent = [size["name"] for size in setting["sizes"] if "file" in size and not (DATA / size["file"]).exists()]
    for name in absent:
        print(f"{name}: left out, the file is not in UNLEARN_DATA", flush=True)
    setting["sizes"] = [size for size in setting["sizes"] if size["name"] not in absent]
    if not given.report:
        until = time.monotonic() + given.minutes * 60
        measure(document, setting, until, path, None if given.quick else MODELS)
    if not given.quick:
        put_tables(tables(document), HERE / "README.md")
