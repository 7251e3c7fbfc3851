"""Shards whose sums are added: one model, the same however records are placed and whoever was there before."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shards.errors import ConfigurationError, DamageError, NotServingError
from shards.learners.neighbours import NeighboursLearner
from shards.learners.ridge import RidgeLearner
from shards.learners.sums import add
from tests.cases import digits
from tests.unlearn.helpers import sgd
from unlearn import SISAClassifier, SISARegressor, Workspace, verify

ROWS = range(300)
PROBE = digits()[0][-60:]


def made(folder: Path, rows: Sequence[int] = ROWS, n_shards: int = 5, n_slices: int = 2, **options: Any) -> Workspace:
    workspace = Workspace.create(
        folder, RidgeLearner(1.0), n_shards=n_shards, n_slices=n_slices, classes=list(range(10)), **options
    )
    fill(workspace, rows)
    workspace.train()
    return workspace


def fill(workspace: Workspace, rows: Sequence[int]) -> None:
    X, y = digits()
    workspace.ingest(X[list(rows)], y[list(rows)], record_ids=[f"r{row}" for row in rows])


def model(workspace: Workspace) -> bytes:
    return workspace.predict_proba(PROBE).tobytes()


def test_the_model_is_that_of_all_records_however_they_are_placed(tmp_path: Path) -> None:
    one = made(tmp_path / "one", n_shards=1, n_slices=1)
    many = made(tmp_path / "many", n_shards=20, n_slices=4)
    others = made(tmp_path / "others", range(100), n_shards=3)
    fill(others, range(100, 300))
    others.train()
    assert model(one) == model(many) == model(others)
    assert (one.predict(PROBE) == digits()[1][-60:]).mean() > 0.7
    assert one.declaration.aggregation == "sum"


def test_however_many_are_forgotten_no_digit_remembers_them(tmp_path: Path) -> None:
    workspace = made(tmp_path / "ws", n_shards=4)
    for number in range(20):
        workspace.forget(record_ids=[f"r{number * 7}"])
        workspace.recover()
    left = [row for row in ROWS if row not in {number * 7 for number in range(20)}]
    assert model(workspace) == model(made(tmp_path / "fresh", left, n_shards=1, n_slices=1))


def test_until_it_is_recovered_the_model_is_that_of_fewer_records(tmp_path: Path) -> None:
    workspace = made(tmp_path / "ws", n_slices=1)
    before = model(workspace)
    shard = next(iter(workspace.forget(record_ids=["r7"]).shards))
    serving = {step.shard for step in workspace._site.ledger.served()[1]}
    assert serving == set(range(5)) - {shard}
    assert model(workspace) != before
    workspace.recover()
    assert model(workspace) == model(made(tmp_path / "fresh", [row for row in ROWS if row != 7], n_shards=1))


def test_what_another_process_forgets_is_in_no_model_kept_in_memory(tmp_path: Path) -> None:
    workspace = made(tmp_path / "ws")
    before = model(workspace)
    kept = workspace._server._whole
    assert kept is not None
    assert model(workspace) == before
    assert workspace._server._whole is kept, "it is solved once"
    other = Workspace.open(tmp_path / "ws")
    other.forget(record_ids=["r7"])
    assert model(workspace) != before
    assert workspace._server._whole is not kept
    assert model(workspace) == model(Workspace.open(tmp_path / "ws"))


def test_what_is_taken_out_of_the_sums_in_memory_leaves_those_of_a_fresh_sum(tmp_path: Path) -> None:
    workspace = made(tmp_path / "ws", n_shards=4, n_slices=2)
    model(workspace)
    for round_, change in enumerate(("forget", "recover", "forget", "ingest", "recover")):
        if change == "forget":
            workspace.forget(record_ids=[f"r{round_}", f"r{round_ + 100}"])
        elif change == "ingest":
            fill(workspace, range(300, 340))
            workspace.train()
        else:
            workspace.recover()
        assert model(workspace) == model(Workspace.open(tmp_path / "ws"))
        kept = workspace._server._merged
        states = [member.state for _, member in workspace._server._members.values()]
        assert kept is not None
        assert {name: array.tolist() for name, array in kept.items()} == {
            name: array.tolist() for name, array in add(states).items()
        }


def test_nothing_of_the_last_shard_stays_in_memory(tmp_path: Path) -> None:
    workspace = made(tmp_path / "ws", range(5), n_shards=1, n_slices=1)
    model(workspace)
    workspace.forget(record_ids=["r3"])
    with pytest.raises(NotServingError):
        model(workspace)
    assert workspace._server._merged is None


def test_receipts_stand_up_to_a_replay(tmp_path: Path) -> None:
    workspace = made(tmp_path / "ws")
    request = workspace.forget(record_ids=["r1", "r2"])
    workspace.recover()
    found = verify(workspace.receipts(request.id)[-1], workspace.public_key, workspace=workspace, replay=True)
    assert found.steps[-1].number == 17


def test_a_recovery_visits_what_is_new_in_each_step(tmp_path: Path) -> None:
    workspace = made(tmp_path / "ws", n_shards=1, n_slices=1)
    fill(workspace, range(300, 310))
    assert workspace.train().visits == 10


def test_neighbours_are_those_of_all_shards_and_no_byte_of_the_forgotten_stays(tmp_path: Path) -> None:
    """States hold the records themselves, counted in an int8 each."""
    learner = NeighboursLearner(5, {"map": "raw", "unit": 1 / 16, "limit": 1.0})

    def neighbours(name: str, rows: Sequence[int], n_shards: int, n_slices: int) -> Workspace:
        options: dict[str, Any] = {"n_shards": n_shards, "n_slices": n_slices, "classes": list(range(10))}
        workspace = Workspace.create(tmp_path / name, learner, **options)
        fill(workspace, rows)
        workspace.train()
        return workspace

    def files_with(row: int) -> list[Path]:
        counted = np.rint(digits()[0][row] * 16).astype(np.int8).tobytes()
        return [path for path in (tmp_path / "ws").rglob("*") if path.is_file() and counted in path.read_bytes()]

    workspace = neighbours("ws", ROWS, 4, 3)
    assert model(workspace) == model(neighbours("one", ROWS, 1, 1))
    assert (workspace.predict(PROBE) == digits()[1][-60:]).mean() > 0.8
    assert files_with(7)
    workspace.forget(record_ids=["r7"])
    assert files_with(7) == []
    model(workspace)
    held = [member.state["z"] for _, member in workspace._server._members.values()]
    assert not any((z == np.rint(digits()[0][7] * 16)).all(axis=1).any() for z in held)
    workspace.recover()
    assert files_with(7) == []
    assert model(workspace) == model(neighbours("fresh", [row for row in ROWS if row != 7], 2, 1))


def test_records_equally_far_away_share_a_place_whichever_was_stored_first(tmp_path: Path) -> None:
    learner = NeighboursLearner(1, {"map": "raw", "unit": 1 / 16, "limit": 1.0})
    workspace = Workspace.create(tmp_path / "ws", learner, n_shards=2, n_slices=2, classes=list(range(10)))
    image = digits()[0][7]
    workspace.ingest(np.stack([image] * 4), np.array([1, 3, 3, 3]), record_ids=["a", "b", "c", "d"])
    workspace.train()
    said = workspace.predict_proba(image[None])[0]
    assert said[[1, 3]].tolist() == [0.25, 0.75]


def test_features_of_a_frozen_module_in_workers(tmp_path: Path) -> None:
    arguments = {"in_features": 64, "out_features": 20}
    features = {"map": "frozen", "module": "torch.nn:Linear", "features": 20, "shape": [64], "arguments": arguments}

    def over_it(name: str, rows: Sequence[int], n_shards: int) -> Workspace:
        learner = RidgeLearner(1.0, features)
        workspace = Workspace.create(tmp_path / name, learner, n_shards=n_shards, classes=list(range(10)))
        fill(workspace, rows)
        workspace.train()
        return workspace

    workspace = over_it("ws", ROWS, 4)
    workspace.forget(record_ids=["r7"])
    workspace.recover()
    assert model(workspace) == model(over_it("fresh", [row for row in ROWS if row != 7], 1))


def test_nobody_to_ask(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "ws", RidgeLearner(), n_shards=2, n_slices=1, classes=list(range(10)))
    fill(workspace, range(5))
    with pytest.raises(NotServingError):
        workspace.predict(PROBE)


def test_other_rules(tmp_path: Path) -> None:
    mean = made(tmp_path / "mean", aggregation="mean")
    assert mean.declaration.aggregation == "mean"
    assert model(mean) != model(made(tmp_path / "sum"))
    with pytest.raises(ConfigurationError, match="SklearnLearner is none"):
        Workspace.create(tmp_path / "no", sgd(), n_shards=2, classes=[0, 1], aggregation="sum")
    assert not (tmp_path / "no").exists()


def test_a_description_that_was_changed_to_add_what_is_no_sum(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "ws", sgd(), n_shards=2, n_slices=1, classes=list(range(10)))
    fill(workspace, range(50))
    workspace.train()
    workspace.close()
    path = tmp_path / "ws" / "workspace.json"
    described = json.loads(path.read_text())
    assert described["aggregation"] == "mean"
    path.write_text(json.dumps({**described, "aggregation": "sum"}))
    with pytest.raises(DamageError, match="it was changed"):
        Workspace.open(tmp_path / "ws").predict_proba(PROBE)


def test_estimators(tmp_path: Path) -> None:
    X, y = digits()
    classifier = SISAClassifier(RidgeLearner(), n_shards=3, n_slices=1).fit(X[:300], y[:300])
    assert classifier.predict_proba(PROBE).tobytes() == model(made(tmp_path / "ws"))
    line = np.linspace(-1, 1, 50).reshape(-1, 1)
    regressor = SISARegressor(RidgeLearner(1e-6), n_shards=3, n_slices=1).fit(line, 3 * line[:, 0] + 1)
    np.testing.assert_allclose(regressor.predict(np.array([[0.5]])), [2.5], atol=2e-3)
