from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_transformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    BaggingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier, SGDRegressor
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputRegressor
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn_cases import CLASSES, TABLE, VALUES, context, data, digest

from shards.errors import ConfigurationError
from shards.learners.base import StepContext, StepData
from shards.learners.canonical import content_digest
from shards.learners.sklearn import SklearnLearner, _fixed_params
from shards.task import FieldSchema, Task

ROOT = Path(__file__).parents[3]

# --- training -------------------------------------------------------------------------------------------------


def slow_partial_fit(estimator: Any, X: np.ndarray, y: np.ndarray, c: StepContext, size: int, **classes: Any) -> Any:
    """One record at a time into a window; the window into the estimator when it is full or nothing is left."""
    visited, window, passes = 0, [], 0
    while visited < c.visits:
        order = np.random.Generator(np.random.PCG64(c.seed("pass", passes))).permutation(len(y))
        passes += 1
        for i in order:
            if visited == c.visits:
                break
            window.append(i)
            visited += 1
            if len(window) == size:
                estimator.partial_fit(X[window], y[window], **classes)
                window = []
    if window:
        estimator.partial_fit(X[window], y[window], **classes)
    return estimator


@pytest.mark.parametrize("visits", [1, 49, 50, 120, 128])
def test_partial_fit_is_the_loop_written_by_hand(visits: int) -> None:
    d, c, seen = data(), context(visits), []
    learner = SklearnLearner(SGDClassifier(loss="log_loss"), batch_size=16)
    seed = c.seed("estimator", "random_state") % (2**32 - 1)
    by_hand = SGDClassifier(loss="log_loss", random_state=seed)
    slow_partial_fit(by_hand, d.features["x"], d.target, c, 16, classes=np.arange(4))
    state = learner.train_step(None, d, context(visits, seen=seen))
    assert learner.content_digest(state) == content_digest(by_hand)
    assert state["content"].tobytes().hex() == content_digest(by_hand)
    assert (state["content"].dtype, state["content"].shape) == (np.uint8, (32,))
    assert seen == [*range(16, visits, 16), visits]
    assert np.array_equal(learner.predictor(state, CLASSES)(d.features), by_hand.predict_proba(d.features["x"]))


def test_a_second_step_continues_from_the_stored_parent() -> None:
    learner = SklearnLearner(MLPClassifier((5,)), batch_size=16)
    first, second = data(), data(seed=1)
    parent = learner.train_step(None, first, context())
    before = {name: array.copy() for name, array in parent.items()}
    state = learner.train_step(parent, second, context(position=1))
    assert parent.keys() == before.keys()
    assert all(np.array_equal(parent[name], before[name]) for name in before)

    by_hand = MLPClassifier((5,), random_state=context().seed("estimator", "random_state") % (2**32 - 1))
    slow_partial_fit(by_hand, first.features["x"], first.target, context(), 16, classes=np.arange(4))
    by_hand.set_params(random_state=context(position=1).seed("estimator", "random_state") % (2**32 - 1))
    slow_partial_fit(by_hand, second.features["x"], second.target, context(position=1), 16, classes=np.arange(4))
    assert learner.content_digest(state) == content_digest(by_hand)
    assert digest(learner, None, second, context(position=1)) != learner.content_digest(state)


def test_partial_fit_regression() -> None:
    d, c = data(task=VALUES), context(task=VALUES)
    learner = SklearnLearner(SGDRegressor(random_state=3), batch_size=7)
    state = learner.train_step(None, d, c)
    by_hand = slow_partial_fit(SGDRegressor(random_state=3), d.features["x"], d.target, c, 7)
    assert learner.content_digest(state) == content_digest(by_hand)
    predicted = learner.predictor(state, VALUES)(d.features)
    assert predicted.dtype == np.float64
    assert np.array_equal(predicted, by_hand.predict(d.features["x"]))


def test_refit_is_fit_and_ignores_the_parent() -> None:
    d, c, seen = data(), context(50), []
    learner = SklearnLearner(make_pipeline(StandardScaler(), RandomForestClassifier(5, n_jobs=2)))
    assert learner.mode == "refit"
    state = learner.train_step(None, d, context(50, seen=seen))
    assert seen == [50]
    seed = c.seed("estimator", "randomforestclassifier__random_state") % (2**32 - 1)
    direct = make_pipeline(StandardScaler(), RandomForestClassifier(5, random_state=seed, n_jobs=1))
    direct.fit(d.features["x"], d.target)
    assert learner.content_digest(state) == content_digest(direct)
    other = learner.train_step(None, data(seed=1), c)
    assert digest(learner, other, d, c) == learner.content_digest(state)
    assert digest(learner, None, d, context(50, position=1)) != learner.content_digest(state)


