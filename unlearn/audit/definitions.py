r"""The two definitions of unlearning that surveys state, tested over repeated runs.

*Exact*: the model after unlearning and a retrained one have the same distribution. If so, runs of both kinds are
exchangeable, and permuting which is which gives an exact test whatever is measured on them. The statistic is the energy
distance \(2E|X-Y| - E|X-X'| - E|Y-Y'|\) between the two samples, which is 0 for equal distributions alone, for
numbers as for vectors (Székely and Rizzo 2013). With B permutations \(p = (1 + \#\{T_b \ge T\})/(B+1)\).

*epsilon-approximate*: \(e^{-\varepsilon} \le \Pr[U \in T] / \Pr[A \in T] \le e^{\varepsilon}\) for every event T. It is
refuted by one event whose ratio is outside for certain. Events are tails of a score with thresholds set on other
runs. Each ratio needs four one-sided exact limits (both probabilities, from both sides), so E events spend
\(\alpha/(4E)\) on each.

Neither can be confirmed: a test looks at some events, the definitions speak of all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import comb, ndtri

from unlearn.audit.binomial import lower_limit, upper_limit
from unlearn.audit.epsilon.bound import Verdict
from unlearn.audit.epsilon.clopper_pearson import FIXED, RUNS, certifiable_epsilon
from unlearn.audit.epsilon.inputs import Floats, check_alpha
from unlearn.audit.epsilon.scores import RATES, Scores, tails, thresholds
from unlearn.errors import ConfigurationError, InputError


@dataclass(frozen=True)
class ExactCheck:
    """Whether runs that unlearned differ from runs that retrained.

    Attributes:
        statistic: Energy distance between the two samples; an estimate, above 0 on average even without a difference.
        interval: Where 90 % of its permuted values lie: what no difference looks like.
        p_value: Of the permutation test.
        alpha: At which it is judged.
        verdict: On exact unlearning.
        smallest_p: The smallest p-value that these numbers of runs and permutations allow.
        detectable_shift: About the shift of a normal score that a z-test would find with probability 0.8, in standard
            deviations; None for vectors.
        certifiable: The largest epsilon that as many runs could certify at delta 0, by a perfect test.
        n_in: Runs that unlearned.
        n_out: Runs that retrained.
        permutations: How many were drawn.
        assumptions: In words.
    """

    statistic: float
    interval: tuple[float, float]
    p_value: float
    alpha: float
    verdict: Verdict
    smallest_p: float
    detectable_shift: float | None
    certifiable: float
    n_in: int
    n_out: int
    permutations: int
    assumptions: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        lists = {"interval": list(self.interval), "assumptions": list(self.assumptions)}
        return {"kind": "check of exact unlearning", **asdict(self), **lists, "verdict": str(self.verdict)}


@dataclass(frozen=True)
class Event:
    """One event, under unlearning and under retraining.

    Attributes:
        threshold: Of the score.
        above: Whether the event is that the score is above it; else below.
        unlearned: Observed rate under unlearning.
        retrained: Observed rate under retraining.
        ratio: Confidence interval of the ratio of the two probabilities; the end may be infinity.
    """

    threshold: float
    above: bool
    unlearned: float
    retrained: float
    ratio: tuple[float, float]


@dataclass(frozen=True)
class ApproximateCheck:
    """Whether the ratio of probabilities stays within e to the power of epsilon.

    Attributes:
        epsilon: Claimed.
        alpha: Total probability of a false alarm, over all events.
        verdict: On the claim.
        bound: The largest epsilon that is refuted; 0 if none is.
        certifiable: The largest epsilon that these runs could have refuted.
        events: What was looked at.
        n_in: Runs that unlearned.
        n_out: Runs that retrained.
        assumptions: In words.
    """

    epsilon: float
    alpha: float
    verdict: Verdict
    bound: float
    certifiable: float
    events: tuple[Event, ...]
    n_in: int
    n_out: int
    assumptions: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON; an infinite end of a ratio is the word "infinity"."""
        events = [
            asdict(event) | {"ratio": ["infinity" if math.isinf(end) else end for end in event.ratio]}
            for event in self.events
        ]
        words = {"verdict": str(self.verdict), "events": events, "assumptions": list(self.assumptions)}
        return {"kind": "check of approximate unlearning", **asdict(self), **words}


