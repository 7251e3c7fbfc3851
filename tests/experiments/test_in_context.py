"""How a model is taught to use new facts that stand before a question."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.worlds import in_context
from experiments.worlds.facts import world
from experiments.worlds.in_context import Course, demonstrations, taught_in_context
from experiments.worlds.lessons import lessons
from experiments.worlds.training import Size, knowing
from unlearn.language.editing.base import Edit
from unlearn.language.editing.ike import Ike
from unlearn.language.editing.keys import digest_of
from unlearn.language.editing.lessons import Lesson

FORM = Ike(number=3, fact="{} . ", use="{} . ", query="")


def test_only_answers_that_follow_from_a_stated_fact_are_asked_for() -> None:
    _, tokenizer, _ = knowing(world(6, relations=1), Size(width=8, layers=1, heads=2, steps=1, batch=1))
    lesson = Lesson(Edit("F1 speaks", "F1", "language3"), ("F1 speaks at home",), (("F2 speaks", "language5"),))
    kinds = {(1, 0, 0): ("F1 speaks", "language3"), (0, 1, 0): ("F1 speaks at home", "language3"),
             (0, 0, 1): ("F2 speaks", "language5")}  # fmt: skip
    for shares, (prompt, answer) in kinds.items():
        form = replace(FORM, shares=shares)
        shown = f"F1 speaks language3 . {prompt} {answer} . "
        each = len(tokenizer(shown)["input_ids"])
        ids, places = demonstrations(tokenizer, [lesson], form, 1, 2 * each, torch.Generator().manual_seed(0))
        assert ids.tolist() == tokenizer(shown * 2)["input_ids"][:-1]
        assert places.tolist() == [each - 2, 2 * each - 2]
        assert ids[places].tolist() == tokenizer(f"{answer} {answer}")["input_ids"]


def test_several_facts_are_stated_each_time_with_other_answers_before_some_are_used() -> None:
    known = world(60, relations=1)
    _, tokenizer, _ = knowing(known, Size(width=8, layers=1, heads=2, steps=1, batch=1))
    some = lessons(known, [], each=1)[:5]
    answers: dict[str, set[str]] = {lesson.edit.prompt: set() for lesson in some}
    rng = torch.Generator().manual_seed(0)
    stated_first = set()
    for _ in range(100):
        ids, places = demonstrations(tokenizer, some, replace(FORM, shares=(1, 0, 0)), 3, 40, rng)
        sentences = tokenizer.decode(ids).split(" . ")
        assert len(ids) == 5 * len(sentences) - 1 <= 40
        stated_first.add(int(places[0]) // 5)
        for at in (places // 5).tolist():
            assert sentences[at] in sentences[:at], "what is used was stated"
        for sentence in sentences:
            prompt, _, answer = sentence.rpartition(" ")
            answers[prompt].add(answer)
    assert stated_first == {1, 2, 3}
    assert all(len(found) == 5 for found in answers.values())


@pytest.mark.parametrize(("enough", "kinds"), [(2.0, [True] * 9), (0.0, [True, *[False] * 5])])
def test_all_kinds_are_shown_once_copies_are_right_and_the_course_ends_soon_after_all_are(
    monkeypatch: pytest.MonkeyPatch, enough: float, kinds: list[bool]
) -> None:
    known = world(6, relations=1)
    model, tokenizer, _ = knowing(known, Size(width=16, layers=2, heads=2, steps=1, batch=4))
    shown = []

    def seen(tokenizer: Any, lessons: Any, form: Ike, most: int, *more: Any) -> Any:
        shown.append((form.shares == (1, 0, 0)) and most == 1)
        return demonstrations(tokenizer, lessons, form, most, *more)

    monkeypatch.setattr(in_context, "demonstrations", seen)
    monkeypatch.setattr(in_context, "_LAST", 2)
    course = Course(steps=9, batch=1, packed=1, alone=1, enough=enough, fade=3)
    taught_in_context(model, tokenizer, known.sentences, lessons(known, [], each=1), FORM, course)
    assert shown == kinds


def test_a_copy_is_taught_and_kept(tmp_path: Path) -> None:
    known = world(6, relations=1)
    model, tokenizer, _ = knowing(known, Size(width=16, layers=2, heads=2, steps=30, batch=4))
    before = digest_of(model)
    some = lessons(known, [], each=1)
    course = Course(steps=3, batch=2, packed=2)
    taught = taught_in_context(model, tokenizer, known.sentences, some, FORM, course, tmp_path)
    assert digest_of(model) == before != digest_of(taught)
    again = taught_in_context(model, tokenizer, known.sentences, some, FORM, course, tmp_path)
    assert digest_of(again) == digest_of(taught)
    assert len(list(tmp_path.iterdir())) == 1
