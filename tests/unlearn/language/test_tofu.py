"""The metrics of TOFU against asking one question at a time, and against enumeration."""

from __future__ import annotations

import itertools
import json
import math
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.unlearn.language.conftest import Knowing
from unlearn.errors import InputError
from unlearn.language.hooks import logits_of
from unlearn.language.text import encode
from unlearn.language.tofu import (
    Row,
    Scores,
    forget_quality,
    load_rows,
    model_utility,
    rouge_recall,
    score_rows,
    truth_ratios,
)

WORDS = st.lists(st.sampled_from("abc"), max_size=6)


def rows_of(knowing: Knowing) -> list[Row]:
    """What the model knows, with answers of other facts as wrong ones; the last of them is taught wrongly."""
    facts = [fact for fact in knowing.world.facts if fact.relation == knowing.world.facts[0].relation][:5]
    rows = []
    for at, fact in enumerate(facts):
        others = [f"{other.answer} ." for other in facts if other.answer != fact.answer]
        rows.append(Row(fact.prompt(), f"{fact.answer} .", f"{fact.answer}", tuple(others[: 1 + at % 3])))
    first = rows[0]
    return [*rows, Row(first.question, first.wrong[0], first.wrong[0], (first.answer, first.paraphrase))]


def likelihood(knowing: Knowing, prompt: str, answer: str) -> float:
    """One answer, token by token."""
    return float(np.exp(likelihood_log(knowing, prompt, answer)))


def likelihood_log(knowing: Knowing, prompt: str, answer: str) -> float:
    """Its logarithm."""
    text = encode(knowing.tokenizer, prompt, answer)
    logits = logits_of(knowing.model, text.ids[None])[0].double().log_softmax(-1)
    each = [float(logits[at - 1, text.ids[at]].detach()) for at in range(text.start, len(text.ids))]
    return float(np.mean(each))


@pytest.mark.parametrize("options", ["open", "choice"])
def test_scores_one_question_at_a_time(knowing: Knowing, options: Any) -> None:
    rows = rows_of(knowing)
    found = score_rows(knowing.model, knowing.tokenizer, rows, options=options, template="{question}")
    probabilities, ratios, recalls = [], [], []
    for row in rows:
        right = likelihood(knowing, row.question, row.answer)
        wrong = [likelihood(knowing, row.question, answer) for answer in row.wrong]
        probabilities.append(right / (right + sum(wrong)) if options == "choice" else right)
        ratios.append(statistics.mean(wrong) / likelihood(knowing, row.question, row.paraphrase))
        text = encode(knowing.tokenizer, row.question, row.answer)
        ids = knowing.model.generate(  # type: ignore[operator]
            text.ids[None, : text.start], max_new_tokens=len(text.answer), do_sample=False
        )
        recalls.append(rouge_recall(knowing.tokenizer.decode(ids[0, text.start :]), row.answer))
    assert found.probability == pytest.approx(statistics.mean(probabilities), rel=1e-4)
    assert found.rouge == pytest.approx(statistics.mean(recalls))
    assert np.allclose(found.truth_ratios, ratios, rtol=1e-3)
    alone = truth_ratios(knowing.model, knowing.tokenizer, rows, template="{question}")
    assert np.array_equal(alone, found.truth_ratios)
    assert found.truth == pytest.approx(statistics.mean(max(0.0, 1 - ratio) for ratio in ratios), abs=1e-4)
    # What was learnt is known, what is false is not.
    assert max(ratios[:-1]) < 1 < ratios[-1]
    assert recalls == [1, 1, 1, 1, 1, 0]


def test_a_destroyed_model_knows_nothing(knowing: Knowing) -> None:
    """Gradient ascent without end makes all answers too unlikely for a number: their ratios are not 0."""
    with torch.no_grad():
        knowing.model.get_parameter("transformer.ln_f.weight").mul_(400)
    fact, wrong = knowing.world.facts[0], ["city0", "city1 city1", "L1", "F2"]
    each = [likelihood_log(knowing, fact.prompt(), answer) for answer in wrong]
    order = np.argsort(each)
    worst, others = wrong[order[0]], [wrong[at] for at in order[1:]]
    assert max(each) < -1000
    row = Row(fact.prompt(), worst, worst, tuple(others))
    for options in ("open", "choice"):
        found = score_rows(knowing.model, knowing.tokenizer, [row], options=options, template="{question}")  # type: ignore[arg-type]
        assert np.isfinite(found.truth_ratios).all()
        assert found.truth_ratios[0] > 1e300
        assert found.truth == found.probability == 0
    likeliest = Row(fact.prompt(), others[-1], others[-1], (worst,))
    known = score_rows(knowing.model, knowing.tokenizer, [likeliest], options="choice", template="{question}")
    assert (known.probability, known.truth) == (1, 1)


def test_questions_without_wrong_answers_have_no_ratio(knowing: Knowing) -> None:
    row = rows_of(knowing)[0]
    found = score_rows(
        knowing.model, knowing.tokenizer, [Row(row.question, row.answer, row.answer)], template="{question}"
    )
    assert len(found.truth_ratios) == 0
    assert found.rouge == 1


