"""Linear discriminant analysis out of exact sums: whoever is forgotten leaves no trace in any digit.

Classes are normally distributed with means m_y and one covariance S, so that log P(y | z) is, up to a constant,
log P(y) + m_y^T S^-1 z - m_y^T S^-1 m_y / 2 [Fisher 1936]. With W the scatter within classes over n records and d
features, S = (1 - s) W / n + s trace(W / n) / d I, s being the shrinkage [Friedman 1989; Ledoit and Wolf 2004 for the
target], which is what `sklearn.discriminant_analysis.LinearDiscriminantAnalysis(solver="lsqr", shrinkage=s)` takes.
Of features z counted in whole units a shard keeps sum z z^T, and class by class n and sum z.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from shards.digest import Json
from shards.errors import ConfigurationError
from shards.learners.base import Features, Predictor, State, StepData
from shards.learners.counting import check_numbers, chunks, given, log_priors, one_hot, softmax, summed, symmetric
from shards.learners.feature_maps import FeatureMap, feature_map
from shards.learners.limits import check_features
from shards.learners.merging import RECORDS, stacked
from shards.learners.sums import SumLearner
from shards.task import Kind, Task

LEAST_SHRINKAGE = 1e-8
"""Less would not make a covariance invertible in float64."""


@dataclass(frozen=True, init=False)
class LDALearner(SumLearner):
    """Linear discriminant analysis with a shrunken covariance over a public feature map.

    If no feature varies within any class, as with one record a class, the nearest mean is predicted: the covariance is
    then that of one unit in every direction. A class that nobody has is never predicted.

    Attributes:
        shrinkage: s, 1e-8 to 1.
        features: The feature map.
    """

    kernel: ClassVar[str] = "lda/1"
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "scipy")

    shrinkage: float
    features: FeatureMap

    def __init__(self, shrinkage: float = 0.01, features: Any = "raw") -> None:
        """Check and keep the constants.

        Args:
            shrinkage: Of the covariance towards a multiple of the identity, 1e-8 to 1.
            features: A `FeatureMap`, the name of one, or a mapping with `"map"` and its options.

        Raises:
            ConfigurationError: If one is out of range.
        """
        number = isinstance(shrinkage, int | float) and not isinstance(shrinkage, bool)
        if not number or not LEAST_SHRINKAGE <= shrinkage <= 1:
            raise ConfigurationError(f"shrinkage must be a number from {LEAST_SHRINKAGE:g} to 1, got {shrinkage!r}")
        object.__setattr__(self, "shrinkage", float(shrinkage))
        object.__setattr__(self, "features", feature_map(features))
        object.__setattr__(self, "libraries", (*type(self).libraries, *self.features.libraries))

    def params(self) -> dict[str, Json]:
        """Every hyper-parameter, as JSON."""
        return {"shrinkage": self.shrinkage, "features": self.features.to_json()}

    @classmethod
    def from_params(cls, params: dict[str, Json]) -> LDALearner:
        """Build the learner again from `params()`."""
        return cls(**params)

    def kinds(self) -> tuple[Kind, ...]:
        """Classes only."""
        return ("classification",)

    def code(self) -> tuple[str, ...]:
        """What the feature map runs."""
        return self.features.code()

    def check(self, task: Task) -> None:
        """Refuse what is no classification of numbers.

        Args:
            task: What is predicted.

        Raises:
            ConfigurationError: With what does not fit.
        """
        check_numbers(task, "LDALearner", ("classification",))
        self.features.width(given(task))

    def largest(self, task: Task) -> int:
        """See `SumLearner.largest`: of two features."""
        del task
        return self.features.largest**2

    def check_values(self, features: Features, target: np.ndarray, task: Task) -> None:
        """See `Learner.check_values`: refuses what lies outside of what was declared."""
        del target
        check_features(self.features, features, task)

    def part(self, data: StepData, task: Task) -> State:
        """Sums of products of features; of ones and of features, class by class.

        Args:
            data: Records, maybe none.
            task: What is predicted.

        Returns:
            `"n"` `[classes]`, `"z"` `[classes, d]`, `"zz"` `[d (d + 1) / 2]`, its upper triangle by rows, all int64.

        Raises:
            ConfigurationError: If a value is not finite, or outside of what was declared.
        """
        k, d = len(task.classes), self.features.width(given(task))
        parts = (_part(z, one_hot(target, task)) for z, target in chunks(self.features, data, task, self.largest(task)))
        total = summed({"n": (k,), "z": (k, d), "zz": (d, d)}, parts)
        return {**total, "zz": total["zz"][np.triu_indices(d)]}

    def solve(self, whole: State, task: Task) -> Predictor:
        """Solve for the discriminants by Cholesky's method.

        Args:
            whole: What `part` returned, added up, and `"records"`.
            task: What is predicted.

        Returns:
            Features to class probabilities `[n, classes]`, float64.
        """
        from scipy.linalg import cho_factor, cho_solve

        del task
        n, unit, there = int(whole[RECORDS]), self.features.unit, np.flatnonzero(whole["n"])
        count, (scatter, z, centre) = whole["n"][there, None], _centred(whole)
        z = z[there]
        within = (scatter - (z / count).T @ z) * (unit**2 / n)
        d = len(within)
        level = np.trace(within) / d
        covariance = (1 - self.shrinkage) * within
        covariance[np.diag_indices(d)] += self.shrinkage * level if level > 0 else unit**2
        means = z / count * unit
        weights = cho_solve(cho_factor(covariance, lower=True), means.T)
        constant = np.full(len(whole["n"]), -np.inf)
        constant[there] = log_priors(whole["n"])[there] - 0.5 * np.einsum("kd,dk->k", means, weights)

        def predict(features: Features) -> np.ndarray:
            scores = np.tile(constant, (len(next(iter(features.values()))), 1))
            scores[:, there] += (self.features.counts(stacked(features)) - centre) @ (weights * unit)
            return softmax(scores)

        return predict


def _part(z: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    return {"n": y.sum(axis=0), "z": y.T @ z, "zz": z.T @ z}


def _centred(sums: State) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums of products and of features about the mean, rounded to whole units: exact, where floats would cancel.

    On the way int64 may wrap around. The result never does: it is at most sum z_i^2 or sum z_j^2, a whole number c
    nearest to a mean being no further from it than 0 is.

    Returns:
        `[d, d]` and `[classes, d]`, int64, and the centre `[d]`, int64.
    """
    n, z = sums["n"].sum(), sums["z"].sum(axis=0)
    centre = (2 * z + n) // (2 * n)
    cross = np.outer(z, centre)
    about = symmetric(sums["zz"], len(z)) - cross - cross.T + n * np.outer(centre, centre)
    return about, sums["z"] - np.outer(sums["n"], centre), centre
