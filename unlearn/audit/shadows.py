"""Shadow models: trained as the attacked one was, on known halves of the records.

Each record is in exactly half of the models, so every one has as many models with it as without. Every model can stand
for the attacked one, with all others as its shadows: N trainings are N attacks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from shards.digest import derive_seed
from shards.learners.base import Learner, Predictor, State, StepContext, StepData
from shards.task import FieldSchema, Task
from unlearn.audit.attacks.base import classes_of
from unlearn.errors import ConfigurationError, InputError

Progress = Callable[[int, int], None]
"""Told how much is done, and of how much."""

PredictProba = Callable[[np.ndarray], np.ndarray]
"""Records `[n, ...]` to class probabilities `[n, classes]`: all that an attack needs of a model."""


class Classifier(Protocol):
    """What can be trained and asked, as scikit-learn's classifiers."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> object:
        """Train on records `[n, ...]` and classes `[n]`."""

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Records `[n, ...]` to probabilities `[n, classes that it saw]`."""


Factory = Callable[[int], Classifier]
"""A seed to an untrained model."""


@dataclass(frozen=True, eq=False)
class Shadows:
    """Trained shadow models, and what each was trained on.

    Attributes:
        models: Each gives probabilities of all classes.
        membership: `[models, n]` bool: the model was trained on the record.
    """

    models: tuple[PredictProba, ...]
    membership: np.ndarray

    def probabilities(self, X: np.ndarray) -> np.ndarray:
        """What every model says.

        Args:
            X: `[n, ...]` records, those of training or others.

        Returns:
            `[models, n, classes]` float64.
        """
        return np.stack([model(X) for model in self.models])


@dataclass(frozen=True, eq=False)
class Trial:
    """One model in the place of the attacked one, the others as its shadows.

    Attributes:
        number: Of the model.
        own: `[n]` or `[n, classes]`: what it gives.
        is_member: `[n]` bool: it was trained on the record.
        others: `[models - 1, n]` or `[models - 1, n, classes]`: what the others give.
        membership: `[models - 1, n]` bool: they were trained on the record.
    """

    number: int
    own: np.ndarray
    is_member: np.ndarray
    others: np.ndarray
    membership: np.ndarray


def half_splits(models: int, n: int, seed: int) -> np.ndarray:
    """Draw which records each model is trained on.

    Args:
        models: Even, at least 2.
        n: Number of records, at least 1.
        seed: Of the draw.

    Returns:
        `[models, n]` bool; each record is in exactly half of the models, which half is drawn for each by itself.

    Raises:
        ConfigurationError: If the number of models is odd or less than 2, or there is no record.
    """
    if models < 2 or models % 2 or n < 1:
        raise ConfigurationError(
            f"each record is in exactly half of the models: give an even number of them, and records, got {models}, {n}"
        )
    draws = np.random.Generator(np.random.PCG64(derive_seed("audit", "half splits", seed))).random((models, n))
    return np.asarray(draws.argsort(axis=0).argsort(axis=0) < models // 2)


def train_shadows(
    factory: Factory, X: np.ndarray, y: np.ndarray, membership: np.ndarray, seed: int, progress: Progress | None = None
) -> Shadows:
    """Train one model after another.

    Args:
        factory: Seed to an untrained model; called once a model, with a seed of its own.
        X: `[n, ...]` records.
        y: `[n]` int, classes 0 to C - 1.
        membership: `[models, n]` bool, as from `half_splits`.
        seed: From which each model's seed is derived.
        progress: Told after each model.

    Returns:
        The models.

    Raises:
        InputError: If shapes differ, or a model saw a single class only.
    """
    member = checked_membership(membership, len(X))
    labels = classes_of(y, len(X), int(np.max(y, initial=0)) + 1)
    n_classes = int(labels.max()) + 1
    models = []
    for number, rows in enumerate(member):
        seen = np.unique(labels[rows])
        if len(seen) < 2:
            raise InputError(f"shadow model {number} has records of {len(seen)} class: give more records")
        model = factory(model_seed(seed, number))
        model.fit(X[rows], labels[rows])
        models.append(_over_all_classes(model, seen, n_classes))
        if progress is not None:
            progress(number + 1, len(member))
    return Shadows(tuple(models), member)


def model_seed(seed: int, number: int) -> int:
    """Seed of one shadow model.

    Args:
        seed: Of all of them.
        number: Of the model.

    Returns:
        63 bits; scikit-learn takes the lower 32.
    """
    return derive_seed("audit", "shadow", seed, number)


def checked_membership(membership: np.ndarray, n: int) -> np.ndarray:
    """Check a membership matrix.

    Args:
        membership: `[models, n]` bool.
        n: Number of records.

    Returns:
        It.

    Raises:
        InputError: If it is another, or a model has no record.
    """
    member = np.asarray(membership)
    if member.dtype != np.bool_ or member.ndim != 2 or member.shape[1] != n or not len(member):
        raise InputError(f"membership must be bool [models, {n}], got {member.dtype} {member.shape}")
    empty = np.flatnonzero(~member.any(axis=1))
    if len(empty):
        raise InputError(f"shadow models {empty.tolist()} have no record to be trained on: give more records")
    return member


def trials(values: np.ndarray, membership: np.ndarray) -> Iterator[Trial]:
    """Let each model be the attacked one.

    The records of two trials are the same, so their scores depend on each other: an interval over all trials together
    is too narrow. Take it over one trial, or over the trials' figures.

    Args:
        values: `[models, n]` or `[models, n, classes]`: what each model gives.
        membership: `[models, n]` bool.

    Yields:
        One trial a model.

    Raises:
        InputError: If shapes differ, or there are no two models.
    """
    numbers = np.asarray(values)
    if numbers.ndim < 2 or len(numbers) < 2:
        raise InputError(f"give values [models, n, ...] of two models or more, got {numbers.shape}")
    member = checked_membership(membership, numbers.shape[1])
    if len(member) != len(numbers):
        raise InputError(f"membership is of {len(member)} models, and values are of {len(numbers)}")
    for number in range(len(numbers)):
        others = np.arange(len(numbers)) != number
        yield Trial(number, numbers[number], member[number], numbers[others], member[others])


class LearnerClassifier:
    """A `shards` learner as a classifier: one step over all records, as a shard with a single slice would make it.

    Args:
        learner: What is trained.
        n_classes: C.
        seed: Root seed of the step.
    """

    def __init__(self, learner: Learner, n_classes: int, seed: int) -> None:
        self._learner, self._n_classes, self._seed = learner, n_classes, seed
        self._predict: Predictor | None = None

    def fit(self, X: np.ndarray, y: np.ndarray) -> LearnerClassifier:
        """Train.

        Args:
            X: `[n, ...]`.
            y: `[n]` int, classes 0 to C - 1.

        Returns:
            This.

        Raises:
            ConfigurationError: If the learner does not take such records.
        """
        task = task_of(self._learner, X, self._n_classes)
        self._predict = self._learner.predictor(trained_state(self._learner, task, X, y, self._seed), task)
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Probabilities.

        Args:
            X: `[n, ...]`.

        Returns:
            `[n, C]` float64.

        Raises:
            InputError: If it was not trained.
        """
        if self._predict is None:
            raise InputError("this shadow model was not trained: call fit first")
        return self._predict({"x": X})


