"""The estimators against models fitted by hand, against fresh fits, and against scikit-learn's own checks."""

from __future__ import annotations

import copy
import gc
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import sparse
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.compose import make_column_transformer
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVR
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import check_estimator

import unlearn
from shards.learners.sklearn import SklearnLearner
from shards.learners.torch import TorchLearner
from shards.placement import place
from unlearn import declaration
from unlearn.errors import (
    AlreadyForgottenError,
    ConfigurationError,
    IdempotencyError,
    InputError,
    NotServingError,
    TombstoneError,
    UnknownIdError,
    WorkspaceError,
)

ROOT = Path(__file__).parents[2]

JUSTIFIED_FAILURES: dict[str, str] = {}
"""Checks of scikit-learn that an estimator may fail, with the reason. There are none."""

NOT_RUN = {"check_array_api_input"}
"""Needs SCIPY_ARRAY_API=1 before scipy is imported, and is about estimators that take arrays of other libraries."""


def classifier(**options: Any) -> unlearn.SISAClassifier:
    settings = {"n_shards": 2, "n_slices": 2, "random_state": 0} | options
    return unlearn.SISAClassifier(settings.pop("learner", LogisticRegression()), **settings)


def regressor(**options: Any) -> unlearn.SISARegressor:
    settings = {"n_shards": 2, "n_slices": 2, "random_state": 0} | options
    return unlearn.SISARegressor(settings.pop("learner", None), **settings)


