"""Edits of the small world, and lessons about the facts of it that are not edited."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.worlds.lessons import lessons
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
    return lessons(knowing.world, edits, each=each, kept=kept)