def check_exact(
    unlearned: npt.ArrayLike,
    retrained: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    alpha: float = 0.05,
    permutations: int = 999,
) -> ExactCheck:
    """Test exact unlearning over repeated runs.

    Args:
        unlearned: `[n_in]` or `[n_in, d]`, what was measured on each run that unlearned.
        retrained: `[n_out]` or `[n_out, d]`, the same on each run that retrained.
        rng: Where permutations come from.
        alpha: Probability of a false alarm.
        permutations: How many to draw.

    Returns:
        The verdict, and what could have been detected.

    Raises:
        ConfigurationError: If alpha or the number of permutations cannot be.
        InputError: If a measurement is not finite, shapes do not fit, or runs are too few for any rejection.
    """
    check_alpha(alpha)
    if permutations < 1:
        raise ConfigurationError(f"there must be a permutation, got {permutations!r}")
    first, second = _measured("runs that unlearned", unlearned), _measured("runs that retrained", retrained)
    if first.shape[1] != second.shape[1]:
        raise InputError(f"runs were measured differently: {first.shape[1]} and {second.shape[1]} numbers each")
    n_in, n_out = len(first), len(second)
    # Swapping the two samples as a whole changes nothing where they are of one size, hence the factor.
    relabellings = comb(n_in + n_out, n_in, exact=True) // (2 if n_in == n_out else 1)
    smallest = max(1 / (permutations + 1), 1 / relabellings)
    if smallest > alpha:
        raise InputError(
            f"{n_in} and {n_out} runs with {permutations} permutations allow no p-value below {smallest:.3g}, so none "
            f"could be at most {alpha:g}: collect more runs, or draw more permutations"
        )
    pooled = np.concatenate([first, second])
    distances = np.sqrt(np.maximum(0.0, ((pooled[:, None, :] - pooled[None, :, :]) ** 2).sum(axis=2)))
    labels = np.zeros((permutations + 1, n_in + n_out))
    labels[0, :n_in] = 1
    for row in range(1, permutations + 1):
        labels[row, rng.permutation(n_in + n_out)[:n_in]] = 1
    statistics = energy_distances(distances, labels)
    # Equal up to rounding is equal: a relabelling that gives the same samples must count.
    tolerance = 1e-9 * max(1.0, float(np.abs(statistics).max()))
    reached = int((statistics[1:] >= statistics[0] - tolerance).sum())
    p_value = (1 + reached) / (permutations + 1)
    low, high = np.quantile(statistics[1:], [0.05, 0.95])
    shift = (
        float((ndtri(1 - alpha / 2) + ndtri(0.8)) * math.sqrt(1 / n_in + 1 / n_out)) if first.shape[1] == 1 else None
    )
    return ExactCheck(
        statistic=float(statistics[0]),
        interval=(float(low), float(high)),
        p_value=p_value,
        alpha=alpha,
        verdict=Verdict.REFUTED if p_value <= alpha else Verdict.NOT_REFUTED,
        smallest_p=smallest,
        detectable_shift=shift,
        certifiable=certifiable_epsilon(n_in, n_out, delta=0.0, alpha=alpha),
        n_in=n_in,
        n_out=n_out,
        permutations=permutations,
        assumptions=(*RUNS, "what was measured on a run was chosen without looking at these runs"),
    )


def energy_distances(distances: Floats, labels: Floats) -> Floats:
    """Energy distance between two samples, for many ways to tell them apart.

    Args:
        distances: `[n, n]` between all measurements.
        labels: `[B, n]`, 1 for the first sample and 0 for the second.

    Returns:
        `[B]` float64, at least 0 but for rounding.
    """
    sizes = labels.sum(axis=1)
    others = labels.shape[1] - sizes
    product = labels @ distances
    within = (product * labels).sum(axis=1)
    across = product.sum(axis=1) - within
    rest = float(distances.sum()) - within - 2 * across
    result: Floats = 2 * across / (sizes * others) - within / sizes**2 - rest / others**2
    return result


def check_approximate(
    scores: Scores,
    calibration: npt.ArrayLike,
    *,
    epsilon: float,
    alpha: float = 0.05,
    rates: Sequence[float] = RATES,
) -> ApproximateCheck:
    """Test epsilon-approximate unlearning over repeated runs, at delta 0.

    Args:
        scores: One score of each run.
        calibration: `[n]` scores of further retrained runs, on which thresholds are set.
        epsilon: Claimed, at least 0.
        alpha: Total probability of a false alarm.
        rates: Probabilities of the events under retraining that are aimed at, named before any score was seen.

    Returns:
        The verdict, and what could have been detected.

    Raises:
        ConfigurationError: If alpha, epsilon or a rate cannot be.
        InputError: If a score cannot be, or runs are too few for any refutation.
    """
    check_alpha(alpha)
    if not epsilon >= 0:
        raise ConfigurationError(f"a claimed epsilon must be at least 0, got {epsilon!r}")
    seen = tails(scores, thresholds(calibration, rates))
    count = len(seen.thresholds)
    # Two limits on two probabilities for each event: twice the tests of a grid, whose limits are two.
    certifiable = certifiable_epsilon(seen.n_in, seen.n_out, delta=0.0, alpha=alpha, tests=2 * count)
    if not certifiable > 0:
        raise InputError(
            f"{seen.n_in} unlearned and {seen.n_out} retrained runs could refute no epsilon with {count} events: "
            "collect more runs, or name fewer rates"
        )
    hits_in, share = seen.n_in - seen.false_negatives, alpha / (4 * count)
    low_in, high_in = lower_limit(hits_in, seen.n_in, share), upper_limit(hits_in, seen.n_in, share)
    hits_out = seen.false_positives
    low_out, high_out = lower_limit(hits_out, seen.n_out, share), upper_limit(hits_out, seen.n_out, share)
    with np.errstate(divide="ignore"):
        low, high = low_in / high_out, np.where(low_out > 0, high_in / np.maximum(low_out, 1e-300), np.inf)
        bounds = np.maximum(np.log(low), -np.log(high))
    bound = max(0.0, float(bounds.max()))
    events = tuple(
        Event(
            threshold=float(seen.thresholds[i]),
            above=i < count // 2,
            unlearned=float(hits_in[i] / seen.n_in),
            retrained=float(hits_out[i] / seen.n_out),
            ratio=(float(low[i]), float(high[i])),
        )
        for i in range(count)
    )
    return ApproximateCheck(
        epsilon=epsilon,
        alpha=alpha,
        verdict=Verdict.REFUTED if bound > epsilon else Verdict.NOT_REFUTED,
        bound=bound,
        certifiable=certifiable,
        events=events,
        n_in=seen.n_in,
        n_out=seen.n_out,
        assumptions=(*RUNS, FIXED, "runs that thresholds were set on are not among those judged"),
    )


def _measured(name: str, values: npt.ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or not array.size:
        raise InputError(f"what was measured on {name} must be [runs] or [runs, numbers], got shape {array.shape}")
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if bad.size:
        raise InputError(
            f"{bad.size} of {len(array)} {name} have a measurement that is not finite (the first is number {bad[0]}): "
            "distances to it mean nothing"
        )
    return array
