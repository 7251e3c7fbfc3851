"""Completely random trees out of exact counts: whoever is forgotten leaves no trace in any leaf.

Every inner node asks whether one feature reaches one threshold, and both are drawn before there are any records: from
a declared seed, the feature uniformly among all, the threshold uniformly between two declared constants. So the shape
of a tree owes nothing to anybody; records decide only how many of each class lie in each leaf. These counts are sums
over the records, which add and subtract exactly [completely random trees: Fan, Wang, Yu and Ma 2003; extremely
randomised trees with K = 1 whose cut-points know no data: Geurts, Ernst and Wehenkel 2006].

Of counts n_v(y), N_v in all, the probabilities of a node v below a node u are (n_v(y) + m p_u(y)) / (N_v + m), and at
the root the classes' shares: a leaf that few reached says about what the node above it says [Cestnik 1990]. A forest
predicts the mean over its trees.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from shards.digest import Json, canonical_json
from shards.errors import ConfigurationError
from shards.learners.base import Features, Predictor, State, StepData
from shards.learners.counting import check_numbers, chunks, given, positive, summed
from shards.learners.feature_maps import FeatureMap, feature_map
from shards.learners.limits import check_features
from shards.learners.merging import stacked
from shards.learners.sums import SumLearner
from shards.task import Kind, Task

MOST_COUNTS = 2**26
"""Counts of a forest at most: half a gigabyte."""

WALKED = 2**16
"""So many walks from root to leaf at once stay in the processor's cache."""


