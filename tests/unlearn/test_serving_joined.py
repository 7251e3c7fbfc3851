"""A server that asks all shards at once says what they say one by one, and keeps nothing of what was forgotten."""

from __future__ import annotations

import gc
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import unlearn.serving
from shards.learners.mlp import MLPLearner
from tests.unlearn.helpers import canaries, create, filled, latest_first, members, names, served, shard_of
from unlearn import Workspace
from unlearn.errors import NotServingError

PROBE = canaries(range(10_000, 10_040))


def learner() -> MLPLearner:
    return MLPLearner((5,), epochs=3, batch_size=4)


def seen(workspace: Workspace) -> dict[int, int]:
    return {step.shard: step.records for step in workspace._site.ledger.served()[1]}


def by_hand(workspace: Workspace, aggregation: str) -> np.ndarray:
    """What the shards say one by one, from states loaded here, joined in float64."""
    records, total, weights = seen(workspace), 0.0, 0
    for shard, predict in members(workspace).items():
        said = predict({"x": PROBE})
        weight = records[shard] if aggregation == "weighted" else 1
        total = total + weight * (np.eye(2)[said.argmax(axis=1)] if aggregation == "vote" else said)
        weights += weight
    return np.asarray(total / weights)


def reachable_arrays(start: object) -> list[np.ndarray]:
    """Every array that can be reached from an object, but for what belongs to the program."""
    found, known, waiting = [], set[int](), [start]
    while waiting:
        item = waiting.pop()
        if id(item) in known or isinstance(item, ModuleType | type):
            continue
        known.add(id(item))
        if isinstance(item, np.ndarray):
            found.append(item)
            if item.base is not None:
                waiting.append(item.base)
        # A function's globals are the program; what it closes over is not.
        globals_ = getattr(item, "__globals__", None)
        waiting += [other for other in gc.get_referents(item) if other is not globals_]
    return found


def holds(workspace: Workspace, values: np.ndarray) -> bool:
    """Whether any of these numbers is anywhere in the memory of what serves."""
    return any(np.isin(values, array).any() for array in reachable_arrays(workspace._server) if array.dtype.kind == "f")


def weights(workspace: Workspace, shard: int) -> np.ndarray:
    step = next(step for step in workspace._site.ledger.served()[1] if step.shard == shard)
    found: np.ndarray = workspace._site.folder(shard).load(step.key).state["weights/0"].ravel()
    return found


@pytest.mark.parametrize("aggregation", ["mean", "vote", "weighted"])
def test_every_request_makes_the_joined_form_anew(tmp_path: Path, aggregation: str) -> None:
    """After each request, and after recovering, the served prediction is the one of the states that are left."""
    workspace = filled(tmp_path / "ws", learner(), n=60, aggregation=aggregation)
    first = {shard: next(n for n in names(range(60)) if shard_of(workspace, n) == (shard, 0)) for shard in range(3)}
    reader = Workspace.open(workspace.path)
    np.testing.assert_allclose(reader.predict_proba(PROBE), by_hand(workspace, aggregation), atol=1e-6)
    late = latest_first(workspace, range(60))[0]
    for name in (*names([late]), first[1], first[0]):  # falls back; abstains; abstains
        before = reader.predict_proba(PROBE)
        workspace.forget(record_ids=[name])
        for other in (reader, workspace):
            np.testing.assert_allclose(other.predict_proba(PROBE), by_hand(workspace, aggregation), atol=1e-6)
        assert not np.allclose(reader.predict_proba(PROBE), before, atol=1e-6)
        assert served(reader, PROBE) == served(Workspace.open(workspace.path), PROBE)
    workspace.recover()
    np.testing.assert_allclose(reader.predict_proba(PROBE), by_hand(workspace, aggregation), atol=1e-6)
    assert workspace.status().serving == 3


def test_nothing_of_a_forgotten_state_stays_in_memory(tmp_path: Path) -> None:
    workspace = filled(tmp_path / "ws", learner())
    reader = Workspace.open(workspace.path)
    old = {shard: weights(workspace, shard) for shard in range(3)}
    reader.predict(PROBE)
    assert all(holds(reader, value) for value in old.values()), "the search finds what is there"
    name = next(n for n in names(range(30)) if shard_of(workspace, n) == (1, 0))
    workspace.forget(record_ids=[name])
    reader.predict(PROBE)
    gc.collect()
    assert not holds(reader, old[1])
    assert holds(reader, old[0])
    assert holds(reader, old[2])
    workspace.forget(record_ids=[other for other in names(range(30)) if other != name])
    with pytest.raises(NotServingError):
        reader.predict(PROBE)
    assert not any(holds(reader, value) for value in old.values())


def test_a_request_while_shards_are_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is joined of states that another thread saw withdrawn is neither kept nor served."""
    workspace = filled(tmp_path / "ws", learner())
    reader = Workspace.open(workspace.path)
    old = weights(workspace, 1)
    name = next(n for n in names(range(30)) if shard_of(workspace, n) == (1, 0))
    real, rounds = MLPLearner.join, 0

    def join(self: MLPLearner, *args: object) -> object:
        nonlocal rounds
        rounds += 1
        found = real(self, *args)  # type: ignore[arg-type]
        if rounds == 1:
            workspace.forget(record_ids=[name])
            reader.predict(PROBE)  # as another thread would
        return found

    monkeypatch.setattr(MLPLearner, "join", join)
    found = reader.predict_proba(PROBE)
    assert rounds == 2
    assert found.tobytes() == served(Workspace.open(workspace.path), PROBE)
    gc.collect()
    assert not holds(reader, old)


def test_shards_are_joined_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing changes, and while only records come, nothing is joined again for each prediction."""
    workspace = filled(tmp_path / "ws", learner())
    real, joins = MLPLearner.join, list[int]()

    def join(self: MLPLearner, predictors: list[object], task: object) -> object:
        joins.append(len(predictors))
        return real(self, predictors, task)  # type: ignore[arg-type]

    monkeypatch.setattr(MLPLearner, "join", join)
    # Never one by one: that is what joining is for.
    monkeypatch.setattr(unlearn.serving, "combine", None)
    for _ in range(3):
        workspace.predict(PROBE)
    assert joins == [3]
    workspace.forget(record_ids=names(latest_first(workspace, range(30))[:1]))
    for _ in range(3):
        workspace.predict(PROBE)
    assert joins == [3, 3]


def test_a_workspace_without_records_and_one_without_states(tmp_path: Path) -> None:
    workspace = create(tmp_path / "ws", learner())
    with pytest.raises(NotServingError, match="holds no records"):
        workspace.predict(PROBE)
    workspace.ingest(canaries(range(9)), [0, 1, 1] * 3)
    with pytest.raises(NotServingError, match="no shard has a trained state"):
        workspace.predict(PROBE)
    workspace.train()
    assert workspace.predict(PROBE).shape == (40,)
