"""What the framework says, as pandas tables. pandas is an extra: nothing else here needs it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

from shards.task import Task
from unlearn.errors import ConfigurationError, InputError

if TYPE_CHECKING:
    import pandas as pd


def to_frame(found: Any) -> pd.DataFrame:
    """Requests, a status, an audit or another result as a table: a row for each, a column for each of its fields.

    Args:
        found: A result, such as `Workspace.status()`, `recover()` or `audit(…)` give, or several of one kind, such as
            `Workspace.requests()`.

    Returns:
        The table. Results inside of results are spread out, their fields named `test.p_value`, and so are mappings of
        names: `requests.forgotten`. Texts stand for states; what has many parts stays in one cell. What a result does
        not print of itself, such as an audit's scores of subjects under their names, is left out.

    Raises:
        InputError: If it is no result.
        ConfigurationError: If pandas is not installed.
    """
    if _is_result(found):
        rows = [found]
    elif isinstance(found, Iterable) and not isinstance(found, str | bytes | Mapping | np.ndarray):
        rows = list(found)
    else:
        rows = []
    strange = None if _is_result(found) else next((row for row in rows if not _is_result(row)), None)
    if strange is not None or (not rows and not isinstance(found, list | tuple)):
        raise InputError(
            f"a {type(found if strange is None else strange).__name__} is not a result: give what a workspace or an "
            "audit returned, or a list of such"
        )
    made: pd.DataFrame = _pandas().DataFrame([dict(_cells(row)) for row in rows])
    return made


def prediction_columns(output: np.ndarray, task: Task, *, proba: bool) -> dict[str, list[Any]]:
    """Predictions by columns.

    Args:
        output: `[n]` labels or `[n, ...]` numbers; with `proba`, `[n, classes]`.
        task: The declared task.
        proba: Whether these are the probabilities of classes.

    Returns:
        `prediction`, and with `proba` `p_LABEL` for each class; of several targets `prediction_0`, …
    """
    if proba:
        labels = [task.classes[index] for index in output.argmax(axis=1).tolist()]
        chances = {f"p_{label}": output[:, k].tolist() for k, label in enumerate(task.classes)}
        return {"prediction": labels, **chances}
    if output.ndim == 1:
        return {"prediction": output.tolist()}
    flat = output.reshape(len(output), -1)
    return {f"prediction_{k}": flat[:, k].tolist() for k in range(flat.shape[1])}


def beside(columns: Mapping[str, Any], X: Any) -> pd.DataFrame:
    """Columns as a table of the rows of X.

    Args:
        columns: Values `[n]` by name.
        X: Features `[n, ...]`.

    Returns:
        The table, under the index of X where that is a pandas object.

    Raises:
        ConfigurationError: If pandas is not installed.
    """
    index = getattr(X, "index", None)
    made: pd.DataFrame = _pandas().DataFrame(dict(columns), index=index if hasattr(index, "equals") else None)
    return made


def _is_result(found: Any) -> bool:
    return is_dataclass(found) and not isinstance(found, type)


def _cells(found: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    named = (
        {field.name: getattr(found, field.name) for field in fields(found) if field.repr}
        if _is_result(found)
        else dict(found)
    )
    for name, value in named.items():
        names_only = isinstance(value, Mapping) and bool(value) and all(isinstance(key, str) for key in value)
        if _is_result(value) or names_only:
            yield from _cells(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value.value if isinstance(value, Enum) else value


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise ConfigurationError(
            f'tables are made with pandas, and {error.name} is not installed: pip install "sisa-unlearn[tables]"'
        ) from error
    return pandas
