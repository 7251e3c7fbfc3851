r"""What recovering is expected to cost, before anything is placed: risk classes, subjects, and a window.

Subjects fall into classes. Each of the \(M_c\) subjects of a class asks to be forgotten at a constant rate, and owns
\(m_c\) records; requests of one window are recovered together. Placement is a keyed function of the subject, so whose
request it is and where it strikes are independent. With \(W_{cr}\) the probability that a subject of class c lies in
slices 1..r of a shard, and \(p_c = 1 - e^{-\text{rate} \cdot \text{hours}}\) that it asks within the window, a shard
need not train slice r again with probability

\[ U_r = \prod_c (1 - W_{cr} p_c)^{M_c}, \]

and the record-visits of a window are a sum over shards, slices, and the records that are left: exact but for the
rounding of each step's budget. Two things follow. Where placement is blind, skew changes nothing: K requests of the few
cost what K requests of anybody cost, since the few are spread like everybody; placed by class, they hit less
(`spread_over`). And a subject with many records costs no
more than one with a single record, since all lie in one slice.

`tests/shards/test_cost_expected.py` compares with counting every case.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from shards.errors import ConfigurationError
from shards.placement import Region

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)
_MOST = 1 - 2.0**-53


@dataclass(frozen=True)
class RiskClass:
    """Subjects that ask to be forgotten at one rate.

    Attributes:
        subjects: How many there are, at least 1.
        rate: Requests of each, per hour; each asks once.
        records: Records of each.
    """

    subjects: int
    rate: float
    records: float = 1.0

    def __post_init__(self) -> None:
        if self.subjects < 1 or not self.rate >= 0 or not self.records > 0:
            raise ConfigurationError(
                f"a risk class needs at least one subject, a rate of 0 or more and some records, got {self.subjects}, "
                f"{self.rate} and {self.records}"
            )

    def asks_within(self, hours: float) -> float:
        """Probability that one subject asks within so many hours."""
        return float(-np.expm1(-self.rate * hours))


@dataclass(frozen=True)
class Spread:
    """Where subjects of each class may lie, among shards that come in groups of alike ones.

    Attributes:
        shards: `[G]` int64: how many shards each group has.
        chance: `[classes, G, R]` float64: probability that a subject of the class lies in this slice of one given shard
            of the group; over all shards and slices, each class's sum to 1.
    """

    shards: np.ndarray
    chance: np.ndarray

    def __post_init__(self) -> None:
        total = np.einsum("g,cgr->c", self.shards, self.chance)
        if not np.allclose(total, 1) or (self.chance < 0).any():
            raise ConfigurationError(f"the chances of a class must sum to 1 over all shards and slices, got {total}")

    @property
    def n_slices(self) -> int:
        """R."""
        return int(self.chance.shape[2])


class Chain(StrEnum):
    """What a step of a chain visits.

    Attributes:
        EPOCHS: All records so far, 2E/(R+1) times: a learner that trains in passes.
        REFITS: All records so far, once: a learner that trains from nothing in every step.
        SUMS: The records of its own slice, once: a `SumLearner`.
    """

    EPOCHS = "epochs"
    REFITS = "refits"
    SUMS = "sums"


@dataclass(frozen=True)
class Work:
    """What a learner's steps cost.

    Attributes:
        chain: What a step visits.
        epochs: E, nominal passes over the data; of those that make passes.
        seconds_per_visit: Of one core, in seconds.
        seconds_per_step: Of each step besides, in seconds: reading records, writing the checkpoint, the log.
    """

    chain: Chain = Chain.EPOCHS
    epochs: float = 1.0
    seconds_per_visit: float = 0.0
    seconds_per_step: float = 0.0

    def passes(self, n_slices: int) -> float:
        """How often a step visits what it visits; where it makes passes, all slices together come to E of them."""
        return 2 * self.epochs / (n_slices + 1) if self.chain is Chain.EPOCHS else 1.0

    def visited(self, of_slices: np.ndarray) -> np.ndarray:
        """Record-visits of each step of a chain.

        Args:
            of_slices: `[..., R]` records of each slice.

        Returns:
            `[..., R]` float64.
        """
        seen = of_slices if self.chain is Chain.SUMS else np.cumsum(of_slices, axis=-1)
        return self.passes(of_slices.shape[-1]) * seen


@dataclass(frozen=True)
class Expected:
    """What one window is expected to come to.

    Attributes:
        requests: Requests.
        shards: Shards hit.
        steps: Steps built again.
        visits: Record-visits.
        of_training: The visits as a share of those of training everything that is left.
        compute_seconds: Seconds of work, over all cores.
        anybody: Probability that there is a request at all.
        least_seconds: Lower bound of the wall-clock seconds, none where there is no request.
        most_seconds: Upper bound of the wall-clock seconds, longest chain first; none where there is no request.
        behind: Share of the shards that, at a moment, serve less than all of their records, if requests take effect at
            once and windows follow each other; an upper bound.
    """

    requests: float
    shards: float
    steps: float
    visits: float
    of_training: float
    compute_seconds: float
    anybody: float
    least_seconds: float
    most_seconds: float
    behind: float


def blind(n_shards: int, n_slices: int, n_classes: int = 1) -> Spread:
    """The spread of a placement that knows of no classes: every shard and slice alike.

    Args:
        n_shards: S.
        n_slices: R.
        n_classes: How many classes there are.

    Returns:
        The spread, one group.

    Raises:
        ConfigurationError: If a number is below 1.
    """
    if min(n_shards, n_slices, n_classes) < 1:
        raise ConfigurationError(f"shards, slices and classes must be at least 1, got {n_shards} and {n_slices}")
    chance = np.full((n_classes, 1, n_slices), 1 / (n_shards * n_slices))
    return Spread(np.array([n_shards], dtype=np.int64), chance)


def spread_over(regions: Sequence[Region], n_shards: int, n_slices: int) -> Spread:
    """The spread of a placement by class.

    Args:
        regions: Where subjects of each class go.
        n_shards: S.
        n_slices: R.

    Returns:
        The spread; shards that the same classes go to are a group.

    Raises:
        ConfigurationError: If a region is not among the shards and slices.
    """
    named = [region.within(n_shards, n_slices) for region in regions]
    pairs = [(region.shards or range(0), region.slices or range(0)) for region in named]
    bounds = sorted({0, n_shards, *(edge for shards, _ in pairs for edge in (shards.start, shards.stop))})
    chance = np.zeros((len(pairs), len(bounds) - 1, n_slices))
    for index, (shards, slices) in enumerate(pairs):
        groups = slice(bounds.index(shards.start), bounds.index(shards.stop))
        chance[index, groups, slices.start : slices.stop] = 1 / (len(shards) * len(slices))
    return Spread(np.diff(bounds).astype(np.int64), chance)


def untouched(spread: Spread, classes: Sequence[RiskClass], hours: float) -> np.ndarray:
    """Probability that none of slices 1..r of a shard loses a subject within a window.

    Args:
        spread: Where subjects lie.
        classes: Who they are.
        hours: Length of the window.

    Returns:
        `[G, R]` float64: of one shard of each group.
    """
    return np.asarray(np.exp(_log_spared(spread, classes, hours).sum(axis=0)))


def expected_recovery(spread: Spread, classes: Sequence[RiskClass], hours: float, work: Work, cores: int) -> Expected:
    """What recovering from the requests of one window together is expected to cost.

    Args:
        spread: Where subjects lie.
        classes: Who they are, and how often they ask.
        hours: Length of the window.
        work: What steps cost.
        cores: Workers that train a chain each.

    Returns:
        The expectation; visits, steps and shards exact but for rounding, seconds as bounds.
    """
    log_spared = _log_spared(spread, classes, hours)
    spared = np.exp(log_spared.sum(axis=0))
    hit = 1 - spared
    per_step = np.zeros(hit.shape)
    whole = np.zeros(hit.shape)
    for index, group in enumerate(classes):
        asks = group.asks_within(hours)
        left = group.subjects * group.records * (1 - asks) * spread.chance[index]
        # The subject whose records are visited again has not asked itself: it is left out of the product.
        one = np.log1p(-np.minimum(np.cumsum(spread.chance[index], axis=1) * asks, _MOST))
        others_hit = -np.expm1(log_spared.sum(axis=0) - one)
        mine = work.visited(left)
        per_step += mine * others_hit
        whole += mine
    shards = spread.shards[:, None]
    visits = float((shards * per_step).sum())
    steps = float((shards * hit).sum())
    training = float((shards * whole).sum())
    seconds = visits * work.seconds_per_visit + steps * work.seconds_per_step
    whole_seconds = whole * work.seconds_per_visit + work.seconds_per_step
    longest = _longest(spread.shards, spared, whole_seconds)
    most = seconds / cores + (1 - 1 / cores) * longest
    return Expected(
        requests=sum(group.subjects * group.asks_within(hours) for group in classes),
        shards=float((spread.shards * hit[:, -1]).sum()),
        steps=steps,
        visits=visits,
        of_training=visits / training if training else 0.0,
        compute_seconds=seconds,
        anybody=-math.expm1(
            sum(group.subjects * math.log1p(-min(group.asks_within(hours), _MOST)) for group in classes)
        ),
        least_seconds=max(seconds / cores, longest),
        most_seconds=most,
        behind=_behind(spread, classes, hours, most / 3600, whole_seconds.sum(axis=1) / 3600),
    )


def _log_spared(spread: Spread, classes: Sequence[RiskClass], hours: float) -> np.ndarray:
    """`[classes, G, R]`: logarithm of the probability that the class spares slices 1..r."""
    within = np.cumsum(spread.chance, axis=2)
    asks = np.array([group.asks_within(hours) for group in classes])[:, None, None]
    subjects = np.array([float(group.subjects) for group in classes])[:, None, None]
    return np.asarray(subjects * np.log1p(-np.minimum(within * asks, _MOST)))


def _longest(shards: np.ndarray, spared: np.ndarray, seconds: np.ndarray) -> float:
    """Expected seconds of the longest chain, shards taken as independent of each other."""
    # A shard that restarts at slice r takes the seconds of steps r..R; for no more than that, 1..r-1 must be spared.
    rest = np.cumsum(seconds[:, ::-1], axis=1)[:, ::-1]
    levels = np.unique(np.append(rest, 0.0))
    log_below = np.zeros(len(levels))
    for group, count in enumerate(shards):
        # By level: how many leading slices have to be spared so that the chain is no longer than it.
        needed = (rest[group][None, :] > levels[:, None]).sum(axis=1)
        chance = np.concatenate([[1.0], spared[group]])[needed]
        log_below += count * np.log(np.maximum(chance, 1e-300))
    return float((np.diff(levels) * -np.expm1(log_below[:-1])).sum())


def _behind(spread: Spread, classes: Sequence[RiskClass], hours: float, recovery: float, chains: np.ndarray) -> float:
    """From the first request that hits a shard until the recovery that ends its window."""
    times = np.append(hours / 2 * (_NODES + 1), hours)
    asks = -np.expm1(-times[:, None] * np.array([group.rate for group in classes]))
    within = spread.chance.sum(axis=2)
    subjects = np.array([float(group.subjects) for group in classes])
    # By time and group: the chance that a shard has been hit by then.
    hit = -np.expm1(
        np.einsum("c,tcg->tg", subjects, np.log1p(-np.minimum(asks[:, :, None] * within[None, :, :], _MOST)))
    )
    # Where a shard of a group is hit, a recovery takes no longer in the mean than one of any window and that shard's
    # chain; and times the chance of that, no longer than one of any window.
    share = _WEIGHTS / 2 @ hit[:-1] + np.minimum(recovery, hit[-1] * (recovery + chains)) / hours
    return float((spread.shards * np.minimum(share, 1)).sum() / spread.shards.sum())
