"""Inter-class confusion: labels of two classes are swapped in the forget set; does the model still mix them up?

[Goel, Prabhu, Sanyal, Lim, Torr & Kumaraguru 2022, Towards Adversarial Evaluations for Inexact Machine Unlearning,
arXiv:2201.06640]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from unlearn.audit.attacks.base import classes_of
from unlearn.audit.metrics.estimate import CONFIDENCE, Estimate, as_json, proportion
from unlearn.errors import InputError


@dataclass(frozen=True)
class ConfusionResult:
    """How many records of either class are predicted as the other one.

    Attributes:
        first: Class A.
        second: Class B.
        first_as_second: Records of A that are called B.
        second_as_first: Records of B that are called A.
        both: Of both together.
    """

    first: int
    second: int
    first_as_second: Estimate
    second_as_first: Estimate
    both: Estimate

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return as_json(self)


def swap_labels(labels: np.ndarray, pair: tuple[int, int], share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Swap the labels of some records of two classes; these records are to be forgotten later.

    Args:
        labels: `[n]` int.
        pair: Two classes.
        share: Of each class's records, in (0, 1].
        seed: Of the draw.

    Returns:
        `[n]` int64 labels, and `[k]` int64 rows whose label was swapped.

    Raises:
        InputError: If the classes are equal, one has no record, or the share is out of range.
    """
    y = classes_of(labels, len(labels), int(np.max(labels, initial=0)) + 1)
    if pair[0] == pair[1] or not 0 < share <= 1:
        raise InputError(f"give two classes and a share in (0, 1], got {pair} and {share}")
    rng, changed, rows = np.random.default_rng(seed), y.copy(), []
    for own, other in (pair, pair[::-1]):
        mine = np.flatnonzero(y == own)
        if not len(mine):
            raise InputError(f"class {own} has no record to swap")
        chosen = np.sort(rng.choice(mine, max(1, round(share * len(mine))), replace=False))
        changed[chosen] = other
        rows.append(chosen)
    return changed, np.concatenate(rows)


def interclass_confusion(
    predicted: np.ndarray, labels: np.ndarray, pair: tuple[int, int], confidence: float = CONFIDENCE
) -> ConfusionResult:
    """Count confusions on records with their true labels: forgotten ones (memorised), or test ones (generalised).

    Args:
        predicted: `[n]` int.
        labels: `[n]` int, true ones, not the swapped ones.
        pair: The two classes.
        confidence: Of each interval.

    Returns:
        The shares; compare with those of a retrained model.

    Raises:
        InputError: If shapes differ, or the classes are equal.
    """
    found, y = np.asarray(predicted), np.asarray(labels)
    if found.shape != y.shape or y.ndim != 1 or pair[0] == pair[1]:
        raise InputError(f"give a prediction for each label, and two classes, got {found.shape}, {y.shape} and {pair}")
    counts = [(int(((y == a) & (found == b)).sum()), int((y == a).sum())) for a, b in (pair, pair[::-1])]
    both = proportion(counts[0][0] + counts[1][0], counts[0][1] + counts[1][1], confidence)
    return ConfusionResult(*pair, proportion(*counts[0], confidence), proportion(*counts[1], confidence), both)
