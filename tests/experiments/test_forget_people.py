"""Forgetting people, with almost no work: costs are those predicted, and encodings are public."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from experiments.benchmark import Figure
from experiments.forget_people import patients, run
from experiments.forget_people.data import People, scores
from experiments.forget_people.run import BENCHMARK
from tests.cases import digits
from unlearn.plan import PAYS

TINY: dict[str, Any] = {
    "n_shards": 3,
    "n_slices": 2,
    "workers": 1,
    "groups": [1, 3],
    "singly": [2],
    "draws": 100,
    "most": 20,
    "seed": 0,
    "some": {"hidden": [], "learning_rate": 0.1, "epochs": 3, "batch_size": 8},
    "others": {"hidden": [], "learning_rate": 0.1, "epochs": 3, "batch_size": 8, "threshold": 0.1},
}


def some() -> People:
    """Forty people of ten digits each."""
    X, y = digits()
    return People(X[:400], y[:400], np.array([f"p{row // 10}" for row in range(400)]), X[-100:], y[-100:])


def others() -> People:
    """Of digits, those that are nine; a hundred people of four."""
    X, y = digits()
    nine = (y == 9).astype(np.int64)
    return People(X[:400], nine[:400], np.array([f"p{row // 4}" for row in range(400)]), X[-100:], nine[-100:])


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Figure]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "SOURCES", {"some": some, "others": others})
        found = BENCHMARK.measure(TINY, tmp_path_factory.mktemp("people"), lambda line: None)
    assert len({figure.name for figure in found}) == len(found)
    return {figure.name: figure for figure in found}


def test_what_is_measured_is_what_the_layout_says(figures: dict[str, Figure]) -> None:
    assert all(math.isfinite(figure.value) and figure.value >= 0 for figure in figures.values())
    of_layout = [figure.value for name, figure in figures.items() if name.endswith(".of_layout")]
    assert len(of_layout) >= 2 * 3
    assert set(of_layout) == {1.0}


def test_the_plan_predicts_the_mean(figures: dict[str, Figure]) -> None:
    found = [figure for name, figure in figures.items() if ".average." in name]
    assert len(found) == 4
    # Six cells of seven people are not alike, and the plan is of the mean over all placements.
    assert [figure.value for figure in found] == pytest.approx([1.0] * 4, abs=0.25)


def test_sharding_pays_up_to_the_largest_group_and_no_further(figures: dict[str, Figure]) -> None:
    for name in ("some", "others"):
        for kind in ("together", "one_by_one"):
            largest = int(figures[f"{name}.largest.{kind}.layout"].value)
            assert figures[f"{name}.{kind}.{largest}.of_retraining"].value <= PAYS
            assert figures[f"{name}.{kind}.{largest + 1}.of_retraining"].value > PAYS


def test_accuracy_is_that_of_trained_models(figures: dict[str, Figure]) -> None:
    assert figures["some.whole.accuracy"].value > 0.8
    assert figures["some.together.3.recovered.accuracy"].value > 0.7
    assert figures["others.whole.auc"].value > 0.8
    assert figures["others.together.1.recovered.auc"].value > 0.7


ROW = {
    **dict.fromkeys((*patients.RANGES, *patients.VISITS), "1"),
    **dict.fromkeys(patients.DRUGS, "No"),
    **{name: values[0] for name, values in patients.CATEGORIES.items()},
    "diag_1": "250.83",
    "diag_2": "V45",
    "diag_3": "?",
    "medical_specialty": "Cardiology",
    "payer_code": "?",
}


def test_a_visit_is_encoded_by_itself() -> None:
    alone = patients.encode(ROW)
    other = {**ROW, "number_inpatient": "9999", "age": "unheard of", "insulin": "Up", "medical_specialty": "Invented"}
    assert patients.matrix([other, ROW])[1].tolist() == np.array(alone, dtype=np.float32).tolist()
    assert len(patients.encode(other)) == len(alone)
    assert 0 <= min(patients.encode(other)) <= max(patients.encode(other)) == 1
    # Ten ages, of which none is said; a dose more; another specialty, hashed.
    assert sum(a != b for a, b in zip(alone, patients.encode(other), strict=True)) == 1 + 1 + 1 + 2


@pytest.mark.parametrize(
    ("code", "chapter"), [("250.83", 3), ("428", 0), ("786", 1), ("V45", 8), ("E812", 8), ("174", 7), ("1", 8)]
)
def test_diagnoses_have_one_chapter(code: str, chapter: int) -> None:
    assert patients._chapter(code) == [float(number == chapter) for number in range(9)]


def test_scores_by_hand() -> None:
    said = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.95, 0.05]])
    found = scores(said, np.array([0, 1, 1, 0]), 0.15)
    assert found == {"accuracy": 0.5, "auc": 1.0, "balanced": 1.0}
    assert scores(said, np.array([0, 1, 1, 0]), 0.25)["balanced"] == 0.75
    assert scores(said, np.array([0, 1, 1, 0]), None) == {"accuracy": 0.5}


def test_full_and_quick_settings_differ_in_the_amount_only() -> None:
    full, quick = BENCHMARK.setting(quick=False), BENCHMARK.setting(quick=True)
    assert full.keys() == quick.keys() == {*run.SOURCES, *(TINY.keys() - {"some", "others"})}
    assert {name for name in full if full[name] != quick[name]} == {"groups", "singly"}