def test_a_declared_seed_is_kept() -> None:
    d = data()
    learner = SklearnLearner(RandomForestClassifier(5, random_state=11))
    assert digest(learner, None, d, context()) == digest(learner, None, d, context(position=1))


def test_refit_regression_and_several_targets() -> None:
    pair = Task("regression", VALUES.features, FieldSchema((2,), "<f8"))
    for task, estimator in [
        (VALUES, Ridge()),
        (pair, Ridge()),
        (pair, MultiOutputRegressor(SGDRegressor(random_state=0))),
        (VALUES, TransformedTargetRegressor(Ridge(), func=np.cbrt, inverse_func=np.exp2, check_inverse=False)),
    ]:
        d = data(task=task)
        learner = SklearnLearner(estimator, mode="refit")
        learner.check(task)
        predicted = learner.predictor(learner.train_step(None, d, context(task=task)), task)(d.features)
        direct = estimator.fit(d.features["x"], d.target).predict(d.features["x"])
        assert predicted.shape == d.target.shape
        np.testing.assert_allclose(predicted, direct, rtol=1e-12)


def test_images_are_flattened() -> None:
    task = Task("classification", {"x": FieldSchema((2, 3), "<f4")}, FieldSchema((), "<i8"), classes=("a", "b"))
    d = data(task=task, classes=(0, 1))
    learner = SklearnLearner(LogisticRegression())
    state = learner.train_step(None, d, context(task=task))
    direct = LogisticRegression(random_state=context().seed("estimator", "random_state") % (2**32 - 1))
    assert learner.content_digest(state) == content_digest(direct.fit(d.features["x"].reshape(50, 6), d.target))


def test_every_number_of_threads_is_one(package: Any) -> None:
    fixed = _fixed_params(VotingClassifier([("a", SVC()), ("b", package.Threads())], n_jobs=3), context())
    assert {name: value for name, value in fixed.items() if "n_jobs" in name} == {"b__n_jobs": 1, "n_jobs": 1}
    # None already is 1 in scikit-learn, and spelling it out makes some estimators warn.
    assert "n_jobs" not in _fixed_params(LogisticRegression(), context())


def test_one_text_feature_is_a_column() -> None:
    task = Task("classification", {"x": FieldSchema((), "str")}, FieldSchema((), "<i8"), classes=("a", "b"))
    d = data(task=task, classes=(0, 1))
    learner = SklearnLearner(make_pipeline(ColumnTransformer([("text", TfidfVectorizer(), 0)]), MultinomialNB()))
    state = learner.train_step(None, d, context(task=task))
    direct = make_pipeline(TfidfVectorizer(), MultinomialNB()).fit(d.features["x"], d.target)
    predicted = learner.predictor(state, task)(d.features)
    np.testing.assert_allclose(predicted, direct.predict_proba(d.features["x"]), rtol=1e-12)


def test_the_data_are_not_changed() -> None:
    d = data()
    before = d.features["x"].copy()
    learner = SklearnLearner(make_pipeline(StandardScaler(copy=False), LogisticRegression()))
    state = learner.train_step(None, d, context())
    learner.predictor(state, CLASSES)(d.features)
    assert np.array_equal(d.features["x"], before)


@pytest.mark.parametrize("kind", ["str", "object"])
def test_a_table_becomes_a_data_frame(kind: str) -> None:
    d = data(task=TABLE, classes=(0, 1))
    d.features["word"], d.features["text"] = d.features["word"].astype(kind), d.features["text"].astype(kind)
    columns = make_column_transformer((OneHotEncoder(), ["word"]), (TfidfVectorizer(), "text"), remainder="passthrough")
    learner = SklearnLearner(make_pipeline(columns, LogisticRegression()))
    learner.check(TABLE)
    state = learner.train_step(None, d, context(task=TABLE))
    frame = pd.DataFrame({name: pd.Series(list(d.features[name])) for name in TABLE.features})
    direct = make_pipeline(columns, LogisticRegression()).fit(frame, d.target)
    shuffled = dict(reversed(d.features.items()))
    np.testing.assert_allclose(
        learner.predictor(state, TABLE)(shuffled), direct.predict_proba(frame), rtol=1e-12, atol=0
    )


def test_the_width_of_text_does_not_matter() -> None:
    task = Task("classification", {"x": FieldSchema((2,), "str")}, FieldSchema((), "<i8"), classes=("a", "b"))
    x, y = np.array([["green", "red"], ["blue", "grey"]] * 9), np.arange(18) % 2
    narrow, wide = (StepData({"x": x.astype(kind)}, y, np.zeros((18, 16), np.uint8)) for kind in ("U5", "U99"))
    learner = SklearnLearner(make_pipeline(OneHotEncoder(), MultinomialNB()))
    assert digest(learner, None, narrow, context(task=task)) == digest(learner, None, wide, context(task=task))


