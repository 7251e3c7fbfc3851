"""A learner out of any estimator that follows scikit-learn's conventions.

The estimator is kept as a description in plain JSON (class reference and parameters), its fitted state as skops
bytes; neither needs pickle. Whatever would make the bits depend on something undeclared is fixed: missing
seeds are derived from the step, `n_jobs` is 1, and wall-clock times that searches record are set to zero.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Literal

import numpy as np

from shards.digest import Json, canonical_json
from shards.errors import ConfigurationError, DamageError
from shards.learners.base import Features, Learner, Predictor, State, StepContext, StepData, epoch_visits
from shards.learners.canonical import content_digest
from shards.learners.estimators import build, declared_names, describe, references
from shards.learners.generators import generators_kept, seed_generators
from shards.learners.sklearn_checks import check_options, check_task
from shards.learners.sklearn_inputs import make_inputs, make_targets, take_rows
from shards.learners.skops_state import dump_estimator, load_estimator
from shards.learners.trusted import BASE_ROOTS, check_trusted, root_of
from shards.task import Kind, Task

Mode = Literal["partial_fit", "refit"]


@dataclass(frozen=True, init=False)
class SklearnLearner(Learner):
    """Trains a scikit-learn estimator on every shard.

    With `partial_fit` a step continues from its parent in mini-batches; with `refit` it fits a new estimator on
    all records so far and ignores its parent. The learner is a value: the estimator given is described, never
    kept, so changing it later changes nothing.

    Attributes:
        description: Canonical JSON text of the estimator and its parameters.
        mode: `"partial_fit"` or `"refit"`.
        epochs: E, nominal passes over the data; ignored by `refit`.
        batch_size: Records of one call of `partial_fit`; ignored by `refit`.
        trusted: Root packages, beside numpy, scipy and sklearn, whose classes may be built and loaded.
    """

    kernel: ClassVar[str] = "sklearn/1"
    libraries: ClassVar[tuple[str, ...]] = BASE_ROOTS

    description: str
    mode: Mode
    epochs: int | float
    batch_size: int
    trusted: tuple[str, ...]

    def __init__(
        self,
        estimator: Any,
        *,
        mode: Literal["auto", "partial_fit", "refit"] = "auto",
        epochs: float = 5,
        batch_size: int = 64,
        trusted: Sequence[str] = (),
    ) -> None:
        """Describe an estimator.

        Args:
            estimator: An unfitted estimator. What it has learnt, if anything, is not taken over.
            mode: `"auto"` is `"partial_fit"` for estimators that have it, else `"refit"`.
            epochs: E, nominal passes over the data, positive.
            batch_size: Records of one call of `partial_fit`, at least 1.
            trusted: Root packages of third-party or own classes and functions, such as `["lightgbm"]`.

        Raises:
            ConfigurationError: If a parameter has no description or an option is out of range.
            CodeError: If a class or function cannot be found again by its name.
        """
        check_options(mode, epochs, batch_size, trusted)
        roots = tuple(sorted(set(trusted)))
        description = describe(estimator, roots)
        rebuilt = build(description, roots)
        if describe(rebuilt, roots) != description:
            raise ConfigurationError(
                f"{type(estimator).__name__} changes its parameters when it is constructed, so it cannot be"
                " built again from them; store the arguments of __init__ unchanged, as scikit-learn asks"
            )
        can_continue = hasattr(rebuilt, "partial_fit")
        if mode == "partial_fit" and not can_continue:
            raise ConfigurationError(f"{type(estimator).__name__} has no partial_fit; use mode='refit'")
        resolved = mode if mode != "auto" else "partial_fit" if can_continue else "refit"
        object.__setattr__(self, "description", canonical_json(description).decode())
        object.__setattr__(self, "mode", resolved)
        object.__setattr__(self, "epochs", int(epochs) if float(epochs).is_integer() else float(epochs))
        object.__setattr__(self, "batch_size", int(batch_size))
        object.__setattr__(self, "trusted", roots)

    def estimator(self) -> Any:
        """A new unfitted estimator with the declared parameters."""
        return build(json.loads(self.description), self.trusted)

    def kinds(self) -> tuple[Kind, ...]:
        """Regression for a regressor, classification for anything else; `check` is stricter."""
        from sklearn.base import is_regressor

        return ("regression",) if is_regressor(self.estimator()) else ("classification",)

    def params(self) -> dict[str, Json]:
        """Every hyper-parameter, as JSON, the resolved mode among them."""
        return {
            "estimator": json.loads(self.description),
            "mode": self.mode,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "trusted": list(self.trusted),
        }

    @classmethod
    def from_params(cls, params: dict[str, Json]) -> SklearnLearner:
        """Build the learner again from `params()`.

        Args:
            params: As returned by `params()`, possibly read back from JSON.

        Returns:
            An equal learner.

        Raises:
            ConfigurationError: If the description names something outside numpy, scipy, sklearn and its own
                trusted packages, or a name that does not exist.
        """
        options = dict(params)
        trusted = tuple(options.pop("trusted", ()))
        check_trusted(trusted)
        return cls(build(options.pop("estimator"), trusted), trusted=trusted, **options)

    def code(self) -> tuple[str, ...]:
        """References to the classes and functions of other packages than numpy, scipy and sklearn."""
        return tuple(sorted({r for r in references(json.loads(self.description)) if root_of(r) not in BASE_ROOTS}))

    def check(self, task: Task) -> None:
        """Refuse a task the estimator cannot be trained on, and an estimator that cannot be stored.

        Args:
            task: What is predicted.

        Raises:
            ConfigurationError: With what does not fit and what would.
        """
        estimator = self.estimator()
        check_task(task, estimator)
        dump_estimator(estimator, self.trusted, declared_names(json.loads(self.description)))

    def visits(self, records: int, n_slices: int) -> int:
        """Record-visits of a step: ceil(2 E records / (R + 1)) for `partial_fit`, one each for `refit`.

        Args:
            records: Records in slices 1..r, at least 1.
            n_slices: R, the declared number of slices of a batch.

        Returns:
            At least 1.
        """
        return records if self.mode == "refit" else epoch_visits(Fraction(self.epochs), records, n_slices)

    def train_step(self, parent: State | None, data: StepData, context: StepContext) -> State:
        """Train one step.

        Args:
            parent: State after the previous step, or None; ignored by `refit`.
            data: Records of slices 1..r, at least one.
            context: Seeds, budget and constants.

        Returns:
            `"skops"`: uint8, the bytes of the fitted estimator; `"content"`: uint8 `[32]`, its canonical
            digest. The skops bytes of equal states may differ; their canonical digests do not.

        Raises:
            ConfigurationError: If the fitted estimator holds something that cannot be stored.
            DamageError: If the parent cannot be loaded.
            ValueError: And whatever else the estimator raises where it cannot be fitted, or not asked afterwards, such
                as one of 5 neighbours about 3 records: served, it would fail every prediction of all shards.
        """
        X = make_inputs(data.features, context.task)
        y = make_targets(data.target, context.task)
        fixed = _fixed_params(self.estimator(), context)
        with generators_kept():
            # For estimators that draw from the global generators, or make others without a seed.
            seed_generators(context.seed("train"))
            if self.mode == "partial_fit":
                fitted = self._continue(parent, X, y, fixed, context)
            else:
                fitted = _fit(self.estimator().set_params(**fixed), X, y, context)
        _stop_clocks(fitted)
        stored, digest = dump_estimator(fitted, self.trusted, declared_names(json.loads(self.description)))
        with generators_kept():
            _ask(fitted, take_rows(X, np.zeros(1, dtype=np.int64)))
        return {
            "skops": np.frombuffer(stored, dtype=np.uint8).copy(),
            "content": np.frombuffer(bytes.fromhex(digest), dtype=np.uint8).copy(),
        }

    def predictor(self, state: State, task: Task) -> Predictor:
        """Load a state once, ready to predict.

        Args:
            state: As returned by `train_step`.
            task: What is predicted.

        Returns:
            For classification, features to probabilities `[n, classes]`, zero for classes that the shard has
            never seen, or one-hot predictions if the estimator has no probabilities; for regression, features
            to `[n, *target shape]`. Both float64.

        Raises:
            DamageError: If the state cannot be loaded.
        """
        estimator = self._load(state)

        def probabilities(features: Features) -> np.ndarray:
            X = make_inputs(features, task)
            result = np.zeros((len(X), len(task.classes)))
            if not len(X):
                return result
            said = _ask(estimator, X)
            if not hasattr(estimator, "predict_proba"):
                result[np.arange(len(X)), said.astype(np.int64)] = 1.0
                return result
            result[:, np.asarray(estimator.classes_, dtype=np.int64)] = said
            return result

        def values(features: Features) -> np.ndarray:
            X = make_inputs(features, task)
            shape = (len(X), *task.target.shape)
            found = estimator.predict(X) if len(X) else np.empty(shape)
            return np.asarray(found, dtype=np.float64).reshape(shape)

        return probabilities if task.kind == "classification" else values

    def content_digest(self, state: State) -> str:
        """Canonical digest of a state, computed from the loaded estimator, not read from the state.

        Args:
            state: As returned by `train_step`.

        Returns:
            Hex digest; for a sound state, its `"content"`.

        Raises:
            DamageError: If the state cannot be loaded.
        """
        return content_digest(self._load(state))

    def _load(self, state: State) -> Any:
        """The estimator of a state, refused unless it is of the declared class."""
        from sklearn.dummy import DummyClassifier

        if "skops" not in state:
            raise DamageError(f"this state holds {sorted(state)}, not 'skops': it is of another learner")
        description = json.loads(self.description)
        estimator = load_estimator(state["skops"].tobytes(), self.trusted, declared_names(description))
        expected = type(build(description, self.trusted))
        if type(estimator) is not expected and not (self.mode == "refit" and type(estimator) is DummyClassifier):
            raise DamageError(
                f"the stored estimator is a {type(estimator).__name__}, not a {expected.__name__}; it was not"
                " used: rebuild the step"
            )
        return estimator

    def _continue(
        self, parent: State | None, X: Any, y: np.ndarray, fixed: dict[str, int], context: StepContext
    ) -> Any:
        """Go on from the parent, or from nothing, in mini-batches."""
        estimator = self.estimator() if parent is None else self._load(parent)
        estimator.set_params(**fixed)
        classes = _class_argument(context.task)
        order = _visit_order(len(y), context)
        for start in range(0, len(order), self.batch_size):
            window = order[start : start + self.batch_size]
            estimator.partial_fit(take_rows(X, window), y[window], **classes)
            context.progress(start + len(window))
        return estimator


def _fixed_params(estimator: Any, context: StepContext) -> dict[str, int]:
    """Values for every seed that is not declared and every number of threads."""
    fixed: dict[str, int] = {}
    params = estimator.get_params(deep=True)
    for name, value in sorted(params.items()):
        owner_name, _, last = name.rpartition("__")
        owner = params.get(owner_name, estimator)
        if last == "random_state" and value is None:
            fixed[name] = context.seed("estimator", name) % (2**32 - 1)
        elif last == "n_jobs" and not (value is None and type(owner).__module__.startswith("sklearn.")):
            # None already means 1 in scikit-learn, some of whose estimators warn if it is spelt out; elsewhere
            # it often means all cores.
            fixed[name] = 1
    return fixed


def _class_argument(task: Task) -> dict[str, np.ndarray]:
    """What `partial_fit` of a classifier must be told: all classes, also those the shard has never seen."""
    return {"classes": np.arange(len(task.classes))} if task.kind == "classification" else {}


def _visit_order(records: int, context: StepContext) -> np.ndarray:
    """Indices of the records in the order of their visits `[visits]`: permutation after permutation, cut."""
    passes = -(-context.visits // records)
    orders = [np.random.Generator(np.random.PCG64(context.seed("pass", k))).permutation(records) for k in range(passes)]
    return np.concatenate(orders)[: context.visits]


def _ask(estimator: Any, X: Any) -> np.ndarray:
    """Probabilities of an estimator's own classes, or its predictions where it has no probabilities."""
    return np.asarray(estimator.predict_proba(X) if hasattr(estimator, "predict_proba") else estimator.predict(X))


def _fit(estimator: Any, X: Any, y: np.ndarray, context: StepContext) -> Any:
    """Fit an estimator, or what stands for it where all records are of one class."""
    from sklearn.dummy import DummyClassifier

    if context.task.kind == "classification" and (y == y[0]).all():
        # Many classifiers refuse a single class; there is only one answer to give.
        estimator = DummyClassifier(strategy="constant", constant=int(y[0]))
    estimator.fit(X, y)
    context.progress(len(y))
    return estimator


def _stop_clocks(value: Any) -> None:
    """Set the times that searches measure to zero, in place: a state must not depend on the wall clock."""
    if isinstance(value, (list, tuple)):
        for item in value:
            _stop_clocks(item)
    elif isinstance(value, dict):
        _stop_clocks(list(value.values()))
    elif callable(getattr(value, "get_params", None)) and not isinstance(value, type):
        if hasattr(value, "refit_time_"):
            value.refit_time_ = 0.0
        for name, column in (getattr(value, "cv_results_", None) or {}).items():
            if name.endswith(("_fit_time", "_score_time")):
                column[...] = 0.0
        _stop_clocks(vars(value))
