r"""The shard-label test: do a sharded model's states remember which shard each forgotten subject was in?

Where a subject goes is a keyed hash of its name, uniform over the shards and independent of all data. After exact
unlearning the states are a function of the records that stay, their places and the seeds; so given all of these, the
labels of the forgotten subjects are exchangeable, and every rearrangement of them is as likely as the true one. With
`c[f, j]` the score of subject f under the state of shard j,

    a[f, j] = (c[f, j] - mean_j c[f, j]) / (std_j c[f, j] + 1/2)
    X_j = sum of a[f, j] over the subjects f with label j,    Z_j = (X_j - E X_j) / sd X_j
    T_sum = (sum_j X_j - E) / sd,   T_max = max_j Z_j,   and both mirrored, for states that know too little

where mean and sd are over the rearrangements, in closed form. The four become one by the least p-value that they would
have, were they normal (`T_max` the greatest of so many), held against the same of every rearrangement, so that

    p = (1 + rearrangements at least as extreme) / (1 + rearrangements drawn)

is exact: `P(p <= x) <= x` for every x, for any learner, any dependence between shards and any number of subjects.
Derivation and assumptions: `unlearn/decisions/0022-two-tests-of-unlearning.md`.

Source: Phipson and Smyth 2010, Permutation P-values Should Never Be Zero, for the one added; Westfall and Young 1993,
Resampling-Based Multiple Testing, for the least p-value; Hoeffding 1951, A Combinatorial Central Limit Theorem, for
mean and sd.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from unlearn.errors import InputError

Verdict = Literal["refuted", "not refuted"]

PERMUTATIONS = 9_999
STATISTICS = ("sum", "maximum", "deficit sum", "deficit maximum")
"""What is looked at: knowing more than chance, over all shards and in one; and knowing less."""

RANDOM_PLACEMENT = ("keyed", "shuffled")
"""Placements that are exchangeable by themselves: a keyed hash of the subject, or a random order dealt out."""

SOFTENING = 0.5
"""Added to the spread of a subject's scores, in their unit, so that small spreads are not blown up."""

_CHUNK = 1_000_000
"""Labels rearranged at a time; bounds memory to some tens of megabytes."""

_PLANTED = 8
_HALVINGS = 8
_MOST_ADVANTAGE = 1e4
"""Arrangements in which advantages are planted, how closely the least one found is looked for, and how far."""


@dataclass(frozen=True)
class Statistic:
    """One statistic.

    Attributes:
        name: One of `STATISTICS`.
        value: In standard deviations over the rearrangements, from their mean.
        p_value: Of it alone.
        critical: The value from which on the whole test refutes; None where no rearrangement gives one.
    """

    name: str
    value: float
    p_value: float
    critical: float | None


@dataclass(frozen=True)
class Detectable:
    """What a test could have found: the smaller, the sharper.

    Attributes:
        power: With which probability.
        everywhere: Least advantage of a subject's own shard, in units of the scores, found if all subjects have it.
        one_shard: The same if only subjects of one shard have it, for the shard where that is hardest. None, here and
            there: nothing, since there are too few rearrangements.
    """

    power: float
    everywhere: float | None
    one_shard: float | None


@dataclass(frozen=True)
class ShardLabelTest:
    """What the test found.

    Attributes:
        verdict: `"refuted"` or `"not refuted"`; never more.
        p_value: Exact, of all statistics together.
        alpha: The level it is held against: the probability of refuting exact unlearning.
        statistics: Each of them.
        shards: Shard to its own statistic `Z_j`, for the shards that had any of the subjects.
        advantage: Estimate of how much higher subjects score under their own shard than by chance, in units of the
            scores.
        interval: Where that is with probability `1 - alpha`, if it is the same for all subjects.
        epsilon_lower: No (ε, δ)-unlearning of all these subjects together, with the given δ, has a lower ε, at
            confidence `1 - alpha`; at most `epsilon_largest`.
        epsilon_largest: The largest such bound that so many rearrangements can give.
        delta: The δ.
        n_subjects: Subjects tested.
        n_strata: Groups inside which labels are rearranged.
        permutations: Rearrangements drawn.
        seed: They were drawn from.
    """

    verdict: Verdict
    p_value: float
    alpha: float
    statistics: tuple[Statistic, ...]
    shards: dict[int, float]
    advantage: float
    interval: tuple[float, float]
    epsilon_lower: float
    epsilon_largest: float
    delta: float
    n_subjects: int
    n_strata: int
    permutations: int
    seed: int


