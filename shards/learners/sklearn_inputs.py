"""Records in the shape scikit-learn takes: a matrix, or a table of named columns."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from shards.errors import InputError
from shards.learners.base import Features
from shards.task import Task


def make_inputs(features: Features, task: Task) -> Any:
    """Features for `fit` and `predict`, never a view.

    Args:
        features: Feature name to array `[n, *shape]`.
        task: Which features, and in which order.

    Returns:
        Matrix `[n, prod(shape)]` for the single feature `"x"`, else a DataFrame with a column for each.

    Raises:
        InputError: If a feature is missing.
    """
    missing = [name for name in task.features if name not in features]
    if missing:
        raise InputError(f"features {missing} are missing; pass all of {list(task.features)}")
    if list(task.features) == ["x"]:
        values = np.asarray(features["x"])
        width = math.prod(task.features["x"].shape)
        return _plain(values, task.features["x"].dtype).reshape(len(values), width)
    import pandas as pd

    columns = {name: _plain(features[name], schema.dtype) for name, schema in task.features.items()}
    return pd.DataFrame({name: pd.Series(column, dtype=column.dtype) for name, column in columns.items()})


def _plain(values: Any, dtype: str) -> np.ndarray:
    """A copy in row-major order, text as objects."""
    # The width of numpy's text dtype would depend on the longest text of the call.
    return np.array(values, dtype=object) if dtype == "str" else np.array(values, copy=True, order="C")


def make_targets(target: np.ndarray, task: Task) -> np.ndarray:
    """Targets for `fit`, never a view.

    Args:
        target: `[n]` class indices, or `[n, *shape]` values.
        task: What is predicted.

    Returns:
        `[n]` int64, or `[n, *shape]` float64.
    """
    return np.array(target, dtype=np.int64 if task.kind == "classification" else np.float64)


def take_rows(X: Any, index: np.ndarray) -> Any:
    """Rows of what `make_inputs` made.

    Args:
        X: Matrix or DataFrame.
        index: `[k]` int64 row numbers.

    Returns:
        The same kind, k rows.
    """
    return X[index] if isinstance(X, np.ndarray) else X.iloc[index]
