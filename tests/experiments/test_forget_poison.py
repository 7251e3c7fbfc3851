"""Poisoned records, with almost no work: attacks work, forgetting repairs, and a model not repaired fails the run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.benchmark import Figure
from experiments.forget_exact.run import Images
from experiments.forget_poison import run
from experiments.forget_poison.poisons import backdoor, mislabelled, patched
from experiments.forget_poison.run import BENCHMARK, LEFT, WORKS, check_equal, trained
from tests.cases import digits

TINY: dict[str, Any] = {
    "n_shards": 3,
    "n_slices": 2,
    "workers": 1,
    "seed": 0,
    "learner": {"hidden": [16], "learning_rate": 0.1, "epochs": 8, "batch_size": 8},
    "backdoor": {"writers": 12, "rows": 2, "target": 0},
    "mislabelled": {"writers": 45, "true": 4, "said": 9},
}


def few() -> Images:
    X, y = digits()
    return Images(X[:700], y[:700], np.arange(700) // 10, X[-300:], y[-300:])


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Figure]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "mnist", few)
        found = BENCHMARK.measure(TINY, tmp_path_factory.mktemp("poison"), lambda line: None)
    assert len({figure.name for figure in found}) == len(found)
    return {figure.name: figure for figure in found}


def test_every_figure_is_there_and_finite(figures: dict[str, Figure]) -> None:
    assert all(math.isfinite(figure.value) for figure in figures.values())
    for name in ("backdoor", "mislabelled"):
        stages = ("before", "recovered", "never", "whole")
        assert figures.keys() >= {f"{name}.{stage}.{what}" for stage in stages for what in ("accuracy", "success")}
    assert figures["backdoor.before.success"].at_least == WORKS
    assert figures["backdoor.left"].at_most == figures["mislabelled.left"].at_most == LEFT


@pytest.mark.parametrize("name", ["backdoor", "mislabelled"])
def test_the_attack_works_and_is_repaired(figures: dict[str, Figure], name: str) -> None:
    before, after = (figures[f"{name}.{stage}.success"].value for stage in ("before", "recovered"))
    assert before > 0.3
    assert after < before / 2
    for what in ("accuracy", "success"):
        assert figures[f"{name}.recovered.{what}"].value == figures[f"{name}.never.{what}"].value
    assert figures[f"{name}.left"].value == 0
    assert figures["backdoor.recovered.accuracy"].value > 0.8


def test_the_repair_costs_no_more_than_training_again(figures: dict[str, Figure]) -> None:
    """But for budgets, which are rounded up in every step."""
    assert 0 < figures["backdoor.repair.of_retraining"].value <= 1.03
    assert 0 < figures["mislabelled.repair.of_retraining"].value <= 1.03


def test_a_model_that_still_holds_some_poison_fails_the_run(tmp_path: Path) -> None:
    images = few()
    everything, gone = np.arange(len(images.x)), np.array([5, 6])
    lived, _ = trained(tmp_path / "lived", images, TINY, 3, 2, everything)
    lived.forget(record_ids=["row-5"])
    lived.recover()
    fresh, _ = trained(tmp_path / "fresh", images, TINY, 3, 2, np.setdiff1d(everything, gone))
    with pytest.raises(AssertionError, match="not that of a fresh training without the poison"):
        check_equal(lived, fresh)
    lived.forget(record_ids=["row-6"])
    lived.recover()
    check_equal(lived, fresh)


def test_poisons_touch_what_they_list_and_nothing_else() -> None:
    images = few()
    for poison, rows in (
        (backdoor(images, [3, 4], 8, TINY["backdoor"]), np.arange(30, 50)),
        (mislabelled(images, [3, 4], TINY["mislabelled"]), 30 + np.flatnonzero(images.y[30:50] == 4)),
    ):
        assert poison.rows.tolist() == rows.tolist()
        rest = np.setdiff1d(np.arange(700), rows)
        assert np.array_equal(poison.images.x[rest], images.x[rest])
        assert np.array_equal(poison.images.y[rest], images.y[rest])
        assert not np.array_equal(poison.images.y[rows], images.y[rows])
    assert backdoor(images, [3], 8, TINY["backdoor"]).success(lambda x: np.zeros(len(x), dtype=int)) == 1.0
    assert mislabelled(images, [3], TINY["mislabelled"]).success(lambda x: np.full(len(x), 4)) == 0.0
    assert patched(np.zeros((1, 9)), 3, 2).tolist() == [[0, 0, 0, 0, 1, 1, 0, 1, 1]]


def test_full_and_quick_settings_differ_in_the_amount_only() -> None:
    full, quick = BENCHMARK.setting(quick=False), BENCHMARK.setting(quick=True)
    assert full.keys() == quick.keys() == TINY.keys()
    assert {name for name in full if full[name] != quick[name]} == {"learner"}
    assert full["learner"] | {"epochs": 2} == quick["learner"]
