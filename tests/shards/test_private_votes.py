"""Noisy votes: sensitivity and guarantees by enumeration, epsilon against dp-accounting, the budget at its edge."""

from __future__ import annotations

import itertools
import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting.rdp import RdpAccountant
from hypothesis import given
from hypothesis import strategies as st

from shards.errors import ConfigurationError, InputError, NotServingError, UnlearnError
from shards.noise import system_normal
from shards.private_votes import (
    BudgetSpentError,
    PrivateVotes,
    noisy_labels,
    vote_counts,
    zcdp_epsilon,
)

DELTA = 1e-5


def no_noise(shape: tuple[int, int]) -> np.ndarray:
    return np.zeros(shape)


def one_hot(*classes: int) -> list[np.ndarray]:
    return [np.eye(3)[[c]] for c in classes]


def phi(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def hockey_stick(p: np.ndarray, q: np.ndarray, epsilon: float) -> float:
    return float(np.maximum(p - math.exp(epsilon) * q, 0).sum())


def transcripts(rows: list[tuple[int, int]], sigma: float) -> np.ndarray:
    """Exact probabilities of all label sequences of two-class rows with counts (n0, n1)."""
    ones = [phi((n1 - n0) / (sigma * math.sqrt(2))) for n0, n1 in rows]
    return np.array([math.prod(p if y else 1 - p for p, y in zip(ones, ys, strict=True)) for ys in binary(len(rows))])


def binary(n: int) -> list[tuple[int, ...]]:
    return list(itertools.product((0, 1), repeat=n))


# --- sensitivity ---------------------------------------------------------------------------------------------------


def test_a_subject_moves_the_histogram_by_at_most_the_root_of_two() -> None:
    def histogram(votes: tuple[int, ...]) -> np.ndarray:
        return np.bincount([v for v in votes if v < 3], minlength=3)  # 3 stands for abstaining

    farthest = {1: 0.0, 2: 0.0, 3: 0.0}
    for a, b in itertools.product(itertools.product(range(4), repeat=3), repeat=2):
        changed = sum(x != y for x, y in zip(a, b, strict=True))
        if changed:
            farthest[changed] = max(farthest[changed], float(np.linalg.norm(histogram(a) - histogram(b))))
    assert farthest == pytest.approx({v: v * math.sqrt(2) for v in (1, 2, 3)})


# --- accounting ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("votes", [1, 5])
@pytest.mark.parametrize(("sigma", "queries"), [(1.0, 1), (4.0, 100), (40.0, 1_000), (40.0, 3), (1_000.0, 10**6)])
def test_epsilon_lies_between_the_exact_one_and_that_of_dp_accounting(sigma: float, queries: int, votes: int) -> None:
    multiplier = sigma / (votes * math.sqrt(2))
    ours = PrivateVotes(sigma, 1.0, DELTA, votes).epsilon(queries)
    exact = dp_accounting.get_epsilon_gaussian(multiplier / math.sqrt(queries), DELTA)
    accountant = RdpAccountant().compose(dp_accounting.GaussianDpEvent(multiplier), queries)
    assert exact <= ours <= accountant.get_epsilon(DELTA) * (1 + 1e-9)
    assert ours <= 1.15 * exact


def test_epsilon_is_that_of_dp_accounting_over_the_same_orders() -> None:
    orders = list(1 + np.logspace(-3, 3, 4_000))
    for queries in (1, 10, 500):
        accountant = RdpAccountant(orders).compose(dp_accounting.GaussianDpEvent(6 / math.sqrt(2)), queries)
        assert PrivateVotes(6.0, 1.0, DELTA).epsilon(queries) == pytest.approx(accountant.get_epsilon(DELTA), rel=1e-5)


def test_nothing_published_costs_nothing_and_a_large_delta_no_less() -> None:
    assert PrivateVotes(1.0, 1.0, DELTA).epsilon(0) == 0
    assert zcdp_epsilon(1e-12, 0.5) == 0


# --- the two statements, by enumeration ------------------------------------------------------------------------------


def test_labels_with_and_without_a_subject_are_as_close_as_promised() -> None:
    delta = 1e-3
    for sigma in (0.6, 1.5, 4.0):
        promised = PrivateVotes(sigma, 1.0, delta)
        for q in (1, 2, 6):
            one, other = transcripts([(1, 3)] * q, sigma), transcripts([(2, 2)] * q, sigma)
            for p, r in ((one, other), (other, one)):
                assert hockey_stick(p, r, promised.epsilon(q)) <= delta
    # The inequality is not empty: half of the promise would be broken.
    half = PrivateVotes(0.6, 1.0, delta).epsilon(6) / 2
    assert hockey_stick(transcripts([(2, 2)] * 6, 0.6), transcripts([(1, 3)] * 6, 0.6), half) > 10 * delta


def test_labels_and_placement_are_as_close_to_independent_as_promised() -> None:
    """Three shards, four subjects; a shard votes 1 on a subject's record if it holds it or its twin."""
    delta, sigma, shards = 1e-3, 2.0, 3
    placements = list(itertools.product(range(shards), repeat=4))
    rows = [[(3 - len({r[i], r[i + 1]}), len({r[i], r[i + 1]})) for i in (0, 2)] for r in placements]
    given_r = np.array([transcripts(row, sigma) for row in rows])
    joint = given_r / len(placements)
    independent = np.tile(given_r.mean(axis=0), (len(placements), 1)) / len(placements)
    promised = PrivateVotes(sigma, 1.0, delta, votes=shards).epsilon(2)
    assert hockey_stick(joint, independent, promised) <= delta
    assert hockey_stick(independent, joint, promised) <= delta
    assert hockey_stick(joint, independent, 0.0) > 10 * delta


# --- the budget ----------------------------------------------------------------------------------------------------


@given(
    sigma=st.floats(0.5, 500),
    max_epsilon=st.floats(0.05, 50),
    delta=st.floats(1e-9, 0.1),
    votes=st.integers(1, 30),
)
def test_the_last_label_allowed_is_the_last_one_answered(
    sigma: float, max_epsilon: float, delta: float, votes: int
) -> None:
    budget = PrivateVotes(sigma, max_epsilon, delta, votes)
    allowed = budget.queries_allowed()
    assert budget.epsilon(allowed) <= max_epsilon < budget.epsilon(allowed + 1)
    assert budget.spend(0, allowed) == allowed
    with pytest.raises(BudgetSpentError):
        budget.spend(allowed, 1)


def test_spending_counts_and_says_what_is_left() -> None:
    budget = PrivateVotes(40.0, 1.0, DELTA)
    assert budget.queries_allowed() == 48
    assert budget.spend(budget.spend(0, 20), 28) == 48
    assert budget.spend(48, 0) == 48
    with pytest.raises(BudgetSpentError, match=r"30 more labels .* allows 48, of which 20 were published \(28 left\)"):
        budget.spend(20, 30)
    assert issubclass(BudgetSpentError, UnlearnError)


def test_an_overspent_count_still_serves_nothing_more() -> None:
    budget = PrivateVotes(40.0, 1.0, DELTA)
    assert budget.spend(60, 0) == 60
    with pytest.raises(BudgetSpentError, match="0 left"):
        budget.spend(60, 1)


def test_hiding_more_votes_costs_their_square() -> None:
    for votes in (2, 20):
        as_many = PrivateVotes(40.0, 1.0, DELTA).epsilon(7 * votes**2)
        assert PrivateVotes(40.0, 1.0, DELTA, votes).epsilon(7) == pytest.approx(as_many)


@pytest.mark.parametrize(
    "fields",
    [
        {"sigma": 0.0},
        {"sigma": math.nan},
        {"max_epsilon": -1.0},
        {"max_epsilon": math.inf},
        {"delta": 0.0},
        {"delta": 1.0},
        {"votes": 0},
        {"votes": 1.5},
        {"votes": 2**31},
        {"votes": True},
        {"sigma": 1e101},
        {"sigma": 1e-101},
        {"sigma": True},
        {"max_epsilon": 1e101},
        {"max_epsilon": "1"},
        {"delta": "0.1"},
    ],
)
def test_budgets_that_promise_nothing_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(fields))):
        PrivateVotes(**{"sigma": 1.0, "max_epsilon": 1.0, "delta": DELTA, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize("sigma", [1e-100, 1e100])
@pytest.mark.parametrize("max_epsilon", [1e-100, 1e100])
def test_the_ends_of_what_is_taken_can_be_counted(sigma: float, max_epsilon: float) -> None:
    votes = PrivateVotes(sigma, max_epsilon, DELTA)
    allowed = votes.queries_allowed()
    assert votes.epsilon(allowed) <= max_epsilon < votes.epsilon(allowed + max(1, allowed // 1000))


@pytest.mark.parametrize(("published", "asked"), [(-1, 1), (1, -1)])
def test_negative_numbers_of_labels_are_refused(published: int, asked: int) -> None:
    with pytest.raises(InputError, match="negative"):
        PrivateVotes(1.0, 1.0, DELTA).spend(published, asked)
    with pytest.raises(InputError, match="negative"):
        PrivateVotes(1.0, 1.0, DELTA).epsilon(-1)


# --- votes and noise -----------------------------------------------------------------------------------------------


def test_votes_are_counted_and_who_is_missing_abstains() -> None:
    assert vote_counts(one_hot(0, 2, 2)).tolist() == [[1, 0, 2]]
    assert vote_counts(one_hot(2)).tolist() == [[0, 0, 1]]
    assert vote_counts([np.array([[0.4, 0.4, 0.2]])]).tolist() == [[1, 0, 0]]


def test_votes_that_cannot_be_counted_are_refused() -> None:
    with pytest.raises(NotServingError, match="ingest records and train"):
        vote_counts([])
    with pytest.raises(InputError, match="not a number"):
        vote_counts([np.array([[np.nan, 1.0]])])
    with pytest.raises(InputError, match="all the same"):
        vote_counts([np.ones((1, 2)), np.ones((1, 3))])
    with pytest.raises(InputError, match="classes"):
        noisy_labels(np.ones(3), 1.0, no_noise)


def test_without_noise_the_label_is_the_plurality() -> None:
    counts = np.array([[1, 5, 0], [3, 3, 0], [0, 0, 6]])
    labels = PrivateVotes(1.0, 1.0, DELTA).labels(counts, no_noise)
    assert labels.dtype == np.int64
    assert labels.tolist() == [1, 0, 2]


def test_labels_have_the_distribution_that_sigma_says() -> None:
    n, sigma = 200_000, 3.0
    share = noisy_labels(np.tile([2, 4], (n, 1)), sigma, system_normal).mean()
    expected = phi(2 / (sigma * math.sqrt(2)))
    assert abs(share - expected) < 6 * math.sqrt(expected * (1 - expected) / n)