def test_classes_the_shard_never_saw_have_probability_zero() -> None:
    d = data(classes=(1, 3))
    x = d.features["x"]
    learner = SklearnLearner(LogisticRegression())
    predicted = learner.predictor(learner.train_step(None, d, context()), CLASSES)(d.features)
    direct = LogisticRegression().fit(x, d.target).predict_proba(x)
    assert np.array_equal(predicted[:, [1, 3]], direct)
    assert np.array_equal(predicted[:, [0, 2]], np.zeros((50, 2)))


def test_one_class_only() -> None:
    d = data(classes=(2,))
    for learner in (SklearnLearner(LogisticRegression()), SklearnLearner(GaussianNB(), mode="refit")):
        state = learner.train_step(None, d, context())
        assert learner.content_digest(state) == content_digest(
            DummyClassifier(strategy="constant", constant=2).fit(d.features["x"], d.target)
        )
        assert np.array_equal(learner.predictor(state, CLASSES)(d.features), np.eye(4)[[2] * 50])
    partial = SklearnLearner(SGDClassifier(loss="log_loss"))
    predicted = partial.predictor(partial.train_step(None, d, context()), CLASSES)(d.features)
    assert (predicted.argmax(axis=1) == 2).all()


def test_without_probabilities_the_prediction_is_one_hot() -> None:
    d = data()
    learner = SklearnLearner(LinearSVC(random_state=0))
    predicted = learner.predictor(learner.train_step(None, d, context()), CLASSES)(d.features)
    direct = LinearSVC(random_state=0).fit(d.features["x"], d.target).predict(d.features["x"])
    assert np.array_equal(predicted, np.eye(4)[direct])


def test_no_rows_give_no_predictions() -> None:
    for task, estimator, shape in [(CLASSES, GaussianNB(), (0, 4)), (VALUES, Ridge(), (0,))]:
        learner = SklearnLearner(estimator)
        state = learner.train_step(None, data(task=task), context(task=task))
        assert learner.predictor(state, task)({"x": np.zeros((0, 4))}).shape == shape


def test_an_error_of_the_estimator_is_passed_on() -> None:
    with pytest.raises(ValueError, match="n_splits=9"):
        SklearnLearner(GridSearchCV(LogisticRegression(), {"C": [1.0]}, cv=9)).train_step(None, data(12), context())


def test_visits() -> None:
    learner = SklearnLearner(GaussianNB(), epochs=2.5)
    assert learner.visits(10, 4) == math.ceil(Fraction(2 * 25, 10) * 10 / 5)
    assert SklearnLearner(GaussianNB(), mode="refit", epochs=2.5).visits(10, 4) == 10


# --- purity ---------------------------------------------------------------------------------------------------

PURE: dict[str, Any] = {
    "sgd": SGDClassifier(),
    "mlp": MLPClassifier((4,), max_iter=5),
    "naive": GaussianNB(),
    "forest": RandomForestClassifier(4),
    "boosting": HistGradientBoostingClassifier(max_iter=3),
    "neighbours": KNeighborsClassifier(3, algorithm="kd_tree"),
    "svc": SVC(),
    "search": make_pipeline(
        FunctionTransformer(np.abs),
        SelectKBest(f_classif, k=2),
        GridSearchCV(SGDClassifier(), {"alpha": [1e-3, 1e-2]}, cv=2, n_jobs=2, scoring="accuracy"),
    ),
    "bagging": BaggingClassifier(LogisticRegression(C=0.5), n_estimators=2, max_samples=0.9),
    "voting": VotingClassifier([("a", LogisticRegression()), ("b", GaussianNB())], voting="soft"),
    "stacking": StackingClassifier([("a", GaussianNB())], LogisticRegression(), cv=2),
    "calibrated": CalibratedClassifierCV(LinearSVC(), cv=2),
}

SCRIPT = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("cases", sys.argv[1])
cases = importlib.util.module_from_spec(spec)
sys.modules["cases"] = cases
spec.loader.exec_module(cases)
for name, params in json.load(sys.stdin).items():
    print(name, *cases.chain(cases.SklearnLearner.from_params(params)))
