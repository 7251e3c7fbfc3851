"""scikit-learn's face of a workspace: `fit`, `predict` and `score`, and then `forget` and `recover`.

An estimator here is a handle. Records and states are in its workspace and nowhere else, so that no copy of the
estimator, pickled ones included, can go on serving what was forgotten.
"""

from __future__ import annotations

import numbers
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import Field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.utils import Tags, check_array, column_or_1d, get_tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from shards.executors.base import Executor
from shards.interrupts import guarded
from shards.learners import as_learner
from shards.learners.base import Learner
from shards.learners.sklearn import SklearnLearner
from shards.placement import Region
from shards.private_votes import PrivateVotes
from shards.records import is_dataset, refuse_other_order
from shards.task import Kind
from unlearn.building import BuildReport
from unlearn.errors import ConfigurationError, InputError, WorkspaceError
from unlearn.handle import Handle
from unlearn.intake import is_table
from unlearn.request import Request
from unlearn.workspace import Ids, Workspace


class _SISAEstimator(BaseEstimator, ABC):  # type: ignore[misc]  # scikit-learn has no types
    """What classifier and regressor share; parameters and data are documented there.

    Attributes:
        n_features_in_: Features per record, as scikit-learn counts them; absent for mappings of arrays.
        feature_names_in_: Column names, where records came as a table.
    """

    _kind: ClassVar[Kind]

    learner: Any
    n_shards: int
    n_slices: int
    workspace: str | Path | None
    executor: str | Executor
    aggregation: str | PrivateVotes | None
    random_state: int | np.random.RandomState | None
    risk_classes: Mapping[str, Region] | None

    @property
    def workspace_(self) -> Workspace:
        """The open workspace, with everything else that it can do.

        Raises:
            NotFittedError: If the estimator is not fitted.
            WorkspaceError: If the workspace is gone.
        """
        check_is_fitted(self)
        return self._handle.open(self.executor)

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        subjects: Ids | None = None,
        record_ids: Ids | None = None,
        risk: Ids | Mapping[Any, str] | None = None,
    ) -> Self:
        """Take the records into a new workspace, and train.

        Args:
            X: Features: array-like `[n, features]`, images `[n, ...]` for learners that take them, a pandas or
                pyarrow table with columns of numbers or text, a mapping of feature name to array `[n, ...]`, or a
                map-style torch dataset of `(input, target)`.
            y: Targets, unless a dataset gives them: `[n]` labels; for regression `[n]` numbers, or `[n, targets]` where
                the learner can.
            subjects: `[n]` text or int: who may ask for each record to be forgotten; None: every row its own.
            record_ids: `[n]` text or int, unique; None: the row numbers, `"0"`, `"1"`, …
            risk: Where `risk_classes` are declared: the class of each record's subject, `[n]` texts, a mapping of
                subjects to classes, or one text for all.

        Returns:
            Itself.

        Raises:
            WorkspaceError: If the workspace was used before: an estimator is fitted into a new one.
            InputError: If ids or data cannot be used; nothing was changed. Where scikit-learn has a check of its
                own, its ValueError or TypeError.
            ConfigurationError: If learner and parameters do not fit the data; nothing was changed.
            TrainingError: If the learner's code raised. In a workspace of its own path the records are kept:
                `Workspace.open(path).train()` goes on.
        """
        folder = self._free_folder()
        X, y = _apart(X, y)
        refuse_other_order(X, y=y, subjects=subjects, record_ids=record_ids, risk=risk)
        with _unchanged_on_error(self):
            learner = self._learner()
            X, y = self._checked(X, y, many=_takes_many_targets(learner), reset=True)
            if isinstance(learner, SklearnLearner):
                X = _as_floats(X)
            workspace = self._create(learner, folder)
            try:
                workspace.ingest(X, y, subjects=subjects, record_ids=record_ids, risk=risk)
            except BaseException:
                # Nothing was taken in, so the path is as good as unused.
                shutil.rmtree(workspace.path if folder else workspace.path.parent)
                raise
            self._handle = Handle.of(workspace, temporary=folder is None)
            try:
                workspace.train()
            except BaseException as error:
                if folder is not None:
                    error.add_note(f"The records are in {folder}: unlearn.Workspace.open(path).train() goes on.")
                raise
        return self

    def extend(
        self,
        X: Any,
        y: Any = None,
        *,
        subjects: Ids | None = None,
        record_ids: Ids | None = None,
        risk: Ids | Mapping[Any, str] | None = None,
        reconsent: Ids = (),
    ) -> Self:
        """Add a batch of new records, and train on them as well; no step trained before is trained again.

        Also trains what earlier requests removed, as `recover` does.

        Args:
            X: Features as in `fit`.
            y: Targets as in `fit`; labels of `classes_`.
            subjects: As in `fit`; a subject may have had records before.
            record_ids: As in `fit`, new ones; None: `"1:0"`, `"1:1"`, … in the first batch added, then `"2:0"`, …
            risk: As in `fit`; a subject keeps its class while it has records.
            reconsent: Forgotten subjects or records that may return, because they said so.

        Returns:
            Itself.

        Raises:
            NotFittedError: If the estimator is not fitted.
            InputError: If the data or ids cannot be used; nothing was changed.
            TombstoneError: If a forgotten subject or record is in it; nothing was changed.
        """
        workspace = self.workspace_
        task = workspace.task
        X, y = _apart(X, y)
        refuse_other_order(X, y=y, subjects=subjects, record_ids=record_ids, risk=risk)
        X, y = self._checked(X, y, many=task is not None and task.target.shape != (), reset=False)
        X = _as_declared(X, workspace)
        workspace.ingest(X, y, subjects=subjects, record_ids=record_ids, risk=risk, reconsent=reconsent)
        workspace.train()
        return self

    def forget(
        self,
        subjects: Ids | None = None,
        record_ids: Ids | None = None,
        *,
        reason: str = "",
        idempotency_key: str | None = None,
    ) -> Request:
        """Forget subjects or records at once: when this returns, no copy of the estimator serves them any more.

        Until `recover`, the shards concerned serve their last state that never saw them, or abstain.

        Args:
            subjects: Subjects, with all their records. Without `subjects` in `fit`, every record is its own.
            record_ids: Single records; integers are row numbers of the first fit unless ids were given there.
            reason: Why, for the log; do not name the person in it.
            idempotency_key: Your own name for the request: the same key with the same ids and the same reason is the
                same request.

        Returns:
            The request, in state forgotten.

        Raises:
            NotFittedError: If the estimator is not fitted.
            UnknownIdError: If an id is not in the workspace; nothing was changed.
            AlreadyForgottenError: If an id was forgotten before; nothing was changed.
            IdempotencyError: If the key was used for other ids; nothing was changed.
        """
        return self.workspace_.forget(
            subjects=subjects, record_ids=record_ids, reason=reason, idempotency_key=idempotency_key
        )

    def recover(self) -> BuildReport:
        """Train again what forgetting removed, for all requests that wait for it together.

        Returns:
            What was done.

        Raises:
            NotFittedError: If the estimator is not fitted.
            TrainingError: If the learner's code raised.
        """
        return self.workspace_.recover()

    # What scikit-learn asks of an estimator

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters by name.

        Args:
            deep: Also those of the learner, as `learner__NAME`; of learners of `shards.learners` its fields.

        Returns:
            The parameters.
        """
        own: dict[str, Any] = super().get_params(deep=deep)
        if not deep or not _has_fields(self.learner):
            return own
        return own | {f"learner__{field.name}": getattr(self.learner, field.name) for field in _settable(self.learner)}

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name.

        Args:
            params: Own ones, and those of the learner as `learner__NAME`. A learner of `shards.learners` is replaced by
                one with the new fields.

        Returns:
            Itself.

        Raises:
            ValueError: If there is no such parameter; nothing was changed.
            ConfigurationError: If the learner has no parameters that can be set.
        """
        learner = params.get("learner", self.learner)
        inner = {name: value for name, value in params.items() if name.startswith("learner__")}
        if not inner or hasattr(learner, "set_params"):
            super().set_params(**params)
            return self
        if not _has_fields(learner):
            raise ConfigurationError(
                f"learner={learner!r} has no parameters to set, such as {next(iter(inner))}: give a scikit-learn "
                "estimator, or a learner, such as shards.learners.mlp.MLPLearner()"
            )
        changes = {name.removeprefix("learner__"): value for name, value in inner.items()}
        known = [field.name for field in _settable(learner)]
        strange = [name for name in changes if name not in known]
        if strange:
            raise ValueError(
                f"Invalid parameter {strange[0]!r} for learner {learner!r}. Valid parameters are: {known!r}."
            )
        super().set_params(**{name: value for name, value in params.items() if name not in inner})
        self.learner = replace(learner, **changes)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_handle")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.non_deterministic = self.random_state is None
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if isinstance(state.get("learner"), BaseEstimator):
            # One that the caller has fitted elsewhere would carry what it learnt into the pickle.
            state["learner"] = clone(state["learner"])
        return state

    # Parts of `fit`

    @abstractmethod
    def _default_learner(self) -> Any:
        """What shards train where no learner is given."""

    @abstractmethod
    def _target(self, y: np.ndarray, *, reset: bool) -> np.ndarray:
        """Targets as the workspace takes them; with `reset`, what later ones are held to."""

    def _classes(self) -> list[Any] | None:
        return None

    def _learner(self) -> Learner:
        return as_learner(self._default_learner() if self.learner is None else self.learner)

    def _free_folder(self) -> Path | None:
        """Where to create the workspace.

        Returns:
            A folder where nothing is yet; None: a temporary one is wanted.

        Raises:
            WorkspaceError: If something is there already.
        """
        if self.workspace is None:
            return None
        folder = Path(self.workspace).absolute()
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise WorkspaceError(
                f"{folder} was used before, and {type(self).__name__}.fit makes a new workspace: to add records use "
                "extend, to start anew give another path or workspace=None, to go on with what is there use "
                "unlearn.Workspace.open"
            )
        return folder

    def _create(self, learner: Learner, folder: Path | None) -> Workspace:
        parent = Path(tempfile.mkdtemp(prefix="unlearn-")) if folder is None else None
        try:
            return Workspace.create(
                folder or Path(str(parent)) / "workspace",
                learner,
                n_shards=self.n_shards,
                n_slices=self.n_slices,
                task=self._kind,
                classes=self._classes(),
                aggregation=self.aggregation,
                random_state=_seed(self.random_state),
                risk_classes=self.risk_classes,
                executor=self.executor,
            )
        except BaseException:
            if parent is not None:
                shutil.rmtree(parent)
            raise

    # Data in

    def _checked(self, X: Any, y: Any, *, many: bool, reset: bool) -> tuple[Any, np.ndarray]:
        """Features and targets as the workspace takes them, after scikit-learn's own checks.

        Args:
            X: Features as given.
            y: Targets as given.
            many: Whether several numbers per record are fine; otherwise `[n, 1]` becomes `[n]`, with a warning.
            reset: Whether what is seen here is what later data is held to.

        Returns:
            Features and targets.
        """
        numeric = self._kind == "regression"
        many = many and numeric
        if is_table(X) or _is_mapping(X):
            X = self._checked_features(X, reset=reset, y=y)
            y = check_array(y, ensure_2d=False, dtype=None, input_name="y") if many else column_or_1d(y, warn=True)
        else:
            X, y = validate_data(
                self, X, y, reset=reset, allow_nd=True, multi_output=many, y_numeric=numeric, dtype="numeric"
            )
        return X, self._target(y, reset=reset)

    def _checked_features(self, X: Any, *, reset: bool, y: Any = "no_validation") -> Any:
        """Features as the workspace takes them."""
        from shards.sources import features_from_dataset, features_from_table

        if is_dataset(X):
            X = features_from_dataset(X)
        if _is_mapping(X):
            if reset:
                # Several arrays have no one number of features, and the names of their columns are unknown.
                self.__dict__.pop("n_features_in_", None)
                self.__dict__.pop("feature_names_in_", None)
            if y is None:
                raise InputError("y is missing: give the targets of the records")
            return X
        if not is_table(X):
            return validate_data(self, X, reset=reset, allow_nd=True, dtype="numeric")
        validate_data(self, X, y, reset=reset, skip_check_array=True)
        features = features_from_table(X)
        return features["x"] if list(features) == ["x"] and features["x"].ndim > 1 else features

    def _served(self, X: Any) -> tuple[Workspace, Any]:
        """The workspace, and features that it can predict from."""
        workspace = self.workspace_
        return workspace, _as_declared(self._checked_features(X, reset=False), workspace)


