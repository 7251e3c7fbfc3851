"""What an attack's scores are worth: area under the curve, true positives at few false ones, decisions by a rule.

Every figure has an interval that holds in finite samples or says what it assumes. The curve itself needs no threshold;
a single point of it does, and a threshold read off the audited data is one in hindsight: so the interval of "TPR at
1 % FPR" also covers not knowing where the population's threshold lies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from unlearn.audit.attacks.base import Decisions, Sample
from unlearn.audit.binomial import lower_limit, upper_limit
from unlearn.audit.metrics.estimate import CONFIDENCE, Estimate, as_json, checked_confidence, proportion
from unlearn.errors import InputError

FPRS = (0.001, 0.01)


def auc(sample: Sample, confidence: float = CONFIDENCE) -> Estimate:
    r"""Probability that a member scores higher than a non-member, ties counting half.

    The interval is DeLong's, on the logit scale. Where its variance is 0 it would be a point, and is replaced by what
    min(members, non-members) independent pairs prove: \((\alpha/2)^{1/m}\) where all are in order, Hoeffding otherwise.

    Args:
        sample: Scores.
        confidence: Of the interval.

    Returns:
        The estimate.
    """
    from scipy.stats import norm

    alpha = 1 - checked_confidence(confidence)
    inside, outside = _placements(sample.members, sample.non_members)
    value = float(inside.mean())
    variance = float(inside.var(ddof=1) / len(inside) + outside.var(ddof=1) / len(outside))
    pairs = min(len(inside), len(outside))
    if variance > 0 and 0 < value < 1:
        half = float(norm.ppf(1 - alpha / 2)) * math.sqrt(variance) / (value * (1 - value))
        middle = math.log(value / (1 - value))
        return Estimate(value, _expit(middle - half), _expit(middle + half), confidence, "DeLong, on the logit scale")
    if value in (0, 1):
        bound = (alpha / 2) ** (1 / pairs)
        low, high = (bound, 1.0) if value else (0.0, 1 - bound)
        return Estimate(value, low, high, confidence, f"{pairs} independent pairs, all in one order")
    half = math.sqrt(math.log(2 / alpha) / (2 * pairs))
    return Estimate(value, max(0.0, value - half), min(1.0, value + half), confidence, f"Hoeffding, {pairs} pairs")


def null_band(members: int, non_members: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    r"""Where the AUC lies if scores say nothing: \(\tfrac12 \pm z \sqrt{(a + b + 1) / (12 a b)}\), without ties.

    Args:
        members: a.
        non_members: b.
        confidence: Of the band.

    Returns:
        Its ends.
    """
    from scipy.stats import norm

    z = float(norm.ppf((1 + checked_confidence(confidence)) / 2))
    half = z * math.sqrt((members + non_members + 1) / (12 * members * non_members))
    return 0.5 - half, 0.5 + half


def non_members_needed(fpr: float, confidence: float = CONFIDENCE) -> int:
    """Fewest non-members with which the TPR at this FPR has a lower bound above 0.

    The population's threshold must lie below the highest of them, with an error of a quarter of what is allowed.

    Args:
        fpr: In (0, 1).
        confidence: Of the interval.

    Returns:
        E.g. 4380 for 0.1 % and 437 for 1 % at 95 %.
    """
    return math.ceil(math.log((1 - checked_confidence(confidence)) / 4) / math.log1p(-fpr))


def tpr_at_fpr(sample: Sample, fpr: float, confidence: float = CONFIDENCE) -> Estimate:
    r"""Share of members above the threshold that a share `fpr` of non-members exceeds.

    The point is read at the lowest score that at most `fpr` of the non-members exceed (never more). For the interval,
    order statistics of the non-members bracket the population's threshold, whatever the distribution, and
    Clopper-Pearson bounds the members above either end; each of the four errors is at most \(\alpha/4\).

    Args:
        sample: Scores.
        fpr: In (0, 1).
        confidence: Of the interval.

    Returns:
        The estimate; "too few samples" where fewer than `non_members_needed` bound it.

    Raises:
        InputError: If the rate is out of range.
    """
    from scipy.stats import binom

    if not 0 < fpr < 1:
        raise InputError(f"a false-positive rate must lie between 0 and 1, got {fpr}")
    tail = (1 - checked_confidence(confidence)) / 4
    outside, inside = np.sort(sample.non_members)[::-1], np.sort(sample.members)
    n, m = len(outside), len(inside)
    threshold = outside[math.floor(fpr * n + 1e-9)]
    value = _count_above(inside, threshold) / m
    # The i-th highest non-member, from 1, lies below the population's threshold only if fewer than i reach it,
    at_most = int(binom.ppf(tail, n, fpr))  # P[Bin < at_most] <= tail < P[Bin <= at_most]
    low = float(lower_limit(_count_above(inside, outside[at_most - 1]), m, tail)) if at_most >= 1 else 0.0
    # and above it only if i or more exceed it.
    at_least = int(binom.ppf(1 - tail, n, fpr)) + 1  # P[Bin >= at_least] <= tail
    high = float(upper_limit(_count_above(inside, outside[at_least - 1]), m, tail)) if at_least <= n else 1.0
    needed = non_members_needed(fpr, confidence)
    method = "order statistics of non-members, Clopper-Pearson of members, by Bonferroni"
    if n < needed:
        note = f"{n} non-members; at least {needed} are needed for a lower bound at this rate"
        return Estimate(value, low, high, confidence, method, "too few samples", note)
    return Estimate(value, low, high, confidence, method, "measured", f"{n} non-members, {m} members")


def largest_advantage(sample: Sample, confidence: float = CONFIDENCE) -> Estimate:
    """The largest TPR - FPR of any threshold, with a band that allows for having looked at all (DKW with Massart).

    Args:
        sample: Scores.
        confidence: Of the interval.

    Returns:
        The estimate; its value is optimistic, being the best in hindsight, its interval is not.
    """
    alpha = 1 - checked_confidence(confidence)
    values = np.unique(sample.scores)
    gains = [_share_above(scores, values) for scores in (sample.members, sample.non_members)]
    value = max(0.0, float((gains[0] - gains[1]).max()))
    # Each of the two bands may fail with probability alpha / 2.
    half = sum(math.sqrt(math.log(4 / alpha) / (2 * n)) for n in (len(sample.members), len(sample.non_members)))
    note = "best threshold in hindsight: quote the interval, or decide by a rule chosen elsewhere"
    return Estimate(value, max(0.0, value - half), min(1.0, value + half), confidence, "DKW bands", "measured", note)


@dataclass(frozen=True)
class DecisionResult:
    """How decisions of a rule turned out.

    Attributes:
        tpr: Members called so.
        fpr: Non-members called members.
        balanced_accuracy: (TPR + 1 - FPR) / 2.
        advantage: TPR - FPR.
        chosen_on: Where the rule comes from.
    """

    tpr: Estimate
    fpr: Estimate
    balanced_accuracy: Estimate
    advantage: Estimate
    chosen_on: str

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return as_json(self)


def judge(decisions: Decisions, confidence: float = CONFIDENCE) -> DecisionResult:
    """Balanced accuracy and advantage of decisions by a rule that was chosen elsewhere.

    Args:
        decisions: From `Rule.decide`.
        confidence: Of each interval by itself; for balanced accuracy and advantage both rates hold together.

    Returns:
        The figures.
    """
    tail = (1 - checked_confidence(confidence)) / 4
    hits = int((decisions.called & decisions.is_member).sum()), int(decisions.is_member.sum())
    alarms = int((decisions.called & ~decisions.is_member).sum()), int((~decisions.is_member).sum())
    advantage = hits[0] / hits[1] - alarms[0] / alarms[1]
    low = float(lower_limit(*hits, tail) - upper_limit(*alarms, tail))
    high = float(upper_limit(*hits, tail) - lower_limit(*alarms, tail))
    method = "Clopper-Pearson of both rates, by Bonferroni"
    return DecisionResult(
        proportion(*hits, confidence),
        proportion(*alarms, confidence),
        Estimate((1 + advantage) / 2, (1 + low) / 2, (1 + high) / 2, confidence, method),
        Estimate(advantage, low, high, confidence, method),
        decisions.chosen_on,
    )


@dataclass(frozen=True)
class AttackResult:
    """One attack on one model.

    Attributes:
        attack: Name of the attack.
        model: Name of the model.
        members: How many were scored.
        non_members: How many were scored.
        auc: Area under the curve.
        null_low: The AUC of scores that say nothing lies from here,
        null_high: to here, with the same confidence.
        tpr: Estimate at each false-positive rate.
        largest_advantage: Of any threshold.
        decisions: Of a rule chosen elsewhere, where there is one.
    """

    attack: str
    model: str
    members: int
    non_members: int
    auc: Estimate
    null_low: float
    null_high: float
    tpr: tuple[tuple[float, Estimate], ...]
    largest_advantage: Estimate
    decisions: DecisionResult | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON; rates become names."""
        return as_json(self) | {"tpr": {f"{fpr:g}": found.to_json() for fpr, found in self.tpr}}


