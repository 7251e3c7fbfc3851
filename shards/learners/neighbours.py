"""k nearest neighbours, exactly: the state is the counted records, and whoever is forgotten is not among them.

Distances are Euclidean, of features counted in whole units, so they are compared as exact integers. Of records at the
distance of the k-th nearest, those for which there is no room are not left out by any order in which they were stored,
which would depend on the past: all records at that distance share the places that are left equally. So a prediction
depends on the set of records alone [Fix and Hodges 1951; Cover and Hart 1967].

A checkpoint of this learner holds records, and is to be kept like them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from shards.digest import Json
from shards.errors import ConfigurationError
from shards.learners.base import Features, Predictor, State, StepData
from shards.learners.counting import check_numbers, chunks, columns, given, target_counts, target_largest, target_limits
from shards.learners.feature_maps import EXACT_FLOAT, FeatureMap, feature_map
from shards.learners.limits import check_features, check_target
from shards.learners.merging import RECORDS, MergeLearner, stacked
from shards.task import Kind, Task

DISTANCE_BYTES = 2**26
"""Distances of so many records to all others at once are held in memory."""


@dataclass(frozen=True, init=False)
class NeighboursLearner(MergeLearner):
    """Shares of the k nearest records' classes, or the mean of their targets, over a public feature map.

    Attributes:
        k: How many neighbours; all records, if there are fewer.
        features: The feature map.
        target_unit: Regression: what one count of a target is worth; targets are rounded to it.
        target_limit: Regression: largest target in absolute terms.
    """

    kernel: ClassVar[str] = "neighbours/1"
    libraries: ClassVar[tuple[str, ...]] = ("numpy",)

    k: int
    features: FeatureMap
    target_unit: float
    target_limit: float

    def __init__(
        self,
        k: int = 5,
        features: Any = "raw",
        *,
        target_unit: float = 2.0**-10,
        target_limit: float = 2.0**10,
    ) -> None:
        """Check and keep the constants.

        Args:
            k: How many neighbours, at least 1.
            features: A `FeatureMap`, the name of one, or a mapping with `"map"` and its options.
            target_unit: What one count of a target is worth.
            target_limit: Largest target in absolute terms.

        Raises:
            ConfigurationError: If one is out of range.
        """
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise ConfigurationError(f"k must be a whole number of neighbours, at least 1, got {k!r}")
        unit, limit = target_limits(target_unit, target_limit)
        object.__setattr__(self, "k", k)
        object.__setattr__(self, "features", feature_map(features))
        object.__setattr__(self, "libraries", (*type(self).libraries, *self.features.libraries))
        object.__setattr__(self, "target_unit", unit)
        object.__setattr__(self, "target_limit", limit)

    def params(self) -> dict[str, Json]:
        """Every hyper-parameter, as JSON."""
        return {
            "k": self.k,
            "features": self.features.to_json(),
            "target_unit": self.target_unit,
            "target_limit": self.target_limit,
        }

    @classmethod
    def from_params(cls, params: dict[str, Json]) -> NeighboursLearner:
        """Build the learner again from `params()`."""
        return cls(**params)

    def kinds(self) -> tuple[Kind, ...]:
        """Both."""
        return ("classification", "regression")

    def code(self) -> tuple[str, ...]:
        """What the feature map runs."""
        return self.features.code()

    def check(self, task: Task) -> None:
        """Refuse features that are no numbers, or whose distances could not be compared exactly.

        Args:
            task: What is predicted.

        Raises:
            ConfigurationError: With what does not fit.
        """
        check_numbers(task, "NeighboursLearner")
        d = self.features.width(given(task))
        if 4 * d * self.features.largest**2 > EXACT_FLOAT:
            raise ConfigurationError(
                f"distances over {d:,} features of up to {self.features.largest:,} counts are no exact numbers: use "
                "coarser units"
            )

    def check_records(self, records: int, task: Task) -> None:
        """Refuse so many records that targets could not be added up exactly.

        Args:
            records: How many.
            task: What is predicted.

        Raises:
            ConfigurationError: With how many.
        """
        if records * target_largest(task, self.target_unit, self.target_limit) > EXACT_FLOAT:
            raise ConfigurationError(
                f"the targets of {records:,} records could not be added up exactly: use a coarser target_unit"
            )

    def check_values(self, features: Features, target: np.ndarray, task: Task) -> None:
        """See `Learner.check_values`: refuses what lies outside of what was declared."""
        check_features(self.features, features, task)
        check_target(target, task, self.target_unit, self.target_limit)

    def part(self, data: StepData, task: Task) -> State:
        """The records, counted, in the order they are given: a canonical one.

        Args:
            data: Records, maybe none.
            task: What is predicted.

        Returns:
            `"z"` `[n, d]`, the smallest integers that hold all counts; `"t"` `[n, k]`, the same of targets.

        Raises:
            ConfigurationError: If a value is not finite, or outside of what was declared.
        """
        largest, most = self.features.largest, target_largest(task, self.target_unit, self.target_limit)
        z = [np.zeros((0, self.features.width(given(task))), dtype=_integers(largest))]
        t = [np.zeros((0, columns(task)), dtype=_integers(most))]
        for counts, target in chunks(self.features, data, task, largest):
            z.append(counts.astype(z[0].dtype))
            t.append(target_counts(target, task, self.target_unit, self.target_limit).astype(t[0].dtype))
        return {"z": np.concatenate(z), "t": np.concatenate(t)}

    def merge(self, states: Sequence[State]) -> State:
        """All their records."""
        together = {name: np.concatenate([state[name] for state in states]) for name in ("z", "t")}
        return {**together, RECORDS: np.array(len(together["z"]), dtype=np.int64)}

    def solve(self, whole: State, task: Task) -> Predictor:
        """Keep the records at hand.

        Args:
            whole: Records.
            task: What is predicted.

        Returns:
            Features to shares of classes `[n, classes]` or to means of targets `[n, *shape]`, float64.
        """
        z, t = whole["z"].astype(np.float64), whole["t"].astype(np.float64)
        squares, k = np.einsum("nd,nd->n", z, z), min(self.k, len(z))
        unit = 1.0 if task.kind == "classification" else self.target_unit

        def predict(features: Features) -> np.ndarray:
            asked = self.features.counts(stacked(features))
            step = max(1, DISTANCE_BYTES // (8 * len(z)))
            said = np.empty((len(asked), t.shape[1]))
            for start in range(0, len(asked), step):
                part = asked[start : start + step]
                # |a - z|^2 but for |a|^2, which is the same for all z.
                distances = squares - 2 * (part @ z.T)
                last = np.partition(distances, k - 1, axis=1)[:, k - 1 : k]
                nearer, tied = (distances < last).astype(np.float64), (distances == last).astype(np.float64)
                places = k - nearer.sum(axis=1, keepdims=True)
                shares = places / tied.sum(axis=1, keepdims=True)
                said[start : start + step] = (nearer @ t + shares * (tied @ t)) * (unit / k)
            return said if task.kind == "classification" else said.reshape(len(said), *task.target.shape)

        return predict


def _integers(largest: int) -> np.dtype[Any]:
    """The smallest integers that hold plus and minus so much."""
    return np.min_scalar_type(-largest - 1)
