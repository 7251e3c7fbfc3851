"""Records into tensors: dtypes, standardisation, and no memory shared with the caller's arrays."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from shards.errors import InputError
from shards.learners.base import Features
from shards.task import Task

if TYPE_CHECKING:
    import torch

Scaling: TypeAlias = tuple[np.ndarray, np.ndarray]
"""Mean and standard deviation over the records, float64 `[*shape]` each."""

_CONVERT_BYTES = 2**22


def feature_tensor(array: np.ndarray, input_dtype: str | None, scaling: Scaling | None) -> torch.Tensor:
    """Copy a feature into a tensor the module may read, piece by piece so that one copy is the only one.

    Args:
        array: `[n, *shape]`, possibly read-only or mapped from a file.
        input_dtype: Dtype of floating, boolean and uint8 features, or None for their own.
        scaling: Mean and standard deviation to standardise with in float64, or None.

    Returns:
        `[n, *shape]`, sharing no memory with the array.
    """
    import torch

    is_index = array.dtype.kind in "iu" and array.dtype != np.uint8
    kept = torch.from_numpy(np.empty(0, dtype=np.int64 if is_index else array.dtype.newbyteorder("="))).dtype
    dtype: torch.dtype = kept if is_index or input_dtype is None else getattr(torch, input_dtype)
    result = torch.empty(array.shape, dtype=dtype)
    rows = max(1, _CONVERT_BYTES // max(1, array.dtype.itemsize * math.prod(array.shape[1:])))
    for start in range(0, len(array), rows):
        chunk = array[start : start + rows]
        if scaling is not None:
            chunk = (chunk.astype(np.float64) - scaling[0]) / scaling[1]
        else:
            chunk = np.array(chunk, dtype=np.int64 if is_index else chunk.dtype.newbyteorder("="))
        result[start : start + rows].copy_(torch.from_numpy(chunk))
    return result


def target_tensor(target: np.ndarray, module: torch.nn.Module, task: Task) -> torch.Tensor:
    """Copy the targets into a tensor as the loss wants them.

    Args:
        target: `[n]` class indices, or `[n, *shape]` values.
        module: Whose first floating parameter gives the dtype of values; float32 if it has none.
        task: What is predicted.

    Returns:
        `[n]` int64, or `[n, *shape]`, sharing no memory with the array.
    """
    import torch

    if task.kind == "classification":
        return torch.from_numpy(np.array(target, dtype=np.int64))
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    return torch.from_numpy(np.array(target, dtype=np.float64)).to(dtype)


def moments(array: np.ndarray) -> Scaling:
    """Mean and standard deviation over the records, two passes in float64 and in canonical order.

    Args:
        array: `[n, *shape]`, n at least 1.

    Returns:
        Two float64 arrays `[*shape]`; the deviation of a constant is 1.
    """
    n = len(array)
    mean = np.asarray(array.sum(axis=0, dtype=np.float64) / n)
    squares = np.zeros_like(mean)
    rows = max(1, _CONVERT_BYTES // max(1, 8 * mean.size))
    for start in range(0, n, rows):
        squares += ((array[start : start + rows].astype(np.float64) - mean) ** 2).sum(axis=0)
    # The rounded mean of equal values need not equal them: their deviation would be tiny instead of zero.
    std = np.where(array.min(axis=0) == array.max(axis=0), 1.0, np.sqrt(squares / n))
    return mean, np.where(std == 0.0, 1.0, std)


def count_records(features: Features, task: Task) -> int:
    """Number of records to predict, after checking names and shapes.

    Args:
        features: Feature name to array.
        task: What they should be.

    Returns:
        n, possibly 0.

    Raises:
        InputError: If they are not the task's features, or differ in length.
    """
    if set(features) != set(task.features):
        raise InputError(f"features are named {sorted(features)}, the model has {sorted(task.features)}: give those")
    for name, schema in task.features.items():
        if features[name].ndim == 0 or features[name].shape[1:] != tuple(schema.shape):
            raise InputError(
                f"feature {name!r} has shape {features[name].shape}, the model needs {('n', *schema.shape)}: reshape it"
            )
    lengths = {len(array) for array in features.values()}
    if len(lengths) != 1:
        raise InputError(f"features differ in length, {sorted(lengths)}: give one row a record in each")
    return lengths.pop()