def measure(
    attack: str,
    sample: Sample,
    decisions: Decisions | None = None,
    *,
    fprs: tuple[float, ...] = FPRS,
    confidence: float = CONFIDENCE,
) -> AttackResult:
    """All figures of one attack; each interval holds by itself.

    Args:
        attack: Its name.
        sample: Its scores.
        decisions: By a rule chosen elsewhere, or None.
        fprs: False-positive rates to read the TPR at.
        confidence: Of each interval.

    Returns:
        The figures.
    """
    members = int(sample.is_member.sum())
    low, high = null_band(members, len(sample) - members, confidence)
    return AttackResult(
        attack,
        sample.model,
        members,
        len(sample) - members,
        auc(sample, confidence),
        low,
        high,
        tuple((fpr, tpr_at_fpr(sample, fpr, confidence)) for fpr in fprs),
        largest_advantage(sample, confidence),
        None if decisions is None else judge(decisions, confidence),
    )


def _placements(members: np.ndarray, non_members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """DeLong's components: share of the other kind below each member, and above each non-member, ties half."""

    def below(values: np.ndarray, others: np.ndarray) -> np.ndarray:
        ordered = np.sort(others)
        counts = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
        return np.asarray(counts / (2 * len(others)))

    return below(members, non_members), 1 - below(non_members, members)


def _count_above(ordered: np.ndarray, threshold: float) -> int:
    return len(ordered) - int(np.searchsorted(ordered, threshold, "right"))


def _share_above(scores: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.asarray(1 - np.searchsorted(np.sort(scores), values, side="right") / len(scores))


def _expit(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))
