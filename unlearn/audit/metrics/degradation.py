"""Release risk: how much more an attacker knows from the models before and after an update than from the first alone.

[Chen, Zhang, Wang, Backes, Humbert & Zhang 2021, When Machine Unlearning Jeopardizes Privacy, arXiv:2005.02205]

Exact retraining fails here by design, so none of this belongs to a verdict on unlearning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from unlearn.audit.metrics.estimate import CONFIDENCE, Estimate, as_json, mean, proportion
from unlearn.errors import InputError


@dataclass(frozen=True)
class DegradationResult:
    """A pair of models against the first one alone, over deleted records.

    Attributes:
        count: DegCount: share of records of which the pair is surer.
        rate: DegRate: how much surer, on average, in probability.
    """

    count: Estimate
    rate: Estimate

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return as_json(self)


def degradation(
    pair_confidence: np.ndarray, single_confidence: np.ndarray, confidence: float = CONFIDENCE
) -> DegradationResult:
    """Compare the attack on the pair with a classical one on the first model.

    Args:
        pair_confidence: `[n]` probability of membership of deleted records, by the pair.
        single_confidence: `[n]` the same by the classical attack.
        confidence: Of each interval.

    Returns:
        The two measures.

    Raises:
        InputError: If shapes differ, or they are no probabilities.
    """
    two, one = np.asarray(pair_confidence, dtype=np.float64), np.asarray(single_confidence, dtype=np.float64)
    if two.shape != one.shape or two.ndim != 1:
        raise InputError(f"give two confidences of each deleted record, got {two.shape} and {one.shape}")
    if not (((two >= 0) & (two <= 1)).all() and ((one >= 0) & (one <= 1)).all()):
        raise InputError("confidences must be probabilities, between 0 and 1: were log-odds given?")
    return DegradationResult(proportion(int((two > one).sum()), len(two), confidence), mean(two - one, confidence))
