"""Make models forget: sharded training, deletion requests, proofs and audits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unlearn.errors import UnlearnError
from unlearn.workspace import Workspace

if TYPE_CHECKING:
    from unlearn.estimator import SISAClassifier, SISARegressor

__all__ = ["SISAClassifier", "SISARegressor", "UnlearnError", "Workspace"]


def __getattr__(name: str) -> Any:
    """The estimators, imported with scikit-learn only when they are asked for."""
    if name in {"SISAClassifier", "SISARegressor"}:
        from unlearn import estimator

        return getattr(estimator, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