def blobs(n: int = 60, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    return rng.normal(size=(n, 4)) + 3 * np.eye(4)[y], y


def temporary_folder(estimator: Any) -> Path:
    return estimator.workspace_.path


def run(code: str, **environment: str) -> str:
    """Run a script in another process; its output."""
    variables = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# --- against slower, obviously right references ---------------------------------------------------------------


def shard_of(ids: list[str], n_shards: int, n_slices: int) -> np.ndarray:
    return place(declaration.make_secrets(0).placement, ids, ids, n_shards, n_slices).shards


@pytest.mark.parametrize(("n", "n_shards"), [(60, 3), (12, 20)])
@pytest.mark.parametrize("aggregation", ["mean", "vote", "weighted"])
def test_it_predicts_what_models_fitted_by_hand_on_each_shard_say_together(
    n: int, n_shards: int, aggregation: str
) -> None:
    X, y = blobs(n)
    clf = classifier(n_shards=n_shards, aggregation=aggregation).fit(X, y)
    where = shard_of([str(row) for row in range(n)], n_shards, 2)
    total, weight = np.zeros((n, 3)), 0
    for shard in range(n_shards):
        mine = where == shard
        if not mine.any():
            continue
        output = np.zeros((n, 3))
        seen = np.unique(y[mine])
        if len(seen) == 1:
            output[:, seen] = 1
        else:
            output[:, seen] = LogisticRegression().fit(X[mine], y[mine]).predict_proba(X)
        if aggregation == "vote":
            output = np.eye(3)[output.argmax(axis=1)]
        share = mine.sum() if aggregation == "weighted" else 1
        total += share * output
        weight += share
    np.testing.assert_allclose(clf.predict_proba(X), total / weight, atol=1e-4)
    np.testing.assert_array_equal(clf.predict(X), clf.predict_proba(X).argmax(axis=1))


def test_the_regressor_is_the_mean_of_ridges_fitted_by_hand() -> None:
    X, _ = blobs()
    y = X @ np.arange(4.0)
    reg = regressor().fit(X, y)
    where = shard_of([str(row) for row in range(len(y))], 2, 2)
    by_hand = [Ridge().fit(X[where == shard], y[where == shard]).predict(X) for shard in range(2)]
    np.testing.assert_allclose(reg.predict(X), np.mean(by_hand, axis=0))
    assert reg.score(X, y) > 0.9


def test_after_forget_and_recover_it_is_the_estimator_that_never_saw_the_subject() -> None:
    X, y = blobs()
    subjects = [f"w{row % 20}" for row in range(60)]
    clf = classifier(n_shards=3).fit(X, y, subjects=subjects)
    before = clf.workspace_.state_digest()
    request = clf.forget(subjects=["w17"], reason="GDPR Art. 17", idempotency_key="case-4711")
    assert (request.n_records, request.reason, request.idempotency_key) == (3, "GDPR Art. 17", "case-4711")
    clf.recover()
    keep = np.array(subjects) != "w17"
    fresh = classifier(n_shards=3).fit(
        X[keep], y[keep], subjects=np.array(subjects)[keep], record_ids=np.flatnonzero(keep)
    )
    assert clf.workspace_.state_digest() == fresh.workspace_.state_digest() != before
    np.testing.assert_array_equal(clf.predict_proba(X), fresh.predict_proba(X))


def test_row_numbers_are_record_ids() -> None:
    X, y = blobs()
    clf = classifier().fit(X, y)
    assert clf.forget(record_ids=[3, np.int64(5)]).n_records == 2
    assert clf.forget(subjects=["7"]).n_records == 1
    with pytest.raises(AlreadyForgottenError):
        clf.forget(record_ids=["3"])
    with pytest.raises(UnknownIdError):
        clf.forget(record_ids=[60])
    assert clf.workspace_.status().records == 57
    first = clf.forget(record_ids=[9], idempotency_key="k")
    assert clf.forget(record_ids=[9], idempotency_key="k").id == first.id
    with pytest.raises(IdempotencyError):
        clf.forget(record_ids=[10], idempotency_key="k")


def test_once_all_is_forgotten_there_is_nothing_to_predict_with() -> None:
    X, y = blobs()
    clf = classifier().fit(X, y, subjects=["a"] * 60)
    clf.forget(subjects=["a"])
    with pytest.raises(NotServingError):
        clf.predict(X)


def test_extend_is_a_second_batch() -> None:
    X, y = blobs()
    clf = classifier(classes=[0, 1, 2]).fit(X[:40], y[:40])
    assert clf.extend(X[40:], y[40:]) is clf
    by_hand = unlearn.Workspace.create(
        temporary_folder(clf).with_name("other"),
        LogisticRegression(),
        n_shards=2,
        n_slices=2,
        classes=[0, 1, 2],
        random_state=0,
    )
    by_hand.ingest(X[:40], y[:40])
    by_hand.ingest(X[40:], y[40:])
    by_hand.train()
    assert clf.workspace_.state_digest() == by_hand.state_digest()
    assert clf.forget(record_ids=["1:0"]).n_records == 1
    assert clf.forget(subjects=["5"]).n_records == 1
    with pytest.raises(TombstoneError):
        clf.extend(X[:1], y[:1], record_ids=["5"])
    clf.extend(X[:1], y[:1], record_ids=["5"], reconsent=["5"])
    with pytest.raises(InputError, match="not declared"):
        clf.extend(X[:1], [7])
    with pytest.raises(ValueError, match="3 features"):
        clf.extend(X[:1, :3], y[:1])
    assert clf.workspace_.status().records == 59


# --- scikit-learn's conventions -------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("n_shards", "n_slices"), [(2, 2), pytest.param(20, 5, marks=pytest.mark.slow, id="defaults")])
@pytest.mark.parametrize("make", [classifier, regressor])
def test_scikit_learns_checks_pass(make: Any, n_shards: int, n_slices: int) -> None:
    learner = SklearnLearner(LogisticRegression() if make is classifier else Ridge())
    estimator = make(learner=learner, n_shards=n_shards, n_slices=n_slices)
    results = check_estimator(estimator, expected_failed_checks=JUSTIFIED_FAILURES, on_fail=None, on_skip=None)
    assert len(results) > 50
    passed = [r["check_name"] for r in results if r["status"] == "passed"]
    others = {r["check_name"]: (r["status"], repr(r["exception"])) for r in results if r["status"] != "passed"}
    assert set(others) <= {*JUSTIFIED_FAILURES, *NOT_RUN}, others
    assert len(passed) + len(others) == len(results)


def test_defaults_and_kinds() -> None:
    X, y = blobs(300)
    clf = unlearn.SISAClassifier().fit(X, y)
    assert clf.workspace_.declaration.learner["params"]["estimator"]["params"]["max_iter"] == 1000
    assert (clf.workspace_.declaration.n_shards, clf.workspace_.declaration.n_slices) == (20, 5)
    assert clf.score(X, y) > 0.9
    assert is_classifier(clf)
    assert is_regressor(unlearn.SISARegressor())
    assert "SISAClassifier" in clf._repr_html_inner()
    assert "SklearnLearner" in repr(classifier(learner=SklearnLearner(LogisticRegression())))


LABELS = {
    "int8": np.array([3, -1, 7], dtype=np.int8),
    "text": np.array(["b", "a", "longer"]),
    "objects": np.array(["b", "a", "longer"], dtype=object),
    "bool": np.array([True, False]),
    "float": np.array([2.0, 1.0]),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_come_back_as_they_were_given(name: str) -> None:
    X, codes = blobs(classes=len(LABELS[name]))
    y = LABELS[name][codes]
    clf = classifier().fit(X, y)
    assert clf.classes_.dtype == y.dtype
    assert clf.classes_.tolist() == sorted(set(y.tolist()))
    predicted = clf.predict(X)
    assert predicted.dtype == y.dtype
    assert (predicted == y).mean() > 0.9
    assert clf.predict_proba(X).shape == (60, len(clf.classes_))
    assert (clf.extend(X, y).predict(X) == y).mean() > 0.9


@pytest.mark.parametrize("dtype", ["Int64", "category", "str"])
def test_labels_of_a_column(dtype: str) -> None:
    X, y = blobs()
    column = pd.Series(y).astype(dtype)
    for features in (X, pd.DataFrame(X, columns=list("abcd"))):
        clf = classifier().fit(features, column)
        assert clf.classes_.tolist() == (["0", "1", "2"] if dtype == "str" else [0, 1, 2])
        assert clf.score(features, column.to_numpy()) > 0.9


def test_declared_classes_need_not_occur() -> None:
    X, y = blobs(classes=2)
    clf = classifier(classes=["z", "a", "b"]).fit(X, np.array(["b", "a"])[y])
    assert clf.classes_.tolist() == ["a", "b", "z"]
    proba = clf.predict_proba(X)
    assert proba.shape == (60, 3)
    assert not proba[:, 2].any()
    with pytest.raises(InputError, match="not declared"):
        classifier(classes=["a", "z"]).fit(X, np.array(["b", "a"])[y])
    with pytest.raises(InputError, match="1 class"):
        classifier().fit(X, np.zeros(60))


def test_random_state() -> None:
    X, y = blobs()

    def digest(seed: Any) -> str:
        return classifier(random_state=seed).fit(X, y).workspace_.state_digest()

    drawn = int(np.random.RandomState(5).randint(2**31 - 1))
    assert digest(np.random.RandomState(5)) == digest(np.int64(drawn))
    assert digest(0) == digest(0) != digest(1)
    assert digest(None) != digest(None)
    for wrong in (-1, True, 0.5, "0", np.random.default_rng(0)):
        with pytest.raises(ConfigurationError, match="random_state"):
            classifier(random_state=wrong).fit(X, y)


def test_searches_and_cross_validation() -> None:
    X, y = blobs()
    scores = cross_val_score(classifier(), X, y, cv=3, params={"subjects": [f"s{row // 2}" for row in range(60)]})
    assert scores.shape == (3,)
    assert scores.mean() > 0.8
    search = GridSearchCV(classifier(), {"learner__C": [1e-6, 1.0], "n_shards": [1]}, cv=2, scoring="neg_log_loss").fit(
        X, y
    )
    assert search.best_params_ == {"learner__C": 1.0, "n_shards": 1}
    search.best_estimator_.forget(record_ids=[0])
    assert make_pipeline(StandardScaler(), classifier()).fit(X, y).score(X, y) > 0.9
    inside = classifier(learner=make_pipeline(StandardScaler(), LogisticRegression())).fit(X, y)
    assert inside.score(X, y) > 0.9


# --- kinds of data --------------------------------------------------------------------------------------------


def test_a_table_of_numbers_is_checked_by_its_names() -> None:
    X, y = blobs()
    frame = pd.DataFrame(X, columns=list("abcd"))
    frame["a"] = frame["a"].round().astype(int)
    clf = classifier().fit(frame, pd.Series(y), subjects=pd.Series(range(60)))
    assert clf.feature_names_in_.tolist() == list("abcd")
    assert clf.n_features_in_ == 4
    np.testing.assert_array_equal(
        clf.predict_proba(frame), classifier().fit(frame.to_numpy(), y).predict_proba(frame.to_numpy())
    )
    np.testing.assert_array_equal(clf.predict(pa.Table.from_pandas(frame)), clf.predict(frame))
    with pytest.raises(ValueError, match="same order"):
        clf.predict(frame[list("badc")])
    with pytest.raises(ValueError, match="unseen at fit time"):
        clf.predict(frame.rename(columns={"a": "e"}))
    with pytest.warns(UserWarning, match="valid feature names"):
        clf.predict(frame.to_numpy())
    with pytest.raises(InputError, match="misses a value"):
        clf.predict(frame.where(frame > 0))


def test_a_table_with_text_goes_to_learners_that_take_one() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"colour": rng.choice(["red", "green", "blue"], 90), "size": rng.normal(size=90)})
    y = np.where(frame["colour"] == "red", "yes", "no")
    columns = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["colour"]), remainder="passthrough")
    clf = classifier(learner=make_pipeline(columns, LogisticRegression())).fit(frame, y)
    assert clf.score(frame, y) == 1
    assert clf.feature_names_in_.tolist() == ["colour", "size"]
    assert clf.predict(pd.DataFrame({"colour": ["purple"], "size": [0.0]})).tolist() == ["no"]
    assert clf.extend(frame, y).forget(record_ids=["1:3", 3]).n_records == 2
    with pytest.raises(ValueError, match="same order"):
        clf.predict(frame[["size", "colour"]])
    with pytest.raises(ValueError, match="requires y"):
        classifier().fit(frame, None)


