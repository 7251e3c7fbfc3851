"""The served ensemble as one `torch.export` program: a file that runs wherever torch does, without this package.

What is in such a file owes everything to the records that the shards have seen, and no request reaches it. So it is
registered as an artefact before its first byte is written, and a request that comes meanwhile makes it void.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shards.digest import Json
from shards.ensemble import Member, combine
from shards.files import sync_path
from shards.learners.base import Features, Learner
from shards.task import FieldSchema, Task
from unlearn.errors import ConfigurationError

if TYPE_CHECKING:
    import torch

SUFFIX = ".pt2"

KIND = "exported model (torch.export)"
"""What an artefact of this kind is called."""

DESCRIPTION = "unlearn.json"
"""Name of the text in the file that says what it is."""

ROUNDING = 1e-5
"""By how much the outputs of the file may differ from what is served: probabilities, or targets relative to their size;
both come from float32."""

PROBE_ROWS = (1, 7)
"""Rows of the predictions that are compared."""


def check_exportable(path: Path, folder: Path, learner: Learner, aggregation: str, task: Task) -> None:
    """Refuse what cannot be exported, or not there, before anything is done.

    Args:
        path: The file to be written, absolute.
        folder: The workspace's, absolute.
        learner: What every shard trains.
        aggregation: How shards are joined.
        task: What is predicted.

    Raises:
        ConfigurationError: With what does not fit and what would.
    """
    if path.suffix != SUFFIX:
        raise ConfigurationError(f"{path.name} is no name for a torch.export program: let it end in {SUFFIX}")
    if path.resolve().is_relative_to(folder.resolve()):
        raise ConfigurationError(
            f"{path} is inside the workspace, where nothing may lie that a request does not reach: choose another place"
        )
    if path.exists():
        raise ConfigurationError(
            f"{path} already exists: choose another name; or destroy it, and `retire` it if it was registered"
        )
    if not path.parent.is_dir():
        raise ConfigurationError(f"there is no folder {path.parent}: make it first")
    text = [name for name, schema in task.features.items() if schema.dtype == "str"]
    if text:
        raise ConfigurationError(f"torch takes no text, and {', '.join(text)} is: this model cannot be exported")
    if aggregation == "sum" or type(learner).as_module is Learner.as_module:
        what = "merged states" if aggregation == "sum" else "its shards"
        raise ConfigurationError(
            f"{type(learner).__name__} has no torch module for {what}: only MLPLearner and TorchLearner can be "
            "exported, with the aggregations 'mean', 'vote' and 'weighted'"
        )


def write_program(
    path: Path, learner: Learner, members: Sequence[Member], aggregation: str, task: Task, description: Json
) -> None:
    """Write an ensemble, read it back, and hold what it predicts against the members asked one by one.

    Args:
        path: The file, which does not exist yet; if this raises, it does not exist afterwards.
        learner: Whose members they are.
        members: The shards that have a state, in the order of their shards.
        aggregation: `"mean"`, `"vote"` or `"weighted"`.
        task: What is predicted.
        description: Kept in the file as the text `DESCRIPTION`.

    Raises:
        ConfigurationError: If a module cannot be exported, or predicts something else then.
        OSError: If the file cannot be written.
    """
    import torch

    content, module = io.BytesIO(), _module(learner, members, aggregation, task)
    try:
        torch.export.save(_program(module, task), content, extra_files={DESCRIPTION: json.dumps(description)})
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:  # there is no class that all would have
        text = str(error).strip() or type(error).__name__
        raise ConfigurationError(
            f"{type(learner).__name__}'s module cannot be exported: torch.export says: {text.splitlines()[0]}"
        ) from error
    # Exclusively: what lies there may be somebody else's.
    with path.open("xb") as file:
        try:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
            _check(torch.export.load(path).module(), learner, members, aggregation, task)
        except BaseException:
            path.unlink()
            raise
    sync_path(path.parent)


def _module(learner: Learner, members: Sequence[Member], aggregation: str, task: Task) -> torch.nn.Module:
    from shards.learners.torch_modules import ensemble_module

    said = learner.as_module([member.predict for member in members], task)
    if said is None:
        raise ConfigurationError(
            f"{type(learner).__name__} has no torch module for these shards: it cannot be exported"
        )
    weights = [member.records if aggregation == "weighted" else 1 for member in members]
    return ensemble_module(said, weights, vote=aggregation == "vote")


def _program(module: torch.nn.Module, task: Task) -> Any:
    import torch

    example = _tensors(_probe(task, 3))
    rows = torch.export.Dim("rows")
    # Strict: a module may ask for the number of rows by `len`.
    with torch.no_grad():
        return torch.export.export(
            module, example, dynamic_shapes={"features": tuple({0: rows} for _ in example)}, strict=True
        )


def _check(module: torch.nn.Module, learner: Learner, members: Sequence[Member], rule: str, task: Task) -> None:
    import torch

    for n in PROBE_ROWS:
        features = _probe(task, n)
        with torch.no_grad():
            found = module(*_tensors(features)).numpy()
        prepared = learner.prepare(features, task)
        wanted, compared = combine(members, rule, prepared), slice(None)
        if rule == "vote":
            # Where rounding decides between two classes, votes may differ by a whole one.
            best = np.sort(np.stack([member.predict(prepared) for member in members]), axis=2)
            compared = (best[:, :, -1] - best[:, :, -2] > ROUNDING).all(axis=0) if best.shape[2] > 1 else slice(None)
        if found.shape != wanted.shape or not np.allclose(found[compared], wanted[compared], ROUNDING, ROUNDING):
            raise ConfigurationError(
                f"{type(learner).__name__}'s module predicts something else once it is exported: make sure that it is "
                "a pure function of its inputs and parameters in evaluation mode"
            )


def _probe(task: Task, n: int) -> Features:
    """Rows to predict: numbers of ordinary size, and whole numbers that any embedding has."""
    rng = np.random.default_rng(n)
    return {name: _random(rng, n, schema) for name, schema in task.features.items()}


def _random(rng: np.random.Generator, n: int, schema: FieldSchema) -> np.ndarray:
    dtype, shape = np.dtype(schema.dtype), (n, *schema.shape)
    return (rng.normal(size=shape) if dtype.kind == "f" else rng.integers(0, 2, shape)).astype(dtype)


def _tensors(features: Features) -> tuple[torch.Tensor, ...]:
    import torch

    return tuple(torch.from_numpy(array) for array in features.values())
