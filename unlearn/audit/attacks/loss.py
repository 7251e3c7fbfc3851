"""The loss of a record: low where the model was fitted to it."""

from __future__ import annotations

import numpy as np

from unlearn.audit.attacks.base import FLOOR, Card, own_class, posteriors

CARD = Card(
    "loss",
    "loss threshold",
    ("class probabilities of the model", "labels"),
    "Yeom, Giacomelli, Fredrikson & Jha 2018, Privacy Risk in Machine Learning, arXiv:1709.01604",
)


def loss_score(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    r"""\(-\ell = \ln p_y\).

    Args:
        probabilities: `[..., n, classes]`.
        labels: `[n]` int.

    Returns:
        `[..., n]` float64; higher means more likely a member.

    Raises:
        InputError: If they are no probabilities, or a label is no class.
    """
    p, y = posteriors(probabilities, labels)
    return np.asarray(np.log(np.maximum(own_class(p, y), FLOOR)))
