"""Lessons for editors that learn: edits of facts of a world that are not edited when it counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.worlds.facts import RELATIONS, Fact, World
from unlearn.language.editing.base import Edit
from unlearn.language.editing.lessons import Lesson


def lessons(world: World, edits: Sequence[Edit], *, each: int = 6, kept: int = 6, seed: int = 1) -> tuple[Lesson, ...]:
    """So many edits of each fact that is not edited, with prompts about other facts that are to stay.

    Args:
        world: All facts.
        edits: What will be edited; lessons hold none of it.
        each: Lessons a fact.
        kept: Prompts that stay in a lesson, half of them of people who share a name, where there are any.
        seed: New answers and prompts are drawn from it.

    Returns:
        The lessons.
    """
    rng = np.random.default_rng(seed)
    edited = {edit.prompt for edit in edits}
    facts = [fact for fact in world.facts if fact.prompt() not in edited]
    return tuple(_lesson(world, fact, facts, kept, rng) for fact in facts for _ in range(each))


def _lesson(world: World, fact: Fact, facts: list[Fact], kept: int, rng: np.random.Generator) -> Lesson:
    names = set(fact.subject.split())
    near = [one for one in facts if one is not fact and names & set(one.subject.split())]
    far = [one for one in facts if one is not fact]
    chosen = [pool[int(rng.integers(len(pool)))] for pool in (near or far, far) for _ in range(kept // 2)]
    others = tuple((one.prompt(int(rng.integers(len(RELATIONS[one.relation])))), one.answer) for one in chosen)
    wordings = tuple(fact.prompt(at) for at in range(1, len(RELATIONS[fact.relation])))
    return Lesson(world.other(fact, rng), wordings, others)
