"""What is served: the states of this very generation, joined by the declared rule, for features as declared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import unlearn.serving
from shards.ensemble import combine
from shards.learners.base import Learner
from shards.store_local import ShardFolder
from shards.task import FieldSchema, Task
from tests.unlearn.helpers import (
    canaries,
    checkpoint,
    create,
    filled,
    hoarding,
    labels,
    latest_first,
    members,
    mlp,
    names,
    served,
    sgd,
    shard_of,
)
from unlearn import Workspace
from unlearn.errors import ConfigurationError, DamageError, InputError, NotServingError
from unlearn.serving import prepare_features

PROBE = canaries(range(10_000, 10_040))


def outputs(workspace: Workspace, X: np.ndarray = PROBE) -> dict[int, np.ndarray]:
    """What each shard says by itself, from states loaded here."""
    return {shard: predict({"x": X}) for shard, predict in members(workspace).items()}


def seen(workspace: Workspace) -> dict[int, int]:
    """How many records each shard's served state was trained on, counted from where records are."""
    _, steps = workspace._site.ledger.served()
    slices = workspace._site.ledger.slices()
    return {
        step.shard: sum(
            piece.records
            for (shard, position), piece in slices.items()
            if shard == step.shard and position <= step.position
        )
        for step in steps
    }


# Aggregation


@pytest.mark.parametrize(("learner", "rounding"), [(sgd, 1e-15), (hoarding, 1e-15), (mlp, 1e-5)])  # float32, joined
def test_the_mean_of_the_members(tmp_path: Path, learner: Callable[[], Learner], rounding: float) -> None:
    workspace = filled(tmp_path / "ws", learner())
    said = outputs(workspace)
    assert len(said) == 3
    assert not np.array_equal(said[0], said[1])
    np.testing.assert_allclose(workspace.predict_proba(PROBE), np.mean([*said.values()], axis=0), rtol=rounding)
    np.testing.assert_array_equal(workspace.predict(PROBE), np.mean([*said.values()], axis=0).argmax(axis=1))


def test_the_mean_weighted_by_records_seen(tmp_path: Path) -> None:
    workspace = filled(tmp_path / "ws", hoarding(), n=31, aggregation="weighted")
    rows = latest_first(workspace, range(31))
    workspace.forget(record_ids=names(rows[:3]))  # so that a shard serves an earlier, smaller state
    said, weights = outputs(workspace), seen(workspace)
    assert len(set(weights.values())) > 1
    expected = sum(weights[shard] * said[shard] for shard in said) / sum(weights.values())
    np.testing.assert_allclose(workspace.predict_proba(PROBE), expected, rtol=1e-14)


def test_the_majority_of_votes(tmp_path: Path) -> None:
    """Five voters; then four, which can tie: the class declared first wins, as it does within a voter."""
    classes = ["zebra", "ape", "mole"]
    workspace = create(tmp_path / "ws", hoarding(), n_shards=5, n_slices=1, aggregation="vote", classes=classes)
    rows = range(60)
    y = np.array(classes)[[hash_of(row) % 3 for row in rows]]
    workspace.ingest(canaries(rows), y, record_ids=names(rows))
    workspace.train()
    for gone in (0, None):
        votes = [output.argmax(axis=1) for output in outputs(workspace).values()]
        shares = np.array(
            [[np.mean([vote[row] == c for vote in votes]) for c in range(3)] for row in range(len(PROBE))]
        )
        np.testing.assert_allclose(workspace.predict_proba(PROBE), shares, rtol=1e-15)
        first = [share.tolist().index(max(share)) for share in shares]
        assert workspace.predict(PROBE).tolist() == [classes[c] for c in first]
        ties = sum(sorted(share)[-1] == sorted(share)[-2] for share in shares)
        if gone is not None:
            workspace.forget(record_ids=names([gone]))  # its shard abstains
    assert len(votes) == 4
    assert ties > 0  # among the four


def hash_of(row: int) -> int:
    return int(np.random.default_rng([5, row]).integers(1000))