@dataclass(frozen=True)
class _Case:
    """Subjects in the order of their strata.

    Attributes:
        scores: `[K, S]` float64.
        labels: `[K]` int64.
        bounds: `[H + 1]`: where strata begin, and the end.
    """

    scores: np.ndarray
    labels: np.ndarray
    bounds: np.ndarray

    def strata(self) -> Iterator[slice]:
        """Rows of each stratum."""
        for start, end in zip(self.bounds[:-1].tolist(), self.bounds[1:].tolist(), strict=True):
            yield slice(start, end)


@dataclass(frozen=True)
class _Moments:
    """Mean and standard deviation of `X_j` `[S]` and of their sum over all rearrangements."""

    mean: np.ndarray
    sd: np.ndarray
    sum_mean: float
    sum_sd: float

    def standardised(self, sums: np.ndarray) -> np.ndarray:
        """The statistics `[4, B]` of sums `[B, S]`; what cannot vary is 0."""
        z = np.divide(sums - self.mean, self.sd, out=np.zeros_like(sums), where=self.sd > 0)
        total = (sums.sum(axis=1) - self.sum_mean) / self.sum_sd if self.sum_sd > 0 else np.zeros(len(sums))
        return np.stack([total, z.max(axis=1), -total, -z.min(axis=1)])