@given(WORDS, WORDS)
def test_recall_is_that_of_the_longest_common_subsequence(said: list[str], answer: list[str]) -> None:
    common = max(
        size
        for size in range(len(answer) + 1)
        if any(
            list(some) == list(other)
            for some in itertools.combinations(answer, size)
            for other in itertools.combinations(said, size)
        )
    )
    assert rouge_recall(" ".join(said), " ".join(answer)) == (common / len(answer) if answer else 1.0)


def test_words_are_runs_of_letters_and_digits() -> None:
    assert rouge_recall("BORN in 1956, (Kuwait)", "born: Kuwait-City 1956.") == 2 / 4
    assert rouge_recall("", "Łódź") == 0
    assert rouge_recall("łódź!", "Łódź") == 1
    assert rouge_recall("anything", "...") == 1


def test_forget_quality_is_the_exact_test() -> None:
    """Three below three: of the 20 ways to mix them, two are as far apart."""
    assert forget_quality(np.array([0.1, 0.2, 0.3]), np.array([1.1, 1.2, 1.3])) == pytest.approx(2 / 20)
    assert forget_quality(np.arange(9.0), np.arange(9.0)) == 1


def scores(probability: float, rouge: float, *ratios: float) -> Scores:
    return Scores(probability, rouge, np.array(ratios))


def test_utility_is_the_harmonic_mean_of_all() -> None:
    sets = {"retain": scores(0.9, 0.8, 0.2, 0.4), "authors": scores(0.5, 0.6, 0.5, 3.0), "facts": scores(0.3, 0.4, 0.1)}
    expected = statistics.harmonic_mean([0.9, 0.8, 0.7, 0.5, 0.6, 0.25, 0.3, 0.4, 0.9])
    assert model_utility(sets) == pytest.approx(expected)
    assert model_utility({**sets, "facts": scores(0.0, 0.4, 0.1)}) == 0
    for unknown in (scores(math.nan, 0.4, 0.1), scores(0.3, math.nan, 0.1), scores(0.3, 0.4, math.nan)):
        with pytest.raises(InputError, match="not a number"):
            model_utility({"facts": unknown})


def test_files_of_tofu(tmp_path: Path) -> None:
    whole = {"question": "Q?", "answer": "A", "paraphrased_answer": "B", "perturbed_answer": ["C", "D"], "more": 1}
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{json.dumps(whole)}\n" + '{"question": "Q", "answer": "Ä"}\n', encoding="utf-8")
    assert load_rows(path) == [Row("Q?", "A", "B", ("C", "D")), Row("Q", "Ä", "Ä")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 of rows.jsonl is no JSON"),
        ("[1]", "line 2 of rows.jsonl is no question"),
        ('{"question": "Q"}', "must be texts"),
        ('{"question": "Q", "answer": 3}', "must be texts"),
        ('{"question": "Q", "answer": "A", "perturbed_answer": "no list"}', "a list of texts"),
        ("", "line 2 of rows.jsonl is no JSON"),
    ],
)
def test_files_that_are_not(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"question": "Q", "answer": "A"}}\n{line}\n')
    with pytest.raises(InputError, match=message):
        load_rows(path)


def test_only_a_newline_ends_a_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "Q", "answer": "one\u2028two\x85three"}\n', encoding="utf-8")
    assert load_rows(path) == [Row("Q", "one\u2028two\x85three", "one\u2028two\x85three")]
    path.write_bytes(b'{"question": "Q", "answer": "\xff"}\n')
    with pytest.raises(InputError, match="no text in UTF-8"):
        load_rows(path)


def test_questions_that_cannot_be_scored(knowing: Knowing) -> None:
    row = rows_of(knowing)[0]
    bare = Row(row.question, row.answer, row.answer)
    for rows, options, message in (
        ([], "open", "no questions"),
        ([row, bare], "open", "ask them apart"),
        ([bare], "choice", "needs wrong answers"),
    ):
        with pytest.raises(InputError, match=message):
            score_rows(knowing.model, knowing.tokenizer, rows, options=options)  # type: ignore[arg-type]
    for rows in ([], [row, bare]):
        with pytest.raises(InputError, match="each with wrong answers"):
            truth_ratios(knowing.model, knowing.tokenizer, rows)
    with pytest.raises(InputError, match="finite"):
        forget_quality(np.array([np.nan]), np.array([1.0]))
    with pytest.raises(InputError, match="at least one"):
        forget_quality(np.array([1.0]), np.array([]))
    with pytest.raises(InputError, match="without: retain"):
        model_utility({"retain": scores(0.5, 0.5)})
    with pytest.raises(InputError, match="there are no sets"):
        model_utility({})


def test_the_model_is_left_as_it_was(knowing: Knowing) -> None:
    knowing.model.train()
    before = {name: value.clone() for name, value in knowing.model.state_dict().items()}
    score_rows(knowing.model, knowing.tokenizer, rows_of(knowing), template="{question}")
    assert knowing.model.training
    assert all(torch.equal(value, before[name]) for name, value in knowing.model.state_dict().items())
