"""Apply a method to a checkpoint, in a worker: the state and the records of one shard in, a staged checkpoint out.

Runs where steps are trained, in the same pinned numeric environment. It opens the files of its own shard and no other,
and tells the records to forget from those that stay by their salted commitments: no id reaches it.
"""

from __future__ import annotations

import gc
from dataclasses import asdict
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from shards import slicefile
from shards.code import code_digest
from shards.digest import Json, digest_arrays
from shards.errors import ConfigurationError, DamageError, EnvironmentMismatchError
from shards.learners.base import State
from shards.learners.torch import TorchLearner
from shards.learners.torch_parts import loss_function
from shards.location import open_shard
from shards.store import CheckpointHeader, ShardStore, new_salt
from shards.train import code_of, learner_from, task_from
from unlearn.methods.base import Examples
from unlearn.methods.certified_learner import certified_head
from unlearn.methods.options import find_method

if TYPE_CHECKING:
    from shards.task import Task

KERNEL = "method/1"
"""Raised when the same method may give other bytes because of this file."""


def apply(order: Any) -> Json:
    """Have a method make a state from one that has seen the records to forget.

    Args:
        order: `folder` and `fence` of the shard's store; `learner`, its `code`, `task`, `method`, `config`; `parent`,
            the key of the state, and `commitment`, which it must have; `slices`, `[file, digest]` of all it has seen;
            `forget`, commitments of the records to forget, hex; `shard`, `position`, `key`, `environment` of what is
            made.

    Returns:
        `header` of the new checkpoint, `staged`, its name, and `seconds` the method took.

    Raises:
        DamageError: If a file is not what was recorded.
        ConfigurationError: If the learner is not of a kind that methods work on.
        EnvironmentMismatchError: If its code is not what the workspace was created with.
        FloatingPointError: If the new weights are not finite.
        RuntimeError: If the method changed nothing.
    """
    try:
        return _apply(order)
    finally:
        # What refers to itself would keep the forgotten records in a worker that waits for its next order.
        gc.collect()


def _apply(order: Any) -> Json:
    folder = open_shard(order["folder"], order["fence"])
    with folder.writing():
        learner, task = learner_from(order["learner"]), task_from(order["task"])
        if code_digest(code_of(learner)).source != order["code"]:
            raise EnvironmentMismatchError("the learner's code is not what the workspace was created with: restore it")
        parent = folder.load(order["parent"])
        if parent.header.commitment != order["commitment"]:
            raise DamageError(f"the checkpoint of shard {order['shard']} is not the one that was recorded")
        features, target, gone = _records(
            folder, order["slices"], {bytes.fromhex(item) for item in order["forget"]}, task
        )
        started, certified = perf_counter(), certified_head(learner)
        if certified is not None:
            stay = learner.prepare({name: values[~gone] for name, values in features.items()}, task)
            state = certified.removed(parent.state, stay, target[~gone], task)
        elif isinstance(learner, TorchLearner):
            state = _unlearnt(learner, order, parent.state, features, target, gone, task)
        else:
            raise ConfigurationError(f"methods work on torch modules, and {order['learner']['class']} trains none")
        seconds = perf_counter() - started
        payload = digest_arrays(state)
        header = CheckpointHeader(
            key=order["key"],
            parent=order["parent"],
            shard=order["shard"],
            position=order["position"],
            records=int((~gone).sum()),
            environment=order["environment"],
            content=learner.content_digest(state),
            payload=payload,
            salt=new_salt(),
        )
        return {"header": asdict(header), "staged": folder.stage(header, state), "seconds": seconds}


def _unlearnt(
    learner: TorchLearner,
    order: Any,
    state: State,
    features: dict[str, np.ndarray],
    target: np.ndarray,
    gone: np.ndarray,
    task: Task,
) -> State:
    """What the method makes of the module that a state is of."""
    import torch

    module = learner.module_of(state, task)
    inputs, targets = learner.tensors_of(state, features, target, module, task)
    given = Examples(inputs, targets, tuple(range(len(targets))))
    method = find_method(order["method"])
    more: dict[str, Any] = {} if learner.loss is None else {"loss": loss_function(learner, task)}
    forget, retain = (given.take(torch.from_numpy(np.flatnonzero(rows))) for rows in (gone, ~gone))
    made = method(module, forget, retain, method.config(**order["config"]), **more)
    broken = [name for name, value in made.named_parameters() if not bool(value.isfinite().all())]
    if broken:
        raise FloatingPointError(f"parameter {broken[0]!r} is not finite after {order['method']}")
    new = learner.state_of(made, state)
    if digest_arrays(new) == digest_arrays(learner.state_of(module, state)):
        raise RuntimeError(f"{order['method']} changed nothing: the model is the one that has seen the records")
    return new


def _records(
    folder: ShardStore, slices: Any, forget: set[bytes], task: Task
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Features, targets, and which are to be forgotten, of all records of some slices, each file checked."""
    features: dict[str, list[np.ndarray]] = {name: [] for name in task.features}
    targets, gone = [], []
    for name, digest in slices:
        data = folder.read_records(name)
        commitments = slicefile.commitments(data)
        if slicefile.slice_digest(commitments) != digest:
            raise DamageError(f"the record file {folder.record_location(name)} does not match its digest")
        for field, parts in features.items():
            parts.append(data.features[field])
        targets.append(data.target)
        gone.append(np.array([row.tobytes() in forget for row in commitments], dtype=bool))
    which = np.concatenate(gone)
    if int(which.sum()) != len(forget):
        raise DamageError(f"{len(forget) - int(which.sum())} of the records to forget are not in the record files")
    return {field: np.concatenate(parts) for field, parts in features.items()}, np.concatenate(targets), which
