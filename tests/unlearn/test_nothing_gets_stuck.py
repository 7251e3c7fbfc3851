"""What is accepted can be served to the end: nothing that a workspace takes makes a later operation fail for good."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shards.learners.mlp import MLPLearner
from shards.learners.torch import TorchLearner
from shards.task import FieldSchema, Task
from tests.unlearn.helpers import shard_of
from unlearn import Workspace, verify
from unlearn.errors import ConfigurationError, InputError, TrainingError
from unlearn.request import RequestState

LONGEST = "ü" * 4096


@pytest.mark.parametrize("text", ["", "x" * 4097])
@pytest.mark.parametrize("place", range(3))
def test_an_artefact_that_no_receipt_can_name_is_refused(tmp_path: Path, place: int, text: str) -> None:
    workspace = Workspace.create(tmp_path / "run", "ridge", n_shards=1)
    words = ["student", "distilled model", "there"]
    words[place] = text
    with pytest.raises(InputError, match=rf"must have from 1 to 4,096 characters, got {len(text):,}: receipts name it"):
        workspace.register(*words)
    assert workspace.artefacts() == []


def test_the_longest_words_are_in_the_receipt(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "run", "ridge", n_shards=2, random_state=0)
    workspace.ingest(np.eye(6), np.arange(6) % 2)
    workspace.train()
    workspace.register(LONGEST, LONGEST, LONGEST)
    request = workspace.forget(record_ids=["3"])
    workspace.recover()
    receipt = workspace.receipt(request.id)
    verify(receipt, public_key=workspace.public_key, workspace=workspace)
    assert receipt.statement["predicate"]["artefacts"] == [{"name": LONGEST, "kind": LONGEST, "location": LONGEST}]


@pytest.mark.parametrize("classes", [[], "abc", [0, 1, math.nan], [0.0, -math.inf], ["a", "\ud800"], [0, (1, 2)]])
def test_classes_that_cannot_be_written_down_are_refused_before_there_is_a_folder(tmp_path: Path, classes: Any) -> None:
    with pytest.raises(ConfigurationError, match="class"):
        Workspace.create(tmp_path / "run", "ridge", n_shards=1, classes=classes)
    assert not (tmp_path / "run").exists()


def test_a_deadline_that_is_no_date_in_utc_is_refused(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "run", "ridge", n_shards=1)
    workspace.ingest(np.eye(4), np.arange(4) % 2)
    late = datetime(9999, 12, 31, 23, tzinfo=timezone(-timedelta(hours=2)))
    for act in (workspace.forget, workspace.submit):
        with pytest.raises(InputError, match="in the years 1 to 9999"):
            act(record_ids=["1"], deadline=late)
    last = workspace.forget(record_ids=["1"], deadline=late - timedelta(hours=2))
    workspace.recover()
    assert len(workspace.receipts(last.id)) == 2


def test_a_shard_that_cannot_be_trained_keeps_no_other_waiting(tmp_path: Path) -> None:
    learner = MLPLearner(learning_rate=1.0)
    workspace = Workspace.create(tmp_path / "run", learner, n_shards=4, random_state=0)
    rng = np.random.default_rng(0)
    workspace.ingest(rng.normal(size=(40, 4)), np.arange(40) % 2)
    workspace.train()
    wild = np.zeros((30, 4))
    wild[7] = 1e25  # one record, whose shard cannot learn any more
    workspace.ingest(wild, np.arange(30) % 2, record_ids=[f"wild-{row}" for row in range(30)])
    with pytest.raises(TrainingError, match="not finite after"):
        workspace.train()
    (bad,) = workspace.status().behind
    assert bad == shard_of(workspace, "wild-7")[0]
    fine = next(name for name in map(str, range(40)) if shard_of(workspace, name)[0] != bad)
    there = next(name for name in map(str, range(40)) if shard_of(workspace, name)[0] == bad)
    first, second = workspace.forget(record_ids=[fine]), workspace.forget(record_ids=[there])
    with pytest.raises(TrainingError, match=f"training shard {bad}"):
        workspace.recover()
    assert [item.stage for item in workspace.receipts(first.id)] == ["forgotten", "recovered"]
    assert workspace.status(second.id).state is RequestState.FORGOTTEN
    workspace.forget(record_ids=["wild-7"])
    assert second.id in workspace.recover().recovered


def test_a_shard_too_small_to_be_asked_is_not_served(tmp_path: Path) -> None:
    from sklearn.neighbors import KNeighborsClassifier

    workspace = Workspace.create(tmp_path / "run", KNeighborsClassifier(5), n_shards=2, random_state=0)
    x = np.random.default_rng(0).normal(size=(30, 3))
    workspace.ingest(x, np.arange(30) % 2)
    workspace.train()
    there = [row for row in range(30) if shard_of(workspace, str(row))[0] == 1]
    kept = {row % 2: row for row in there}.values()  # one record of each class
    workspace.forget(record_ids=[row for row in there if row not in kept])
    with pytest.raises(TrainingError, match="training shard 1, step 0 failed: ValueError: Expected n_neighbors"):
        workspace.recover()
    assert workspace.status().serving == 1
    assert workspace.predict_proba(x).shape == (30, 2)


def test_a_module_that_does_not_fit_the_records_is_refused_with_them(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "run", "cnn", n_shards=2, random_state=0)
    with pytest.raises(ValueError, match=r"cnn: a record has shape \(4,\), images have"):
        workspace.ingest(np.zeros((6, 4)), np.arange(6) % 2)
    assert workspace.task is None
    workspace.ingest(np.zeros((6, 4, 4)), np.arange(6) % 2)
    other = Workspace.create(tmp_path / "other", "torch.nn:Linear", n_shards=2, random_state=0)
    with pytest.raises(ValueError, match="cannot be called with module_args"):
        other.ingest(np.zeros((6, 4)), np.arange(6) % 2)
    wide = TorchLearner("torch.nn:Linear", {"in_features": "four", "out_features": 2})
    third = Workspace.create(tmp_path / "third", wide, n_shards=2, random_state=0)
    with pytest.raises(
        ValueError, match=r"failed with module_args .* for features of shape {'x': \(4,\)} and 2 outputs"
    ):
        third.ingest(np.zeros((6, 4)), np.arange(6) % 2)


@pytest.mark.parametrize(
    ("learner", "least", "most"),
    [
        (MLPLearner(), 3.4e38, 3.5e38),
        (MLPLearner(standardize=True), 1e139, 1e141),
        (TorchLearner("mlp"), 3.4e38, 3.5e38),
        (TorchLearner("mlp", standardize=True), 1e139, 1e141),
        (TorchLearner("mlp", input_dtype="float16"), 65504, 65505),
        (TorchLearner("mlp", input_dtype="bfloat16"), 3.38e38, 3.4e38),
        (TorchLearner("mlp", input_dtype="float64"), 1.7e308, None),
        (TorchLearner("mlp", input_dtype=None), 1.7e308, None),
    ],
)
def test_what_would_be_infinite_is_refused(learner: Any, least: float, most: float | None) -> None:
    task = Task("classification", {"x": FieldSchema((2, 2), "<f8")}, FieldSchema((), "<i8"), (0, 1))
    x, y = np.zeros((3, 2, 2)), np.zeros(3, dtype=np.int64)
    for sign in (1, -1):
        x[1, 0, 1] = sign * least
        learner.check_values({"x": x}, y, task)
        if most is not None:
            x[1, 0, 1] = sign * most
            with pytest.raises(
                InputError, match=r"feature 'x'\[0, 1\] holds .* in row 1, and the learner computes with"
            ):
                learner.check_values({"x": x}, y, task)


def test_targets_whose_square_would_be_infinite_are_refused() -> None:
    task = Task("regression", {"x": FieldSchema((2,), "<f8")}, FieldSchema((2,), "<f8"))
    x, y = np.zeros((3, 2)), np.zeros((3, 2))
    y[2, 1] = -1e19
    MLPLearner().check_values({"x": x}, y, task)
    y[2, 1] = -1.1e19
    with pytest.raises(
        InputError, match=r"the target holds -1\.1e\+19 in row 2, and the learner computes with .* 1e\+19"
    ):
        MLPLearner().check_values({"x": x}, y, task)
