"""What is predicted from what: the public constants a workspace declares before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from shards.digest import Json

Kind = Literal["classification", "regression"]
"""What is predicted: one of declared classes, or numbers."""


@dataclass(frozen=True)
class FieldSchema:
    """Shape and dtype of one feature, or of the target, of one record.

    Attributes:
        shape: Shape without the leading record axis.
        dtype: numpy dtype string such as `"<f4"`; `"str"` for text.
    """

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Task:
    """The declared shape of the problem.

    Attributes:
        kind: `"classification"` or `"regression"`.
        features: Feature name to schema, in the order the learner receives them.
        target: Schema of the target as a learner sees it: scalar int64 class index, or float64.
        classes: Declared class labels in the order of the probability columns; empty for regression.
        columns: Names of the table columns that make up the feature `"x"`, in order; empty if it was no table.
    """

    kind: Kind
    features: Mapping[str, FieldSchema]
    target: FieldSchema
    classes: tuple[Json, ...] = ()
    columns: tuple[str, ...] = ()
