"""Naive Bayes out of exact sums: whoever is forgotten leaves no trace in any digit.

Features are taken to be independent within a class y, so that log P(y | z) is log P(y) + sum_j log p(z_j | y) up to a
constant. P(y) is the class's share of the records; a class that nobody has is never predicted. Of features z counted in
whole units a shard keeps, class by class, n, sum z and, for the Gaussian kind, sum z^2 [Manning, Raghavan and Schuetze
2008, chapter 13; Chan, Golub and LeVeque 1982 for variances out of sums].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from shards.digest import Json
from shards.errors import ConfigurationError
from shards.learners.base import Features, Predictor, State, StepData
from shards.learners.counting import check_numbers, chunks, given, log_priors, one_hot, positive, softmax, summed
from shards.learners.feature_maps import FeatureMap, Raw, feature_map
from shards.learners.limits import check_features, check_no_less
from shards.learners.merging import stacked
from shards.learners.sums import SumLearner
from shards.task import Kind, Task


@dataclass(frozen=True, init=False)
class GaussianNBLearner(SumLearner):
    """Each feature of each class is normally distributed, as in `sklearn.naive_bayes.GaussianNB`.

    Every variance is raised by `var_smoothing` times the largest variance of any feature over all records. If no
    feature varies at all, as with a single record, it is raised by the square of one unit instead.

    Attributes:
        var_smoothing: Share of the largest variance, positive.
        features: The feature map.
    """

    kernel: ClassVar[str] = "gaussian_nb/1"
    libraries: ClassVar[tuple[str, ...]] = ("numpy",)

    var_smoothing: float
    features: FeatureMap

    def __init__(self, var_smoothing: float = 1e-9, features: Any = "raw") -> None:
        """Check and keep the constants.

        Args:
            var_smoothing: Share of the largest variance, positive.
            features: A `FeatureMap`, the name of one, or a mapping with `"map"` and its options.

        Raises:
            ConfigurationError: If one is out of range.
        """
        object.__setattr__(self, "var_smoothing", positive("var_smoothing", var_smoothing))
        object.__setattr__(self, "features", feature_map(features))
        object.__setattr__(self, "libraries", (*type(self).libraries, *self.features.libraries))

    def params(self) -> dict[str, Json]:
        """Every hyper-parameter, as JSON."""
        return {"var_smoothing": self.var_smoothing, "features": self.features.to_json()}

    @classmethod
    def from_params(cls, params: dict[str, Json]) -> GaussianNBLearner:
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
        check_numbers(task, "GaussianNBLearner", ("classification",))
        self.features.width(given(task))

    def largest(self, task: Task) -> int:
        """See `SumLearner.largest`: a square."""
        del task
        return self.features.largest**2

    def check_values(self, features: Features, target: np.ndarray, task: Task) -> None:
        """See `Learner.check_values`: refuses what lies outside of what was declared."""
        del target
        check_features(self.features, features, task)

    def part(self, data: StepData, task: Task) -> State:
        """Sums of ones, of features and of their squares, class by class.

        Args:
            data: Records, maybe none.
            task: What is predicted.

        Returns:
            `"n"` `[classes]`, `"z"` and `"zz"` `[classes, d]`, all int64.

        Raises:
            ConfigurationError: If a value is not finite, or outside of what was declared.
        """
        k, d = len(task.classes), self.features.width(given(task))
        parts = (
            {"n": y.sum(axis=0), "z": y.T @ z, "zz": y.T @ z**2}
            for z, y in (
                (z, one_hot(target, task)) for z, target in chunks(self.features, data, task, self.largest(task))
            )
        )
        return summed({"n": (k,), "z": (k, d), "zz": (k, d)}, parts)

    def solve(self, whole: State, task: Task) -> Predictor:
        """Means and variances, each rounded once.

        Args:
            whole: What `part` returned, added up.
            task: What is predicted.

        Returns:
            Features to class probabilities `[n, classes]`, float64.
        """
        del task
        unit, there = self.features.unit, np.flatnonzero(whole["n"])
        count = whole["n"][there, None]
        mean = whole["z"][there] / count * unit
        everywhere = variance(whole["n"].sum(), whole["z"].sum(axis=0), whole["zz"].sum(axis=0)).max()
        raised = self.var_smoothing * everywhere if everywhere > 0 else 1.0
        spread = (variance(count, whole["z"][there], whole["zz"][there]) + raised) * unit**2
        constant = log_priors(whole["n"])[there] - 0.5 * np.log(2 * math.pi * spread).sum(axis=1)
        classes = len(whole["n"])

        def predict(features: Features) -> np.ndarray:
            z = self.features.counts(stacked(features)) * unit
            scores = np.full((len(z), classes), -np.inf)
            for at, label in enumerate(there):
                scores[:, label] = constant[at] - 0.5 * ((z - mean[at]) ** 2 / spread[at]).sum(axis=1)
            return softmax(scores)

        return predict


@dataclass(frozen=True, init=False)
class MultinomialNBLearner(SumLearner):
    """Features are counts of what occurs, as words in a text, as in `sklearn.naive_bayes.MultinomialNB`.

    p(j | y) is (N_yj + alpha) / (N_y + alpha d), with N_yj what class y has of feature j in all, and N_y of all d.

    Attributes:
        alpha: Additive smoothing, positive.
        unit: What one count of a feature is worth; values are rounded to it.
        limit: Largest value of a feature.
    """

    kernel: ClassVar[str] = "multinomial_nb/1"
    libraries: ClassVar[tuple[str, ...]] = ("numpy",)

    alpha: float
    unit: float
    limit: float

    def __init__(self, alpha: float = 1.0, *, unit: float = 1.0, limit: float = 2.0**16) -> None:
        """Check and keep the constants.

        Args:
            alpha: Additive smoothing, positive.
            unit: What one count of a feature is worth: 1 for integers.
            limit: Largest value of a feature.

        Raises:
            ConfigurationError: If one is out of range.
        """
        object.__setattr__(self, "alpha", positive("alpha", alpha))
        counted = feature_map({"map": "raw", "unit": unit, "limit": limit})
        object.__setattr__(self, "unit", float(counted.unit))
        object.__setattr__(self, "limit", float(counted.limit))

    def params(self) -> dict[str, Json]:
        """Every hyper-parameter, as JSON."""
        return {"alpha": self.alpha, "unit": self.unit, "limit": self.limit}

    @classmethod
    def from_params(cls, params: dict[str, Json]) -> MultinomialNBLearner:
        """Build the learner again from `params()`."""
        return cls(**params)

    def kinds(self) -> tuple[Kind, ...]:
        """Classes only."""
        return ("classification",)

    def code(self) -> tuple[str, ...]:
        """None."""
        return ()

    def check(self, task: Task) -> None:
        """Refuse what is no classification of numbers.

        Args:
            task: What is predicted.

        Raises:
            ConfigurationError: With what does not fit.
        """
        check_numbers(task, "MultinomialNBLearner", ("classification",))

    def largest(self, task: Task) -> int:
        """See `SumLearner.largest`: a record's features all together, which `solve` adds up."""
        return self._map().largest * max(given(task), 1)

    def check_values(self, features: Features, target: np.ndarray, task: Task) -> None:
        """See `Learner.check_values`: refuses what lies outside of what was declared."""
        del target
        check_features(self._map(), features, task, "limit=…")
        check_no_less(0, features, self.unit, task)

    def part(self, data: StepData, task: Task) -> State:
        """Sums of ones and of features, class by class.

        Args:
            data: Records, maybe none.
            task: What is predicted.

        Returns:
            `"n"` `[classes]` and `"z"` `[classes, d]`, int64.

        Raises:
            ConfigurationError: If a value is negative, not finite, or outside of what was declared.
        """
        k, d = len(task.classes), given(task)
        parts = (
            {"n": y.sum(axis=0), "z": y.T @ z}
            for z, y in (
                (_positive_counts(z), one_hot(target, task))
                for z, target in chunks(self._map(), data, task, self.largest(task))
            )
        )
        return summed({"n": (k,), "z": (k, d)}, parts)

    def solve(self, whole: State, task: Task) -> Predictor:
        """Logarithms of the smoothed shares.

        Args:
            whole: What `part` returned, added up.
            task: What is predicted.

        Returns:
            Features to class probabilities `[n, classes]`, float64.
        """
        del task
        occurs = whole["z"] * self.unit + self.alpha
        every = whole["z"].sum(axis=1, keepdims=True) * self.unit + self.alpha * whole["z"].shape[1]
        weights, constant = np.log(occurs / every).T, log_priors(whole["n"])

        def predict(features: Features) -> np.ndarray:
            z = _positive_counts(self._map().counts(stacked(features)))
            return softmax(z @ (weights * self.unit) + constant)

        return predict

    def _map(self) -> FeatureMap:
        return Raw(unit=self.unit, limit=self.limit)


def variance(n: np.ndarray | np.int64, z: np.ndarray, zz: np.ndarray) -> np.ndarray:
    """Population variances out of sums, (n sum z^2 - (sum z)^2) / n^2, rounded once.

    The numerator needs more than 64 bits, and in floating point two large numbers would all but cancel; so it is worked
    out in Python's integers.

    Args:
        n: How many, at least 1, of a shape that broadcasts.
        z: Sums, int64.
        zz: Sums of squares, int64.

    Returns:
        float64, of the shape of `z`.
    """
    many, total = np.asarray(n).astype(object), z.astype(object)
    found: np.ndarray = ((many * zz.astype(object) - total * total) / (many * many)).astype(np.float64)
    return found


def _positive_counts(z: np.ndarray) -> np.ndarray:
    if z.size and z.min() < 0:
        raise ConfigurationError(
            "a feature is negative, and multinomial naive Bayes counts what occurs: encode features by a public rule "
            "before ingest, or use GaussianNBLearner"
        )
    return z
