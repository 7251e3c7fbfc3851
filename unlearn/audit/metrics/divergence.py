"""How far predictions of an unlearned model lie from those of a retrained one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from unlearn.audit.attacks.base import FLOOR, posteriors
from unlearn.audit.metrics.estimate import CONFIDENCE, Estimate, as_json, mean
from unlearn.errors import InputError


@dataclass(frozen=True)
class DivergenceResult:
    """Mean divergences over records, in nats.

    Attributes:
        kl: KL(retrained || unlearned).
        js: Jensen-Shannon, at most ln 2.
        null_js: Jensen-Shannon between two retrained models, where a second one was given: what training noise alone
            makes.
    """

    kl: Estimate
    js: Estimate
    null_js: Estimate | None

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return as_json(self)


def divergence(
    unlearned: np.ndarray,
    retrained: np.ndarray,
    second_retrained: np.ndarray | None = None,
    confidence: float = CONFIDENCE,
) -> DivergenceResult:
    """Compare posteriors on the same records.

    Args:
        unlearned: `[n, classes]`.
        retrained: `[n, classes]` of a retrained model.
        second_retrained: `[n, classes]` of a second one, with another seed; without it there is no null to judge by.
        confidence: Of each interval, over records; not over runs of training.

    Returns:
        Mean divergences.

    Raises:
        InputError: If these are no probabilities, or shapes differ.
    """
    p, q = _checked(unlearned), _checked(retrained)
    null = None if second_retrained is None else mean(jensen_shannon(_checked(second_retrained), q), confidence)
    return DivergenceResult(mean(kullback_leibler(q, p), confidence), mean(jensen_shannon(p, q), confidence), null)


def kullback_leibler(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    r"""\(\sum_c p_c \ln (p_c / q_c)\) of each record, with q at least 1e-30.

    Args:
        p: `[n, classes]`.
        q: `[n, classes]`.

    Returns:
        `[n]` float64, nats, at least 0.

    Raises:
        InputError: If shapes differ.
    """
    if p.shape != q.shape:
        raise InputError(f"posteriors must be of the same records and classes, got {p.shape} and {q.shape}")
    logs = np.log(np.maximum(p, FLOOR)) - np.log(np.maximum(q, FLOOR))
    return np.asarray(np.maximum((p * logs).sum(axis=1), 0))


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Half the divergence of each from their mean, summed.

    Args:
        p: `[n, classes]`.
        q: `[n, classes]`.

    Returns:
        `[n]` float64, nats, from 0 to ln 2.

    Raises:
        InputError: If shapes differ.
    """
    if p.shape != q.shape:
        raise InputError(f"posteriors must be of the same records and classes, got {p.shape} and {q.shape}")
    middle = (p + q) / 2
    return np.asarray((kullback_leibler(p, middle) + kullback_leibler(q, middle)) / 2)


def _checked(values: np.ndarray) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != 2:
        raise InputError(f"posteriors must be [n, classes], got {array.shape}")
    p, _ = posteriors(array, np.zeros(len(array), dtype=np.int64))
    return np.asarray(p / p.sum(axis=1, keepdims=True))