def test_integers_in_fit_take_floats_in_predict() -> None:
    clf = classifier(n_shards=1).fit([[0], [1], [2], [3]], [0, 0, 1, 1])
    assert clf.predict([[0.4], [2.6]]).tolist() == [0, 1]
    assert clf.predict([[0], [3]]).tolist() == [0, 1]
    assert clf.predict([[False]]).tolist() == [0]
    assert clf.extend([[1]], [0]).predict([[0.4]]).tolist() == [0]
    assert classifier(n_shards=1).fit(np.eye(4, dtype=bool), [0, 0, 1, 1]).predict(np.eye(4)).tolist() == [0, 0, 1, 1]
    small = classifier(n_shards=1).fit(np.eye(4, dtype=np.float32), [0, 0, 1, 1]).workspace_.task
    assert small is not None
    assert small.features["x"].dtype == "<f4"


@pytest.mark.parametrize("kind", ["csr", "dok"])
def test_sparse_matrices_are_refused(kind: str) -> None:
    X, y = blobs()
    with pytest.raises(TypeError, match=r"[Ss]parse"):
        classifier().fit(getattr(sparse, f"{kind}_array")(X), y)


TWO_INPUTS = """
from torch import nn

class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(64, 2), nn.Linear(3, 2)

    def forward(self, a, b):
        return self.left(a) + self.right(b)
"""


