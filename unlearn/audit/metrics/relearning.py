"""Relearning time: how soon fine-tuning on the forget set brings back what was forgotten.

A model that hides rather than forgets relearns faster than one that never knew. The ratio of the two times is the
anamnesis index [Chundawat, Tarun, Mandal & Kankanhalli 2023, Zero-Shot Machine Unlearning, arXiv:2201.05629].
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from unlearn.audit.metrics.estimate import CONFIDENCE, Estimate, as_json, mean
from unlearn.errors import InputError


@dataclass(frozen=True)
class RelearningResult:
    """Times to relearn, of several runs.

    Attributes:
        target: Accuracy on the forget set that counts as relearned.
        unlearned: Steps of each run of the unlearned model; None where it did not get there.
        retrained: Steps of each run of a retrained model.
        ratio: Geometric mean of unlearned over that of retrained: below 1, the model had not forgotten.
    """

    target: float
    unlearned: tuple[int | None, ...]
    retrained: tuple[int | None, ...]
    ratio: Estimate

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return as_json(self)


def steps_to_reach(accuracies: np.ndarray, target: float) -> int | None:
    """First step whose accuracy reaches the target.

    Args:
        accuracies: `[steps + 1]`, before any step, after the first, and so on.
        target: To be reached.

    Returns:
        Steps made until then, or None.
    """
    reached = np.flatnonzero(np.asarray(accuracies) >= target)
    return int(reached[0]) if len(reached) else None


def relearning_time(
    unlearned: np.ndarray, retrained: np.ndarray, original: float, margin: float = 0.05, confidence: float = CONFIDENCE
) -> RelearningResult:
    """Compare times to come within a margin of the original model's accuracy on the forget set.

    Args:
        unlearned: `[runs, steps + 1]` accuracies on the forget set while fine-tuning on it, from step 0.
        retrained: `[runs, steps + 1]` the same from retrained models: as many runs, one a seed.
        original: Accuracy of the original model on the forget set.
        margin: Share of it that may be missing.
        confidence: Of the ratio's interval.

    Returns:
        The times. The interval is Student's over paired runs, of log(1 + steps); "too few samples" with fewer than
        three runs, or where a run never got there.

    Raises:
        InputError: If shapes differ, or accuracies are out of range.
    """
    a, b = np.asarray(unlearned, dtype=np.float64), np.asarray(retrained, dtype=np.float64)
    if a.ndim != 2 or a.shape != b.shape or not len(a) or not 0 <= margin < 1:
        raise InputError(
            f"give accuracies [runs, steps + 1] of both, as many, got {a.shape} and {b.shape}, margin {margin}"
        )
    if not (((a >= 0) & (a <= 1)).all() and ((b >= 0) & (b <= 1)).all() and 0 <= original <= 1):
        raise InputError("accuracies must lie between 0 and 1")
    target = (1 - margin) * original
    first, second = (tuple(steps_to_reach(run, target) for run in runs) for runs in (a, b))
    return RelearningResult(target, first, second, _ratio(first, second, confidence))


def _ratio(first: tuple[int | None, ...], second: tuple[int | None, ...], confidence: float) -> Estimate:
    method = "Student's t over paired runs, of log(1 + steps)"
    pairs = [(one, other) for one, other in zip(first, second, strict=True) if one is not None and other is not None]
    if len(pairs) < len(first):
        note = f"{len(first) - len(pairs)} of {len(first)} pairs of runs did not reach the target: give them more steps"
        return Estimate(None, 0.0, math.inf, confidence, method, "too few samples", note)
    logs = mean(np.array([math.log1p(one) - math.log1p(other) for one, other in pairs]), confidence)
    value = None if logs.value is None else math.exp(logs.value)
    found = replace(logs, value=value, low=math.exp(logs.low), high=math.exp(logs.high), method=method)
    return (
        found if len(pairs) >= 3 else replace(found, verdict="too few samples", note=f"{len(pairs)} runs, of 3 needed")
    )
