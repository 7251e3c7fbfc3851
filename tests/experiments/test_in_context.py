"""How a model is taught to use new facts that stand before a question."""

from __future__ import annotations

from pathlib import Path

import torch

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
        form = Ike(number=2, shares=shares, fact="{} . ", use="{} . ", query="")
        ids, places = demonstrations(tokenizer, [lesson], form, torch.Generator().manual_seed(0))
        shown = f"F1 speaks language3 . {prompt} {answer} . "
        assert ids.tolist() == tokenizer(shown * 2)["input_ids"]
        each = len(tokenizer(shown)["input_ids"])
        assert places.tolist() == [each - 2, 2 * each - 2]
        assert ids[places].tolist() == tokenizer(f"{answer} {answer}")["input_ids"]


def test_a_copy_is_taught_and_kept(tmp_path: Path) -> None:
    known = world(6, relations=1)
    model, tokenizer, _ = knowing(known, Size(width=16, layers=2, heads=2, steps=30, batch=4))
    before = digest_of(model)
    some = lessons(known, [], each=1)
    course = Course(steps=3, batch=2)
    taught = taught_in_context(model, tokenizer, known.sentences, some, FORM, course, tmp_path)
    assert digest_of(model) == before != digest_of(taught)
    again = taught_in_context(model, tokenizer, known.sentences, some, FORM, course, tmp_path)
    assert digest_of(again) == digest_of(taught)
    assert len(list(tmp_path.iterdir())) == 1
