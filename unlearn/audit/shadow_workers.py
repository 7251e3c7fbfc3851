"""Shadow models trained by an executor: in worker processes, on this machine or on others, resumable in a folder.

A worker's numeric environment is pinned, and each model is a call of its own, named by all that goes into it; so the
same models come out whichever executor trains them, with however many workers, and what an interruption left undone is
all that a repetition does. For small networks `shadow_mlp` is faster; for whatever `fit`s there is `train_shadows`.

The folder holds the records and models that know them: it is the caller's to destroy, and not for records that somebody
may ask to forget without being told of it (`Workspace.register`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shards.code import code_digest
from shards.digest import Json, digest_arrays
from shards.errors import DamageError
from shards.executors.base import Executor
from shards.executors.local import LocalExecutor
from shards.learners.base import Learner, Predictor, State
from shards.train import code_of, describe_learner, learner_from
from unlearn.audit.attacks.base import classes_of
from unlearn.audit.shadows import (
    PredictProba,
    Progress,
    Shadows,
    checked_membership,
    model_seed,
    task_of,
    trained_state,
)

FUNCTION = "unlearn.audit.shadow_workers:train_one"


def train_in_workers(
    learner: Learner,
    X: np.ndarray,
    y: np.ndarray,
    n_classes: int,
    membership: np.ndarray,
    seed: int,
    folder: str | Path,
    *,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Shadows:
    """Train shadow models of a learner; repeat it after an interruption.

    Args:
        learner: What each trains, in one step, as a shard with a single slice would.
        X: `[n, ...]` records.
        y: `[n]` int, classes 0 to C - 1.
        n_classes: C.
        membership: `[models, n]` bool, as from `half_splits`.
        seed: From which each model's seed is derived.
        folder: Where records and models are kept; all workers must see it.
        executor: Where to train; None: in worker processes of this machine, one a core.
        progress: Told of models that are there, of how many.

    Returns:
        The models.

    Raises:
        ConfigurationError: If the learner does not take such records.
        InputError: If shapes differ, or a model has no record.
        CallError: If a training failed; what was trained is kept.
        DamageError: If a file in the folder was changed.
    """
    member, labels = checked_membership(membership, len(X)), classes_of(y, len(X), n_classes)
    task = task_of(learner, X, n_classes)
    kept = Path(folder).absolute()
    kept.mkdir(parents=True, exist_ok=True)
    records, digest = _kept_records(kept, X, labels)
    items: list[Json] = [
        {
            "learner": describe_learner(learner),
            "code": code_digest(code_of(learner)).source,
            "records": str(records),
            "digest": digest,
            "classes": n_classes,
            "rows": np.packbits(rows).tobytes().hex(),
            "seed": model_seed(seed, number),
        }
        for number, rows in enumerate(member)
    ]
    done: set[int] = set()

    def returned(number: int) -> None:
        done.add(number)
        if progress is not None:
            progress(len(done), len(items))

    states: list[State] = (LocalExecutor() if executor is None else executor).map(
        FUNCTION, items, kept, libraries=learner.libraries, on_done=returned
    )
    return Shadows(tuple(_asking(learner.predictor(state, task)) for state in states), member)


def train_one(item: Mapping[str, Any]) -> State:
    """Train one model; called in a worker.

    Args:
        item: As `train_in_workers` writes it.

    Returns:
        Its state.

    Raises:
        DamageError: If the records are not those that were written.
    """
    with np.load(item["records"], allow_pickle=False) as stored:
        X, y = stored["X"], stored["y"]
    if digest_arrays({"X": X, "y": y}) != item["digest"]:
        raise DamageError(f"{item['records']} was changed: delete it, and repeat the training")
    rows = np.unpackbits(np.frombuffer(bytes.fromhex(item["rows"]), dtype=np.uint8), count=len(X)).astype(np.bool_)
    learner = learner_from(item["learner"])
    return dict(trained_state(learner, task_of(learner, X, item["classes"]), X[rows], y[rows], item["seed"]))


def _asking(predict: Predictor) -> PredictProba:
    return lambda X: predict({"x": X})


def _kept_records(folder: Path, X: np.ndarray, y: np.ndarray) -> tuple[Path, str]:
    """Write the records, once, under a name of their content."""
    digest = digest_arrays({"X": X, "y": y})
    file = folder / f"records-{digest[:32]}.npz"
    if not file.exists():
        draft = file.with_name(f".{file.name}")
        with draft.open("wb") as opened:
            np.savez(opened, X=X, y=y)
        draft.rename(file)
    return file, digest