class SISAClassifier(ClassifierMixin, _SISAEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A classifier that can forget: isolated shards, each trained slice by slice, joined in one ensemble.

    The estimator is a handle on its workspace, a folder with the records and the trained states:

    - *Fit* makes a new workspace. With `workspace=None` it is temporary: removed as soon as no estimator (nor
      anybody who took `workspace_`) uses it, at the latest when the process ends. With a path it is durable, and
      a second fit there is refused; `extend` adds records.
    - *Clone* copies the parameters and nothing else. A clone with a path that is in use refuses to fit there:
      for cross-validation and searches use `workspace=None`.
    - *Copy and pickle* point to the same workspace: they hold its path, no state and no record. What was
      forgotten through one of them is forgotten for all, pickles made before included. A pickle of an estimator
      with a temporary workspace works while the process that fitted it runs, and keeps that workspace so long.

    What is fitted outside the estimator has seen all records, and forgetting does not reach it: in
    `make_pipeline(StandardScaler(), SISAClassifier())` the means leak every record into every shard and survive
    its deletion. Put such steps inside, `SISAClassifier(make_pipeline(StandardScaler(), LogisticRegression()))`.
    The same holds for hyper-parameters chosen by a search.

    With few records for many shards some shards stay empty and abstain; others know few of the classes. Expect
    to need some tens of records per shard and class, or choose fewer shards.

    Args:
        learner: What each shard trains: a scikit-learn estimator, a learner of `shards.learners`, a reference
            `"package.module:function"` to a torch module's factory, or a name such as `"mlp"` or `"sgd"` (see
            `shards.learners.as_learner`). None: `LogisticRegression(max_iter=1000)`.
        n_shards: S: into how many isolated models the records are spread; forgetting costs about 1/S of a
            training.
        n_slices: R: into how many increments each shard's part of a batch is cut; forgetting goes back no
            further than to the increment concerned.
        workspace: A folder that does not exist yet, or is empty; None: a temporary one.
        classes: Every label there may ever be, a public constant; None: those of the first fit, which then
            stay known even if all their records are forgotten.
        executor: Where to train: `"local"`; `"ray"`, the cluster that RAY_ADDRESS names, else a Ray on this machine for
            the while; or an executor, such as `RayExecutor("auto")`.
        aggregation: How shards are joined: `"mean"` of probabilities, majority `"vote"`, `"weighted"` mean by record
            counts, or one model of their added `"sum"`s (`RidgeLearner`); None: sums where there are some, else the
            mean.
        random_state: Makes placement and training repeatable, for experiments: int, or a RandomState that one
            int is drawn from. None: fresh and secret.
        risk_classes: Classes of subjects by how likely they are to ask, and the `shards.placement.Region` each goes to;
            public constants. None: there are none, and everybody goes anywhere.

    Attributes:
        classes_: The labels, sorted, in the dtype they were given in.
    """

    _kind = "classification"

    def __init__(
        self,
        learner: Any = None,
        n_shards: int = 20,
        n_slices: int = 5,
        workspace: str | Path | None = None,
        *,
        classes: Sequence[Any] | np.ndarray | None = None,
        executor: str | Executor = "local",
        aggregation: str | PrivateVotes | None = None,
        random_state: int | np.random.RandomState | None = None,
        risk_classes: Mapping[str, Region] | None = None,
    ) -> None:
        self.learner = learner
        self.n_shards = n_shards
        self.n_slices = n_slices
        self.workspace = workspace
        self.classes = classes
        self.executor = executor
        self.aggregation = aggregation
        self.random_state = random_state
        self.risk_classes = risk_classes

    def predict_proba(self, X: Any) -> np.ndarray:
        """Class probabilities of the ensemble; with `"vote"`, shares of the votes.

        Args:
            X: Features as in `fit`.

        Returns:
            `[n, classes]` float64, columns in the order of `classes_`.

        Raises:
            NotFittedError: If the estimator is not fitted.
            NotServingError: If no shard has a state, since all records were forgotten.
            InputError: If the features are not those of `fit`.
        """
        workspace, features = self._served(X)
        return workspace.predict_proba(features)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable labels; the first in `classes_` wins a tie.

        Args:
            X: Features as in `fit`.

        Returns:
            `[n]` labels, of the dtype of `classes_`.

        Raises:
            NotFittedError: If the estimator is not fitted.
            NotServingError: If no shard has a state, since all records were forgotten.
            InputError: If the features are not those of `fit`.
        """
        workspace, features = self._served(X)
        if workspace.declaration.votes is not None:  # which publishes labels, and nothing to choose them from
            return workspace.predict(features).astype(self.classes_.dtype)
        labels: np.ndarray = self.classes_[workspace.predict_proba(features).argmax(axis=1)]
        return labels

    def _default_learner(self) -> Any:
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(max_iter=1000)

    def _classes(self) -> list[Any] | None:
        labels: list[Any] = self.classes_.tolist()
        return labels

    def _target(self, y: np.ndarray, *, reset: bool) -> np.ndarray:
        check_classification_targets(y)
        if reset:
            self.classes_ = np.unique(y if self.classes is None else np.asarray(self.classes))
        if len(self.classes_) < 2:
            raise InputError(
                f"there is only 1 class, {self.classes_.tolist()[0]!r}: give records of two classes or more, or "
                "declare all labels with classes=[...]"
            )
        return y