@pytest.mark.slow
def test_images_and_several_arrays_for_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(24) % 2
    images = (rng.random((24, 1, 8, 8)) + y[:, None, None, None]).astype(np.float32)
    clf = classifier(learner=TorchLearner("mlp", {"hidden": [8]}, standardize=True), n_slices=1).fit(images, y)
    assert clf.predict_proba(images).shape == (24, 2)
    assert clf.score(images, y) > 0.9
    clf.forget(record_ids=[0])
    clf.recover()
    with pytest.raises(InputError, match="shape"):
        clf.predict(images[:, :, :7])
    reg = regressor(learner="mlp", n_slices=1).fit(images, np.stack([y, -y], axis=1))
    assert reg.predict(images).shape == (24, 2)

    pair = {"a": images.reshape(24, 64), "b": images.reshape(24, 64)[:, :3]}
    (tmp_path / "module_of_two_inputs.py").write_text(TWO_INPUTS)
    monkeypatch.syspath_prepend(tmp_path)
    clf = classifier(learner="module_of_two_inputs:TwoInputs", n_slices=1).fit(pair, y)
    assert clf.predict(pair).shape == (24,)
    assert not hasattr(clf, "n_features_in_")
    with pytest.raises(InputError, match="missing"):
        clf.predict({"a": pair["a"]})