def test_regression_of_one_and_of_several_numbers(tmp_path: Path) -> None:
    rows = range(30)
    for shape, aggregation in (((), "mean"), ((2,), "weighted"), ((2, 3), "mean")):
        workspace = create(
            tmp_path / f"ws{len(shape)}", hoarding(), task="regression", classes=None, aggregation=aggregation
        )
        y = np.random.default_rng(0).normal(size=(30, *shape))
        workspace.ingest(canaries(rows), y, record_ids=names(rows))
        workspace.train()
        said, weights = outputs(workspace), seen(workspace)
        if aggregation == "mean":
            weights = dict.fromkeys(said, 1)
        expected = sum(weights[shard] * said[shard] for shard in said) / sum(weights.values())
        found = workspace.predict(PROBE)
        assert found.shape == (len(PROBE), *shape)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, expected, rtol=1e-14)
        with pytest.raises(ConfigurationError, match="ask for predictions alone"):
            workspace.predict_proba(PROBE)


@pytest.mark.parametrize("aggregation", ["mean", "vote", "weighted"])
def test_shards_without_a_state_abstain(tmp_path: Path, aggregation: str) -> None:
    workspace = filled(tmp_path / "ws", hoarding(), aggregation=aggregation)
    everyone, weights = outputs(workspace), seen(workspace)
    first = {shard: next(n for n in names(range(30)) if shard_of(workspace, n) == (shard, 0)) for shard in range(3)}
    for gone in (1, 2, 0):
        workspace.forget(record_ids=[first[gone]])
        del everyone[gone]
        if not everyone:
            break
        said = {k: np.eye(2)[v.argmax(axis=1)] if aggregation == "vote" else v for k, v in everyone.items()}
        scale = {k: weights[k] if aggregation == "weighted" else 1 for k in said}
        expected = sum(scale[k] * said[k] for k in said) / sum(scale.values())
        np.testing.assert_allclose(workspace.predict_proba(PROBE), expected, rtol=1e-14)
        assert workspace.status().serving == len(everyone)
    with pytest.raises(NotServingError, match="no shard has a trained state"):
        workspace.predict(PROBE)


def test_labels_come_back_as_they_were_declared(tmp_path: Path) -> None:
    for number, classes in enumerate(([3, -1], ["no", "yes"], [0.5, 1.5], [True, False])):
        workspace = create(tmp_path / f"ws{number}", hoarding(), classes=classes)
        workspace.ingest(canaries(range(20)), np.array(classes)[labels(range(20))])
        workspace.train()
        found = workspace.predict(PROBE)
        assert found.dtype == np.array(classes).dtype
        columns = workspace.predict_proba(PROBE).argmax(axis=1)
        assert found.tolist() == [classes[column] for column in columns]
        assert len(set(found.tolist())) == 2


def test_no_rows(tmp_path: Path) -> None:
    workspace = filled(tmp_path / "ws")
    assert workspace.predict(np.empty((0, 3))).shape == (0,)
    assert workspace.predict_proba(np.empty((0, 3))).shape == (0, 2)


def test_rows_do_not_matter_to_each_other(tmp_path: Path) -> None:
    workspace = filled(tmp_path / "ws")
    whole = workspace.predict_proba(PROBE)
    np.testing.assert_allclose(np.concatenate([workspace.predict_proba(PROBE[k : k + 1]) for k in range(40)]), whole)


# Generations


def one_per_shard(workspace: Workspace) -> list[int]:
    """A record of each shard's last slice."""
    last = {shard_of(workspace, name): row for row, name in enumerate(names(range(30)))}
    return [last[shard, 1] for shard in range(3)]


def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of the checkpoints read from now on."""
    read: list[str] = []
    real = ShardFolder.load

    def load(self: ShardFolder, key: str) -> Any:
        read.append(key)
        return real(self, key)

    monkeypatch.setattr(ShardFolder, "load", load)
    return read


def test_states_are_read_once_and_again_only_if_they_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = filled(tmp_path / "ws")
    (row,) = latest_first(workspace, range(30))[:1]
    shard, position = shard_of(workspace, names([row])[0])
    reader = Workspace.open(workspace.path)
    read = calls(monkeypatch)
    for _ in range(3):
        reader.predict(PROBE)
    assert sorted(read) == sorted(checkpoint(workspace, k).stem for k in range(3))
    read.clear()
    workspace.forget(record_ids=names([row]))
    assert read == []  # forgetting needs no state
    for _ in range(3):
        reader.predict(PROBE)
    assert read == [workspace._site.ledger.steps()[shard, position - 1].key]
    read.clear()
    workspace.ingest(canaries([77]), labels([77]), record_ids=names([77]))
    reader.predict(PROBE)
    assert read == []


def test_a_prediction_under_way_when_the_request_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request comes after the states were taken, before anything is returned: all is done again."""
    workspace = filled(tmp_path / "ws")
    reader = Workspace.open(workspace.path)
    old = served(reader, PROBE)
    rows = one_per_shard(workspace)
    rounds: list[bytes] = []

    def slow(*args: Any) -> np.ndarray:
        result = combine(*args)
        if len(rounds) < 3:
            workspace.forget(record_ids=names([rows[len(rounds)]]))
        rounds.append(result.tobytes())
        return result

    monkeypatch.setattr(unlearn.serving, "combine", slow)
    found = reader.predict_proba(PROBE).tobytes()
    assert len(rounds) == 4
    assert rounds[0] == old
    assert found == rounds[3] == served(Workspace.open(workspace.path), PROBE)
    assert found not in rounds[:3]


