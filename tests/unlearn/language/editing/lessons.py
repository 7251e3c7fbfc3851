"""Lessons about the facts of a small world that are not edited."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.worlds.facts import RELATIONS, Fact
from tests.unlearn.language.conftest import Knowing
from unlearn.language.editing.base import Edit
from unlearn.language.editing.lessons import Lesson


def edits_of(knowing: Knowing, number: int = 1) -> list[Edit]:
    """Some edits, each to another value."""
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(knowing.world.facts))[:number]
    return [knowing.world.other(knowing.world.facts[at], rng) for at in chosen]


def lessons_of(knowing: Knowing, edits: Sequence[Edit], each: int = 6, kept: int = 6) -> tuple[Lesson, ...]:
    """So many edits of each fact that is not edited, with prompts about other facts that are to stay."""
    rng = np.random.default_rng(1)
    edited = {edit.prompt for edit in edits}
    facts = [fact for fact in knowing.world.facts if fact.prompt() not in edited]
    return tuple(_lesson(knowing, fact, facts, kept, rng) for fact in facts for _ in range(each))


def _lesson(knowing: Knowing, fact: Fact, facts: list[Fact], kept: int, rng: np.random.Generator) -> Lesson:
    names = set(fact.subject.split())
    near = [one for one in facts if one is not fact and names & set(one.subject.split())]
    far = [one for one in facts if one is not fact]
    chosen = [pool[int(rng.integers(len(pool)))] for pool in (near or far, far) for _ in range(kept // 2)]
    others = tuple((one.prompt(int(rng.integers(len(RELATIONS[one.relation])))), one.answer) for one in chosen)
    wordings = tuple(fact.prompt(at) for at in range(1, len(RELATIONS[fact.relation])))
    return Lesson(knowing.world.other(fact, rng), wordings, others)
