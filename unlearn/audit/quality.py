r"""The forgetting quality of the NeurIPS 2023 unlearning challenge (arXiv 2406.09073): a *score*, never a bound.

For each forgotten example s there are N unlearned and N retrained models, each with a statistic phi of s: its
logit-scaled confidence. With the error rates a and b of a rule that tells the two kinds apart,

\[ \varepsilon_s = \max_{rules} \max\{\ln(1-\delta-a) - \ln b,\; \ln(1-\delta-b) - \ln a\}, \qquad
0 \le \varepsilon_s \le 50, \]

over rules "at or above a threshold" (for the kind with the larger median) and "within an interval" (for the kind with
the smaller range). A rule with one rate 0 is left out, one with both 0 gives the cap, and so does a range below 1 %
of the other. Bins of width 0.5 give \(1, \tfrac12, \tfrac14, \ldots\) points, and none from \(\lceil\ln(N-1)\rceil\)
on; the quality is their mean, times the ratios of accuracy on retained and on test data.

Observed rates are taken for probabilities and the best rule is picked in hindsight. So retrained models compared with
retrained models do not get 1, but about a third by the first kind of rule, and less by both. The score says something
beside that figure only, which is why the function asks for a second set of retrained models.

Rules here are all that differ on the data, where the released code tries a fine grid of thresholds: a little more is
found.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unlearn.audit.epsilon.inputs import Floats, check_delta
from unlearn.errors import InputError

CAP = 50.0
_BUFFER = 2.0
_PEAKY = 0.01


@dataclass(frozen=True)
class ForgettingQuality:
    """A score, and what exact unlearning gets in its place.

    Attributes:
        score: Forgetting quality of the unlearned models, in [0, 1]; larger is better.
        null: The same of retrained models against retrained models: what exact unlearning is expected to get.
        interval: Where 95 % of bootstrap resamples of examples put score minus null; about these models alone.
        mean_epsilon: Mean over examples of the unlearned models' epsilon_s: a point estimate, no bound.
        null_mean_epsilon: The same of retrained models.
        final: Score times the ratios of accuracy; None if no accuracy was given.
        models: N.
        examples: Forgotten examples.
        note: What the score is not.
    """

    score: float
    null: float
    interval: tuple[float, float]
    mean_epsilon: float
    null_mean_epsilon: float
    final: float | None
    models: int
    examples: int
    note: str = (
        "a score with thresholds picked in hindsight: neither a bound on epsilon nor a test; read it beside its null"
    )

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {"kind": "score", **asdict(self), "interval": list(self.interval)}


def forgetting_quality(
    unlearned: npt.ArrayLike,
    retrained: npt.ArrayLike,
    retrained_again: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    retain_accuracy: tuple[float, float] | None = None,
    test_accuracy: tuple[float, float] | None = None,
    delta: float = 1e-5,
    resamples: int = 1000,
) -> ForgettingQuality:
    """The challenge's score, beside the score of retraining.

    Args:
        unlearned: `[models, examples]` statistic of each forgotten example under each unlearned model.
        retrained: `[models, examples]` the same under retrained models.
        retrained_again: `[models, examples]` the same under other retrained models.
        rng: Where bootstrap resamples of examples come from.
        retain_accuracy: Of unlearned and of retrained models, on retained data.
        test_accuracy: Of unlearned and of retrained models, on test data; given together with the other or not at all.
        delta: That epsilon_s is stated for.
        resamples: Bootstrap resamples.

    Returns:
        The score and its null.

    Raises:
        ConfigurationError: If delta cannot be.
        InputError: If shapes differ, there are fewer than 4 models, a statistic is not finite, or accuracies cannot be.
    """
    check_delta(delta)
    arrays = [np.asarray(one, dtype=np.float64) for one in (unlearned, retrained, retrained_again)]
    if len({array.shape for array in arrays}) > 1 or arrays[0].ndim != 2 or not arrays[0].size:
        raise InputError(f"all must be [models, examples], all the same, got {[array.shape for array in arrays]}")
    models, examples = arrays[0].shape
    if models < 4:
        raise InputError(f"{models} models of a kind leave no bin to give points for: train at least 4")
    if not all(np.isfinite(array).all() for array in arrays):
        raise InputError("a statistic is not finite: scale confidences so that 0 and 1 do not become infinite")
    if np.shares_memory(arrays[1], arrays[2]) or np.array_equal(arrays[1], arrays[2]):
        raise InputError("both sets of retrained models are the same: the null needs others, trained with fresh seeds")
    final = _utility(retain_accuracy, test_accuracy)
    epsilons = np.array([example_epsilon(arrays[0][:, i], arrays[1][:, i], delta) for i in range(examples)])
    nulls = np.array([example_epsilon(arrays[2][:, i], arrays[1][:, i], delta) for i in range(examples)])
    points, null_points = points_of(epsilons, models), points_of(nulls, models)
    drawn = rng.integers(examples, size=(resamples, examples))
    low, high = np.quantile((points - null_points)[drawn].mean(axis=1), [0.025, 0.975])
    score = float(points.mean())
    return ForgettingQuality(
        score=score,
        null=float(null_points.mean()),
        interval=(float(low), float(high)),
        mean_epsilon=float(epsilons.mean()),
        null_mean_epsilon=float(nulls.mean()),
        final=None if final is None else score * final,
        models=models,
        examples=examples,
    )


def points_of(epsilons: Floats, models: int) -> Floats:
    """Points for each example: halved for every half of epsilon, none beyond what the models could show.

    Args:
        epsilons: `[examples]`.
        models: N of each kind.

    Returns:
        `[examples]` float64 in [0, 1].
    """
    bins = np.floor(epsilons / 0.5)
    return np.where(0.5 * (bins + 1) <= math.ceil(math.log(models - 1)), 0.5**bins, 0.0)


def example_epsilon(unlearned: Floats, retrained: Floats, delta: float = 1e-5) -> float:
    """The challenge's epsilon of one example.

    Args:
        unlearned: `[N]` finite statistics under unlearned models.
        retrained: `[N]` under retrained models.
        delta: At least 0.

    Returns:
        In [0, 50].
    """
    ranges = sorted((float(np.ptp(unlearned)), float(np.ptp(retrained))))
    if ranges[1] == 0 or ranges[0] / ranges[1] < _PEAKY:
        return CAP
    single, double = _above(unlearned, retrained), _within(unlearned, retrained)
    a, b = (np.concatenate(parts) for parts in zip(single, double, strict=True))
    if ((a == 0) & (b == 0)).any():
        return CAP
    kept = (a > 0) & (b > 0)
    a, b = a[kept], b[kept]
    # A rule that is nearly always wrong has a numerator below 0, and says nothing.
    quotients = np.concatenate([(1 - delta - a) / b, (1 - delta - b) / a, [1.0]])
    return min(CAP, math.log(float(quotients.max())))


def _above(unlearned: Floats, retrained: Floats) -> tuple[Floats, Floats]:
    """Error rates of "at or above a threshold" for the kind with the larger median."""
    larger = np.median(retrained) > np.median(unlearned)
    sought, others = (retrained, unlearned) if larger else (unlearned, retrained)
    cuts = np.unique(np.concatenate([sought, others]))
    missed = np.searchsorted(np.sort(sought), cuts, side="left") / len(sought)
    wrong = 1 - np.searchsorted(np.sort(others), cuts, side="left") / len(others)
    return wrong, missed


def _within(unlearned: Floats, retrained: Floats) -> tuple[Floats, Floats]:
    """Error rates of "within an interval" of about the smaller range, for the kind that has it."""
    swap = np.ptp(unlearned) >= np.ptp(retrained)
    sought, others = (retrained, unlearned) if swap else (unlearned, retrained)
    width = float(np.ptp(sought))
    cuts = np.unique(np.concatenate([sought, others]))
    before, after = np.concatenate([[-np.inf], cuts[:-1]]), np.concatenate([cuts[1:], [np.inf]])
    i, j = np.triu_indices(len(cuts))
    # An interval holds cuts i to j if its ends lie in (before i, cut i] and [cut j, after j); can they, by the rules?
    least, most = np.maximum(cuts[j], sought.min() + width - _BUFFER), np.minimum(after[j], sought.max() + _BUFFER)
    can_end = least < most
    can_fit = (least - cuts[i] <= width + _BUFFER) & (most - before[i] >= width - _BUFFER)
    i, j = i[can_end & can_fit], j[can_end & can_fit]

    def inside(values: Floats) -> Floats:
        ordered = np.sort(values)
        held = np.searchsorted(ordered, cuts[j], side="right") - np.searchsorted(ordered, cuts[i], side="left")
        share: Floats = held / len(values)
        return share

    return inside(others), 1 - inside(sought)


def _utility(retain: tuple[float, float] | None, test: tuple[float, float] | None) -> float | None:
    if (retain is None) != (test is None):
        raise InputError("accuracies on retained and on test data are given together, or neither is")
    if retain is None or test is None:
        return None
    for accuracy in (*retain, *test):
        if not 0 <= accuracy <= 1:
            raise InputError(f"an accuracy is between 0 and 1, got {accuracy!r}")
    if retain[1] == 0 or test[1] == 0:
        raise InputError("retrained models with accuracy 0 are no yardstick")
    return retain[0] / retain[1] * (test[0] / test[1])