def test_a_checkpoint_that_vanishes_between_ledger_and_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request destroys what was just looked up: the reader looks again."""
    workspace = filled(tmp_path / "ws")
    reader = Workspace.open(workspace.path)
    rows = latest_first(workspace, range(30))
    victim, _ = shard_of(workspace, names([rows[0]])[0])
    real = ShardFolder.load
    tries = 0

    def load(self: ShardFolder, key: str) -> Any:
        nonlocal tries
        if key == target:
            tries += 1
            workspace.forget(record_ids=names([rows[0]]))
        return real(self, key)

    target = checkpoint(workspace, victim).stem
    monkeypatch.setattr(ShardFolder, "load", load)
    found = reader.predict_proba(PROBE)
    assert tries == 1
    monkeypatch.undo()
    assert found.tobytes() == served(Workspace.open(workspace.path), PROBE)


def test_a_checkpoint_that_is_missing_for_good(tmp_path: Path) -> None:
    workspace = filled(tmp_path / "ws")
    checkpoint(workspace, 1).unlink()
    reader = Workspace.open(workspace.path)
    for _ in range(2):  # and no half-filled ensemble is served the second time
        with pytest.raises(DamageError, match=r"is missing: run `unlearn recover`"):
            reader.predict(PROBE)
    workspace.recover()
    assert served(reader, PROBE) == served(workspace, PROBE)


def test_training_does_not_hold_predictions_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step that is published changes the generation; a prediction need not wait for the last of them."""
    workspace = filled(tmp_path / "ws")
    old = served(workspace, PROBE)
    ledger = workspace._site.ledger
    step = ledger.steps()[0, 1]
    rounds = 0

    def slow(*args: Any) -> np.ndarray:
        nonlocal rounds
        rounds += 1
        assert rounds < 10, "the prediction starves"
        ledger.record_step(replace(step, position=step.position + rounds, key=f"key {rounds}"))
        return combine(*args)

    monkeypatch.setattr(unlearn.serving, "combine", slow)
    assert served(workspace, PROBE) == old
    assert rounds == 1


def test_no_memory_of_what_is_not_served(tmp_path: Path) -> None:
    """After the first prediction that follows a request, the old state is not even in memory."""
    workspace = filled(tmp_path / "ws")
    workspace.predict(PROBE)
    workspace.forget(record_ids=names(range(30)))
    with pytest.raises(NotServingError):
        workspace.predict(PROBE)
    assert not workspace._server._members


# Features


SCHEMA = FieldSchema((2,), "<f8")


def task(**features: FieldSchema) -> Task:
    return Task("classification", features, FieldSchema((), "<i8"), (0, 1))


@pytest.mark.parametrize("table", [pd.DataFrame, lambda columns: pa.table(columns)], ids=["pandas", "pyarrow"])
def test_a_table_of_numbers_is_stacked(table: Callable[[Mapping[str, Any]], Any]) -> None:
    columns = {"a": [1, 2, 3], "b": [0.5, 1.5, 2.5]}
    found = prepare_features(table(columns), task(x=SCHEMA))
    assert list(found) == ["x"]
    np.testing.assert_array_equal(found["x"], np.array([[1, 0.5], [2, 1.5], [3, 2.5]]))
    assert found["x"].dtype == np.float64
    # Integers alone are cast to the declared floats, as arrays are.
    np.testing.assert_array_equal(
        prepare_features(table({"a": [1], "b": [2]}), task(x=SCHEMA))["x"], np.array([[1.0, 2.0]])
    )


