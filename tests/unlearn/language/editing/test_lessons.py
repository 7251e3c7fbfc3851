"""Lessons are about other facts than those that are edited."""

from __future__ import annotations

import pytest

from unlearn.errors import InputError
from unlearn.language.editing.base import Edit
from unlearn.language.editing.lessons import Lesson, disjoint, needed

ASKED = [Edit("Ann speaks", "Ann", "Dutch")]
OTHER = Lesson(Edit("Bob speaks", "Bob", "Dutch"), ("the tongue of Bob is",), (("Eve speaks", "Thai"),))


def test_other_facts_are_let_through() -> None:
    assert disjoint([OTHER], ASKED) == (OTHER,)
    assert needed([OTHER], ASKED, "mend") == (OTHER,)


@pytest.mark.parametrize(
    "lesson",
    [
        Lesson(Edit("Ann speaks", "Ann", "Thai")),
        Lesson(Edit("ann  speaks", "ann", "Thai")),
        Lesson(Edit("the tongue of Ann is", "Ann", "Dutch")),
        Lesson(Edit("the tongue of Ann is", "Ann", "Thai"), ("Ann speaks",)),
        Lesson(Edit("Bob speaks", "Bob", "Thai"), (), (("Ann speaks", "Greek"),)),
    ],
    ids=["prompt", "spelling", "answer", "wording", "kept"],
)
def test_an_edited_fact_is_refused(lesson: Lesson) -> None:
    with pytest.raises(InputError, match="lesson 1 holds an edited fact"):
        disjoint([OTHER, lesson], ASKED)


def test_training_needs_lessons() -> None:
    for lessons in ([], [Lesson(OTHER.edit, OTHER.wordings)]):
        with pytest.raises(InputError, match="mend is trained before it edits"):
            needed(lessons, ASKED, "mend")