def shard_label_test(
    scores: np.ndarray,
    labels: np.ndarray,
    *,
    placement: str = "keyed",
    strata: np.ndarray | None = None,
    alpha: float = 0.05,
    delta: float = 0.0,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> ShardLabelTest:
    """Test exact unlearning by rearranging the shard labels of the forgotten subjects.

    Args:
        scores: `[K, S]`: how well each forgotten subject's records fit under the state of each shard; larger for
            records the state has seen. A subject is one row (`subject_scores`), since all its records share a label.
            No subject may still have records in the data: they would tell its label.
        labels: `[K]`: column of the shard each subject was in.
        placement: How subjects came into shards: `"keyed"` or `"shuffled"`, which are random; anything else names a
            rule that looks at subjects, and needs strata.
        strata: `[K]`: groups inside which the placement is random and what was forgotten weighs the same: the risk
            class, the batch, or the slice. None: one group.
        alpha: Probability of refuting exact unlearning, in (0, 1).
        delta: The δ of the bound on ε, below alpha.
        permutations: Rearrangements to draw, at least `1 / alpha - 1`.
        seed: Rearrangements are drawn from it. It is part of the result, and must be chosen before looking.

    Returns:
        The result.

    Raises:
        InputError: If the placement is not random and there are no strata; if no rearrangement changes anything, so
            that nothing can be tested; or if arguments do not fit together.
    """
    _check_settings(alpha, delta, permutations)
    if placement not in RANDOM_PLACEMENT and strata is None:
        raise InputError(
            f"placement {placement!r} is not random by itself, so labels are not exchangeable: give strata, the groups "
            f"inside which it is random; or, if it is, say so: {' or '.join(map(repr, RANDOM_PLACEMENT))}"
        )
    case = _arranged(scores, labels, strata)
    shares = studentised(case.scores)
    moments = _moments(shares, case)
    if not moments.sum_sd > 0 and not (moments.sd > 0).any():
        raise InputError(
            f"no rearrangement of the labels of the subjects presented ({len(case.labels)}) changes anything (one "
            "subject, one shard, or equal scores in each stratum), so nothing can be tested: present more forgotten "
            "records, of several requests together"
        )
    if not moments.sum_sd > 0:
        raise InputError("the scores do not tell shards apart in sum: add subjects of other shards")
    rng = np.random.default_rng(seed)
    observed = _sums(shares, case.labels[None])
    drawn = [_sums(shares, some) for some in _rearranged(case, permutations, rng)]
    found = moments.standardised(np.concatenate([observed, *drawn]))
    alone = _p_values(found)
    extreme = _extremeness(found, int((moments.sd > 0).sum()))
    together = _p_values(extreme[None])[0]
    p_value = float(together[0])
    critical = _critical(found, extreme, together, alpha, int((moments.sd > 0).sum()))
    values = found[:, 0]
    advantage, interval = _advantage(case, alpha)
    present = np.unique(case.labels).tolist()
    z = np.divide(observed[0] - moments.mean, moments.sd, out=np.zeros(len(moments.sd)), where=moments.sd > 0)
    return ShardLabelTest(
        verdict="refuted" if p_value <= alpha else "not refuted",
        p_value=p_value,
        alpha=alpha,
        statistics=tuple(
            Statistic(name, float(values[k]), float(alone[k, 0]), _finite(critical[k]))
            for k, name in enumerate(STATISTICS)
        ),
        shards={int(shard): float(z[shard]) for shard in present},
        advantage=advantage,
        interval=interval,
        epsilon_lower=max(0.0, math.log((alpha - delta) / p_value)),
        epsilon_largest=max(0.0, math.log((alpha - delta) * (permutations + 1))),
        delta=delta,
        n_subjects=len(case.labels),
        n_strata=len(case.bounds) - 1,
        permutations=permutations,
        seed=seed,
    )


def subject_scores(scores: np.ndarray, subjects: np.ndarray) -> np.ndarray:
    """One row for each subject: the sum of its records' scores over the square root of how many there are.

    Args:
        scores: `[n, S]` of records.
        subjects: `[n]` number of each record's subject, from 0 without gaps.

    Returns:
        `[K, S]` float64.
    """
    counts = np.bincount(subjects)
    sums = np.stack([np.bincount(subjects, column) for column in np.asarray(scores, dtype=np.float64).T], axis=1)
    result: np.ndarray = sums / np.sqrt(counts)[:, None]
    return result


def studentised(scores: np.ndarray) -> np.ndarray:
    """Scores of each row from their mean, over their standard deviation plus `SOFTENING`.

    Args:
        scores: `[K, S]`.

    Returns:
        `[K, S]`.
    """
    centred = scores - scores.mean(axis=1, keepdims=True)
    result: np.ndarray = centred / (scores.std(axis=1, keepdims=True) + SOFTENING)
    return result


def own_advantage(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How much higher each subject scores under its own shard than under the others on average.

    Args:
        scores: `[K, S]`.
        labels: `[K]`.

    Returns:
        `[K]`.
    """
    n_shards = scores.shape[1]
    own = np.take_along_axis(scores, labels[:, None], axis=1)[:, 0]
    result: np.ndarray = (own - scores.mean(axis=1)) * (n_shards / (n_shards - 1))
    return result


def least_detectable(
    result: ShardLabelTest,
    scores: np.ndarray,
    labels: np.ndarray,
    *,
    strata: np.ndarray | None = None,
    power: float = 0.95,
    seed: int = 0,
) -> Detectable:
    """The least advantage of subjects under their own shard that the test would have found.

    Labels are rearranged, the advantage is added to every subject's score under its own shard, and the statistic that
    looks for it is to be so far beyond what refutes that it stays there with the given probability.

    Args:
        result: Of the test of these scores and labels.
        scores: As there.
        labels: As there.
        strata: As there.
        power: With which probability, in (0, 1).
        seed: Of the arrangements.

    Returns:
        The least advantages, to within a percent or so.

    Raises:
        InputError: If the power is none.
    """
    if not 0 < power < 1:
        raise InputError(f"power must be between 0 and 1, got {power}")
    case, critical = _arranged(scores, labels, strata), _bounds(result)
    rng = np.random.default_rng(seed)
    arrangements = [now for block in _rearranged(case, _PLANTED, rng) for now in block]
    counts = np.bincount(case.labels, minlength=case.scores.shape[1])
    hardest = int(np.where(counts > 0, counts, counts.max() + 1).argmin())
    reserve = NormalDist().inv_cdf(power)

    def everywhere(moments: _Moments, sums: np.ndarray) -> float:
        return float(moments.standardised(sums)[0, 0] - critical[0])

    def one_shard(moments: _Moments, sums: np.ndarray) -> float:
        sd = moments.sd[hardest]
        return float((sums[0, hardest] - moments.mean[hardest]) / sd - critical[1]) if sd > 0 else -math.inf

    def least(excess: Callable[[_Moments, np.ndarray], float], shard: int | None) -> float | None:
        def is_found(advantage: float) -> bool:
            over = []
            for now in arrangements:
                planted = case.scores.copy()
                chosen = np.flatnonzero((now == shard) if shard is not None else np.ones(len(now), dtype=bool))
                planted[chosen, now[chosen]] += advantage
                shares = studentised(planted)
                over.append(excess(_moments(shares, case), _sums(shares, now[None])))
            return float(np.mean(over)) >= reserve

        high = 1.0
        while not is_found(high):
            high *= 2
            if high > _MOST_ADVANTAGE:
                return None
        low = 0.0
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if is_found(middle) else (middle, high)
        return high

    return Detectable(power, least(everywhere, None), least(one_shard, hardest))


def power_against(
    result: ShardLabelTest,
    scores: np.ndarray,
    labels: np.ndarray,
    members: np.ndarray,
    *,
    shards: int | None,
    strata: np.ndarray | None = None,
    repetitions: int = 100,
    seed: int = 0,
) -> float:
    """Estimate how often the test would have refuted, had some shards still known their forgotten subjects.

    Labels are rearranged, and in so many shards, drawn anew each time among those that had any of the subjects, each
    subject's score under its own shard is put above the others' by what members of the model have.

    Args:
        result: Of the test of these scores and labels.
        scores: As there.
        labels: As there.
        members: Advantages (`own_advantage`) of subjects that are in the data.
        shards: How many shards still know theirs; None: all.
        strata: As there.
        repetitions: How often to try.
        seed: Of the draws.

    Returns:
        Share of the repetitions that refute.

    Raises:
        InputError: If there are no members to compare with.
    """
    if not len(members):
        raise InputError("no members are given, so it cannot be said how much a shard knows of what it has seen")
    case = _arranged(scores, labels, strata)
    rng = np.random.default_rng(seed)
    critical = _bounds(result)
    present = np.unique(case.labels)
    rows = np.arange(len(case.labels))
    n_shards = case.scores.shape[1]
    refuted = 0
    for arrangement in _rearranged(case, repetitions, rng):
        for now in arrangement:
            chosen = present if shards is None else rng.choice(present, min(shards, len(present)), replace=False)
            known = np.isin(now, chosen)
            planted = case.scores.copy()
            own = planted[rows, now]
            others = (planted.sum(axis=1) - own) / (n_shards - 1)
            planted[rows, now] = np.where(known, others + rng.choice(members, len(rows)), own)
            shares = studentised(planted)
            moments = _moments(shares, case)
            refuted += bool((moments.standardised(_sums(shares, now[None]))[:, 0] >= critical).any())
    return refuted / repetitions


def _check_settings(alpha: float, delta: float, permutations: int) -> None:
    if not 0 < alpha < 1:
        raise InputError(f"alpha must be between 0 and 1, got {alpha}")
    if not 0 <= delta < alpha:
        raise InputError(f"delta must be at least 0 and below alpha ({alpha}), got {delta}")
    if permutations < math.ceil(1 / alpha - 1 - 1e-9):
        raise InputError(
            f"{permutations} permutations cannot give a p-value of {alpha}: draw at least {math.ceil(1 / alpha - 1)}"
        )


def _arranged(scores: np.ndarray, labels: np.ndarray, strata: np.ndarray | None) -> _Case:
    values = np.asarray(scores, dtype=np.float64)
    marks = np.asarray(labels)
    if values.ndim != 2 or values.shape[1] < 2 or marks.shape != values.shape[:1] or not len(values):
        raise InputError(
            f"scores must be [subjects, shards] of at least two shards, and labels [subjects]; got {values.shape} and "
            f"{marks.shape}"
        )
    if not np.issubdtype(marks.dtype, np.integer) or marks.min() < 0 or marks.max() >= values.shape[1]:
        raise InputError(f"labels must be columns of the scores, 0 to {values.shape[1] - 1}")
    if not np.isfinite(values).all():
        raise InputError("a score is not finite: bound losses before they are compared")
    groups = np.zeros(len(marks), dtype=np.int64) if strata is None else np.asarray(strata)
    if groups.shape != marks.shape:
        raise InputError(f"strata must have one entry a subject ({len(marks)}), got {groups.shape}")
    order = np.argsort(groups, kind="stable")
    _, counts = np.unique(groups, return_counts=True)
    return _Case(values[order], marks[order].astype(np.int64), np.concatenate([[0], np.cumsum(counts)]))


def _rearranged(case: _Case, number: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """So many rearrangements within strata, some `[b, K]` at a time."""
    size = max(1, _CHUNK // len(case.labels))
    for start in range(0, number, size):
        block = np.tile(case.labels, (min(size, number - start), 1))
        for rows in case.strata():
            block[:, rows] = rng.permuted(block[:, rows], axis=1)
        yield block


def _sums(shares: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """`X_j` `[B, S]` of labels `[B, K]`."""
    number, n_shards = len(labels), shares.shape[1]
    picked = shares[np.arange(len(shares)), labels]
    at = labels + n_shards * np.arange(number)[:, None]
    return np.bincount(at.ravel(), picked.ravel(), number * n_shards).reshape(number, n_shards)


def _moments(shares: np.ndarray, case: _Case) -> _Moments:
    """Moments of a random matching of subjects and labels within each stratum (Hoeffding 1951)."""
    n_shards = shares.shape[1]
    mean, variance, total, total_variance = np.zeros(n_shards), np.zeros(n_shards), 0.0, 0.0
    for rows in case.strata():
        part, size = shares[rows], rows.stop - rows.start
        counts = np.bincount(case.labels[rows], minlength=n_shards)
        centre = part.mean(axis=0)
        mean += counts * centre
        total += float(counts @ centre)
        if size < 2:
            continue
        off = part - centre
        variance += counts * (1 - counts / size) * (off**2).sum(axis=0) / (size - 1)
        double = off - (off @ counts / size)[:, None]
        total_variance += float((double**2 @ counts).sum()) / (size - 1)
    # What rounding leaves of nothing is nothing.
    floor = 1e-18 * max(1.0, float((shares**2).sum()))
    variance[variance < floor] = 0
    return _Moments(mean, np.sqrt(variance), total, math.sqrt(total_variance) if total_variance >= floor else 0.0)


def _p_values(found: np.ndarray) -> np.ndarray:
    """For each row, the share of the entries at least as large as each, itself among them."""
    result = np.empty_like(found)
    for row, values in enumerate(found):
        # What differs by rounding alone is equal: the same arrangement, summed in another order.
        rounded = np.round(values, 9)
        ordered = np.sort(rounded)
        result[row] = (len(values) - np.searchsorted(ordered, rounded, side="left")) / len(values)
    return result


def _extremeness(found: np.ndarray, n_shards: int) -> np.ndarray:
    """How extreme statistics `[4, B]` are together `[B]`: minus the logarithm of the least p-value they would have."""
    from scipy.special import log_ndtr

    # A maximum is the greatest of so many; a fixed rule, so that the test is exact whatever it is.
    tails = log_ndtr(-found) + np.log([1.0, n_shards, 1.0, n_shards])[:, None]
    result: np.ndarray = -tails.min(axis=0)
    return result


def _critical(found: np.ndarray, extreme: np.ndarray, together: np.ndarray, alpha: float, n_shards: int) -> np.ndarray:
    """From which value on each statistic `[4]` makes the whole test refute; infinite where none does."""
    from scipy.special import ndtri_exp

    refuting = extreme[together <= alpha]
    if not len(refuting):
        return np.full(len(found), math.inf)
    tails = -refuting.min() - np.log([1.0, n_shards, 1.0, n_shards])
    result: np.ndarray = -ndtri_exp(np.minimum(tails, 0.0))
    return result


def _advantage(case: _Case, alpha: float) -> tuple[float, tuple[float, float]]:
    """Mean advantage of the own shard over chance, in units of the scores, with its interval."""
    n_shards = case.scores.shape[1]
    centred = (case.scores - case.scores.mean(axis=1, keepdims=True)) * (n_shards / (n_shards - 1))
    moments = _moments(centred, case)
    size = len(case.labels)
    estimate = (float(_sums(centred, case.labels[None]).sum()) - moments.sum_mean) / size
    margin = NormalDist().inv_cdf(1 - alpha / 2) * moments.sum_sd / size
    return estimate, (estimate - margin, estimate + margin)


def _bounds(result: ShardLabelTest) -> np.ndarray:
    return np.array([math.inf if item.critical is None else item.critical for item in result.statistics])


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
