r"""Linear heads that a workspace trains to their optimum and publishes with secret noise: removal can be certified.

    F(W; D) = Σ l(x·w_k, y_k) + (λ n/2) |W|²

Classes are one-vs-rest logistic regressions (two classes: one head), numbers are ridge regressions. The state is what
is published: the optimum to a tolerance, plus noise N(0, s²) on each weight. The noise is drawn from the operating
system's secure source in the worker, added, and kept nowhere, and neither are the weights without it: to remove
records, Newton's iteration starts from the published weights, and ends at the optimum of what remains, wherever it
started (decision 0033).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from shards.digest import Json
from shards.errors import ConfigurationError
from shards.learners.base import Features, Learner, Predictor, State, StepContext, StepData
from shards.learners.counting import check_numbers, given
from shards.learners.mapped import MappedLearner
from shards.learners.merging import stacked
from shards.noise import SYSTEM, Source
from shards.task import Kind, Task
from unlearn.methods.certified_budget import Promise
from unlearn.request import CERTIFIED

if TYPE_CHECKING:
    from unlearn.methods.certified.problem import Problem

WHEN_SPENT = ("retrain", "refuse")
"""What a request may ask for that the budget does not suffice for; the first is meant where nothing is said."""


@dataclass(frozen=True)
class CertifiedLearner(Learner):
    """Linear heads with noise on their weights, and the promise that removal keeps.

    `MappedLearner(CertifiedLearner(), features)` puts them on a public feature map, a frozen network say.

    Attributes:
        regularisation: λ, the penalty for each example; of the intercept too.
        scale: s, the standard deviation of the noise on each weight.
        tolerance: Gradient norm that is left for each row and head, rounding included.
        epsilon: What all models published since the last training from nothing keep together.
        delta: Its delta.
        intercept: Whether a column of ones is added to the features.

    Raises:
        ConfigurationError: If a number is not above 0, or the noise is too little for a single removal.
    """

    regularisation: float = 1e-3
    scale: float = 1e-3
    tolerance: float = 1e-10
    epsilon: float = 1.0
    delta: float = 1e-4
    intercept: bool = True

    kernel: ClassVar[str] = "certified/1"
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "torch")
    reproducible: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Bring numbers to one form, so that equal learners have equal keys."""
        for name, value in asdict(self.promise).items():
            object.__setattr__(self, name, value)
        if not isinstance(self.intercept, bool):
            raise ConfigurationError(f"intercept must be true or false, got {self.intercept!r}")

    @property
    def promise(self) -> Promise:
        """What removal promises."""
        return Promise(self.regularisation, self.scale, self.tolerance, self.epsilon, self.delta)

    def params(self) -> dict[str, Json]:
        """Every hyper-parameter, as JSON."""
        return asdict(self)

    @classmethod
    def from_params(cls, params: dict[str, Json]) -> CertifiedLearner:
        """Build the learner again from `params()`."""
        return cls(**params)

    def kinds(self) -> tuple[Kind, ...]:
        """Both."""
        return ("classification", "regression")

    def code(self) -> tuple[str, ...]:
        """None."""
        return ()

    def check(self, task: Task) -> None:
        """Refuse what has no linear head, and noise that could not keep the promise for a single removal.

        Args:
            task: What is predicted.

        Raises:
            ConfigurationError: Saying why.
        """
        check_numbers(task, "CertifiedLearner")
        if task.kind == "classification" and len(task.classes) < 2:
            raise ConfigurationError("CertifiedLearner tells classes apart, and there is one: declare all there may be")
        if not self.promise.capacity(heads(task)):
            raise ConfigurationError(
                f"noise of {self.scale:g} with a tolerance of {self.tolerance:g} keeps the promise of epsilon "
                f"{self.epsilon:g} for no removal: raise scale or regularisation, or lower the tolerance"
            )

    def visits(self, records: int, n_slices: int) -> int:
        """One a record: what is counted of an optimiser that stops when it has arrived."""
        del n_slices
        return records

    def train_step(self, parent: State | None, data: StepData, context: StepContext) -> State:
        """Go from nothing to the optimum of all records so far, and add fresh noise.

        Args:
            parent: Not used: what was published before is no part of training.
            data: The records.
            context: The task.

        Returns:
            `weights` `[d, heads]` float64.

        Raises:
            ConfigurationError: If float64 does not reach the tolerance, or a number is not finite.
        """
        del parent
        start = np.zeros((given(context.task) + self.intercept, heads(context.task)))
        made = self._published(start, data.features, data.target, context.task, SYSTEM)
        context.progress(context.visits)
        return made

    def removed(
        self, state: State, features: Features, target: np.ndarray, task: Task, source: Source = SYSTEM
    ) -> State:
        """Newton's iteration from published weights to the optimum of what remains, and fresh noise.

        Args:
            state: What is served.
            features: Of the records that remain, prepared.
            target: Theirs.
            task: What is predicted; before or after a feature map, since only its targets matter.
            source: Where noise comes from; the operating system, unless in a test.

        Returns:
            As `train_step`.

        Raises:
            ConfigurationError: Likewise.
        """
        return self._published(state["weights"], features, target, task, source)

    def _published(
        self, start: np.ndarray, features: Features, target: np.ndarray, task: Task, source: Source
    ) -> State:
        import torch

        from unlearn.methods.certified.mechanism import masked
        from unlearn.methods.certified.settling import settle

        problem = self.problem(features, target, task)
        weights, _ = settle(problem, torch.tensor(start), (), self.tolerance * len(problem))
        return {"weights": masked(weights, source.normal, self.scale).numpy()}

    def problem(self, features: Features, target: np.ndarray, task: Task) -> Problem:
        """What is minimised.

        Args:
            features: Of records.
            target: Theirs.
            task: What is predicted.

        Returns:
            The problem of all heads.

        Raises:
            ConfigurationError: If a number is not finite.
        """
        import torch

        from unlearn.methods.certified.problem import Problem, logistic, squared

        inputs = self._inputs(features)
        if task.kind == "regression":
            values = np.reshape(target, (len(target), -1)).astype(np.float64)
            loss = squared(self.regularisation)
        else:
            chosen = np.arange(len(task.classes)) if heads(task) > 1 else np.ones(1)
            values = (np.asarray(target)[:, None] == chosen).astype(np.int64)
            loss = logistic(self.regularisation)
        if not (np.isfinite(inputs).all() and np.isfinite(values).all()):
            raise ConfigurationError("CertifiedLearner takes finite numbers: remove or impute what is missing first")
        return Problem(torch.from_numpy(inputs), torch.from_numpy(values), loss)

    def _inputs(self, features: Features) -> np.ndarray:
        rows = stacked(features)
        return np.concatenate([rows, np.ones((len(rows), 1))], axis=1) if self.intercept else rows

    def predictor(self, state: State, task: Task) -> Predictor:
        """Probabilities of classes (heads' own, made to add up to 1), or numbers."""
        weights = np.array(state["weights"])

        def predict(features: Features) -> np.ndarray:
            scores: np.ndarray = self._inputs(features) @ weights
            if task.kind == "regression":
                return scores.reshape(len(scores), *task.target.shape)
            # By tanh: nothing overflows. The smallest number keeps a row of zeros from being divided by 0.
            shares: np.ndarray = np.maximum((1 + np.tanh(scores / 2)) / 2, np.finfo(np.float64).tiny)
            if shares.shape[1] == 1:
                return np.concatenate([1 - shares, shares], axis=1)
            total: np.ndarray = shares / shares.sum(axis=1, keepdims=True)
            return total

        return predict