@dataclass(frozen=True, init=False)
class RandomTreesLearner(SumLearner):
    """A forest whose splits are drawn without looking at any record, over a public feature map.

    Attributes:
        trees: T.
        depth: D: each tree has 2^D leaves.
        low: Thresholds lie above this value of a feature.
        high: And up to this one.
        smoothing: m, positive: how many records the node above counts for.
        seed: Of the splits; public.
        features: The feature map.
    """

    kernel: ClassVar[str] = "random_trees/1"
    libraries: ClassVar[tuple[str, ...]] = ("numpy",)

    trees: int
    depth: int
    low: float
    high: float
    smoothing: float
    seed: int
    features: FeatureMap

    def __init__(
        self,
        trees: int = 100,
        depth: int = 8,
        *,
        low: float | None = None,
        high: float | None = None,
        smoothing: float = 1.0,
        seed: int = 0,
        features: Any = "raw",
    ) -> None:
        """Check and keep the constants.

        Args:
            trees: How many.
            depth: Splits from the root to a leaf, 1 to 20.
            low: Thresholds lie above this value; None: minus the map's limit.
            high: And up to this one; None: the map's limit.
            smoothing: How many records the node above counts for, positive.
            seed: Of the splits; public.
            features: A `FeatureMap`, the name of one, or a mapping with `"map"` and its options.

        Raises:
            ConfigurationError: If one is out of range.
        """
        of = feature_map(features)
        object.__setattr__(self, "trees", _whole("trees", trees, 1, 2**20))
        object.__setattr__(self, "depth", _whole("depth", depth, 1, 20))
        object.__setattr__(self, "low", _bound("low", -of.limit if low is None else low, of))
        object.__setattr__(self, "high", _bound("high", of.limit if high is None else high, of))
        object.__setattr__(self, "smoothing", positive("smoothing", smoothing))
        object.__setattr__(self, "seed", _whole("seed", seed, 0, 2**63 - 1))
        object.__setattr__(self, "features", of)
        object.__setattr__(self, "libraries", (*type(self).libraries, *of.libraries))
        if self._ends[0] >= self._ends[1]:
            raise ConfigurationError(
                f"thresholds are drawn from above low to high, which must be a unit of the map or more apart; got "
                f"{self.low:g} and {self.high:g} in units of {of.unit:g}"
            )

    def params(self) -> dict[str, Json]:
        """Every hyper-parameter, as JSON."""
        names = ("trees", "depth", "low", "high", "smoothing", "seed")
        return {**{name: getattr(self, name) for name in names}, "features": self.features.to_json()}

    @classmethod
    def from_params(cls, params: dict[str, Json]) -> RandomTreesLearner:
        """Build the learner again from `params()`."""
        return cls(**params)

    def kinds(self) -> tuple[Kind, ...]:
        """Classes only."""
        return ("classification",)

    def code(self) -> tuple[str, ...]:
        """What the feature map runs."""
        return self.features.code()

    def check(self, task: Task) -> None:
        """Refuse what is no classification of numbers, and forests that are too large.

        Args:
            task: What is predicted.

        Raises:
            ConfigurationError: With what does not fit.
        """
        check_numbers(task, "RandomTreesLearner", ("classification",))
        self.features.width(given(task))
        counts = self.trees * 2**self.depth * len(task.classes)
        if counts > MOST_COUNTS:
            raise ConfigurationError(
                f"{self.trees:,} trees of depth {self.depth} hold {counts:,} counts, and at most {MOST_COUNTS:,} fit: "
                "use fewer trees, or less depth"
            )

    def largest(self, task: Task) -> int:
        """See `SumLearner.largest`: each record is one record of one leaf."""
        del task
        return 1

    def check_values(self, features: Features, target: np.ndarray, task: Task) -> None:
        """See `Learner.check_values`: refuses what lies outside of what was declared."""
        del target
        check_features(self.features, features, task)

    def part(self, data: StepData, task: Task) -> State:
        """Records of each class in each leaf.

        Args:
            data: Records, maybe none.
            task: What is predicted.

        Returns:
            `"n"` `[trees, leaves, classes]` int64.

        Raises:
            ConfigurationError: If a value is not finite, or outside of what was declared.
        """
        shape = (self.trees, 2**self.depth, len(task.classes))
        parts = (
            {"n": self._counted(z, target, shape)}
            for z, target in chunks(self.features, data, task, self.largest(task))
        )
        return summed({"n": shape}, parts)

    def solve(self, whole: State, task: Task) -> Predictor:
        """Probabilities of every leaf, from the root down.

        Args:
            whole: What `part` returned, added up.
            task: What is predicted.

        Returns:
            Features to class probabilities `[n, classes]`, float64.
        """
        del task
        leaves = _probabilities(whole["n"], self.smoothing)

        def predict(features: Features) -> np.ndarray:
            z = self.features.counts(stacked(features))
            said = np.zeros((len(z), leaves.shape[2]))
            for rows, leaf in self._walks(z):
                for tree in range(self.trees):
                    said[rows] += leaves[tree, leaf[:, tree]]
            return said / self.trees

        return predict

    @property
    def _ends(self) -> tuple[int, int]:
        """`low` and `high` in units of the map."""
        return round(self.low / self.features.unit), round(self.high / self.features.unit)

    def _counted(self, z: np.ndarray, target: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        """Records of each class in each leaf, of features `[m, d]` and indices of classes `[m]`."""
        counts = np.zeros(shape, dtype=np.int64)
        for rows, leaf in self._walks(z):
            place = (np.arange(self.trees) * shape[1] + leaf) * shape[2] + target[rows, None]
            where, many = np.unique(place, return_counts=True)
            counts.reshape(-1)[where] += many
        return counts

    def _walks(self, z: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Which leaf of each tree records come to.

        Args:
            z: `[m, d]` float64, whole numbers.

        Yields:
            Some rows, and their leaves `[rows, trees]` int64.
        """
        features, thresholds = _splits(self.seed, self.trees, self.depth, z.shape[1], self._ends)
        first = np.arange(self.trees) * (2**self.depth - 1)
        step = max(1, WALKED // self.trees)
        for start in range(0, len(z), step):
            rows = slice(start, start + step)
            some = z[rows]
            row, node = np.arange(len(some))[:, None], np.zeros((len(some), self.trees), dtype=np.int64)
            for _ in range(self.depth):
                at = first + node
                # Children of node v are 2 v + 1 and 2 v + 2; what reaches the threshold goes to the second.
                node = 2 * node + 1 + (some[row, features[at]] >= thresholds[at])
            yield rows, node - (2**self.depth - 1)


@lru_cache(maxsize=2)
def _splits(seed: int, trees: int, depth: int, width: int, ends: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The splits of every inner node, tree by tree and level by level: a function of declared constants alone.

    They are read off SHAKE-256, 64 bits a split: no generator whose stream a later version of a library may change,
    since counts mean nothing without their splits.

    Returns:
        Feature numbers `[trees (2^depth - 1)]` int64, and thresholds, counted in units, float64.
    """
    low, high = ends
    nodes = 2**depth - 1
    streams = (hashlib.shake_256(canonical_json(["random trees", seed, tree])) for tree in range(trees))
    drawn = np.frombuffer(b"".join(stream.digest(8 * nodes) for stream in streams), dtype="<u8")
    # 32 bits times fewer than 2^32 possibilities, the upper half: uniform but for one part in 2^32 / possibilities.
    upper, lower = drawn >> np.uint64(32), drawn & np.uint64(2**32 - 1)
    features = upper * np.uint64(width) >> np.uint64(32)
    steps = lower * np.uint64(high - low) >> np.uint64(32)
    return features.astype(np.int64), low + 1 + steps.astype(np.float64)


def _probabilities(counts: np.ndarray, smoothing: float) -> np.ndarray:
    """Of every leaf, `[trees, leaves, classes]` float64, from its counts."""
    levels = [counts]
    while levels[-1].shape[1] > 1:
        below = levels[-1]
        levels.append(below.reshape(len(below), -1, 2, below.shape[2]).sum(axis=2))
    root = levels.pop()
    found: np.ndarray = root / root.sum(axis=2, keepdims=True)
    while levels:
        here, above = levels.pop(), np.repeat(found, 2, axis=1)
        found = (here + smoothing * above) / (here.sum(axis=2, keepdims=True) + smoothing)
    return found


def _whole(name: str, value: Any, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigurationError(f"{name} must be a whole number from {least} to {most:,}, got {value!r}")
    return value


def _bound(name: str, value: Any, of: FeatureMap) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -of.limit <= value <= of.limit:
        raise ConfigurationError(
            f"{name} must be a number within the limit of the feature map, {of.limit:g}, got {value!r}"
        )
    return float(value)
