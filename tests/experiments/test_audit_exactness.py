"""P-values of honest deletions: the tests of uniformity find what is not, and every figure is made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from experiments.audit_exactness import run
from experiments.audit_exactness.run import BENCHMARK, figures_of_published, simulated
from experiments.audit_exactness.uniform import even, no_smaller


def on_the_grid(seed: int, power: float) -> np.ndarray:
    """500 p-values of 99 rearrangements: uniform for power 1, too small above."""
    return np.ceil(100 * np.random.default_rng(seed).random(500) ** power) / 100


def test_uniform_p_values_pass() -> None:
    assert min(no_smaller(on_the_grid(seed, 1)) for seed in range(5)) > 0.01
    assert min(even(on_the_grid(seed, 1), 99) for seed in range(5)) > 0.01


def test_p_values_that_are_too_small_are_found_and_too_large_ones_break_no_promise() -> None:
    assert no_smaller(on_the_grid(0, 1.6)) < 0.001
    assert even(on_the_grid(0, 1.6), 99) < 0.001
    assert no_smaller(on_the_grid(0, 0.6)) > 0.5
    assert even(on_the_grid(0, 0.6), 99) < 0.001


def test_a_coarse_grid_alone_is_no_deviation() -> None:
    """A test against the continuous distribution takes steps for a deviation."""
    from scipy.stats import kstest

    coarse = np.random.default_rng(1).integers(1, 21, 3000) / 20
    assert kstest(coarse, "uniform").pvalue < 0.001
    assert even(coarse, 19) > 0.01


def test_simulated_deletions_are_honest_and_repeatable() -> None:
    first = simulated(20, 5, 150, 99, 3, None)
    assert np.array_equal(first, simulated(20, 5, 150, 99, 3, None))
    assert no_smaller(first) > 0.01
    assert not np.array_equal(first, simulated(20, 5, 150, 99, 3, 0))


def test_every_figure_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    named = [figure.name for figure in figures_of_published("audit_planted")]
    assert named == [f"audit_planted:{which}honest.{what}" for which in ("", "few:") for what in ("no_smaller", "even")]
    judged = {figure.name: figure for figure in run.judged("x", "made up", on_the_grid(0, 1), 99)}
    assert judged["x"].value == np.mean(on_the_grid(0, 1) <= 0.05)
    assert judged["x"].passed
    assert judged["x.no_smaller"].passed
    by_seed = [np.repeat([0.01, 0.5], [10, 90])] * 3
    assert run.spread(by_seed).value == pytest.approx(1)
    assert run.spread([*by_seed, np.full(100, 0.01)]).passed is False


def test_every_setting_has_its_entries() -> None:
    quick: dict[str, Any] = BENCHMARK.setting(quick=True)
    assert quick.keys() == BENCHMARK.setting(quick=False).keys()
    assert BENCHMARK.setting(quick=False)["first_seed"] >= run.PLANTED.setting(quick=False)["repetitions"]
