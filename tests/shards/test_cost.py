"""The closed forms of the cost model against counting every case."""

from __future__ import annotations

from itertools import product

import pytest

from shards.cost import batch_fraction, sequential_fraction, slice_factor


def enumerated(n_shards: int, n_slices: int, n_requests: int) -> float:
    """Expected share of the work over all equally likely placements of the requests."""
    cells = list(product(range(n_shards), range(1, n_slices + 1)))
    work = n_shards * sum(range(1, n_slices + 1))
    total = 0
    for hit in product(cells, repeat=n_requests):
        earliest = {s: min(r for t, r in hit if t == s) for s in {t for t, _ in hit}}
        total += sum(sum(range(first, n_slices + 1)) for first in earliest.values())
    return total / work / len(cells) ** n_requests


@pytest.mark.parametrize(("shards", "slices", "requests"), [(1, 1, 1), (3, 1, 2), (2, 4, 3), (3, 2, 4), (1, 5, 3)])
def test_batch_fraction_is_the_mean_over_all_placements(shards: int, slices: int, requests: int) -> None:
    assert batch_fraction(shards, slices, requests) == pytest.approx(enumerated(shards, slices, requests))


@pytest.mark.parametrize(
    ("shards", "slices", "requests", "expected"),
    [
        (20, 1, 1, 0.0500),
        (20, 5, 1, 0.0367),
        (20, 50, 8, 0.236),
        (20, 1, 16, 0.560),
        (20, 5, 16, 0.438),
        (5, 1, 16, 0.972),
    ],
)
def test_batch_fraction_agrees_with_the_simulated_table(shards, slices, requests, expected) -> None:
    assert batch_fraction(shards, slices, requests) == pytest.approx(expected, abs=6e-4)


def test_one_request_costs_the_same_alone_or_as_a_batch_of_one() -> None:
    assert batch_fraction(20, 5, 1) == pytest.approx(sequential_fraction(20, 5, 1))
    assert sequential_fraction(20, 5, 16) == pytest.approx(0.587, abs=5e-4)


def test_slices_never_save_more_than_a_third() -> None:
    assert slice_factor(1) == pytest.approx(1)
    assert 2 / 3 < slice_factor(10_000) < 2 / 3 + 1e-4


def test_no_request_costs_nothing() -> None:
    assert batch_fraction(20, 5, 0) == 0
