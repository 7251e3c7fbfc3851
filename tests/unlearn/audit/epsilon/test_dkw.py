"""The band over all thresholds, against brute force and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from unlearn.audit.epsilon.clopper_pearson import epsilon_of_rates
from unlearn.audit.epsilon.dkw import all_errors, band, dkw
from unlearn.audit.epsilon.scores import Scores
from unlearn.errors import InputError


def test_all_errors_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    scores = Scores(rng.integers(6, size=12).astype(float), rng.integers(6, size=9).astype(float))
    wrong, missed = all_errors(scores)
    cuts = sorted({*scores.ins, *scores.outs})
    above = [((scores.outs > t).sum(), (scores.ins <= t).sum()) for t in cuts]
    below = [((scores.outs <= t).sum(), (scores.ins > t).sum()) for t in cuts]
    assert list(zip(wrong, missed, strict=True)) == above + below


def test_the_best_of_all_thresholds_in_both_orientations() -> None:
    rng = np.random.default_rng(1)
    ins, outs = rng.normal(2, 1, 400), rng.normal(size=300)
    e_in, e_out = (math.sqrt(math.log(4 / 0.05) / (2 * n)) for n in (400, 300))
    best = 0.0
    for t in [*ins, *outs]:
        for a, b in ((np.mean(outs > t), np.mean(ins <= t)), (np.mean(outs <= t), np.mean(ins > t))):
            best = max(best, float(epsilon_of_rates(min(1, a + e_out), min(1, b + e_in), 0.01)))
    assert dkw(Scores(ins, outs), delta=0.01).epsilon == pytest.approx(best)
    assert dkw(Scores(-ins, -outs), delta=0.01).epsilon == pytest.approx(best)


def test_all_four_bands_hold_together_as_often_as_promised() -> None:
    """Uniform scores, a large alpha: the rate at which any band is left is close to alpha, and not above."""
    rng, n, alpha, repetitions = np.random.default_rng(2), 200, 0.4, 2000
    e = band(n, alpha)
    ranks = np.arange(1, n + 1) / n
    left = 0
    for _ in range(repetitions):
        any_left = False
        for _ in range(2):
            values = np.sort(rng.random(n))
            any_left |= (ranks - values).max() > e or (values - ranks + 1 / n).max() > e
        left += any_left
    rate = left / repetitions
    assert rate <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / repetitions)
    assert rate > alpha / 3


def test_perfect_separation_gives_what_is_certifiable() -> None:
    bound = dkw(Scores(np.ones(500), np.zeros(400)), delta=0.0)
    assert bound.epsilon == pytest.approx(bound.certifiable)
    assert bound.estimate is None


def test_too_few_runs_are_refused() -> None:
    with pytest.raises(InputError, match="too few samples"):
        dkw(Scores(np.ones(5), np.zeros(5)), delta=0.0)
