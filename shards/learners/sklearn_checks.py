"""Refuse options and tasks that a SklearnLearner cannot be trained with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from shards.errors import ConfigurationError
from shards.learners.trusted import check_trusted, root_of
from shards.records import TEXT
from shards.task import Task


def check_options(mode: str, epochs: float, batch_size: int, trusted: Sequence[str]) -> None:
    """Refuse options out of their range.

    Args:
        mode: `"auto"`, `"partial_fit"` or `"refit"`.
        epochs: Positive and finite.
        batch_size: At least 1.
        trusted: Names of root packages.

    Raises:
        ConfigurationError: With the option and what it may be.
    """
    if mode not in {"auto", "partial_fit", "refit"}:
        raise ConfigurationError(f"mode is {mode!r}; use 'auto', 'partial_fit' or 'refit'")
    if isinstance(epochs, bool) or not isinstance(epochs, (int, float)) or not 0 < epochs < math.inf:
        raise ConfigurationError(f"epochs is {epochs!r}; use a positive number")
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ConfigurationError(f"batch_size is {batch_size!r}; use a positive integer")
    check_trusted(trusted)


def check_task(task: Task, estimator: Any) -> None:
    """Refuse a task that an estimator cannot be trained on.

    Args:
        task: What is predicted from what.
        estimator: Unfitted.

    Raises:
        ConfigurationError: With what does not fit and what would.
    """
    from sklearn.base import is_classifier, is_regressor

    name = type(estimator).__name__
    fits = is_classifier if task.kind == "classification" else is_regressor
    try:
        fitting = fits(estimator)
    except AttributeError as error:
        raise ConfigurationError(
            f"{name} does not say whether it classifies; derive it from sklearn.base.BaseEstimator"
        ) from error
    if not fitting:
        wanted = "a classifier" if task.kind == "classification" else "a regressor"
        raise ConfigurationError(f"{name} is not {wanted}, which a {task.kind} task needs; use one that is")
    _check_features(task)
    _check_text(task, estimator)
    _check_target(task, estimator)


def _check_features(task: Task) -> None:
    """Refuse a task without features, and a table of anything but columns."""
    if not task.features:
        raise ConfigurationError("the task declares no features; declare at least one")
    if list(task.features) == ["x"]:
        return
    wide = [name for name, schema in task.features.items() if schema.shape]
    if wide:
        raise ConfigurationError(
            f"features {wide} of a table have more than one value per record; a table takes one value per"
            " column: split them into columns, or use a single feature named 'x'"
        )


def _check_text(task: Task, estimator: Any) -> None:
    """Refuse text for an estimator of scikit-learn's own that takes numbers alone."""
    from sklearn.utils import get_tags

    text = [name for name, schema in task.features.items() if schema.dtype == TEXT]
    if not text or root_of(type(estimator).__module__) != "sklearn":
        return
    tags = get_tags(estimator)
    # What an estimator is made of, such as a pipeline's steps, or a function given to it may take text.
    made_of = any("__" in name or callable(value) for name, value in estimator.get_params(deep=True).items())
    takes = tags.no_validation or tags.input_tags.string or tags.input_tags.categorical
    if not made_of and not takes:
        raise ConfigurationError(
            f"{type(estimator).__name__} takes numbers and no text ({', '.join(text)}): encode it inside the learner, "
            "in a pipeline that begins with a ColumnTransformer of a OneHotEncoder, or name other features"
        )


def _check_target(task: Task, estimator: Any) -> None:
    """Refuse too few classes, and a target of more axes than the estimator takes."""
    from sklearn.utils import get_tags

    name = type(estimator).__name__
    if task.kind == "classification":
        if len(task.classes) < 2:
            raise ConfigurationError(f"the task declares {len(task.classes)} classes; declare at least two")
        if task.target.shape:
            raise ConfigurationError(f"the target has shape {task.target.shape}; a class index is a scalar")
        return
    if len(task.target.shape) > 1:
        raise ConfigurationError(f"the target has shape {task.target.shape}; flatten it to one axis")
    if task.target.shape and not get_tags(estimator).target_tags.multi_output:
        raise ConfigurationError(
            f"{name} predicts one number and the target has {task.target.shape[0]}; wrap it in"
            " sklearn.multioutput.MultiOutputRegressor"
        )
