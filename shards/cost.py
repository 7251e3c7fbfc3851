"""What deleting costs, in record-visits: the closed forms of sharded and sliced training.

N records in S equal shards of R equal slices, each step visiting every record so far 2E/(R+1) times. Derived
for K records drawn uniformly; `tests/shards/test_cost.py` compares with simulation.
"""

from __future__ import annotations


def slice_factor(n_slices: int) -> float:
    """Share of a shard's training that one deletion repeats: 2/3 + 1/(3R).

    A deletion in slice r repeats steps r..R, of cost proportional to r, ..., R; the mean over r uniform.

    Args:
        n_slices: R, at least 1.

    Returns:
        A share in (2/3, 1].
    """
    return 2 / 3 + 1 / (3 * n_slices)


def batch_fraction(n_shards: int, n_slices: int, n_requests: int) -> float:
    """Expected share of a full training that recovering K requests together repeats.

    A shard hit by k requests restarts at the earliest slice r hit and repeats the share 1 - r(r-1)/(R(R+1)).
    With k binomial(K, 1/S), P(no request of the shard in slices 1..r) = (1 - r/(SR))^K.

    Args:
        n_shards: S, at least 1.
        n_slices: R, at least 1.
        n_requests: K single-record requests, uniformly drawn, recovered together.

    Returns:
        A share in [0, 1].
    """
    untouched = [(1 - r / (n_shards * n_slices)) ** n_requests for r in range(n_slices + 1)]
    restart_at = [untouched[r - 1] - untouched[r] for r in range(1, n_slices + 1)]
    work = n_slices * (n_slices + 1)
    return sum(p * (1 - r * (r - 1) / work) for r, p in enumerate(restart_at, start=1))


def sequential_fraction(n_shards: int, n_slices: int, n_requests: int) -> float:
    """Expected work of K requests each recovered on its own, as a share of one full training.

    May exceed 1: that is when sharding has stopped to pay.

    Args:
        n_shards: S.
        n_slices: R.
        n_requests: K.

    Returns:
        K (2/3 + 1/(3R)) / S.
    """
    return n_requests * slice_factor(n_slices) / n_shards