def test_targets_of_a_regressor() -> None:
    X, _ = blobs()
    both = np.stack([X[:, 0], X[:, 1]], axis=1)
    assert regressor(learner=LinearRegression()).fit(X, both).score(X, both) > 0.99
    assert regressor().fit(X, both[:, :1]).predict(X).shape == (60, 1)
    assert regressor().fit(pd.DataFrame(X, columns=list("abcd")), both).predict(
        pd.DataFrame(X, columns=list("abcd"))
    ).shape == (60, 2)
    with pytest.warns(DataConversionWarning):
        assert regressor(learner=LinearSVR()).fit(X, both[:, :1]).predict(X).shape == (60,)
    with pytest.raises(ValueError, match="1d array"):
        regressor(learner=LinearSVR()).fit(X, both)
    one = regressor().fit(X, X[:, 0])
    with pytest.warns(DataConversionWarning):
        one.extend(X[:1], [[1.0]])
    with pytest.raises(ConfigurationError, match="vote"):
        regressor(aggregation="vote").fit(X, X[:, 0])


# --- workspaces: fit again, clone, copy, pickle ---------------------------------------------------------------


def test_a_workspace_is_fitted_once(tmp_path: Path) -> None:
    X, y = blobs()
    path = tmp_path / "deep" / "runs"
    clf = classifier(workspace=path).fit(X, y)
    assert clf.workspace_.path == path
    digest = clf.workspace_.state_digest()
    for other in (clf, clone(clf), classifier(workspace=str(path))):
        with pytest.raises(WorkspaceError, match=r"was used before.*extend"):
            other.fit(X, y)
    assert clf.workspace_.state_digest() == digest == unlearn.Workspace.open(path).state_digest()


def test_a_clone_has_the_parameters_only() -> None:
    X, y = blobs()
    clf = classifier().fit(X, y)
    twin = clone(clf)
    assert repr(twin) == repr(clf)
    for use in (lambda: twin.predict(X), lambda: twin.workspace_, lambda: twin.forget(record_ids=[0]), twin.recover):
        with pytest.raises(NotFittedError):
            use()
    assert temporary_folder(twin.fit(X, y)) != temporary_folder(clf)
    twin.forget(record_ids=[0])
    assert clf.workspace_.status().records == 60


def test_a_fit_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    X, y = blobs()
    clf = classifier().fit(X, y)
    before = clf.predict_proba(X)
    for arguments in ({"subjects": ["a"]}, {"record_ids": ["a"] * 60}):
        with pytest.raises(InputError):
            clf.fit(X[:, :2], y, **arguments)
    with pytest.raises(ValueError, match="NaN"):
        clf.fit(X[:, :2] * np.nan, y)
    clf.learner = Ridge()
    with pytest.raises(ConfigurationError, match="regression"):
        clf.fit(X[:, :2], y)
    np.testing.assert_array_equal(clf.predict_proba(X), before)
    assert len(list((tmp_path / "temporary").iterdir())) == 1

    path = tmp_path / "durable"
    with pytest.raises(InputError):
        classifier(workspace=path).fit(X, y, subjects=["a"])
    assert not path.exists()
    with pytest.raises(ConfigurationError):
        classifier(workspace=path, n_shards=0).fit(X, y)
    classifier(workspace=path).fit(X, y)


