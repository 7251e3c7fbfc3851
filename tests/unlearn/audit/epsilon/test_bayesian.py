"""Credible bounds against sampling from the posterior."""

from __future__ import annotations

import numpy as np
import pytest

from unlearn.audit.epsilon.bayesian import bayesian
from unlearn.audit.epsilon.bound import Basis, Verdict
from unlearn.audit.epsilon.clopper_pearson import clopper_pearson
from unlearn.errors import ConfigurationError, InputError


@pytest.mark.parametrize(
    ("wrong", "n_out", "missed", "n_in", "delta"),
    [(30, 100, 25, 120, 0.0), (0, 200, 3, 100, 1e-5), (9, 500, 9, 500, 0.01), (200, 400, 350, 800, 0.0)],
)
def test_the_bound_is_a_quantile_of_the_posterior(wrong: int, n_out: int, missed: int, n_in: int, delta: float) -> None:
    rng, draws, alpha = np.random.default_rng(0), 1_000_000, 0.1
    a = rng.beta(wrong + 0.5, n_out - wrong + 0.5, draws)
    b = rng.beta(missed + 0.5, n_in - missed + 0.5, draws)
    quotients = np.stack([(1 - delta - a) / b, (1 - delta - b) / a])
    sampled = float(np.log(np.maximum(np.quantile(quotients, alpha / 2, axis=1), 1)).max())
    found = bayesian(wrong, n_out, missed, n_in, delta=delta, alpha=alpha).epsilon
    assert found == pytest.approx(sampled, abs=0.01)
    # Epsilon, the larger of both, is below it with a posterior probability of at most alpha.
    assert np.mean(np.log(np.maximum(quotients, 1)).max(axis=0) <= found) <= (1 if found == 0 else alpha)


def test_no_evidence_of_a_difference_gives_zero() -> None:
    bound = bayesian(50, 100, 50, 100, delta=0.0)
    assert (bound.epsilon, bound.verdict, bound.basis) == (0, Verdict.NOT_REFUTED, Basis.CREDIBLE)


def test_tighter_than_exact_limits() -> None:
    counts = (20, 100, 20, 100)
    assert bayesian(*counts, delta=0.0).epsilon > clopper_pearson(*counts, delta=0.0).epsilon


def test_not_capped() -> None:
    assert bayesian(0, 10**7, 0, 10**7, delta=0.0).epsilon > 14


def test_bad_input_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="below one half"):
        bayesian(0, 10, 0, 10, delta=0.0, alpha=0.5)
    with pytest.raises(InputError, match="too few samples"):
        bayesian(0, 1, 0, 1, delta=0.0)
