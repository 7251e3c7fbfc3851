"""What is edited: a model that knows a generated world, or the facts of a published file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.worlds.consequences import linked
from experiments.worlds.facts import RELATIONS, World, world
from experiments.worlds.in_context import Course, taught_in_context
from experiments.worlds.lessons import lessons
from experiments.worlds.published import consistent, lessons_of, told
from experiments.worlds.subwords import subwords_of
from experiments.worlds.training import Size, knowing
from experiments.worlds.training import recall as recall_of
from unlearn.language.editing.base import Edit
from unlearn.language.editing.files import read_cases
from unlearn.language.editing.ike import Ike
from unlearn.language.editing.lessons import Lesson
from unlearn.language.metrics import Probe, answered, meaningful

DATA = Path(os.environ.get("UNLEARN_DATA", Path(__file__).parents[3] / "shared" / "data"))


@dataclass(frozen=True, eq=False)
class Lab:
    """A model that knows some facts, and those to edit, in order.

    Attributes:
        model: Unedited.
        tokenizer: Its tokenizer.
        known: All it was taught.
        texts: A sample of its sentences.
        edits: What is to be edited.
        probes: What is asked after each edit: of consequences those alone that mean something to this model, of facts
            that are to stay those alone that it knows.
        possible: Kind of consequence to how many the edits have, one for each edit.
        others: Of each edit, prompts for the subject's other attributes, with `{}` in the place of the subject.
        lessons: Of other facts, for editors that learn.
        recall: Share of all that was told that the model knows.
    """

    model: torch.nn.Module
    tokenizer: Any
    known: World
    texts: tuple[str, ...]
    edits: tuple[Edit, ...]
    probes: tuple[tuple[Probe, ...], ...]
    possible: tuple[Mapping[str, int], ...]
    others: tuple[tuple[str, ...], ...]
    lessons: tuple[Lesson, ...]
    recall: float

    @property
    def blocks(self) -> int:
        """How many blocks the model has."""
        config: Any = self.model.config
        return int(config.num_hidden_layers)


def lab(setting: Mapping[str, Any], size: Mapping[str, Any], seed: int, cache: Path | None) -> Lab:
    """Train, or load, a model, and draw what to edit.

    Args:
        setting: The entries of `config.toml`.
        size: One of its sizes; with a `file`, of the facts in it.
        seed: Of world, model and edits.
        cache: Where trained models are kept; None: nowhere.

    Returns:
        All that is needed to edit.
    """
    made = _published if "file" in size else _generated
    return made(setting, size, seed, cache)


def in_context(here: Lab, form: Ike, course: Course, cache: Path | None) -> Lab:
    """The same with a model that has learnt to use what stands before a question, as large ones have.

    Args:
        here: A model and edits.
        form: How new facts and demonstrations are worded.
        course: How it is taught, from lessons about facts that are not edited.
        cache: Where trained models are kept; None: nowhere.

    Returns:
        Model, probes that mean something to it, and its recall.
    """
    model = taught_in_context(here.model, here.tokenizer, here.known.sentences, here.lessons, form, course, cache)
    probes = tuple(
        tuple(meaningful(model, here.tokenizer, _known(model, here.tokenizer, asked))) for asked in here.probes
    )
    return replace(here, model=model, probes=probes, recall=recall_of(model, here.tokenizer, here.known))


def _generated(setting: Mapping[str, Any], size: Mapping[str, Any], seed: int, cache: Path | None) -> Lab:
    plain = world(setting["people"], names="unique", relations=setting["relations"], seed=seed)
    everything = linked(plain, seed=seed)
    known = everything.world
    model, tokenizer, recall = knowing(known, _size(setting, size, seed), cache)
    rng = np.random.default_rng([seed, 7])
    # One fact a person, so that no edit undoes another.
    first = {fact.subject: fact for fact in (known.facts[at] for at in rng.permutation(len(known.facts)))}
    facts = tuple(first.values())[: most(setting | size)]
    edits = tuple(known.other(fact, rng) for fact in facts)
    probes, possible = [], []
    for fact, one in zip(facts, edits, strict=True):
        found = everything.consequences(fact, one)
        possible.append(Counter(probe.kind for probe in found))
        asked = known.probes(fact, one, rng, neighbours=setting["neighbours"])
        probes.append((*_known(model, tokenizer, asked), *meaningful(model, tokenizer, found)))
    sentences = known.sentences
    return Lab(
        model,
        tokenizer,
        known,
        tuple(sentences[at] for at in rng.permutation(len(sentences))[: setting["texts"]]),
        edits,
        tuple(probes),
        tuple(possible),
        tuple(tuple(RELATIONS[name][0] for name in known.values if name != fact.relation) for fact in facts),
        lessons(known, edits, each=setting["lessons"]),
        recall,
    )


def _published(setting: Mapping[str, Any], size: Mapping[str, Any], seed: int, cache: Path | None) -> Lab:
    rng = np.random.default_rng([seed, 7])
    read = read_cases(DATA / size["file"]).cases
    cases = consistent([read[at] for at in rng.permutation(len(read))], size["cases"])
    known = told(cases)
    tokenizer = subwords_of(known.sentences, size["vocabulary"])
    model, _, recall = knowing(known, _size(setting, size, seed), cache, tokenizer=tokenizer)
    edited = cases[: most(setting | size)]
    edits = tuple(case.edit for case in edited)
    return Lab(
        model,
        tokenizer,
        known,
        tuple(known.sentences[: setting["texts"]]),
        edits,
        tuple(tuple(_known(model, tokenizer, case.probes)) for case in edited),
        (Counter[str](),) * len(edits),
        ((),) * len(edits),
        lessons_of(cases[len(edits) :]),
        recall,
    )


def _size(setting: Mapping[str, Any], size: Mapping[str, Any], seed: int) -> Size:
    return Size(
        kind=size["kind"], width=size["width"], layers=size["layers"], heads=size["heads"], seed=seed,
        batch=setting["batch"], learning_rate=size["learning_rate"], steps=size.get("steps", setting["steps"]),
    )  # fmt: skip


def most(setting: Mapping[str, Any]) -> int:
    """How many facts are edited at most.

    Args:
        setting: The entries of `config.toml`.

    Returns:
        So many; about all others there are lessons.
    """
    return max(setting["singles"], *setting["batches"], setting["sequence"])


def _known(model: torch.nn.Module, tokenizer: Any, probes: Sequence[Probe]) -> list[Probe]:
    """Without facts that are to stay and are not known: they cannot be lost."""
    stay = [probe for probe in probes if "locality" in probe.kind]
    if not stay:
        return list(probes)
    right = answered(model, tokenizer, [(probe.prompt, probe.answer) for probe in stay], batch=256)
    lost = {probe for probe, known in zip(stay, right.tolist(), strict=True) if not known}
    return [probe for probe in probes if probe not in lost]
