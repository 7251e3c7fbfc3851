"""Attacks that see predicted labels alone: is the prediction right, and does it stay right under augmentation?"""

from __future__ import annotations

import numpy as np

from unlearn.audit.attacks.base import Card, classes_of
from unlearn.errors import InputError

GAP = Card(
    "label_gap",
    "gap: members are predicted right",
    ("predicted labels", "labels"),
    "Yeom, Giacomelli, Fredrikson & Jha 2018, arXiv:1709.01604",
)
AUGMENTATION = Card(
    "label_augmentation",
    "predictions stay right under augmentation",
    ("predicted labels of augmented copies", "labels"),
    "Choquette-Choo, Tramer, Carlini & Papernot 2021, Label-Only Membership Inference Attacks, arXiv:2007.14321",
)


def label_gap(predicted: np.ndarray, labels: np.ndarray) -> np.ndarray:
    r"""\(1[\hat y = y]\).

    Args:
        predicted: `[n]` int, predicted class of each record.
        labels: `[n]` int.

    Returns:
        `[n]` float64, 0 or 1; higher means more likely a member.

    Raises:
        InputError: If shapes or types are others.
    """
    return label_augmentation(np.asarray(predicted)[None], labels)


def label_augmentation(predicted: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Share of a record's augmented copies that are predicted right.

    Args:
        predicted: `[copies, n]` int, predicted class of each copy of each record.
        labels: `[n]` int.

    Returns:
        `[n]` float64 in [0, 1]; higher means more likely a member.

    Raises:
        InputError: If shapes or types are others.
    """
    found = np.asarray(predicted)
    if found.ndim != 2 or not len(found) or found.dtype.kind not in "iu":
        raise InputError(f"predicted must be [copies, n] integers, a copy at least, got {found.dtype} {found.shape}")
    most = int(max(found.max(initial=0), np.asarray(labels).max(initial=0)))
    return np.asarray((found == classes_of(labels, found.shape[1], most + 1)).mean(axis=0))
