"""pandas in, pandas out: roles of columns and index levels, answers under the frame's index, results as tables."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import unlearn
from shards.learners.mlp import MLPLearner
from shards.private_votes import PrivateVotes
from shards.sources import from_table
from unlearn import SISAClassifier, SISARegressor, Workspace, to_frame
from unlearn.errors import ConfigurationError, InputError

FEATURES = ["age", "income"]


@pytest.fixture
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = np.arange(60)
    found = pd.DataFrame({"row": [f"r{row}" for row in rows], "person": [f"p{row // 3}" for row in rows]})
    return found.assign(age=rng.normal(size=60), income=rng.normal(size=60), buys=np.where(rows % 2, "yes", "no"))


def workspace(folder: Path, **options: Any) -> Workspace:
    learner = MLPLearner(hidden=(4,), epochs=1)
    return Workspace.create(folder, learner, n_shards=2, n_slices=1, **{"random_state": 0, **options})


# --- in ----------------------------------------------------------------------------------------------------------


def test_one_table_with_roles_is_the_parts_given_apart(tmp_path: Path, frame: pd.DataFrame) -> None:
    apart, whole, indexed, arrow = (workspace(tmp_path / name) for name in ("apart", "whole", "indexed", "arrow"))
    apart.ingest(frame[FEATURES], frame["buys"], subjects=frame["person"], record_ids=frame["row"])
    roles = {"target": "buys", "subject": "person", "record_id": "row"}
    whole.ingest_table(frame, **roles)
    indexed.ingest_table(frame.set_index(["person", "row"]), **roles)
    arrow.ingest_table(pa.Table.from_pandas(frame), **roles)
    digests = set()
    for ws in (apart, whole, indexed, arrow):
        ws.train()
        digests.add(ws.state_digest())
    assert len(digests) == 1


def test_an_index_without_a_role_is_no_feature_and_a_column_goes_before_it(frame: pd.DataFrame) -> None:
    told = from_table(frame.set_index("row")[[*FEATURES, "buys"]], target="buys")
    assert told.columns == ("age", "income")
    assert told.record_ids[:2] == ("0", "1")
    both = frame.set_index(pd.Index([f"other{row}" for row in range(60)], name="row"))
    assert from_table(both, target="buys", record_id="row", features=FEATURES).record_ids[0] == "r0"
    with pytest.raises(InputError, match="no feature column 'row'"):
        from_table(frame.set_index("row"), target="buys", features=["age", "row"])
    with pytest.raises(InputError, match="no subject column 'persom'"):
        from_table(frame, target="buys", subject="persom")


def test_later_batches_are_numbered_by_the_workspace(tmp_path: Path, frame: pd.DataFrame) -> None:
    ws = workspace(tmp_path / "ws")
    assert [ws.ingest_table(frame, target="buys", features=FEATURES) for _ in range(2)] == [0, 1]
    ws.forget(record_ids=["17", "1:17"])
    assert ws.status().records == 118


MISSING = {
    "a feature": ("age", np.nan, "feature column 'age' misses a value in row 5"),
    "text among numbers": ("age", "old", "feature column 'age' cannot be read"),
    "a target": ("buys", None, "target column 'buys' misses a value in row 5"),
    "a subject": ("person", None, "subject column 'person' misses a value in row 5"),
    "an id twice": ("row", "r4", "'r4'"),
}


@pytest.mark.parametrize("case", MISSING)
def test_what_cannot_be_taken_in_is_named_by_column_and_row(tmp_path: Path, frame: pd.DataFrame, case: str) -> None:
    column, value, said = MISSING[case]
    frame[column] = frame[column].astype(object)
    frame.loc[5, column] = value
    ws = workspace(tmp_path / "ws")
    with pytest.raises(InputError, match=said):
        ws.ingest_table(frame, target="buys", subject="person", record_id="row")
    assert ws.status().batches == 0


@pytest.mark.parametrize("absent", [None, np.nan, pd.NA, pd.NaT], ids=str)
def test_missing_ids_and_targets_apart_are_called_missing(tmp_path: Path, frame: pd.DataFrame, absent: Any) -> None:
    ws = workspace(tmp_path / "ws")
    frame[["person", "buys"]] = frame[["person", "buys"]].astype(object)
    frame.at[5, "person"] = absent
    with pytest.raises(InputError, match="subjects: row 5 misses its id"):
        ws.ingest(frame[FEATURES], frame["buys"], subjects=frame["person"])
    frame.at[7, "buys"] = absent
    with pytest.raises(InputError, match="y misses a value in row 7"):
        ws.ingest(frame[FEATURES], frame["buys"])


def test_whole_numbers_that_pandas_made_floats_are_explained(tmp_path: Path, frame: pd.DataFrame) -> None:
    numbers = pd.Series(np.arange(60)).where(lambda found: found != 9)
    with pytest.raises(InputError, match="pandas turns whole numbers into floats"):
        workspace(tmp_path / "ws").ingest(frame[FEATURES], frame["buys"], record_ids=numbers)


def test_a_sparse_table_is_refused_with_the_way_out(frame: pd.DataFrame) -> None:
    sparse = frame.astype({"age": pd.SparseDtype("float64")})
    with pytest.raises(InputError, match=r"'age' is sparse; .*sparse\.to_dense"):
        from_table(sparse, target="buys", features=FEATURES)


def test_extension_types_are_the_numbers_and_texts_they_hold(frame: pd.DataFrame) -> None:
    plain = from_table(frame, target="buys", record_id="row", features=FEATURES)
    extended = frame.astype({"age": "Float64", "buys": "category", "row": "string"})
    found = from_table(extended, target="buys", record_id="row", features=FEATURES)
    assert found.features["x"].tobytes() == plain.features["x"].tobytes()
    assert found.target.tolist() == plain.target.tolist()
    assert found.record_ids == plain.record_ids


@pytest.mark.parametrize("name", ["y", "subjects", "record_ids"])
def test_what_was_shuffled_apart_from_the_features_is_refused(tmp_path: Path, frame: pd.DataFrame, name: str) -> None:
    ws = workspace(tmp_path / "ws")
    columns = {"y": frame["buys"], "subjects": frame["person"], "record_ids": frame["row"]}
    columns[name] = columns[name].sample(frac=1, random_state=0)
    with pytest.raises(InputError, match=f"{name} has the index of X in another order"):
        ws.ingest(frame[FEATURES], **columns)
    with pytest.raises(InputError, match=f"{name} has the index of X in another order"):
        SISAClassifier(n_shards=2, n_slices=1).fit(frame[FEATURES], **columns)
    # One that says nothing of the order, because its labels are others, goes by position, and so does an array.
    columns[name] = columns[name].set_axis([f"n{row}" for row in range(60)])
    assert ws.ingest(frame[FEATURES], **columns) == 0


# --- out ---------------------------------------------------------------------------------------------------------


def test_predictions_stand_under_the_index_of_the_table(tmp_path: Path, frame: pd.DataFrame) -> None:
    ws = workspace(tmp_path / "ws")
    ws.ingest_table(frame, target="buys", features=FEATURES)
    ws.train()
    part = frame.set_index("row").iloc[[7, 3]]
    found = ws.predictions(part)  # the other columns are left out
    assert found.index.tolist() == ["r7", "r3"]
    assert found.index.name == "row"
    assert list(found) == ["prediction", "p_no", "p_yes"]
    assert found["prediction"].tolist() == ws.predict(part).tolist()
    np.testing.assert_array_equal(found[["p_no", "p_yes"]].to_numpy(), ws.predict_proba(part))
    assert ws.predictions(part[FEATURES].to_numpy()).index.tolist() == [0, 1]


def test_predictions_of_numbers_have_a_column_for_each(tmp_path: Path, frame: pd.DataFrame) -> None:
    one, two = (workspace(tmp_path / name, task="regression") for name in ("one", "two"))
    one.ingest(frame[FEATURES], frame["income"])
    two.ingest(frame[FEATURES], frame[FEATURES].to_numpy())
    for ws in (one, two):
        ws.train()
    assert list(one.predictions(frame[FEATURES])) == ["prediction"]
    assert list(two.predictions(frame[FEATURES])) == ["prediction_0", "prediction_1"]
    np.testing.assert_array_equal(two.predictions(frame[FEATURES]).to_numpy(), two.predict(frame[FEATURES]))


def test_noisy_votes_give_labels_alone(tmp_path: Path, frame: pd.DataFrame) -> None:
    votes = PrivateVotes(sigma=10.0, max_epsilon=4.0, delta=1e-5)
    ws = workspace(tmp_path / "ws", aggregation=votes, random_state=None)
    ws.ingest_table(frame, target="buys", features=FEATURES)
    ws.train()
    assert list(ws.predictions(frame[:1])) == ["prediction"]


def test_results_are_tables(tmp_path: Path, frame: pd.DataFrame) -> None:
    ws = workspace(tmp_path / "ws")
    ws.ingest_table(frame, target="buys", subject="person", record_id="row")
    trained = ws.train()
    first, second = (ws.forget(subjects=[f"p{number}" for number in some]) for some in (range(4), range(4, 9)))
    requests = to_frame(ws.requests())
    assert requests["id"].tolist() == [first.id, second.id]
    assert requests["state"].tolist() == ["forgotten", "forgotten"]
    assert requests["n_records"].tolist() == [12, 15]
    assert to_frame(first)["id"].tolist() == [first.id]
    assert to_frame(trained)["visits"].tolist() == [trained.visits]
    ws.recover()
    status = to_frame(ws.status())
    assert status["records"].tolist() == [33]
    assert status["requests.receipted"].tolist() == [2]
    gone = frame[:27]
    audit = ws.audit(gone[FEATURES], gone["buys"], subjects=gone["person"], record_ids=gone["row"])
    assert to_frame(audit)["test.p_value"].tolist() == [audit.p_value]
    assert len(to_frame([])) == 0


def test_an_audit_by_attacks_is_a_table_without_names(tmp_path: Path, frame: pd.DataFrame) -> None:
    ws = workspace(tmp_path / "ws")
    table, held_out = (
        from_table(part, target="buys", record_id="row", features=FEATURES) for part in (frame[:45], frame[45:])
    )
    ws.ingest(table)
    ws.train()
    gone = table.take(np.arange(12))
    ws.forget(record_ids=gone.record_ids)
    ws.recover()
    audit = ws.audit(gone, attacks=["loss", "entropy"], held_out=held_out)
    assert re.search(r"\br0\b", str(audit.samples))
    said = to_frame(audit).to_csv() + to_frame(audit.findings).to_csv()
    assert to_frame(audit)["forgotten"].tolist() == [12]
    assert to_frame(audit.findings)["attack"].tolist() == ["loss", "entropy"]
    assert not {*re.findall(r"\br\d+\b", said)}


@pytest.mark.parametrize("strange", ["req-1", {"a": 1}, np.zeros(3), 7, [1, 2], Workspace], ids=repr)
def test_what_is_no_result_is_refused(strange: Any) -> None:
    with pytest.raises(InputError, match="is not a result"):
        to_frame(strange)


def test_without_pandas_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigurationError, match=r'pip install "sisa-unlearn\[tables\]"'):
        unlearn.to_frame([])


def test_a_regressor_refuses_another_order_in_later_batches_too(frame: pd.DataFrame) -> None:
    reg = SISARegressor("mlp", n_shards=2, n_slices=1).fit(frame[FEATURES], frame["income"])
    with pytest.raises(InputError, match="another order"):
        reg.extend(frame[FEATURES], frame["income"][::-1])