def task_of(learner: Learner, X: np.ndarray, n_classes: int) -> Task:
    """What a shadow model of a learner predicts from what.

    Args:
        learner: What is trained.
        X: `[n, ...]` records.
        n_classes: C.

    Returns:
        The task.

    Raises:
        ConfigurationError: If the learner does not take such records.
    """
    task = Task(
        "classification", {"x": FieldSchema(X.shape[1:], X.dtype.str)}, FieldSchema((), "<i8"), tuple(range(n_classes))
    )
    if "classification" not in learner.kinds():
        raise ConfigurationError(f"{type(learner).__name__} does not classify, so it cannot be a shadow model")
    learner.check(task)
    return task


def trained_state(learner: Learner, task: Task, X: np.ndarray, y: np.ndarray, seed: int) -> State:
    """Train one step over all records.

    Args:
        learner: What is trained.
        task: See `task_of`.
        X: `[n, ...]`.
        y: `[n]` int, classes 0 to C - 1.
        seed: Root seed of the step.

    Returns:
        The state.
    """
    names = np.zeros((len(X), 16), dtype=np.uint8)
    names[:, :8] = np.arange(len(X), dtype="<u8")[:, None].view(np.uint8)
    data = StepData({"x": X}, y.astype(np.int64), names)
    return learner.train_step(None, data, StepContext(task, seed, 0, 0, learner.visits(len(X), 1)))


def learner_factory(learner: Learner, n_classes: int) -> Factory:
    """Shadow models of a `shards` learner.

    Args:
        learner: What each trains.
        n_classes: C.

    Returns:
        A factory for `train_shadows`.
    """
    return lambda seed: LearnerClassifier(learner, n_classes, seed)


def _over_all_classes(model: Classifier, seen: np.ndarray, n_classes: int) -> PredictProba:
    def predict(X: np.ndarray) -> np.ndarray:
        found = np.asarray(model.predict_proba(X), dtype=np.float64)
        if found.shape == (len(X), n_classes):
            return found
        if found.shape != (len(X), len(seen)):
            raise InputError(f"a shadow model that saw {len(seen)} of {n_classes} classes gives {found.shape}")
        full = np.zeros((len(X), n_classes))
        full[:, seen] = found
        return full

    return predict