def heads(task: Task) -> int:
    """How many columns of weights a task takes.

    Args:
        task: What is predicted.

    Returns:
        1 for two classes, else one a class, or one a number of the target.
    """
    if task.kind == "regression":
        return math.prod(task.target.shape)
    return 1 if len(task.classes) == 2 else len(task.classes)


def certified_head(learner: Learner) -> CertifiedLearner | None:
    """What of a learner certifies: itself, or its head over a public feature map.

    Args:
        learner: The learner.

    Returns:
        It, for features as the learner prepares them; None where nothing does.
    """
    head = learner.head if isinstance(learner, MappedLearner) else learner
    return head if isinstance(head, CertifiedLearner) else None


def removal_config(learner: Learner, options: Mapping[str, Json]) -> dict[str, Json]:
    """The whole configuration of certified removal in a workspace.

    Args:
        learner: What it trains, whose promise it is.
        options: `when_spent`, or nothing.

    Returns:
        Promise and option.

    Raises:
        ConfigurationError: If the learner promises nothing, or an option is none.
    """
    head = certified_head(learner)
    if head is None:
        raise ConfigurationError(
            f"{CERTIFIED} moves the optimum of linear heads that were published with noise, and "
            f"{type(learner).__name__} trains none: create a workspace with the learner "
            "unlearn.methods.certified_learner:CertifiedLearner, or a MappedLearner over it"
        )
    wrong = sorted(options.keys() - {"when_spent"})
    if wrong:
        raise ConfigurationError(
            f"{CERTIFIED} has no option {wrong[0]!r} here, it has when_spent: what is promised stands with the learner"
        )
    when_spent = options.get("when_spent", WHEN_SPENT[0])
    if when_spent not in WHEN_SPENT:
        raise ConfigurationError(f"when_spent must be one of {', '.join(WHEN_SPENT)}, got {when_spent!r}")
    return {**asdict(head.promise), "when_spent": when_spent}
