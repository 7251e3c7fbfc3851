"""How far the record's own class stands above the best other one."""

from __future__ import annotations

import numpy as np

from unlearn.audit.attacks.base import Card, own_class, posteriors

CARD = Card(
    "confidence_gap",
    "gap between the label's probability and the best other one",
    ("class probabilities of the model", "labels"),
    "on probabilities, what the hinge of Carlini et al. 2022, arXiv:2112.03570, is on logits",
)


def confidence_gap(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    r"""\(p_y - \max_{c \ne y} p_c\).

    Args:
        probabilities: `[..., n, classes]`.
        labels: `[n]` int.

    Returns:
        `[..., n]` float64 in [-1, 1]; higher means more likely a member.

    Raises:
        InputError: If they are no probabilities, or a label is no class.
    """
    p, y = posteriors(probabilities, labels)
    others = p.copy()
    others[..., np.arange(len(y)), y] = -1
    return np.asarray(own_class(p, y) - others.max(axis=-1))
