"""Entropy of the prediction, and the modified one that knows the label.

Both are used with a threshold a class: `calibrate_per_group(sample of a shadow model, its labels, classes)`, then
`Rule.decide(sample, labels)`. The threshold never comes from the model that is judged.
"""

from __future__ import annotations

import numpy as np

from unlearn.audit.attacks.base import FLOOR, Card, own_class, posteriors

ENTROPY = Card(
    "entropy",
    "entropy of the prediction",
    ("class probabilities of the model", "a shadow model for thresholds by class"),
    "Salem et al. 2019, ML-Leaks, arXiv:1806.01246; Song & Mittal 2021, USENIX Security, arXiv:2003.10595",
)
MODIFIED = Card(
    "modified_entropy",
    "modified entropy",
    ("class probabilities of the model", "labels", "a shadow model for thresholds by class"),
    "Song & Mittal 2021, Systematic Evaluation of Privacy Risks, USENIX Security, arXiv:2003.10595",
)


def entropy_score(probabilities: np.ndarray) -> np.ndarray:
    r"""\(\sum_c p_c \ln p_c\), the negative entropy: a member's prediction is sure.

    Args:
        probabilities: `[..., n, classes]`.

    Returns:
        `[..., n]` float64; higher means more likely a member.

    Raises:
        InputError: If they are no probabilities.
    """
    shape = np.shape(probabilities)
    p, _ = posteriors(probabilities, np.zeros(shape[-2] if len(shape) > 1 else 0, dtype=np.int64))
    return np.asarray((p * np.log(np.maximum(p, FLOOR))).sum(axis=-1))


def modified_entropy_score(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    r"""\((1 - p_y) \ln p_y + \sum_{c \ne y} p_c \ln(1 - p_c)\): sure of a wrong class counts against membership.

    Args:
        probabilities: `[..., n, classes]`.
        labels: `[n]` int.

    Returns:
        `[..., n]` float64, at most 0; higher means more likely a member.

    Raises:
        InputError: If they are no probabilities, or a label is no class.
    """
    p, y = posteriors(probabilities, labels)
    q = np.clip(1 - p, 0, None)  # a rounded p may be a little more than 1
    terms = p * np.log(np.maximum(q, FLOOR))
    right = own_class(q, y) * np.log(np.maximum(own_class(p, y), FLOOR))
    return np.asarray(terms.sum(axis=-1) - own_class(terms, y) + right)
