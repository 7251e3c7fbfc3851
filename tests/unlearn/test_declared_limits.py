"""Values that no step could be trained on are refused by name and row before they are taken in; nothing changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.errors import ConfigurationError, InputError
from shards.learners import limits
from shards.learners.base import StepData
from shards.learners.discriminant import LDALearner
from shards.learners.merging import MergeLearner
from shards.learners.naive_bayes import GaussianNBLearner, MultinomialNBLearner
from shards.learners.neighbours import NeighboursLearner
from shards.learners.random_trees import RandomTreesLearner
from shards.learners.ridge import RidgeLearner
from shards.task import FieldSchema, Task
from unlearn import Workspace

CLASSIFYING: dict[str, Callable[[dict[str, Any]], MergeLearner]] = {
    "knn": lambda features: NeighboursLearner(features=features),
    "ridge": lambda features: RidgeLearner(features=features),
    "lda": lambda features: LDALearner(features=features),
    "gaussian_nb": lambda features: GaussianNBLearner(features=features),
    "random_trees": lambda features: RandomTreesLearner(features=features),
    "multinomial_nb": lambda features: MultinomialNBLearner(unit=1.0, limit=8.0),
}
MAPS: dict[str, dict[str, Any]] = {
    "raw": {"map": "raw", "unit": 0.25, "limit": 2.0},
    "fourier": {"map": "fourier", "features": 3, "input_unit": 0.25, "input_limit": 2.0},
    "gradients": {"map": "gradients", "height": 2, "columns": 1, "size": 1, "stride": 1, "input_limit": 2.0},
}
VALUES = st.sampled_from([0.0, -0.1, 1.0, -2.0, 2.1, 2.12, 2.13, -2.5, 8.4, 8.5, 8.6, -0.6, 1e9, np.nan, -np.inf])


def refused(act: Callable[[], object], kind: type[Exception]) -> bool:
    try:
        act()
    except kind:
        return True
    return False


@given(values=st.lists(st.tuples(VALUES, VALUES), max_size=4))
@settings(max_examples=40)
@pytest.mark.parametrize("kind", MAPS)
@pytest.mark.parametrize("name", CLASSIFYING)
def test_what_is_refused_is_what_training_would_refuse(name: str, kind: str, values: list[tuple[float, float]]) -> None:
    learner = CLASSIFYING[name](MAPS[kind])
    x = np.array(values, dtype=np.float64).reshape(-1, 2)
    task = Task("classification", {"x": FieldSchema((2,), "<f8")}, FieldSchema((), "<i8"), (0, 1))
    y = np.zeros(len(x), dtype=np.int64)
    data = StepData({"x": x}, y, np.zeros((len(x), 16), dtype=np.uint8))
    trained = refused(lambda: learner.part(data, task), ConfigurationError)
    assert refused(lambda: learner.check_values({"x": x}, y, task), InputError) == trained
    for size in (8, 16):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(limits, "CHUNK_BYTES", size)
            assert refused(lambda: learner.check_values({"x": x}, y, task), InputError) == trained


@given(values=st.lists(VALUES, max_size=4))
@pytest.mark.parametrize("kind", [NeighboursLearner, RidgeLearner])
def test_targets_likewise(kind: type[NeighboursLearner] | type[RidgeLearner], values: list[float]) -> None:
    learner = kind(target_unit=0.25, target_limit=2.0)
    task = Task("regression", {"x": FieldSchema((1,), "<f8")}, FieldSchema((), "<f8"))
    x, y = np.zeros((len(values), 1)), np.array(values, dtype=np.float64)
    data = StepData({"x": x}, y, np.zeros((len(x), 16), dtype=np.uint8))
    trained = refused(lambda: learner.part(data, task), ConfigurationError)
    assert refused(lambda: learner.check_values({"x": x}, y, task), InputError) == trained


def frame(rows: int, **worst: tuple[int, float]) -> pd.DataFrame:
    made = pd.DataFrame({"age": np.linspace(0, 1, rows), "pay": np.linspace(1, 0, rows), "y": np.arange(rows) % 2})
    for column, (row, value) in worst.items():
        made.loc[row, column] = value
    return made


def test_the_row_is_that_of_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CHUNK_BYTES", 48)  # two rows
    task = Task("classification", {"x": FieldSchema((3,), "<f8")}, FieldSchema((), "<i8"), (0, 1))
    x = np.zeros((7, 3))
    x[5, 1] = 9
    with pytest.raises(InputError, match=r"feature 'x'\[1\] holds 9 in row 5, and"):
        RidgeLearner().check_values({"x": x}, np.zeros(7), task)


def test_an_outlier_is_named_and_the_workspace_goes_on(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "run", "ridge", n_shards=2, random_state=0)
    with pytest.raises(
        InputError, match=r"feature 'pay' holds -45 in row 17, and the learner takes 8 in absolute value"
    ):
        workspace.ingest_table(frame(40, pay=(17, -45)), target="y")
    workspace.ingest_table(frame(40), target="y")
    workspace.train()
    before = workspace.state_digest()
    x, y = frame(5, age=(3, np.nan)).iloc[:, :2].to_numpy(), np.zeros(5, dtype=np.int64)
    with pytest.raises(InputError):
        workspace.ingest(x, y)
    workspace.ingest(np.nan_to_num(x), y)
    assert workspace.train().visits > 0
    assert workspace.state_digest() != before


def test_files_are_refused_by_their_workers(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pandas(frame(40, age=(31, 9.5))), tmp_path / "rows.parquet", row_group_size=10)
    workspace = Workspace.create(tmp_path / "run", "knn", n_shards=2, random_state=0, classes=[0, 1])
    with pytest.raises(InputError, match=r"rows counted from its row 0: feature 'age' holds 9\.5 in row 31, and"):
        workspace.ingest_parquet(tmp_path / "rows.parquet", target="y")
    assert workspace.status().records == 0
    pq.write_table(pa.Table.from_pandas(frame(40)), tmp_path / "rows.parquet", row_group_size=10)
    workspace.ingest_parquet(tmp_path / "rows.parquet", target="y")
    workspace.train()


def test_numbers_of_an_array_are_named_by_their_place(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "run", "gaussian_nb", n_shards=2, random_state=0)
    images = {"image": np.zeros((6, 2, 3)), "age": np.zeros(6)}
    images["image"][4, 1, 2] = 8.25
    with pytest.raises(InputError, match=r"feature 'image'\[1, 2\] holds 8\.25 in row 4, and"):
        workspace.ingest(images, np.arange(6) % 2)
    images["image"][4, 1, 2], images["age"][2] = 0, -9
    with pytest.raises(InputError, match=r"feature 'age' holds -9 in row 2, and"):
        workspace.ingest(images, np.arange(6) % 2)
    counting = Workspace.create(tmp_path / "counts", "multinomial_nb", n_shards=2, random_state=0)
    with pytest.raises(InputError, match=r"feature 'x'\[1\] holds -3 in row 2, and the learner takes 0 or more"):
        counting.ingest(np.array([[1, 2], [0, 1], [4, -3], [1, 1]]), np.arange(4) % 2)
