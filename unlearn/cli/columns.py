"""Which columns of a table a workspace knows already."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shards.task import Task


def declared_columns(file: Path, task: Task | None) -> list[str] | None:
    """The columns of a table that are features of a workspace.

    Args:
        file: The table, or an `.npz` file, which has no columns.
        task: The declared task; None before the first batch.

    Returns:
        Their names; None where no task names any: its features came as arrays.
    """
    if task is None or file.suffix.lower() == ".npz":
        return None
    if not task.columns and list(task.features) == ["x"] and task.features["x"].shape:
        return None
    return list(task.columns) or list(task.features)


def text_columns(task: Task | None) -> list[str]:
    """The features of a workspace that are text, even where a CSV file holds digits only.

    Args:
        task: The declared task; None before the first batch.

    Returns:
        Their names.
    """
    return [] if task is None else [name for name, schema in task.features.items() if schema.dtype == "str"]