def test_what_a_learner_breaks_can_be_taken_up_again(tmp_path: Path) -> None:
    X, y = blobs()
    path = tmp_path / "ws"
    clf = classifier(learner=LogisticRegression(penalty="nonsense"), workspace=path)
    with pytest.raises(unlearn.UnlearnError) as caught:
        clf.fit(X, y)
    assert any("Workspace.open" in note and str(path) in note for note in caught.value.__notes__)
    with pytest.raises(NotFittedError):
        clf.predict(X)
    assert unlearn.Workspace.open(path).status().records == 60


def test_a_temporary_workspace_lives_as_long_as_it_is_used() -> None:
    X, y = blobs()
    clf = classifier().fit(X, y)
    first = temporary_folder(clf)
    shared = copy.deepcopy(clf)
    clf.fit(X, y)
    second = temporary_folder(clf)
    gc.collect()
    assert first != second
    assert first.exists()
    assert temporary_folder(shared) == first
    workspace = shared.workspace_
    del shared
    gc.collect()
    assert len(workspace.predict(X)) == 60
    del workspace
    gc.collect()
    assert not first.parent.exists()
    assert second.exists()
    del clf
    gc.collect()
    assert not second.parent.exists()


def by_joblib(estimator: Any, folder: Path) -> Any:
    joblib.dump(estimator, folder / "estimator.joblib")
    return joblib.load(folder / "estimator.joblib")


