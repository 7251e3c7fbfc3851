"""Attack models: classifiers of non-member (0) and member (1), and their scores."""

from __future__ import annotations

from typing import Any

import numpy as np

from unlearn.audit.attacks.base import FLOOR


def logistic_regression() -> Any:
    """An unfitted logistic regression on standardised features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


def log_odds(model: Any, features: np.ndarray) -> np.ndarray:
    """Log-odds of class 1.

    Args:
        model: A fitted classifier with `predict_proba`.
        features: `[n, d]`.

    Returns:
        `[n]` float64, finite.
    """
    p = np.asarray(model.predict_proba(features), dtype=np.float64)
    return np.asarray(np.log(np.maximum(p[:, 1], FLOOR)) - np.log(np.maximum(p[:, 0], FLOOR)))
