"""Columns of a table are known by name: another order is the same data, missing ones are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from shards.sources import from_table
from unlearn import Workspace
from unlearn.errors import InputError


@pytest.fixture
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    found = pd.DataFrame(rng.normal(size=(60, 3)), columns=["a", "b", "c"])
    return found.assign(label=(found.a - 2 * found.b > 0).astype(int))


def trained(path: Path, *batches: pd.DataFrame) -> Workspace:
    ws = Workspace.create(path, SGDClassifier(loss="log_loss"), n_shards=2, n_slices=2, random_state=0, classes=[0, 1])
    for number, batch in enumerate(batches):
        ws.ingest(batch.drop(columns="label"), batch["label"], record_ids=[f"{number}-{i}" for i in range(len(batch))])
    ws.train()
    return ws


def test_prediction_finds_columns_by_name(tmp_path: Path, table: pd.DataFrame) -> None:
    ws = trained(tmp_path / "ws", table)
    expected = ws.predict_proba(table[["a", "b", "c"]])
    assert ws.predict_proba(table[["c", "a", "b", "label"]]).tobytes() == expected.tobytes()
    assert ws.predict_proba(pa.Table.from_pandas(table[["b", "c", "a"]])).tobytes() == expected.tobytes()
    assert ws.predict_proba(table[["a", "b", "c"]].to_numpy()).tobytes() == expected.tobytes()
    with pytest.raises(InputError, match="'c'"):
        ws.predict(table[["a", "b"]])


def test_a_later_batch_may_have_another_order_but_no_other_columns(tmp_path: Path, table: pd.DataFrame) -> None:
    plain = trained(tmp_path / "plain", table[:30], table[30:])
    turned = trained(tmp_path / "turned", table[:30], table[30:][["label", "c", "b", "a"]])
    assert turned.state_digest() == plain.state_digest()
    with pytest.raises(InputError, match="first batch declared"):
        plain.ingest(table[:5].rename(columns={"c": "d"}).drop(columns="label"), table["label"][:5])


def test_records_read_from_a_table_carry_their_columns(tmp_path: Path, table: pd.DataFrame) -> None:
    plain = trained(tmp_path / "plain", table)
    other = Workspace.create(
        tmp_path / "other", SGDClassifier(loss="log_loss"), n_shards=2, n_slices=2, random_state=0, classes=[0, 1]
    )
    ids = [f"0-{i}" for i in range(len(table))]
    other.ingest(from_table(table.assign(id=ids), target="label", record_id="id"))
    other.train()
    assert other.task == plain.task
    assert other.state_digest() == plain.state_digest()


def test_a_code_that_is_text_in_one_batch_and_a_number_in_another(tmp_path: Path) -> None:
    model = make_pipeline(
        make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["code"]), remainder="passthrough"),
        LogisticRegression(),
    )
    ws = Workspace.create(tmp_path / "ws", model, n_shards=1)
    words = pd.DataFrame({"age": [1.5, 2.5, 3.5, 4.5], "code": ["1", "2", "x", "1"]})
    ws.ingest(words, [0, 1, 0, 1])
    ws.train()
    before = ws.state_digest()
    numbers = pd.DataFrame({"age": [1.5, 2.5], "code": [1, 2]})
    told = r"text was declared of 'code': .* columns \['age', 'code'\], .*`table.astype\({'code': str}\)`"
    for refused in (
        lambda: ws.ingest(numbers, [0, 1]),
        lambda: ws.predict(numbers),
        lambda: ws.predict(np.ones((1, 2))),
    ):
        with pytest.raises(InputError, match=told):
            refused()
    with pytest.raises(InputError, match=r"columns are \['age'\], but the first batch declared \['age', 'code'\]"):
        ws.ingest(numbers[["age"]], [0, 1])
    assert ws.state_digest() == before
    assert len(ws.predict(numbers.astype({"code": str}))) == 2
