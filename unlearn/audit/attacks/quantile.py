"""A regression that says, from the record alone, how high a score non-members like it reach: no shadow model needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from unlearn.audit.attacks.base import Card, finite
from unlearn.errors import InputError

CARD = Card(
    "quantile",
    "quantile regression",
    ("scores under the model", "features of the records", "scores and features of non-members set apart"),
    "Bertran, Tang, Kearns, Morgenstern, Roth & Wu 2023, Scalable Membership Inference via Quantile Regression, "
    "arXiv:2307.03694",
)

_EXCEEDING = 5
"""So many of the non-members to fit on should lie above the quantile."""


class Regressor(Protocol):
    """What fits and predicts, as scikit-learn's regressors do."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> object:
        """Fit to features `[n, d]` and scores `[n]`."""

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Features `[n, d]` to `[n]`."""


@dataclass(frozen=True)
class QuantileAttack:
    """A fitted quantile of non-members' scores.

    Attributes:
        regressor: Features to quantile.
        fpr: False-positive rate at which the score is 0.
        n_fitted: Non-members that it was fitted on.
    """

    regressor: Regressor
    fpr: float
    n_fitted: int

    def scores(self, features: np.ndarray, values: np.ndarray) -> np.ndarray:
        r"""\(s(x) - \hat q_{1 - \alpha}(x)\): above 0, the record is called a member at that rate.

        Args:
            features: `[n, d]`.
            values: `[n]` scores under the model, such as the confidence.

        Returns:
            `[n]` float64; higher means more likely a member.

        Raises:
            InputError: If a number is not finite.
        """
        return np.asarray(finite(values, "values", 1) - self.regressor.predict(finite(features, "features", 2)))


def fit_quantile(
    features: np.ndarray, values: np.ndarray, fpr: float, seed: int, regressor: Regressor | None = None
) -> QuantileAttack:
    """Fit the quantile on non-members that are not judged later.

    Args:
        features: `[n, d]` of non-members.
        values: `[n]` their scores under the model.
        fpr: Alpha, in (0, 1).
        seed: Of the regression.
        regressor: An unfitted regressor of the 1 - fpr quantile; None: boosted trees.

    Returns:
        The attack.

    Raises:
        InputError: If there are too few non-members for this rate, or a number is not finite.
    """
    X, y = finite(features, "features", 2), finite(values, "values", 1)
    if not 0 < fpr < 1 or len(X) != len(y):
        raise InputError(f"fpr must lie in (0, 1) and every value needs features, got {fpr}, {len(y)} and {len(X)}")
    if len(y) * min(fpr, 1 - fpr) < _EXCEEDING:
        raise InputError(
            f"{len(y)} non-members are too few for a rate of {fpr}: give {int(np.ceil(_EXCEEDING / min(fpr, 1 - fpr)))}"
        )
    chosen = _trees(1 - fpr, seed) if regressor is None else regressor
    chosen.fit(X, y)
    return QuantileAttack(chosen, fpr, len(y))


def _trees(quantile: float, seed: int) -> Regressor:
    from sklearn.ensemble import HistGradientBoostingRegressor

    found: Regressor = HistGradientBoostingRegressor(
        loss="quantile", quantile=quantile, max_iter=100, max_leaf_nodes=8, early_stopping=False, random_state=seed
    )
    return found
