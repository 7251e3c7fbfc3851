"""A head over features that never change: each shard trains a small model on what a public map makes of its records.

What is hard to learn from a part of the data, the features, is fixed and public, and learnt by no shard; what each
shard learns, the head, is small, so that an ensemble of heads loses little against one head of all data. The map is
part of the learner: its options are in every key, and whoever predicts gives records as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from shards.code import OWN, resolve
from shards.digest import Json
from shards.errors import ConfigurationError
from shards.learners import as_learner
from shards.learners.base import Features, Joined, Learner, Predictor, State, StepContext, StepData
from shards.learners.counting import check_numbers, given
from shards.learners.feature_maps import FeatureMap, feature_map
from shards.learners.limits import check_features
from shards.learners.merging import MergeLearner, stacked
from shards.learners.torch_tensors import count_records
from shards.task import FieldSchema, Kind, Task

NAME = "x"
"""What the head's only feature is called."""

CHUNK_BYTES = 2**25
"""Features of so many records at once are held in float64."""


@dataclass(frozen=True, init=False)
class MappedLearner(Learner):
    """Any learner over a public feature map.

    The head is given one feature, `"x"` `[n, width]` float32: whole numbers of the map's units, times the unit. A step
    works its records' features out once, however often it visits them, and keeps none of them.

    Attributes:
        head: What is trained on the features.
        features: The feature map.
    """

    kernel: ClassVar[str] = "mapped/1"
    libraries: ClassVar[tuple[str, ...]] = ("numpy",)

    head: Learner
    features: FeatureMap

    def __init__(self, head: Any, features: Any) -> None:
        """Check and keep both.

        Args:
            head: A learner; what `as_learner` makes one of, such as a scikit-learn estimator; or a mapping with its
                `"class"`, as `"package.module:Name"`, and its `"params"`.
            features: A `FeatureMap`, the name of one, or a mapping with `"map"` and its options.

        Raises:
            ConfigurationError: If the head is no learner or takes a feature map itself, or the map makes no sense.
        """
        learner = _described(head) if isinstance(head, Mapping) else as_learner(head)
        if isinstance(learner, MergeLearner | MappedLearner):
            raise ConfigurationError(
                f"MappedLearner: {type(learner).__name__} takes a feature map itself: give it there"
            )
        of = feature_map(features)
        object.__setattr__(self, "head", learner)
        object.__setattr__(self, "features", of)
        # What decides the bytes is the map's, the head's, and this class's own, together.
        object.__setattr__(self, "kernel", f"{type(self).kernel} {learner.kernel}")
        libraries = (*type(self).libraries, *learner.libraries, *of.libraries)
        object.__setattr__(self, "libraries", tuple(dict.fromkeys(libraries)))
        object.__setattr__(self, "reproducible", learner.reproducible)

    def params(self) -> dict[str, Json]:
        """Every hyper-parameter, as JSON."""
        return {
            "head": {"class": _name(type(self.head)), "params": self.head.params()},
            "features": self.features.to_json(),
        }

    @classmethod
    def from_params(cls, params: dict[str, Json]) -> MappedLearner:
        """Build the learner again from `params()`."""
        return cls(**params)

    def kinds(self) -> tuple[Kind, ...]:
        """The head's."""
        return self.head.kinds()

    def code(self) -> tuple[str, ...]:
        """What the head and the map run, and the head's own class where it is the user's."""
        kind = type(self.head)
        own = () if kind.__module__.partition(".")[0] in OWN else (_name(kind),)
        return tuple(dict.fromkeys((*own, *self.head.code(), *self.features.code())))

    def check(self, task: Task) -> None:
        """Refuse features that are no numbers or do not fit the map, and what the head refuses.

        Args:
            task: What is predicted.

        Raises:
            ConfigurationError: Naming them.
        """
        check_numbers(task, "MappedLearner")
        self.head.check(self._mapped(task))

    def check_values(self, features: Features, target: np.ndarray, task: Task) -> None:
        """See `Learner.check_values`: refuses what lies outside of what was declared."""
        del target
        check_features(self.features, features, task)

    def visits(self, records: int, n_slices: int) -> int:
        """The head's."""
        return self.head.visits(records, n_slices)

    def budget(self, new: int, records: int, n_slices: int) -> int:
        """The head's."""
        return self.head.budget(new, records, n_slices)

    def train_step(self, parent: State | None, data: StepData, context: StepContext) -> State:
        """Work the features out, and train the head on them.

        Args:
            parent: State after the previous step, or None for the first.
            data: Records of slices 1..r, at least one.
            context: Seeds, budget and constants.

        Returns:
            The head's new state.

        Raises:
            ConfigurationError: If a value lies outside of what the map declares.
        """
        found = StepData({NAME: self._values(data.features, context.task)}, data.target, data.tokens)
        return self.head.train_step(parent, found, replace(context, task=self._mapped(context.task)))

    def prepare(self, features: Features, task: Task) -> Features:
        """Work the features out, once for all shards; then the head prepares them.

        Args:
            features: Features before the map.
            task: What is predicted.

        Returns:
            What predictors are to be called with.

        Raises:
            InputError: If they are not the task's features.
            ConfigurationError: If a value lies outside of what the map declares.
        """
        return self.head.prepare({NAME: self._values(features, task)}, self._mapped(task))

    def predictor(self, state: State, task: Task) -> Predictor:
        """Make a state ready to predict.

        Args:
            state: What `train_step` gave.
            task: What is predicted.

        Returns:
            What `prepare` gave to what the head says of it.
        """
        return self.head.predictor(state, self._mapped(task))

    def join(self, members: Sequence[Predictor], task: Task) -> Joined | None:
        """What the head makes of its own."""
        return self.head.join(members, self._mapped(task))

    def content_digest(self, state: State) -> str:
        """The head's."""
        return self.head.content_digest(state)

    def _mapped(self, task: Task) -> Task:
        """The head's task."""
        width = self.features.width(given(task))
        return replace(task, features={NAME: FieldSchema((width,), "<f4")}, columns=())

    def _values(self, features: Features, task: Task) -> np.ndarray:
        """`[n, width]` float32."""
        n = count_records(features, task)
        found = np.empty((n, self.features.width(given(task))), dtype=np.float32)
        for rows in _chunks(n, found.shape[1] + given(task)):
            counts = self.features.counts(stacked({name: features[name][rows] for name in task.features}))
            found[rows] = counts * self.features.unit
        return found


def _described(described: Mapping[str, Json]) -> Learner:
    if described.keys() != {"class", "params"}:
        raise ConfigurationError(
            f"MappedLearner: a head is described by its class and its params, got {', '.join(map(str, described))}"
        )
    kind = resolve(described["class"])
    if not (isinstance(kind, type) and issubclass(kind, Learner)):
        raise ConfigurationError(f"MappedLearner: {described['class']} is not a Learner: name one as the head")
    return kind.from_params(described["params"])


def _chunks(n: int, width: int) -> Iterator[slice]:
    step = max(1, CHUNK_BYTES // (8 * width))
    for start in range(0, n, step):
        yield slice(start, min(n, start + step))


def _name(kind: type[Learner]) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"
