"""Shadow models teach a classifier, for each class, what posteriors of members look like."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from unlearn.audit.attacks.base import FLOOR, LEAST, Card, own_class, posteriors
from unlearn.audit.attacks.classifier import log_odds, logistic_regression
from unlearn.errors import InputError

CARD = Card(
    "shokri",
    "shadow models and attack models, by class",
    ("class probabilities of the model", "labels", "class probabilities of shadow models and their memberships"),
    "Shokri, Stronati, Song & Shmatikov 2017, Membership Inference Attacks against Machine Learning Models, "
    "arXiv:1610.05820",
)


@dataclass(frozen=True)
class ShokriAttack:
    """Attack models, one a class.

    Attributes:
        models: Class to a fitted classifier of non-member (0) and member (1).
        n_classes: Of the posteriors.
    """

    models: Mapping[int, Any]
    n_classes: int

    def scores(self, probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Log-odds of membership by the attack model of each record's class.

        Args:
            probabilities: `[n, classes]` of the model that is attacked.
            labels: `[n]` int.

        Returns:
            `[n]` float64; higher means more likely a member.

        Raises:
            InputError: If a class was not among the shadow models' records, or these are no probabilities.
        """
        p, y = posteriors(probabilities, labels)
        missing = sorted(set(y.tolist()) - set(self.models))
        if p.ndim != 2 or p.shape[1] != self.n_classes or missing:
            raise InputError(
                f"the attack knows posteriors of {self.n_classes} classes and has no model for classes {missing}, got "
                f"shape {p.shape}: fit it on shadow models over all classes"
            )
        found = np.empty(len(y))
        for label in np.unique(y):
            rows = y == label
            found[rows] = log_odds(self.models[int(label)], features(p[rows], y[rows]))
        return found


def features(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """What an attack model sees: log-posteriors, that of the label first, then all by size.

    Args:
        probabilities: `[n, classes]` float64.
        labels: `[n]` int64.

    Returns:
        `[n, classes + 1]` float64.
    """
    logs = np.log(np.maximum(probabilities, FLOOR))
    return np.column_stack([own_class(logs, labels), -np.sort(-logs, axis=1)])


def fit_shokri(
    probabilities: np.ndarray,
    labels: np.ndarray,
    membership: np.ndarray,
    *,
    attack_model: Callable[[], Any] | None = None,
) -> ShokriAttack:
    """Fit an attack model a class on shadow models.

    Args:
        probabilities: `[models, n, classes]` of shadow models.
        labels: `[n]` int.
        membership: `[models, n]` bool: the shadow model was trained on the record.
        attack_model: Makes an unfitted classifier with `fit` and `predict_proba`; None: logistic regression on
            standardised features.

    Returns:
        The attack.

    Raises:
        InputError: If a class has too few members or non-members, or shapes differ.
    """
    p, y = posteriors(probabilities, labels)
    member = np.asarray(membership)
    if p.ndim != 3 or member.dtype != np.bool_ or member.shape != p.shape[:2]:
        raise InputError(
            f"give probabilities [models, n, classes] and bool membership [models, n], got {p.shape} and "
            f"{member.dtype} {member.shape}"
        )
    make = logistic_regression if attack_model is None else attack_model
    models = {}
    for label in np.unique(y):
        rows = y == label
        chosen = p[:, rows].reshape(-1, p.shape[2])
        target = member[:, rows].ravel()
        inside = int(target.sum())
        if min(inside, len(target) - inside) < LEAST:
            raise InputError(
                f"class {label} has {inside} members and {len(target) - inside} non-members over all shadow models, "
                f"and {LEAST} of each are needed: train more shadow models"
            )
        model = make()
        model.fit(features(chosen, np.full(len(chosen), label)), target.astype(np.int64))
        models[int(label)] = model
    return ShokriAttack(models, p.shape[2])
