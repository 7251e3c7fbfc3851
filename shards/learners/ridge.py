"""Ridge regression, and classification by it, out of exact sums: whoever is forgotten leaves no trace in any digit.

With features z and targets t counted in whole units, a shard's sums are n, sum z, sum t, sum z z^T and sum z t^T.
The model minimises |t - z W - b|^2 + alpha |W|^2, the intercept b unpenalised, which is what
`sklearn.linear_model.Ridge` minimises [Hoerl and Kennard 1970]. Classes are fitted as 0 and 1, one column each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from shards.digest import Json
from shards.learners.base import Features, Predictor, State, StepData
from shards.learners.counting import (
    check_numbers,
    chunks,
    columns,
    given,
    positive,
    summed,
    symmetric,
    target_counts,
    target_largest,
    target_limits,
)
from shards.learners.feature_maps import FeatureMap, feature_map
from shards.learners.limits import check_features, check_target
from shards.learners.merging import RECORDS, stacked
from shards.learners.sums import SumLearner
from shards.task import Kind, Task


@dataclass(frozen=True, init=False)
class RidgeLearner(SumLearner):
    """Linear models with a squared penalty over a public feature map.

    Attributes:
        alpha: Weight of the penalty, positive.
        features: The feature map.
        target_unit: Regression: what one count of a target is worth; targets are rounded to it.
        target_limit: Regression: largest target in absolute terms.
    """

    kernel: ClassVar[str] = "ridge/1"
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "scipy")

    alpha: float
    features: FeatureMap
    target_unit: float
    target_limit: float

    def __init__(
        self,
        alpha: float = 1.0,
        features: Any = "raw",
        *,
        target_unit: float = 2.0**-10,
        target_limit: float = 2.0**10,
    ) -> None:
        """Check and keep the constants.

        Args:
            alpha: Weight of the penalty, positive.
            features: A `FeatureMap`, `"raw"`, `"fourier"`, or a mapping with `"map"` and its options.
            target_unit: What one count of a target is worth.
            target_limit: Largest target in absolute terms.

        Raises:
            ConfigurationError: If one is out of range.
        """
        unit, limit = target_limits(target_unit, target_limit)
        object.__setattr__(self, "alpha", positive("alpha", alpha))
        object.__setattr__(self, "features", feature_map(features))
        object.__setattr__(self, "libraries", (*type(self).libraries, *self.features.libraries))
        object.__setattr__(self, "target_unit", unit)
        object.__setattr__(self, "target_limit", limit)

    def params(self) -> dict[str, Json]:
        """Every hyper-parameter, as JSON."""
        return {
            "alpha": self.alpha,
            "features": self.features.to_json(),
            "target_unit": self.target_unit,
            "target_limit": self.target_limit,
        }

    @classmethod
    def from_params(cls, params: dict[str, Json]) -> RidgeLearner:
        """Build the learner again from `params()`."""
        return cls(**params)

    def kinds(self) -> tuple[Kind, ...]:
        """Both."""
        return ("classification", "regression")

    def code(self) -> tuple[str, ...]:
        """What the feature map runs."""
        return self.features.code()

    def check(self, task: Task) -> None:
        """Refuse features that are no numbers.

        Args:
            task: What is predicted.

        Raises:
            ConfigurationError: Naming them.
        """
        check_numbers(task, "RidgeLearner")
        self.features.width(given(task))

    def largest(self, task: Task) -> int:
        """See `SumLearner.largest`: of two features, or of a feature and a target."""
        target = target_largest(task, self.target_unit, self.target_limit)
        return max(self.features.largest, target) * self.features.largest

    def check_values(self, features: Features, target: np.ndarray, task: Task) -> None:
        """See `Learner.check_values`: refuses what lies outside of what was declared."""
        check_features(self.features, features, task)
        check_target(target, task, self.target_unit, self.target_limit)

    def part(self, data: StepData, task: Task) -> State:
        """Sums of features, of targets, and of their products.

        Args:
            data: Records, maybe none.
            task: What is predicted.

        Returns:
            `"z"` `[d]`, `"t"` `[k]`, `"zz"` `[d (d + 1) / 2]`, its upper triangle by rows, `"zt"` `[d, k]`, all int64.

        Raises:
            ConfigurationError: If a value is not finite, or outside of what was declared.
        """
        d, k, largest = self.features.width(given(task)), columns(task), self.largest(task)
        parts = (
            _part(z, target_counts(target, task, self.target_unit, self.target_limit))
            for z, target in chunks(self.features, data, task, largest)
        )
        total = summed({"z": (d,), "t": (k,), "zz": (d, d), "zt": (d, k)}, parts)
        return {**total, "zz": total["zz"][np.triu_indices(d)]}

    def solve(self, whole: State, task: Task) -> Predictor:
        """Solve the normal equations, centred, by Cholesky's method.

        Args:
            whole: What `part` returned, added up, and `"records"`.
            task: What is predicted.

        Returns:
            Features to class probabilities `[n, classes]` (the fitted values, cut off at 0 and made to add up to 1)
            or to targets `[n, *shape]`, float64.
        """
        from scipy.linalg import cho_factor, cho_solve

        n, unit = int(whole[RECORDS]), self.features.unit
        target_unit = 1.0 if task.kind == "classification" else self.target_unit
        z, t = whole["z"] * (unit / n), whole["t"] * (target_unit / n)
        scatter = symmetric(whole["zz"], len(z)) * unit**2 - n * np.outer(z, z)
        cross = whole["zt"] * (unit * target_unit) - n * np.outer(z, t)
        scatter[np.diag_indices_from(scatter)] += self.alpha
        weights = cho_solve(cho_factor(scatter, lower=True), cross)
        intercept = t - z @ weights

        def predict(features: Features) -> np.ndarray:
            said: np.ndarray = self.features.counts(stacked(features)) @ (weights * unit) + intercept
            if task.kind == "regression":
                return said.reshape(len(said), *task.target.shape)
            said = np.maximum(said, 0.0)
            total: np.ndarray = said.sum(axis=1, keepdims=True)
            shares: np.ndarray = said / total
            return shares

        return predict


def _part(z: np.ndarray, t: np.ndarray) -> dict[str, np.ndarray]:
    return {"z": z.sum(axis=0), "t": t.sum(axis=0), "zz": z.T @ z, "zt": z.T @ t}
