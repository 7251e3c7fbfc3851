"""RMIA against its definition, in loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlearn.audit.attacks.base import sample_of
from unlearn.audit.attacks.rmia import marginal_offline, marginal_online, rmia_score
from unlearn.audit.metrics import auc
from unlearn.audit.shadows import half_splits
from unlearn.errors import InputError


@given(st.integers(0, 2**32 - 1), st.sampled_from([1.0, 2.0, 4.0]))
def test_the_score_is_a_share_of_pairs(seed: int, gamma: float) -> None:
    random = np.random.default_rng(seed)
    own, p, z, q = random.random(12), random.random(12), random.random(9), random.random(9)
    found = rmia_score(own, p, z, q, gamma)
    for x in range(12):
        wins = sum(own[x] / p[x] >= gamma * (z[j] / q[j]) for j in range(9))
        assert found[x] == wins / 9


def test_a_tie_counts_as_won() -> None:
    assert rmia_score(np.array([0.5]), np.array([0.5]), np.array([0.5]), np.array([0.5]), 1.0)[0] == 1


def test_marginals_are_their_definition() -> None:
    random = np.random.default_rng(0)
    p, member = random.random((8, 20)), half_splits(8, 20, 0)
    member[:3, 0] = True
    online, offline = marginal_online(p, member), marginal_offline(p, member, 0.3)
    for r in range(20):
        inside, outside = p[member[:, r], r].mean(), p[~member[:, r], r].mean()
        assert online[r] == pytest.approx((inside + outside) / 2)
        assert offline[r] == pytest.approx((1.3 * outside + 0.7) / 2)


def test_needs_one_reference_model_only() -> None:
    random = np.random.default_rng(0)
    n, m = 600, 300
    own = random.random(n) < 0.5
    hardness, others = random.uniform(0.05, 0.9, n), random.uniform(0.05, 0.9, m)
    noise = lambda size: random.normal(0, 0.03, size)  # noqa: E731
    target = np.clip(hardness + 0.08 * own + noise(n), 0.01, 1)
    reference = np.clip(hardness + noise(n), 0.01, 1)[None]
    z, z_reference = np.clip(others + noise(m), 0.01, 1), np.clip(others + noise(m), 0.01, 1)[None]
    marginal = marginal_offline(reference, np.zeros((1, n), dtype=bool), 1.0)
    z_marginal = marginal_offline(z_reference, np.zeros((1, m), dtype=bool), 1.0)
    scores = rmia_score(target, marginal, z, z_marginal, 1.0)
    attack, plain = (auc(sample_of(s[own], s[~own], "m")) for s in (scores, target))
    assert attack.low > plain.high


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.5], [0.5], [], [], 2.0), "population is empty"),
        (([0.5], [0.5], [0.5], [0.5], 0.5), "gamma must be at least 1"),
        (([1.5], [0.5], [0.5], [0.5], 2.0), r"lie in \[0, 1\]"),
        (([0.5, 0.5], [0.5], [0.5], [0.5], 2.0), "2 probabilities came with 1"),
        (([np.nan], [0.5], [0.5], [0.5], 2.0), "NaN"),
    ],
)
def test_bad_input_is_refused(arguments: tuple[list[float], ...], message: str) -> None:
    *arrays, gamma = arguments
    with pytest.raises(InputError, match=message):
        rmia_score(*(np.array(array, dtype=float) for array in arrays), gamma)  # type: ignore[arg-type]


def test_a_record_without_the_models_it_needs_is_refused() -> None:
    p = np.full((2, 3), 0.5)
    with pytest.raises(InputError, match="reference models without it"):
        marginal_offline(p, np.ones((2, 3), dtype=bool))
    with pytest.raises(InputError, match="reference models with it"):
        marginal_online(p, np.zeros((2, 3), dtype=bool))
    with pytest.raises(InputError, match="between 0 and 1"):
        marginal_offline(p, np.zeros((2, 3), dtype=bool), 1.5)