COPIES = {
    "pickle": lambda estimator, _: pickle.loads(pickle.dumps(estimator)),
    "joblib": by_joblib,
    "deepcopy": lambda estimator, _: copy.deepcopy(estimator),
    "copy": lambda estimator, _: copy.copy(estimator),
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("durable", [True, False])
def test_no_copy_escapes_a_deletion(way: str, durable: bool, tmp_path: Path) -> None:
    X, y = blobs()
    subjects = [f"w{row % 20}" for row in range(60)]
    clf = classifier(n_shards=3, workspace=tmp_path / "ws" if durable else None).fit(X, y, subjects=subjects)
    blob = pickle.dumps(clf)
    twin = COPIES[way](clf, tmp_path)
    old = twin.predict_proba(X)
    np.testing.assert_array_equal(old, clf.predict_proba(X))
    clf.forget(subjects=["w17"])
    for other in (twin, pickle.loads(blob), clf):
        assert not np.array_equal(other.predict_proba(X), old)
        np.testing.assert_array_equal(other.predict_proba(X), clf.predict_proba(X))
    twin.forget(subjects=["w3"])
    twin.recover()
    fresh = classifier(n_shards=3)
    keep = ~np.isin(subjects, ["w17", "w3"])
    fresh.fit(X[keep], y[keep], subjects=np.array(subjects)[keep], record_ids=np.flatnonzero(keep))
    np.testing.assert_array_equal(clf.predict_proba(X), fresh.predict_proba(X))


def test_a_pickle_holds_neither_records_nor_states(tmp_path: Path) -> None:
    X, y = blobs(500)
    fitted_elsewhere = DecisionTreeClassifier().fit(X, y)
    clf = classifier(learner=fitted_elsewhere, workspace=tmp_path / "ws")
    clf.fit(X, y, subjects=[f"subject-{row}" for row in range(500)])
    blob = pickle.dumps(clf)
    assert len(blob) < 4000
    for secret in (b"subject-1", X[0].tobytes(), b"tree_", clf.workspace_._site.keys.placement):
        assert secret not in blob
        assert secret.hex().encode() not in blob


def test_a_pickle_keeps_a_temporary_workspace_until_the_process_ends(tmp_path: Path) -> None:
    script = f"""
import gc, pickle, sys, numpy as np, unlearn
from pathlib import Path
X = np.random.default_rng(0).normal(size=(20, 2)); y = np.arange(20) % 2
kept = unlearn.SISAClassifier(n_shards=1, n_slices=1).fit(X, y)
blob = pickle.dumps(kept); path = kept.workspace_.path
del kept; gc.collect()
again = pickle.loads(blob)
assert again.workspace_.path == path and len(again.predict(X)) == 20
Path({str(tmp_path / "blob")!r}).write_bytes(blob)
used = unlearn.SISAClassifier(n_shards=1, n_slices=1).fit(X, y)
print(path)
"""
    folder = tmp_path / "temporary"
    folder.mkdir()
    path = run(script, TMPDIR=str(folder))
    assert str(folder) in path
    assert list(folder.iterdir()) == []
    orphan = pickle.loads((tmp_path / "blob").read_bytes())
    with pytest.raises(WorkspaceError, match=r"temporary.*workspace=PATH"):
        orphan.predict(np.zeros((1, 2)))


def test_a_pickle_serves_the_current_state_in_another_process(tmp_path: Path) -> None:
    X, y = blobs()
    clf = classifier(workspace=tmp_path / "ws").fit(X, y)
    (tmp_path / "blob").write_bytes(pickle.dumps(clf))
    np.save(tmp_path / "X.npy", X)
    script = f"""
import json, pickle, numpy as np
from pathlib import Path
clf = pickle.loads(Path({str(tmp_path / "blob")!r}).read_bytes())
X = np.load({str(tmp_path / "X.npy")!r})
before = clf.predict_proba(X).tolist()
clf.forget(record_ids=[4])
print(json.dumps([before, clf.predict_proba(X).tolist()]))
"""
    before = clf.predict_proba(X)
    elsewhere = json.loads(run(script))
    np.testing.assert_array_equal(elsewhere[0], before)
    np.testing.assert_array_equal(elsewhere[1], clf.predict_proba(X))
    assert not np.array_equal(elsewhere[1], before)
    assert clf.workspace_.status().records == 59


def test_a_forked_child_neither_shares_the_connection_nor_removes_the_folder(tmp_path: Path) -> None:
    script = """
import os, sys, numpy as np, unlearn
X = np.random.default_rng(0).normal(size=(20, 2)); y = np.arange(20) % 2
clf = unlearn.SISAClassifier(n_shards=2, n_slices=1).fit(X, y)
opened = clf.workspace_
child = os.fork()
if child == 0:
    assert clf.workspace_ is not opened
    clf.forget(record_ids=[0])
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
assert clf.workspace_ is opened
print(clf.workspace_.status().records, len(clf.predict(X)))
"""
    assert run(script, TMPDIR=str(tmp_path)) == "19 20"
    assert list(tmp_path.iterdir()) == []


def test_a_workspace_that_is_gone_or_another_is_not_served(tmp_path: Path) -> None:
    X, y = blobs()
    path = tmp_path / "ws"
    clf = classifier(workspace=path).fit(X, y)
    twin = pickle.loads(pickle.dumps(clf))
    path.rename(tmp_path / "moved")
    for estimator in (clf, twin):
        with pytest.raises(WorkspaceError, match="not at"):
            estimator.predict(X)
    other = classifier(workspace=path).fit(X, y)
    for estimator in (clf, twin):
        with pytest.raises(WorkspaceError, match="another one"):
            estimator.predict(X)
    assert other.score(X, y) > 0.9
    path.rename(tmp_path / "other")
    (tmp_path / "moved").rename(path)
    assert clf.score(X, y) == twin.score(X, y)


# --- imports --------------------------------------------------------------------------------------------------


def test_heavy_libraries_are_imported_only_when_used() -> None:
    script = """
import sys, unlearn, shards.learners, shards.learners.sklearn, shards.learners.torch, shards.executors.local
import shards.sources
print(sorted({"sklearn", "skops", "torch", "pandas", "ray"} & set(sys.modules)))
print({"SISAClassifier", "SISARegressor", "Workspace"} <= set(dir(unlearn)))
print(unlearn.SISARegressor.__name__, "sklearn" in sys.modules, "torch" in sys.modules)
"""
    assert run(script).splitlines() == ["[]", "True", "SISARegressor True False"]
    assert set(unlearn.__all__) <= set(dir(unlearn))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = unlearn.nothing
