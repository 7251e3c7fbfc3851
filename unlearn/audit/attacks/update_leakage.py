"""Who sees a model before and after an update learns who was deleted: a risk of releasing, not a failure to unlearn.

Exact retraining fails this attack by design: the two models differ just because a record left. Its result is reported
as release risk, beside the verdict on unlearning and never part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from unlearn.audit.attacks.base import LEAST, Card, posteriors
from unlearn.audit.attacks.classifier import log_odds, logistic_regression
from unlearn.errors import InputError

CARD = Card(
    "update_leakage",
    "the model before against the model after",
    ("class probabilities before and after", "pairs of shadow models before and after, and which records left"),
    "Chen, Zhang, Wang, Backes, Humbert & Zhang 2021, When Machine Unlearning Jeopardizes Privacy, arXiv:2005.02205",
    "release risk",
)

Feature = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Posteriors `[n, classes]` before and after to `[n, d]`."""


def _sorted_pair(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # Both in the order of the one before, so that a column is one class in both.
    order = np.argsort(-before, axis=1, kind="stable")
    return np.take_along_axis(before, order, axis=1), np.take_along_axis(after, order, axis=1)


def _direct_diff(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return np.asarray(before - after)


def _sorted_diff(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    first, second = _sorted_pair(before, after)
    return np.asarray(first - second)


def _direct_concat(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return np.concatenate([before, after], axis=1)


def _sorted_concat(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return np.concatenate(_sorted_pair(before, after), axis=1)


def _l2_distance(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.norm(before - after, axis=1, keepdims=True))


FEATURES: Mapping[str, Feature] = {
    "direct_diff": _direct_diff,
    "sorted_diff": _sorted_diff,
    "direct_concat": _direct_concat,
    "sorted_concat": _sorted_concat,
    "l2_distance": _l2_distance,
}
"""The five features of the paper, by name."""


@dataclass(frozen=True)
class UpdateAttack:
    """A classifier of deleted records.

    Attributes:
        feature: One of `FEATURES`.
        model: A fitted classifier of never there (0) and deleted (1).
    """

    feature: str
    model: Any

    def scores(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Log-odds that each record was deleted between the two.

        Args:
            before: `[n, classes]` posteriors of the model before.
            after: `[n, classes]` posteriors of the model after.

        Returns:
            `[n]` float64; higher means more likely in the first model and not in the second.

        Raises:
            InputError: If these are no probabilities, or differ in shape.
        """
        return log_odds(self.model, FEATURES[self.feature](*_pair(before, after)))


def fit_update_leakage(
    before: np.ndarray,
    after: np.ndarray,
    is_deleted: np.ndarray,
    *,
    feature: str = "sorted_diff",
    attack_model: Callable[[], Any] | None = None,
) -> UpdateAttack:
    """Fit the attack on shadow pairs, never on the pair that is judged.

    Args:
        before: `[n, classes]` posteriors before, rows of all shadow pairs one below the other.
        after: `[n, classes]` posteriors after.
        is_deleted: `[n]` bool: the record was in the first model and not in the second; else it was in neither.
        feature: One of `FEATURES`.
        attack_model: Makes an unfitted classifier with `fit` and `predict_proba`; None: logistic regression on
            standardised features.

    Returns:
        The attack.

    Raises:
        InputError: If the feature is unknown, there are too few of either kind, or these are no probabilities.
    """
    if feature not in FEATURES:
        raise InputError(f"feature is {feature!r}: choose one of {', '.join(FEATURES)}")
    pair, deleted = _pair(before, after), np.asarray(is_deleted)
    count = int(deleted.sum()) if deleted.dtype == np.bool_ and deleted.shape == (len(pair[0]),) else -1
    if min(count, len(pair[0]) - count) < LEAST:
        raise InputError(
            f"is_deleted must be {len(pair[0])} bools, {LEAST} of each at least, got {deleted.dtype} {deleted.shape}"
        )
    model = (logistic_regression if attack_model is None else attack_model)()
    model.fit(FEATURES[feature](*pair), deleted.astype(np.int64))
    return UpdateAttack(feature, model)


def _pair(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.asarray(before), np.asarray(after)
    if first.shape != second.shape or first.ndim != 2:
        raise InputError(f"before and after must both be [n, classes], got {first.shape} and {second.shape}")
    anything = np.zeros(len(first), dtype=np.int64)
    return posteriors(first, anything)[0], posteriors(second, anything)[0]