class SISARegressor(RegressorMixin, _SISAEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A regressor that can forget: isolated shards, each trained slice by slice, joined in one ensemble.

    Everything said of `SISAClassifier` about workspaces, clones, copies, pickles, pipelines and the number of
    records holds here too.

    Args:
        learner: What each shard trains: a scikit-learn estimator, a learner of `shards.learners`, a reference
            `"package.module:function"` to a torch module's factory, or a name such as `"mlp"` or `"ridge"` (see
            `shards.learners.as_learner`). None: `Ridge()`.
        n_shards: S: into how many isolated models the records are spread; forgetting costs about 1/S of a
            training.
        n_slices: R: into how many increments each shard's part of a batch is cut.
        workspace: A folder that does not exist yet, or is empty; None: a temporary one.
        executor: Where to train: `"local"`; `"ray"`, the cluster that RAY_ADDRESS names, else a Ray on this machine for
            the while; or an executor, such as `RayExecutor("auto")`.
        aggregation: How shards are joined: `"mean"`, `"weighted"` mean by record counts, or one model of their added
            `"sum"`s (`RidgeLearner`); None: sums where there are some, else the mean.
        random_state: Makes placement and training repeatable, for experiments: int, or a RandomState that one
            int is drawn from. None: fresh and secret.
        risk_classes: Classes of subjects by how likely they are to ask, and the `shards.placement.Region` each goes to;
            public constants. None: there are none, and everybody goes anywhere.
    """

    _kind = "regression"

    def __init__(
        self,
        learner: Any = None,
        n_shards: int = 20,
        n_slices: int = 5,
        workspace: str | Path | None = None,
        *,
        executor: str | Executor = "local",
        aggregation: str | PrivateVotes | None = None,
        random_state: int | np.random.RandomState | None = None,
        risk_classes: Mapping[str, Region] | None = None,
    ) -> None:
        self.learner = learner
        self.n_shards = n_shards
        self.n_slices = n_slices
        self.workspace = workspace
        self.executor = executor
        self.aggregation = aggregation
        self.random_state = random_state
        self.risk_classes = risk_classes

    def predict(self, X: Any) -> np.ndarray:
        """Predictions of the ensemble.

        Args:
            X: Features as in `fit`.

        Returns:
            `[n]` or `[n, targets]` float64, as `y` was in `fit`.

        Raises:
            NotFittedError: If the estimator is not fitted.
            NotServingError: If no shard has a state, since all records were forgotten.
            InputError: If the features are not those of `fit`.
        """
        workspace, features = self._served(X)
        return workspace.predict(features)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = _takes_many_targets(self.learner)
        return tags

    def _default_learner(self) -> Any:
        from sklearn.linear_model import Ridge

        return Ridge()

    def _target(self, y: np.ndarray, *, reset: bool) -> np.ndarray:
        del reset
        return y.astype(np.float64) if y.dtype.kind == "O" else y


@guarded
def _unchanged_on_error(estimator: _SISAEstimator) -> Iterator[None]:
    """Give an estimator back what it had, if the block fails."""
    before = dict(estimator.__dict__)
    try:
        yield
    except BaseException:
        estimator.__dict__.clear()
        estimator.__dict__.update(before)
        raise


def _seed(random_state: Any) -> int | None:
    """The workspace's `random_state` from scikit-learn's."""
    if random_state is None:
        return None
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(np.iinfo(np.int32).max))
    if isinstance(random_state, bool) or not isinstance(random_state, numbers.Integral) or random_state < 0:
        raise ConfigurationError(
            f"random_state must be None, a whole number of at least 0 or a RandomState, got {random_state!r}"
        )
    return int(random_state)


def _takes_many_targets(learner: Any) -> bool:
    """Whether a regression learner predicts several numbers at once; torch modules and `Ridge` do."""
    estimator = learner.estimator() if isinstance(learner, SklearnLearner) else learner
    return bool(get_tags(estimator).target_tags.multi_output) if isinstance(estimator, BaseEstimator) else True


def _apart(X: Any, y: Any) -> tuple[Any, Any]:
    """Features and targets, of a torch dataset as well."""
    if not is_dataset(X):
        return X, y
    from shards.sources import from_dataset

    if y is not None:
        raise InputError("a dataset gives pairs of input and target: leave y out")
    records = from_dataset(X)
    return records.features["x"], records.target


def _has_fields(learner: Any) -> bool:
    """Whether this is a learner that is made of its fields; `SklearnLearner` is made of an estimator."""
    plain = is_dataclass(learner) and not isinstance(learner, type | BaseEstimator)
    return plain and bool(type(learner).__dataclass_params__.init)


def _settable(learner: Any) -> list[Field[Any]]:
    return [field for field in fields(learner) if field.init]


def _is_mapping(X: Any) -> bool:
    # One of scipy's sparse formats calls itself a mapping, of positions to values.
    return isinstance(X, Mapping) and not hasattr(X, "tocsr")


def _as_declared(X: Any, workspace: Workspace) -> Any:
    """Integers and bool as floats where floats were declared, as scikit-learn would have it."""
    task = workspace.task
    declared_x = None if task is None else task.features.get("x")
    return _as_floats(X) if declared_x is not None and declared_x.dtype.startswith("<f") else X


def _as_floats(X: Any) -> Any:
    """One matrix of integers, bool or extended floats as float64, so that later floats fit; others as they are."""
    plain = not isinstance(X, np.ndarray) or X.dtype.str[1:] in {"f2", "f4", "f8"}
    return X if plain else X.astype(np.float64)
