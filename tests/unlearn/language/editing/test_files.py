"""Published files of facts: each layout by hand, what is wrong with a file, and the real ones where they are."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from unlearn.errors import InputError
from unlearn.language.editing.base import Edit
from unlearn.language.editing.files import Case, read_cases
from unlearn.language.metrics import Probe

DATA = Path(os.environ.get("UNLEARN_DATA", Path(__file__).parents[5] / "shared" / "data"))

PUBLISHED = {
    "requested_rewrite": {
        "prompt": "{} speaks",
        "subject": "Ann",
        "target_new": {"str": "Dutch", "id": "Q1"},
        "target_true": {"str": "Thai", "id": "Q2"},
    },
    "paraphrase_prompts": ["At home Ann talks in"],
    "neighborhood_prompts": ["Bob speaks", "Eve speaks"],
    "attribute_prompts": ["Kees speaks"],
}
FLAT = {
    "prompt": "Ann speaks",
    "subject": "Ann",
    "target_new": "Dutch",
    "ground_truth": "Thai",
    "rephrase_prompt": "At home Ann talks in",
    "locality_prompt": "Bob speaks",
    "locality_ground_truth": "Thai",
}
ZSRE = {
    "src": "What does Ann speak?",
    "subject": "Ann",
    "alt": "Dutch",
    "pred": "Lao",
    "answers": ["Thai", "Siamese"],
    "rephrase": "Which is Ann's tongue?",
    "loc": "nq question: who sang hello",
    "loc_ans": "Adele",
}


def written(path: Path, rows: Any, *, lines: bool = False) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows) if lines else json.dumps(rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize(
    ("row", "case"),
    [
        (
            PUBLISHED,
            Case(
                Edit("Ann speaks", "Ann", "Dutch", "Thai"),
                (
                    Probe("generalization", "At home Ann talks in", "Dutch"),
                    Probe("locality", "Bob speaks", "Thai"),
                    Probe("locality", "Eve speaks", "Thai"),
                    Probe("locality", "Kees speaks", "Dutch"),
                ),
            ),
        ),
        (
            FLAT,
            Case(
                Edit("Ann speaks", "Ann", "Dutch", "Thai"),
                (Probe("generalization", "At home Ann talks in", "Dutch"), Probe("locality", "Bob speaks", "Thai")),
            ),
        ),
        (
            ZSRE,
            Case(
                Edit("What does Ann speak?", "Ann", "Dutch", "Thai"),
                (
                    Probe("generalization", "Which is Ann's tongue?", "Dutch"),
                    Probe("locality", "nq question: who sang hello", "Adele"),
                ),
            ),
        ),
    ],
)
def test_each_layout(tmp_path: Path, row: dict[str, Any], case: Case, lines: bool) -> None:
    read = read_cases(written(tmp_path / "facts.json", [row, row], lines=lines))
    assert read.cases == (case, case)
    assert read.unusable == ()


def test_a_row_that_cannot_be_edited_is_named_and_the_others_stay(tmp_path: Path) -> None:
    rows = [FLAT | {"subject": "Zoe"}, FLAT, ZSRE | {"alt": " "}]
    read = read_cases(written(tmp_path / "facts.json", rows))
    assert [case.edit.target_new for case in read.cases] == ["Dutch"]
    assert [number for number, _ in read.unusable] == [0, 2]
    assert "Zoe" in read.unusable[0][1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "holds no rows"),
        ("", "holds no rows"),
        ("[1]", "row 0: not an object but a int"),
        ('[{"question": 1}]', "row 0: neither CounterFact nor zsRE.*this one has question"),
        ("{]", "neither a JSON list nor one JSON object a line"),
        (json.dumps([FLAT, {key: FLAT[key] for key in FLAT if key != "ground_truth"}]), "row 1: .*ground_truth"),
        (json.dumps([ZSRE | {"answers": []}]), "row 0: a field is of another type"),
        (json.dumps([FLAT | {"prompt": 3}]), "row 0: a field is of another type"),
    ],
)
def test_a_file_of_another_kind_is_one_clear_error(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "facts.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_cases(path)


def test_only_a_line_feed_ends_a_row_and_empty_lines_are_none(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{**FLAT, "target_new": "Dutch\u2028\x85"}, FLAT]
    path.write_text("\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\r\n\n", encoding="utf-8")
    assert [case.edit.target_new for case in read_cases(path).cases] == ["Dutch\u2028\x85", "Dutch"]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_cases(tmp_path / "facts.json")


@pytest.mark.parametrize(
    ("name", "number", "unusable"),
    [("counterfact/counterfact-edit-1k.json", 1000, 0), ("zsre/zsre_mend_train-1k.json", 998, 2)],
)
def test_the_real_files(name: str, number: int, unusable: int) -> None:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"needs UNLEARN_DATA/{name}")
    read = read_cases(path)
    assert (len(read.cases), len(read.unusable)) == (number, unusable)
    assert all({probe.kind for probe in case.probes} == {"generalization", "locality"} for case in read.cases)
    assert all(case.edit.target_old for case in read.cases)
