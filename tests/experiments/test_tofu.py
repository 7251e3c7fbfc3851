"""TOFU in small: which questions are chosen, cells that are measured once, and the README as the result has it."""

from __future__ import annotations

import json
import math
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from experiments.readme import BEGIN, END, put_tables
from experiments.tofu import run
from experiments.tofu.measuring import TREATMENTS, distance, treated
from experiments.tofu.methods import METHODS
from experiments.tofu.rows import pairs, questions
from experiments.tofu.table import ROWS, compared, tables
from experiments.tofu.training import taught
from experiments.worlds.subwords import subwords_of
from unlearn.language.tuning import Loss

WORDS = ("red", "blue", "green", "gold", "grey")


def made(author: int, at: int) -> dict[str, Any]:
    """A question about an author; the longer, the smaller `at` is."""
    right, *others = [WORDS[(author + at + shift) % 5] for shift in range(3)]
    end = " indeed" * (20 - at)
    return {
        "question": f"What is colour {at} of author {author}?",
        "answer": f"It is {right}{end}.",
        "paraphrased_answer": f"{right} it is{end}.",
        "perturbed_answer": [f"{other} it is{end}." for other in others],
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    def write(name: str, rows: list[dict[str, Any]]) -> None:
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")

    def authors(first: int, last: int) -> list[dict[str, Any]]:
        return [made(author, at) for author in range(first, last) for at in range(20)]

    write("forget10_perturbed", authors(0, 4))
    write("retain_perturbed", authors(4, 8))
    bare = [{key: row[key] for key in ("question", "answer")} for row in authors(4, 12)]
    write("retain90", bare)
    for name, first in (("real_authors", 20), ("world_facts", 21)):
        write(f"{name}_perturbed", authors(first, first + 1))
    return tmp_path


SETTING: dict[str, Any] = {
    "questions": 5, "forget_authors": 2, "held_out_authors": 2, "retain_authors": 3, "others": 3, "vocabulary": 300,
    "width": 16, "layers": 2, "learning_rate": 4e-3, "steps": 4, "batch": 4, "seeds": [0], "rates": [1e-4, 1e-3],
    "epochs": 1, "unlearning_batch": 4, "keep_weight": 5.0, "reinforcement": 1, "relearning_rate": 1e-3,
    "relearning_steps": 1, "asked": 3,
}  # fmt: skip


def test_the_shortest_answers_of_each_author(folder: Path) -> None:
    found = questions(folder, SETTING)
    assert [row.question for row in found.forget] == [
        f"What is colour {at} of author {author}?" for author in (0, 1) for at in (19, 18, 17, 16, 15)
    ]
    assert [row.question.split("author ")[1] for row in found.held_out] == ["2?"] * 5 + ["3?"] * 5
    assert [row.question for row in found.asked] == [row.question for row in found.retain]
    assert not any(row.wrong for row in found.retain)
    assert len(found.kept) == 15 + 3 + 3
    told = {row.question for row in (*found.kept, *found.forget)}
    assert told.isdisjoint(row.question for row in found.held_out)


def test_a_model_is_found_again_by_what_it_was_made_from(folder: Path, tmp_path: Path) -> None:
    rows = questions(folder, SETTING)
    tokenizer = subwords_of(rows.texts, 300)
    size = run._size(SETTING, 0)
    first = taught(tokenizer, pairs(rows.forget), size, tmp_path / "models")
    (kept,) = (tmp_path / "models").iterdir()
    written = kept.stat().st_mtime_ns
    again = taught(tokenizer, pairs(rows.forget), size, tmp_path / "models")
    assert kept.stat().st_mtime_ns == written
    assert all(torch.equal(one, other) for one, other in zip(first.parameters(), again.parameters(), strict=True))
    taught(tokenizer, pairs(rows.retain), size, tmp_path / "models")
    assert len(list((tmp_path / "models").iterdir())) == 2


def test_cells_are_measured_once_and_again_if_what_decides_them_changed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "DATA", folder)
    monkeypatch.setattr(run, "METHODS", {name: METHODS[name] for name in ("ga", "task_vector")})
    monkeypatch.setattr(run, "TREATMENTS", TREATMENTS[::2])
    path = tmp_path / "result.json"
    document = run.read(path) | {"setting": SETTING}
    run.measure(document, SETTING, math.inf, path, tmp_path / "models")
    cells = document["cells"]
    rows = (run.REFERENCE, run.ANOTHER, run.BEFORE, "ga", "task_vector")
    wanted = {f"{row}/{treatment}/0" for row in rows for treatment in TREATMENTS[::2]}
    assert set(cells) == wanted | {"ga/tuning/0", "task_vector/tuning/0"}
    for name in wanted:
        assert len(cells[name]["ratios"]) == 10
        assert 0 <= cells[name]["utility"] <= 1
    assert compared(cells, run.REFERENCE, "none", 0) == (1, 0)
    for cell in (cells["ga/tuning/0"], cells["task_vector/tuning/0"]):
        best = max(cell["tried"].values(), key=lambda one: one["score"])
        assert cell["tried"][str(cell["rate"])] == best
    again = run.read(path)
    monkeypatch.setattr(run, "lab", None)  # nothing is made again
    run.measure(again, SETTING, math.inf, path, None)
    with pytest.raises(TypeError):
        run.measure(again, {**SETTING, "epochs": 2}, math.inf, path, None)
    readme = tmp_path / "README.md"
    readme.write_text(f"before {BEGIN} old {END} after")
    put_tables(tables(document), readme)
    assert "| GA |" in readme.read_text()
    assert "old" not in readme.read_text()


def test_an_audit_shows_what_it_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = questions(folder, SETTING)
    here = run.Lab("tokenizer", rows, torch.nn.Linear(1, 1), torch.nn.Linear(1, 1))
    seen: list[Any] = []
    monkeypatch.setattr("experiments.tofu.measuring.relearnt", lambda *shown, **_: seen.append(shown[2]))
    for treatment in ("relearnt", "retained"):
        treated(here.original, here, treatment, SETTING)
    assert seen == [pairs(rows.forget[::2]), pairs(rows.retain[:5])]
    assert treated(here.original, here, "none", SETTING) is here.original


def test_every_loss_is_measured() -> None:
    losses = {config.loss for _, config in METHODS.values() if config is not None}
    assert losses == set(get_args(Loss))
    assert set(ROWS) == {run.REFERENCE, run.ANOTHER, run.BEFORE, *METHODS}


def test_distance_of_two_samples() -> None:
    assert distance([1, 2, 3, 4], [3.5, 4.5, 5, 6]) == pytest.approx(0.75)
    assert distance([1, 2], [1, 2]) == 0


def test_settings_name_the_same_things() -> None:
    found = tomllib.loads((run.HERE / "config.toml").read_text(encoding="utf-8"))
    assert found["full"].keys() == found["quick"].keys() == SETTING.keys()


def test_the_readme_is_that_of_the_result() -> None:
    if run.RESULT.exists():
        text = (run.HERE / "README.md").read_text(encoding="utf-8")
        assert tables(json.loads(run.RESULT.read_text(encoding="utf-8"))) in text
