"""Scores of runs that unlearned and of runs that retrained, and what is counted at thresholds set beforehand.

Each score belongs to one independent run: a model trained, unlearned (*in*) or retrained without the record (*out*),
and then attacked. Several canaries that share a run are not independent; they are for `one_run`. A larger score
always means "more as if the record were still in".
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from unlearn.audit.epsilon.inputs import Floats, check_disjoint, score_array
from unlearn.errors import ConfigurationError, InputError

Counts = npt.NDArray[np.int64]

RATES = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5)
"""False positive rates at which thresholds are set unless others are named beforehand; each in both tails."""


@dataclass(frozen=True, eq=False)
class Scores:
    """One attack's scores.

    Attributes:
        ins: `[n_in]` float64, of runs that unlearned.
        outs: `[n_out]` float64, of runs that retrained.
        in_ids: Names of the runs behind `ins`; None: not given, so that nothing about them is checked.
        out_ids: Names of the runs behind `outs`.
    """

    ins: Floats
    outs: Floats
    in_ids: Sequence[Hashable] | None = None
    out_ids: Sequence[Hashable] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "ins", score_array("runs that unlearned", self.ins))
        object.__setattr__(self, "outs", score_array("runs that retrained", self.outs))
        for ids, scores in ((self.in_ids, self.ins), (self.out_ids, self.outs)):
            if ids is not None and len(ids) != len(scores):
                raise InputError(f"{len(ids)} ids for {len(scores)} scores: give one id for each, or none")
            if ids is not None and len(set(ids)) != len(ids):
                raise InputError("an id occurs twice: runs that are counted twice are not independent")
        if self.in_ids is not None and self.out_ids is not None:
            check_disjoint(self.in_ids, self.out_ids, "unlearned and retrained runs")


@dataclass(frozen=True, eq=False)
class Tails:
    """What each of J pre-registered tests got wrong; the first J/2 say "in" above a threshold, the others below one.

    Attributes:
        thresholds: `[J]` float64.
        false_positives: `[J]` int64, runs that retrained and were called "in".
        false_negatives: `[J]` int64, runs that unlearned and were called "out".
        n_in: Runs that unlearned.
        n_out: Runs that retrained.
    """

    thresholds: Floats
    false_positives: Counts
    false_negatives: Counts
    n_in: int
    n_out: int


def hold_out(scores: Scores, rng: np.random.Generator, share: float = 1 / 3) -> tuple[Floats, Scores]:
    """Set part of the retrained runs aside, at random, to choose thresholds on.

    Args:
        scores: All scores.
        rng: Where the random choice comes from; must not know the scores.
        share: Of the retrained runs to set aside.

    Returns:
        `[n]` float64 scores set aside, and the scores that are left to be judged.

    Raises:
        ConfigurationError: If the share is not between 0 and 1.
        InputError: If nothing would be left on one side.
    """
    if not 0 < share < 1:
        raise ConfigurationError(f"share must be between 0 and 1, got {share!r}")
    n, aside = len(scores.outs), round(share * len(scores.outs))
    if not 0 < aside < n:
        raise InputError(f"{n} retrained runs cannot be split with a share of {share:.3g} set aside: collect more")
    order = rng.permutation(n)
    kept = np.sort(order[aside:])
    ids = None if scores.out_ids is None else [scores.out_ids[i] for i in kept]
    return scores.outs[order[:aside]], replace(scores, outs=scores.outs[kept], out_ids=ids)


def thresholds(calibration: npt.ArrayLike, rates: Sequence[float] = RATES) -> Floats:
    """Thresholds in both tails, from scores that are not judged; order statistics, so that infinities do no harm.

    Args:
        calibration: `[n]` scores of retrained runs set aside.
        rates: False positive rates aimed at, named before any score was seen.

    Returns:
        `[2 * len(rates)]` float64: first the upper tail's ("in" is above), then the lower tail's ("in" is below).

    Raises:
        ConfigurationError: If there is no rate, or one is not between 0 and 1.
    """
    if not rates or not all(0 < rate < 1 for rate in rates):
        raise ConfigurationError(f"rates must be between 0 and 1, at least one, got {tuple(rates)!r}")
    ordered = np.sort(score_array("runs set aside", calibration))
    # As many scores set aside lie beyond a threshold as the rate says, rounded down.
    beyond = np.floor(np.asarray(rates) * len(ordered)).astype(int)
    return np.concatenate([ordered[len(ordered) - 1 - beyond], ordered[beyond]])


def tails(scores: Scores, at: Floats) -> Tails:
    """Count errors at fixed thresholds.

    Args:
        scores: Scores to be judged.
        at: `[J]` from `thresholds`, or set by hand before any score was seen: upper tail first, then the lower.

    Returns:
        The counts.

    Raises:
        InputError: If the number of thresholds is odd, or one is not a number.
    """
    at = score_array("thresholds", at)
    if len(at) % 2:
        raise InputError(f"thresholds come in two halves, for the upper and the lower tail, got {len(at)}")
    half = len(at) // 2
    ins, outs = scores.ins[:, None], scores.outs[:, None]
    positives = np.concatenate([(outs > at[:half]).sum(axis=0), (outs < at[half:]).sum(axis=0)])
    negatives = np.concatenate([(ins <= at[:half]).sum(axis=0), (ins >= at[half:]).sum(axis=0)])
    return Tails(at, positives, negatives, len(scores.ins), len(scores.outs))