"""


def chain(learner: SklearnLearner) -> list[str]:
    """Digests of two steps, one from the other."""
    first = learner.train_step(None, data(), context())
    second = learner.train_step(first, data(70), context(position=1))
    return [learner.content_digest(first), learner.content_digest(second)]


@pytest.fixture(scope="module")
def elsewhere() -> dict[str, list[str]]:
    params = {name: SklearnLearner(estimator).params() for name, estimator in PURE.items()}
    env = {
        **os.environ,
        "PYTHONHASHSEED": "4711",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, Path(__file__).parent))),
    }
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, __file__]
    done = subprocess.run(
        command, input=json.dumps(params), env=env, cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {words[0]: words[1:] for words in map(str.split, done.stdout.splitlines())}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", PURE)
def test_training_is_pure(name: str, elsewhere: dict[str, list[str]]) -> None:
    learner = SklearnLearner(PURE[name])
    learner.check(CLASSES)
    again = SklearnLearner.from_params(json.loads(json.dumps(learner.params())))
    assert again == learner
    assert again.params() == learner.params()
    np.random.seed(0)
    digests = chain(learner)
    np.random.seed(1)
    assert chain(again) == digests
    assert elsewhere[name] == digests


def test_the_learner_does_not_keep_the_estimator() -> None:
    estimator = SGDClassifier(alpha=0.5)
    learner = SklearnLearner(estimator)
    before = learner.params()
    estimator.set_params(alpha=0.25)
    learner.estimator().set_params(alpha=0.125)
    learner.train_step(None, data(), context())
    assert learner.params() == before
    assert not hasattr(estimator, "coef_")


# --- options -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        *({"mode": "both"}, {"mode": "partial_fit"}, {"epochs": 0}, {"epochs": math.nan}, {"epochs": "5"}),
        *({"batch_size": 0}, {"batch_size": 2.5}, {"trusted": "lightgbm"}, {"trusted": ("os",)}, {"trusted": ("a.b",)}),
        {"trusted": ("__main__",)},
    ],
    ids=repr,
)
def test_bad_options_are_refused(options: Any) -> None:
    with pytest.raises(ConfigurationError):
        SklearnLearner(LogisticRegression(), **options)


def test_a_class_of_one_s_own_is_refused_with_the_option_that_allows_it(package: Any) -> None:
    for trusted in ([], ()):
        with pytest.raises(ConfigurationError, match=r"option trusted=\[\"userpkg\"\]"):
            SklearnLearner(package.Mean(), trusted=trusted)
    # As JSON has it, and so the command line.
    listed = SklearnLearner(package.Mean(), trusted=["userpkg"])
    assert listed == SklearnLearner(package.Mean(), trusted=("userpkg",))


def test_constructors_that_change_parameters_are_refused(package: Any) -> None:
    with pytest.raises(ConfigurationError, match="changes its parameters"):
        SklearnLearner(package.Changing(), trusted=("userpkg",))


# --- check ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("estimator", "task", "message"),
    [
        (Ridge(), CLASSES, "not a classifier"),
        (GaussianNB(), VALUES, "not a regressor"),
        (KMeans(), CLASSES, "not a classifier"),
        (SGDRegressor(), Task("regression", VALUES.features, FieldSchema((2,), "<f8")), "MultiOutputRegressor"),
        (Ridge(), Task("regression", VALUES.features, FieldSchema((2, 2), "<f8")), "flatten"),
        (Ridge(), Task("regression", {}, FieldSchema((), "<f8")), "no features"),
        (GaussianNB(), Task("classification", CLASSES.features, FieldSchema((), "<i8"), ("a",)), "at least two"),
        (GaussianNB(), Task("classification", CLASSES.features, FieldSchema((2,), "<i8"), ("a", "b")), "scalar"),
        (Ridge(), Task("regression", {"a": FieldSchema((2,), "<f8")}, FieldSchema((), "<f8")), r"\['a'\]"),
        (LogisticRegression(), TABLE, r"no text \(word, text\): encode it inside the learner"),
        (HistGradientBoostingClassifier(), TABLE, r"no text \(word, text\)"),
    ],
)
def test_tasks_that_do_not_fit_are_refused(estimator: Any, task: Task, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        SklearnLearner(estimator).check(task)


@pytest.mark.parametrize(
    "estimator",
    [
        make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression()),
        DummyClassifier(),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_estimators_that_take_text_do(estimator: Any) -> None:
    learner = SklearnLearner(estimator)
    learner.check(TABLE)
    table = data(task=TABLE, classes=(0, 1))
    found = learner.predictor(learner.train_step(None, table, context(task=TABLE)), TABLE)(table.features)
    assert found.shape == (50, 2)


def test_kinds() -> None:
    assert SklearnLearner(make_pipeline(StandardScaler(), Ridge())).kinds() == ("regression",)
    assert SklearnLearner(make_pipeline(StandardScaler(), SVC())).kinds() == ("classification",)


def test_what_cannot_be_stored_is_refused_by_name(package: Any) -> None:
    learner = SklearnLearner(package.Leaky(), trusted=("userpkg",))
    with pytest.raises(ConfigurationError, match=r"Leaky cannot be stored.*functools\.partial"):
        learner.train_step(None, data(), context())
