"""Bounds from one run, against known values, exact distributions and the worst mechanisms."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy.stats import binom

from unlearn.audit.epsilon.bound import Basis
from unlearn.audit.epsilon.one_run import Guesses, guess, one_run, one_run_p_value
from unlearn.errors import ConfigurationError, InputError


@pytest.mark.parametrize(
    ("m", "r", "v", "delta", "epsilon"), [(1000, 100, 75, 1e-4, 0.67298), (100_000, 1510, 1439, 1e-5, 2.67585)]
)
def test_known_values(m: int, r: int, v: int, delta: float, epsilon: float) -> None:
    bound = one_run(Guesses(m, r, v), delta=delta)
    assert bound.epsilon == pytest.approx(epsilon, abs=6e-6)
    assert bound.basis is Basis.COVERAGE


@pytest.mark.parametrize(
    ("n", "epsilon"),
    [(10, 1.05), (32, 2.32), (64, 3.04), (100, 3.49), (256, 4.44), (512, 5.12), (1000, 5.78), (5000, 7.28)],
)
def test_guesses_to_largest_certifiable_epsilon(n: int, epsilon: float) -> None:
    bound = one_run(Guesses(n, n, n), delta=1e-5)
    assert bound.epsilon == bound.certifiable == pytest.approx(epsilon, abs=0.006)


def test_p_value_term_by_term() -> None:
    m, r, v, epsilon, delta = 50, 20, 15, 0.4, 0.002
    q = 1 / (1 + math.exp(-epsilon))
    pmf = [math.comb(r, i) * q**i * (1 - q) ** (r - i) for i in range(r + 1)]
    burst = max(sum(pmf[v - i : v]) / i for i in range(1, v + 1))
    expected = sum(pmf[v:]) + 2 * m * delta * burst
    assert one_run_p_value(Guesses(m, r, v), epsilon, delta) == pytest.approx(expected)
    assert one_run_p_value(Guesses(m, r, 0), epsilon, delta) == 1


@pytest.mark.parametrize(("epsilon", "delta"), [(0.0, 0.0), (0.0, 0.002), (1.0, 0.0), (1.0, 0.002), (2.0, 0.0)])
def test_coverage_against_bursts_of_every_size(epsilon: float, delta: float) -> None:
    """Exact: with probability m delta / i, i random coins are revealed; otherwise randomised response on each."""
    m, alpha = 40, 0.1
    bounds = np.array([one_run(Guesses(m, m, v), delta=delta, alpha=alpha).epsilon for v in range(m + 1)])
    q = 1 / (1 + math.exp(-epsilon))
    worst = 0.0
    for size in range(1, m + 1):
        often = min(1.0, m * delta / size)
        v = np.arange(m + 1)
        pmf = (1 - often) * binom.pmf(v, m, q) + often * binom.pmf(v - size, m - size, q)
        worst = max(worst, float(pmf[bounds > epsilon + 1e-9].sum()))
    assert worst <= alpha
    assert worst > 0.02 * alpha


def test_any_reported_value_is_rejected_and_the_next_is_not() -> None:
    for m, r, v, delta in product((40, 4000), (30, 40), (25, 29), (0.0, 1e-5, 1e-4)):
        guesses = Guesses(m, r, v)
        bound = one_run(guesses, delta=delta).epsilon if one_run_p_value(Guesses(m, r, r), 0, delta) <= 0.05 else None
        if bound:
            assert one_run_p_value(guesses, bound, delta) <= 0.05 < one_run_p_value(guesses, bound + 1e-6, delta)


def test_guessing_by_rank() -> None:
    seen = guess([5.0, 4.0, 1.0], [3.0, 2.0, 0.0], guess_in=2, guess_out=2)
    assert seen == Guesses(6, 4, 3)


def test_ties_are_broken_against_the_guesser() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        ins, outs = rng.integers(3, size=6).astype(float), rng.integers(3, size=5).astype(float)
        n_in, n_out = rng.integers(0, 6), rng.integers(1, 6)
        worst = min(_right_in_order(ins, outs, int(n_in), int(n_out), rng.permutation(11)) for _ in range(40))
        assert guess(ins, outs, guess_in=int(n_in), guess_out=int(n_out)).v <= worst
    # All scores equal: the order of listing must not show the coins.
    assert guess([0.0] * 5, [0.0] * 5, guess_in=5, guess_out=5).v == 0


def _right_in_order(ins: np.ndarray, outs: np.ndarray, n_in: int, n_out: int, order: np.ndarray) -> int:
    scores, coins = np.concatenate([ins, outs])[order], np.array([True] * len(ins) + [False] * len(outs))[order]
    ranked = np.argsort(-scores, kind="stable")
    return int(coins[ranked[:n_in]].sum() + (~coins[ranked[len(ranked) - n_out :]]).sum())


def test_bad_input_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="not below alpha"):
        one_run(Guesses(100, 100, 90), delta=0.05)
    with pytest.raises(InputError, match="too few samples"):
        one_run(Guesses(1000, 200, 200), delta=0.01)
    with pytest.raises(InputError, match="right guesses must be"):
        Guesses(10, 5, 6)
    with pytest.raises(InputError, match="there must be a canary, got 0"):
        Guesses(0, 0, 0)
    with pytest.raises(InputError, match=r"one number each, got shapes \(2, 1\)"):
        guess([[1.0], [2.0]], [0.0], guess_in=1, guess_out=0)
    with pytest.raises(InputError, match="no canary was guessed"):
        Guesses(10, 0, 0)
    with pytest.raises(InputError, match="not a number"):
        guess([math.nan], [0.0], guess_in=1, guess_out=0)
    with pytest.raises(InputError, match="guesses must be a whole number from 0 to 2"):
        guess([1.0], [0.0], guess_in=2, guess_out=1)
    with pytest.raises(InputError, match="1 ids are on both sides of canaries"):
        guess([1.0], [0.0], guess_in=1, guess_out=1, in_ids=["a"], out_ids=["a"])
