"""Shares of alpha, against the closed test and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from unlearn.audit.epsilon.bound import LowerBound, Verdict
from unlearn.audit.epsilon.clopper_pearson import clopper_pearson
from unlearn.audit.epsilon.multiplicity import alpha_at, best_of, holm, over_looks, primary
from unlearn.errors import ConfigurationError, InputError


def bound(errors: int, alpha: float, delta: float = 0.0) -> LowerBound:
    return clopper_pearson(errors, 100, errors, 100, delta=delta, alpha=alpha)


def test_holm_is_the_closure_of_bonferroni() -> None:
    """A hypothesis is rejected if Bonferroni rejects every set of hypotheses that contains it."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        p = dict(zip("abcd", rng.random(4) ** 3, strict=True))
        sets = [c for n in range(1, 5) for c in itertools.combinations("abcd", n)]
        found = holm(p, alpha=0.05)
        for name in "abcd":
            closed = all(min(p[one] for one in chosen) <= 0.05 / len(chosen) for chosen in sets if name in chosen)
            assert (found[name].verdict is Verdict.REFUTED) == closed
        assert list(found) == list("abcd")


def test_holm_adjusted_p_values() -> None:
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert {name: one.adjusted for name, one in found.items()} == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02}
    )


def test_any_false_rejection_is_as_rare_as_promised() -> None:
    rng = np.random.default_rng(1)
    repetitions = 4000
    wrong = sum(
        any(one.verdict is Verdict.REFUTED for one in holm({str(i): p for i, p in enumerate(rng.random(6))}).values())
        for _ in range(repetitions)
    )
    assert 0.02 < wrong / repetitions < 0.05 + 3 * math.sqrt(0.05 * 0.95 / repetitions)


def test_the_best_of_attacks_that_share_alpha() -> None:
    bounds = {"loss": bound(30, 0.02), "lira": bound(10, 0.03)}
    best = best_of(bounds)
    assert best.epsilon == bounds["lira"].epsilon
    assert best.confidence == pytest.approx(0.95)
    assert best.certifiable == max(one.certifiable for one in bounds.values())
    assert "best of 2 attacks (loss, lira)" in best.multiplicity


def test_attacks_that_each_take_all_of_alpha_are_refused() -> None:
    with pytest.raises(InputError, match=r"2 attacks spend 0\.1 together"):
        best_of({"loss": bound(30, 0.05), "lira": bound(10, 0.05)})
    with pytest.raises(InputError, match="not one number"):
        best_of({"loss": bound(30, 0.01), "lira": bound(10, 0.01, delta=0.1)})
    with pytest.raises(InputError, match="no bound to choose"):
        best_of({})


def test_the_primary_attack_is_declared_by_name() -> None:
    bounds = {"loss": bound(30, 0.05), "lira": bound(10, 0.05)}
    assert primary(bounds, "loss").epsilon == bounds["loss"].epsilon
    assert "1 others not counted" in primary(bounds, "loss").multiplicity
    with pytest.raises(InputError, match="declared primary, 'gap'"):
        primary(bounds, "gap")


def test_looks_spend_alpha_once() -> None:
    assert math.fsum(alpha_at(i) for i in range(1, 200_001)) == pytest.approx(0.05, abs=1e-6)
    assert math.fsum(alpha_at(i) for i in range(1, 200_001)) < 0.05
    assert math.fsum(alpha_at(i, looks=7) for i in range(1, 8)) == pytest.approx(0.05)
    with pytest.raises(ConfigurationError, match="look 8 of 7"):
        alpha_at(8, looks=7)
    with pytest.raises(ConfigurationError, match="look 0"):
        alpha_at(0)


def test_over_looks() -> None:
    bounds = [bound(40, alpha_at(1)), bound(10, alpha_at(2)), bound(35, alpha_at(3))]
    best = over_looks(bounds)
    assert best.epsilon == bounds[1].epsilon
    assert best.confidence == 0.95
    with pytest.raises(InputError, match="look 2 spent"):
        over_looks([bound(40, alpha_at(1)), bound(10, 0.04)])
    with pytest.raises(InputError, match="no look"):
        over_looks([])


def test_bad_p_values_are_refused() -> None:
    for p in (-0.1, 1.1, math.nan):
        with pytest.raises(InputError, match="not in"):
            holm({"a": p})
    with pytest.raises(InputError, match="no p-value"):
        holm({})
