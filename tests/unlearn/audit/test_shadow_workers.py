"""Shadow models trained in workers: the same whoever trains them, and none of them twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from shards.errors import DamageError
from shards.executors.base import OnTurn, Program
from shards.executors.local import LocalExecutor
from shards.executors.work import Work
from shards.learners.mlp import MLPLearner
from shards.learners.neighbours import NeighboursLearner
from unlearn.audit.shadow_workers import train_in_workers
from unlearn.audit.shadows import half_splits, learner_factory, train_shadows
from unlearn.errors import InputError

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(60, 4)).astype(np.float32), RNG.integers(0, 3, 60)
MEMBERSHIP = half_splits(4, 60, 0)
MLP = MLPLearner((8,), epochs=3)
KNN = NeighboursLearner(1, {"map": "raw", "unit": 1 / 64, "limit": 8.0})


class Counting(LocalExecutor):
    """Notes how many calls it is given."""

    def perform(self, program: Program, work: Sequence[Work], on_turn: OnTurn) -> None:
        self.given = len(work)
        super().perform(program, work, on_turn)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


def test_any_number_of_workers_makes_the_same_models_and_none_twice(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    one = train_in_workers(
        MLP, X, Y, 3, MEMBERSHIP, 5, tmp_path / "1", executor=LocalExecutor(1), progress=lambda *n: told.append(n)
    )
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]

    def interrupt(done: int, of: int) -> None:
        del of
        if done == 2:
            raise KeyboardInterrupt

    counting = Counting(2)
    with pytest.raises(KeyboardInterrupt):
        train_in_workers(MLP, X, Y, 3, MEMBERSHIP, 5, tmp_path / "2", executor=counting, progress=interrupt)
    there = len(files(tmp_path / "2"))
    assert 2 <= there <= 4
    two = train_in_workers(MLP, X, Y, 3, MEMBERSHIP, 5, tmp_path / "2", executor=counting)
    assert counting.given == 4 - there
    p = one.probabilities(X)
    assert (two.probabilities(X) == p).all()
    values = [sorted(files(tmp_path / name).values()) for name in ("1", "2")]
    assert values[0] == values[1]
    # In this process they are the same to rounding: its numeric environment is its own.
    here = train_shadows(learner_factory(MLP, 3), X, Y, MEMBERSHIP, 5)
    assert np.allclose(here.probabilities(X), p, atol=1e-5)
    exact = train_in_workers(KNN, X, Y, 3, MEMBERSHIP, 5, tmp_path / "3", executor=LocalExecutor(1))
    here = train_shadows(learner_factory(KNN, 3), X, Y, MEMBERSHIP, 5)
    assert (exact.probabilities(X) == here.probabilities(X)).all()
    # Another seed is another model.
    train_in_workers(MLP, X, Y, 3, MEMBERSHIP, 6, tmp_path / "2", executor=counting)
    assert counting.given == 4


def test_what_cannot_be_trained_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="membership must be bool"):
        train_in_workers(MLP, X, Y, 3, MEMBERSHIP[:, 1:], 0, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_records_that_were_changed_are_not_trained_on(tmp_path: Path) -> None:
    train_in_workers(KNN, X, Y, 3, MEMBERSHIP, 0, tmp_path, executor=LocalExecutor(1))
    (records,) = tmp_path.glob("records-*.npz")
    np.savez(records, X=X + 1, y=Y)
    for path in tmp_path.glob("*.safetensors"):
        path.unlink()
    with pytest.raises(DamageError, match="was changed"):
        train_in_workers(KNN, X, Y, 3, MEMBERSHIP, 0, tmp_path, executor=LocalExecutor(1))
