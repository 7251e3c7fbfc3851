"""Exact limits of a rate against sums over binomials."""

from __future__ import annotations

import math

import pytest

from unlearn.audit.binomial import lower_limit, upper_limit


@pytest.mark.parametrize(("errors", "n"), [(0, 5), (2, 5), (4, 5), (7, 30), (0, 1)])
def test_the_limit_is_where_so_few_errors_have_probability_alpha(errors: int, n: int) -> None:
    limit = float(upper_limit(errors, n, 0.03))
    assert math.fsum(math.comb(n, i) * limit**i * (1 - limit) ** (n - i) for i in range(errors + 1)) == pytest.approx(
        0.03, rel=1e-9
    )


def test_limits_where_there_is_nothing_to_say() -> None:
    assert upper_limit([5, 1, 0], [5, 1, 0], 0.05).tolist() == [1, 1, 1]
    assert lower_limit([0, 0, 0], [5, 1, 0], 0.05).tolist() == [0, 0, 0]


@pytest.mark.parametrize(("count", "n"), [(5, 5), (3, 5), (1, 5), (23, 30), (1, 1)])
def test_the_lower_limit_is_where_so_many_have_probability_alpha(count: int, n: int) -> None:
    limit = float(lower_limit(count, n, 0.03))
    assert math.fsum(math.comb(n, i) * limit**i * (1 - limit) ** (n - i) for i in range(count, n + 1)) == pytest.approx(
        0.03, rel=1e-9
    )