@pytest.mark.parametrize("table", [pd.DataFrame, lambda columns: pa.table(columns)], ids=["pandas", "pyarrow"])
def test_a_table_with_text_keeps_its_columns(table: Callable[[Mapping[str, Any]], Any]) -> None:
    declared = task(town=FieldSchema((), "str"), size=FieldSchema((), "<f8"))
    found = prepare_features(table({"size": [1.0, 2.0], "town": ["Ulm", "Köln"]}), declared)
    assert list(found) == ["town", "size"]  # in the order of the task
    assert found["town"].tolist() == ["Ulm", "Köln"]
    np.testing.assert_array_equal(found["size"], [1.0, 2.0])
    with pytest.raises(InputError, match=r"missing \['town'\]"):
        prepare_features({"size": [1.0]}, declared)
    more = prepare_features(table({"more": ["?"], "size": [1.0], "town": ["Ulm"]}), declared)
    assert list(more) == ["town", "size"]  # other columns of a table are not asked for
    with pytest.raises(InputError, match=r"no feature column 'town'"):
        prepare_features(table({"size": [1.0]}), declared)
    with pytest.raises(InputError, match=r"not declared \['more'\]"):
        prepare_features({"size": [1.0], "town": ["Ulm"], "more": ["?"]}, declared)


def test_arrays_and_mappings() -> None:
    X = np.arange(6, dtype=np.float32).reshape(3, 2)
    for given in (X, X.tolist(), {"x": X}, X.astype(int), np.asfortranarray(X), X.astype(">f8")):
        found = prepare_features(given, task(x=SCHEMA))
        np.testing.assert_array_equal(found["x"], X)
        assert found["x"].dtype == np.dtype("<f8")
        assert found["x"].flags.c_contiguous
    declared = task(b=SCHEMA, a=FieldSchema((), "<i8"))
    assert list(prepare_features({"a": [1], "b": [[1.0, 2.0]]}, declared)) == ["b", "a"]
    with pytest.raises(InputError, match="lengths differ"):
        prepare_features({"a": [1, 2], "b": [[1.0, 2.0]]}, declared)


@pytest.mark.parametrize("kind", ["pandas", "pyarrow"])
def test_tables_from_ingest_to_predict(tmp_path: Path, kind: str) -> None:
    """A workspace fed with tables serves as one fed with the arrays that they are."""
    rows = range(30)
    columns = dict(zip("abc", canaries(rows).T, strict=True))
    workspace = create(tmp_path / "ws", hoarding())
    workspace.ingest(
        pd.DataFrame(columns, index=range(500, 530)) if kind == "pandas" else pa.table(columns), labels(rows)
    )
    workspace.train()
    plain = create(tmp_path / "plain", hoarding())
    plain.ingest(canaries(rows), labels(rows))
    plain.train()
    assert workspace.state_digest() == plain.state_digest()
    frame = pd.DataFrame(PROBE, columns=list("abc"))
    assert served(workspace, frame) == served(plain, PROBE)  # type: ignore[arg-type]
    # Columns are known by name: another order is the same table, further columns are not asked for.
    assert served(workspace, frame.assign(d="?")[["c", "d", "b", "a"]]) == served(plain, PROBE)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no feature column 'c'"):
        workspace.predict(frame[["a", "b"]])
    with pytest.raises(InputError, match=r"columns are \['a', 'b'\], but the first batch declared \['a', 'b', 'c'\]"):
        workspace.ingest(frame[["a", "b"]], labels(range(40)))
    # What was declared by an array has no names to go by.
    assert served(plain, frame) == served(plain, PROBE)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="expected shape"):
        plain.predict(frame[["a", "b"]])
    for fed in (workspace, plain):
        rows = range(50, 70)
        later = pd.DataFrame(canaries(rows), columns=list("abc"))
        fed.ingest(later[["b", "a", "c"]] if fed is workspace else later, labels(rows), record_ids=names(rows))
        fed.train()
    assert workspace.state_digest() == plain.state_digest()


def test_several_features_reach_the_learner_in_order(tmp_path: Path) -> None:
    rows = range(30)
    X = {"near": canaries(rows)[:, :1], "far": canaries(rows)[:, 1:]}
    workspace = create(tmp_path / "ws", hoarding())
    workspace.ingest(X, labels(rows), record_ids=names(rows))
    workspace.train()
    joined = filled(tmp_path / "joined", hoarding())
    swapped = {"far": PROBE[:, 1:], "near": PROBE[:, :1]}
    assert served(workspace, swapped) == served(joined, PROBE)  # type: ignore[arg-type]
