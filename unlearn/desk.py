"""Simulate a deletion desk: requests come in, are recovered together window by window, on so many cores.

Requests of each risk class come as a Poisson process that thins out, since everybody asks once. A request takes effect
when it comes, so its shard is behind from then on; at the end of each window the desk recovers from all requests that
came in it, longest chain first. If it is still at the last recovery, the next one begins when that ends, with all
windows that have closed by then: work piles up no higher than one training of everything.

The state is how many subjects of each class every slice holds, never a record, so that memory and time depend on
shards, slices and windows, and not on how many records there are. Times of single requests are not drawn either: given
how many came in a window, their distribution is known, and quantiles are taken of the mixture.

One thing is simplified: a request that comes during a recovery waits for the next one. In the program it joins the one
under way, and stops the shard it hits if that is in training; the difference is small as long as the desk is idle most
of the time.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shards.cost_expected import RiskClass, Spread, Work
from unlearn.errors import ConfigurationError

DAY = 24.0
"""Hours."""


@dataclass(frozen=True)
class Desk:
    """How requests are served.

    Attributes:
        window_hours: Requests of so many hours are recovered together.
        cores: Workers, each training a chain at a time.
        deadline_hours: Until when a request should be recovered, from when it came.
    """

    window_hours: float
    cores: int
    deadline_hours: float

    def __post_init__(self) -> None:
        if not self.window_hours > 0 or self.cores < 1 or not self.deadline_hours > 0:
            raise ConfigurationError(
                f"a desk needs a window and a deadline of more than 0 hours and at least one core, got "
                f"{self.window_hours}, {self.deadline_hours} and {self.cores}"
            )


@dataclass(frozen=True)
class Simulated:
    """What the desk did.

    Attributes:
        days: From the first request to the last window's end, or to the end of the last recovery if that is later.
        requests: Requests recovered.
        recoveries: How often the desk recovered.
        median_hours: Of the time from a request to the end of its recovery.
        p99_hours: 99th percentile of that time.
        late: Share of the requests recovered after the deadline.
        visits_per_day: Record-visits.
        utilisation: Share of all cores' time that is work.
        behind_shard_hours: Hours that shards served less than all of their records, summed over shards.
        behind: The same as a share of all shards' time.
        of_retraining: Record-visits as a share of those of training everything again in each window with a request.
    """

    days: float
    requests: int
    recoveries: int
    median_hours: float
    p99_hours: float
    late: float
    visits_per_day: float
    utilisation: float
    behind_shard_hours: float
    behind: float
    of_retraining: float


def simulate(
    spread: Spread, classes: Sequence[RiskClass], desk: Desk, work: Work, *, days: float, seed: int
) -> Simulated:
    """Run a desk for some days.

    Args:
        spread: Where subjects of each class may lie.
        classes: Who they are, and how often they ask.
        desk: How requests are served.
        work: What steps cost.
        days: Windows that close within so many days are served; at least one must.
        seed: Of the random numbers; equal seeds give equal results.

    Returns:
        What happened.

    Raises:
        ConfigurationError: If no window closes within these days.
    """
    windows = int(days * DAY / desk.window_hours + 1e-9)
    if windows < 1:
        raise ConfigurationError(
            f"no window of {desk.window_hours:g} hours closes within {days:g} days: simulate longer, or shorten it"
        )
    rng = np.random.default_rng(seed)
    counts = _Counts(spread, classes, rng)
    tally = _Tally(np.array([group.rate for group in classes]), len(counts.chain_end))
    closed, free = 0, 0.0
    while closed < windows:
        # All windows that have closed when the desk is free; at least one.
        until = min(max(closed + 1, int(free / desk.window_hours + 1e-9)), windows)
        opened, close = closed * desk.window_hours, until * desk.window_hours
        closed = until
        asked = counts.take(close - opened)
        if not asked.any():
            continue
        start = max(close, free)
        chosen, visits, hours = counts.chains(asked, work)
        ends = start + _longest_first(hours, desk.cores)
        free = float(ends.max())
        tally.recoveries.append((opened, close, free, asked.sum(axis=(1, 2))))
        tally.visits += float(visits.sum())
        tally.work_hours += float(hours.sum())
        tally.retraining_visits += counts.training_visits(work)
        tally.behind_hours += counts.behind(asked[:, chosen].sum(axis=2), chosen, opened, close - opened, ends)
    span = max(windows * desk.window_hours, free)
    return tally.summary(desk, span)


class _Counts:
    """How many subjects of each class lie in every slice, and until when each shard's last recovery lasted."""

    def __init__(self, spread: Spread, classes: Sequence[RiskClass], rng: np.random.Generator) -> None:
        self._classes, self._rng = classes, rng
        self._records = np.array([group.records for group in classes])
        chance = np.repeat(spread.chance, spread.shards, axis=1)
        self._left = np.stack(
            [
                rng.multinomial(group.subjects, each.ravel() / each.sum()).reshape(each.shape)
                for group, each in zip(classes, chance, strict=True)
            ]
        )
        self.chain_end = np.zeros(chance.shape[1])

    def take(self, hours: float) -> np.ndarray:
        """Who asks within so many hours, `[classes, S, R]` int64; they are gone after that."""
        chance = np.array([group.asks_within(hours) for group in self._classes])[:, None, None]
        asked = self._rng.binomial(self._left, chance)
        self._left -= asked
        return asked

    def chains(self, asked: np.ndarray, work: Work) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Shards hit, and of each the record-visits and hours of its chain."""
        hits = asked.sum(axis=0)
        chosen = np.flatnonzero(hits.any(axis=1))
        records = np.einsum("c,csr->sr", self._records, self._left[:, chosen])
        first = (hits[chosen] > 0).argmax(axis=1)
        again = np.arange(hits.shape[1]) >= first[:, None]
        void = np.cumsum(records, axis=1) == 0
        visits = (work.visited(records) * again).sum(axis=1)
        steps = (again & ~void).sum(axis=1)
        return chosen, visits, (visits * work.seconds_per_visit + steps * work.seconds_per_step) / 3600

    def training_visits(self, work: Work) -> float:
        """Record-visits of training everything that is left."""
        return float(work.visited(np.einsum("c,csr->r", self._records, self._left)).sum())

    def behind(self, asked: np.ndarray, chosen: np.ndarray, opened: float, hours: float, ends: np.ndarray) -> float:
        """Hours that the shards hit were behind for this window's requests and not for earlier ones already.

        Args:
            asked: `[classes, hit]`: requests of each class in each of them.
            chosen: `[hit]`: the shards.
            opened: When the window began.
            hours: How long it lasted.
            ends: `[hit]`: when each one's recovery ended.

        Returns:
            Hours, summed over shards.
        """
        first = np.full(len(chosen), np.inf)
        for group, count in zip(self._classes, asked, strict=True):
            # The first of n requests: the smallest of n values of one distribution function.
            share = 1 - self._rng.random(len(chosen)) ** (1 / np.maximum(count, 1))
            first = np.where(count > 0, np.minimum(first, _when(share, group.rate, hours)), first)
        since = np.maximum(opened + first, self.chain_end[chosen])
        self.chain_end[chosen] = ends
        return float(np.maximum(ends - since, 0).sum())


@dataclass
class _Tally:
    """What is added up on the way."""

    rates: np.ndarray
    n_shards: int

    def __post_init__(self) -> None:
        self.recoveries: list[tuple[float, float, float, np.ndarray]] = []
        self.visits = self.work_hours = self.retraining_visits = self.behind_hours = 0.0

    def summary(self, desk: Desk, span: float) -> Simulated:
        """All of it, over a span of hours."""
        latency = _Latency(self.recoveries, self.rates)
        return Simulated(
            days=span / DAY,
            requests=int(latency.weights.sum()),
            recoveries=len(self.recoveries),
            median_hours=latency.quantile(0.5),
            p99_hours=latency.quantile(0.99),
            late=1 - latency.within(desk.deadline_hours),
            visits_per_day=self.visits / span * DAY,
            utilisation=self.work_hours / (desk.cores * span),
            behind_shard_hours=self.behind_hours,
            behind=self.behind_hours / (self.n_shards * span),
            of_retraining=self.visits / self.retraining_visits if self.retraining_visits else 0.0,
        )


class _Latency:
    """Times from request to recovery: a mixture over recoveries and classes, of times within a window."""

    def __init__(self, recoveries: Sequence[tuple[float, float, float, np.ndarray]], rates: np.ndarray) -> None:
        table = np.array([item[:3] for item in recoveries]).reshape(-1, 3)
        self._opened, self._close, self._end = table[:, :1], table[:, 1:2], table[:, 2:]
        self._rates = rates[None, :]
        self.weights = np.array([item[3] for item in recoveries]).reshape(len(recoveries), len(rates))

    def within(self, hours: float) -> float:
        """Share of the requests that took at most so long; 1 if there were none."""
        total = self.weights.sum()
        if not total:
            return 1.0
        came = self._end - hours - self._opened
        share = 1 - _arrived(came, self._rates, self._close - self._opened)
        return float((share * self.weights).sum() / total)

    def quantile(self, share: float) -> float:
        """The time that this share of the requests did not exceed, in hours; 0 if there were none."""
        low, high = 0.0, float((self._end - self._opened).max(initial=0.0))
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if self.within(middle) >= share else (middle, high)
        return high


def _arrived(since: np.ndarray, rate: np.ndarray, hours: np.ndarray) -> np.ndarray:
    """Of those who ask within a window: the share that has asked so many hours after it opened."""
    since = np.clip(since, 0, hours)
    rate = np.maximum(rate, 1e-300)
    return np.asarray(np.expm1(-rate * since) / np.expm1(-rate * hours))


def _when(share: np.ndarray, rate: float, hours: float) -> np.ndarray:
    """The inverse: hours after the window opened at which this share of those who ask has asked."""
    rate = max(rate, 1e-300)
    return np.asarray(-np.log1p(share * np.expm1(-rate * hours)) / rate)


def _longest_first(hours: np.ndarray, cores: int) -> np.ndarray:
    """When each chain ends if every free core takes the longest one left."""
    if len(hours) <= cores:
        return hours
    ends = np.empty(len(hours))
    free = [0.0] * cores
    for chain in np.argsort(-hours, kind="stable"):
        ends[chain] = free[0] + hours[chain]
        heapq.heapreplace(free, ends[chain])
    return ends
