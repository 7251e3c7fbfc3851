from __future__ import annotations

import functools
import importlib
import io
import json
import math
import os
import subprocess
import sys
import types
import zipfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
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
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier, SGDRegressor
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputRegressor
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC, LinearSVC

from shards.errors import CodeError, ConfigurationError, DamageError
from shards.learners.base import StepContext, StepData
from shards.learners.canonical import content_digest
from shards.learners.sklearn import SklearnLearner, _fixed_params, build, describe
from shards.task import FieldSchema, Task

ROOT = Path(__file__).parents[3]

CLASSES = Task("classification", {"x": FieldSchema((4,), "<f8")}, FieldSchema((), "<i8"), classes=("a", "b", "c", "d"))
VALUES = Task("regression", {"x": FieldSchema((4,), "<f8")}, FieldSchema((), "<f8"))
TABLE = Task(
    "classification",
    {"word": FieldSchema((), "str"), "number": FieldSchema((), "<f8"), "text": FieldSchema((), "str")},
    FieldSchema((), "<i8"),
    classes=("no", "yes"),
)


def data(n: int = 50, task: Task = CLASSES, seed: int = 0, classes: tuple[int, ...] = (0, 1, 3)) -> StepData:
    rng = np.random.default_rng(seed)
    features: dict[str, np.ndarray] = {}
    for name, schema in task.features.items():
        if schema.dtype == "str":
            words = np.array(["green red", "blue red", "grey", "blue"])
            features[name] = words[rng.integers(0, 4, n)]
        else:
            features[name] = rng.normal(size=(n, *schema.shape))
    target = np.array(classes)[rng.integers(0, len(classes), n)]
    if task.kind == "regression":
        target = rng.normal(size=(n, *task.target.shape))
    return StepData(features, target, rng.integers(0, 256, (n, 16)).astype(np.uint8))


def context(visits: int = 120, task: Task = CLASSES, position: int = 0, seen: list[int] | None = None) -> StepContext:
    progress = seen.append if seen is not None else lambda visits: None
    return StepContext(task, root_seed=7, shard=2, position=position, visits=visits, progress=progress)


def digest(learner: SklearnLearner, *args: Any) -> str:
    return learner.content_digest(learner.train_step(*args))


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
    env = {**os.environ, "PYTHONHASHSEED": "4711", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
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


# --- description ----------------------------------------------------------------------------------------------


class Holder(BaseEstimator):
    """Never described itself; only its parameters' values matter."""

    def __init__(self, value: Any = None) -> None:
        self.value = value


VALUES_OF_PARAMS: list[Any] = [
    *(
        None,
        True,
        3,
        -0.0,
        1e-300,
        float("inf"),
        float("-inf"),
        float("nan"),
        "text",
        [1, [2.5, None]],
        (1, ("a",)),
    ),
    *(
        {"a": 1, 2: (3,)},
        {(1, 2): {"b": None}},
        slice(0, 3),
        slice(None, None, -1),
        np.float64(0.1),
        np.int32(7),
    ),
    *(
        np.bool_(True),
        np.str_("é"),
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.eye(2)),
        np.zeros((0, 2)),
    ),
    *(
        np.array(["a", "bc"]),
        np.array([1, "a", None], object),
        np.arange(3, dtype=">i4"),
        np.dtype("f4"),
        float,
    ),
    *(
        object,
        np.float32,
        np.log1p,
        np.mean,
        f_classif,
        SVC,
        [SVC(C=2.0), ("a", LogisticRegression(C=np.float64(3)))],
    ),
]


@pytest.mark.parametrize("value", VALUES_OF_PARAMS, ids=repr)
def test_descriptions_build_equal_values(value: Any) -> None:
    description = describe(value)
    built = build(json.loads(json.dumps(description)))
    if isinstance(value, np.ndarray) and value.dtype.kind == "i":
        value = value.astype("<i4")
    assert content_digest(built) == content_digest(value)
    assert type(built) is type(value)
    assert describe(built) == description


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """A user's package on the path, which imports dangerous things as packages do."""
    (tmp_path / "userpkg").mkdir()
    (tmp_path / "userpkg" / "__init__.py").write_text("")
    (tmp_path / "userpkg" / "models.py").write_text(
        "import os\n"
        "from os import system\n"
        "import functools\n"
        "import numpy as np\n"
        "from sklearn.base import BaseEstimator, ClassifierMixin\n"
        "def double(X):\n    return X * 2\n"
        "class Notes:\n    def __init__(self):\n        self.text = 'seen'\n"
        "class Mean(ClassifierMixin, BaseEstimator):\n"
        "    def __init__(self, call=None):\n        self.call = call\n"
        "    def fit(self, X, y):\n"
        "        self.classes_ = np.unique(y)\n"
        "        self.means_ = np.array([X[y == c].mean(0) for c in self.classes_])\n"
        "        self.notes_ = Notes()\n"
        "        return self\n"
        "    def predict(self, X):\n"
        "        return self.classes_[((X[:, None] - self.means_) ** 2).sum(-1).argmin(1)]\n"
        "class Leaky(Mean):\n"
        "    def fit(self, X, y):\n"
        "        self.partial_ = functools.partial(double)\n"
        "        return super().fit(X, y)\n"
        "class Threads(Mean):\n"
        "    def __init__(self, n_jobs=None):\n        self.n_jobs = n_jobs\n"
        "class Changing(Mean):\n"
        "    def __init__(self, call=None):\n        self.call = [call]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield importlib.import_module("userpkg.models")
    for name in [name for name in sys.modules if name.partition(".")[0] == "userpkg"]:
        del sys.modules[name]


def test_own_classes_and_functions_need_trust(package: Any) -> None:
    estimator = make_pipeline(FunctionTransformer(package.double), package.Mean())
    with pytest.raises(ConfigurationError, match=r"userpkg.models:.*trusted=\('userpkg',\)"):
        SklearnLearner(estimator)
    learner = SklearnLearner(estimator, trusted=("userpkg",))
    assert learner.code() == ("userpkg.models:Mean", "userpkg.models:double")
    assert SklearnLearner(make_pipeline(StandardScaler(), SVC())).code() == ()
    learner.check(CLASSES)
    d = data()
    state = learner.train_step(None, d, context())
    direct = package.Mean().fit(d.features["x"] * 2, d.target).predict(d.features["x"] * 2)
    assert np.array_equal(learner.predictor(state, CLASSES)(d.features), np.eye(4)[direct])
    params = learner.params()
    assert SklearnLearner.from_params(params) == learner
    params["trusted"] = []
    with pytest.raises(ConfigurationError, match="not trusted"):
        SklearnLearner.from_params(params)


@pytest.mark.parametrize(
    "reference",
    [
        *("os:system", "subprocess:Popen", "builtins:eval", "functools:partial", "userpkg.models:os.system"),
        *(
            "userpkg.models:system",
            "userpkg.models:functools.partial",
            "userpkg.models:missing",
            "userpkg.no:f",
        ),
        *(
            "sklearn.base:warnings.warn",
            "numpy:os",
            "posix:system",
            "__main__:f",
            ":f",
            "userpkg.models:",
            "userpkg",
        ),
    ],
)
def test_descriptions_reach_nothing_else(package: Any, reference: str) -> None:
    with pytest.raises(ConfigurationError):
        build({"reference": reference}, ("userpkg",))
    with pytest.raises(ConfigurationError):
        build({"estimator": reference, "params": {}}, ("userpkg",))


@pytest.mark.parametrize(
    "description",
    [
        *(
            {"estimator": "numpy:memmap", "params": {}},
            {"estimator": 1, "params": {}},
            {"scalar": ["<f8", "!"]},
        ),
        *(
            {"unknown": 1},
            {},
            {"tuple": 3},
            {"dict": [[1]]},
            {"builtin": "eval"},
            {"ndarray": ["<f8", [9], ""]},
            b"x",
        ),
    ],
    ids=repr,
)
def test_malformed_descriptions_are_refused(description: Any) -> None:
    with pytest.raises(ConfigurationError):
        build(description)


def local_function(X: Any) -> Any:
    return X


def test_code_without_a_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Local(ClassifierMixin, BaseEstimator):
        pass

    with pytest.raises(CodeError, match=r"FunctionTransformer\.func uses .*<lambda>.*module"):
        SklearnLearner(make_pipeline(FunctionTransformer(lambda x: x), SVC()))
    with pytest.raises(CodeError, match="<locals>"):
        SklearnLearner(Local())
    monkeypatch.setattr(local_function, "__module__", "__main__")
    with pytest.raises(CodeError, match="__main__:local_function"):
        SklearnLearner(make_pipeline(FunctionTransformer(local_function), SVC()))
    with pytest.raises(CodeError, match="standard library"):
        SklearnLearner(make_pipeline(FunctionTransformer(math.sqrt), SVC()))


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (SGDClassifier(random_state=np.random.RandomState(0)), "SGDClassifier.random_state .*int seed"),
        (SGDClassifier(random_state=np.random.default_rng(0)), "int seed"),
        (SGDClassifier(class_weight={0: functools.partial(int)}), r"class_weight\[0\] is a functools.partial"),
        (FrozenEstimator(GaussianNB()), "FrozenEstimator"),
        (KNeighborsClassifier(metric_params={"w": np.zeros(2, [("a", "i4")])}), "plain dtype"),
    ],
)
def test_parameters_without_description_are_refused(estimator: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        SklearnLearner(estimator)


@pytest.mark.parametrize(
    "options",
    [
        *({"mode": "both"}, {"mode": "partial_fit"}, {"epochs": 0}, {"epochs": math.nan}, {"epochs": "5"}),
        *(
            {"batch_size": 0},
            {"batch_size": 2.5},
            {"trusted": "lightgbm"},
            {"trusted": ("os",)},
            {"trusted": ("a.b",)},
        ),
        {"trusted": ("__main__",)},
    ],
    ids=repr,
)
def test_bad_options_are_refused(options: Any) -> None:
    with pytest.raises(ConfigurationError):
        SklearnLearner(LogisticRegression(), **options)


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
        (
            GaussianNB(),
            Task("classification", CLASSES.features, FieldSchema((), "<i8"), ("a",)),
            "at least two",
        ),
        (
            GaussianNB(),
            Task("classification", CLASSES.features, FieldSchema((2,), "<i8"), ("a", "b")),
            "scalar",
        ),
        (Ridge(), Task("regression", {"a": FieldSchema((2,), "<f8")}, FieldSchema((), "<f8")), r"\['a'\]"),
    ],
)
def test_tasks_that_do_not_fit_are_refused(estimator: Any, task: Task, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        SklearnLearner(estimator).check(task)


def test_kinds() -> None:
    assert SklearnLearner(make_pipeline(StandardScaler(), Ridge())).kinds() == ("regression",)
    assert SklearnLearner(make_pipeline(StandardScaler(), SVC())).kinds() == ("classification",)


def test_what_cannot_be_stored_is_refused_by_name(package: Any) -> None:
    learner = SklearnLearner(package.Leaky(), trusted=("userpkg",))
    with pytest.raises(ConfigurationError, match=r"Leaky cannot be stored.*functools\.partial"):
        learner.train_step(None, data(), context())


# --- loading --------------------------------------------------------------------------------------------------


def rewritten(state: Any, change: Any) -> dict[str, np.ndarray]:
    """The state with its skops schema changed by a function of the JSON value."""
    source = zipfile.ZipFile(io.BytesIO(state["skops"].tobytes()))
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as out:
        for name in source.namelist():
            content = source.read(name)
            if name == "schema.json":
                schema = json.loads(content)
                change(schema)
                content = json.dumps(schema).encode()
            out.writestr(name, content)
    return {**state, "skops": np.frombuffer(target.getvalue(), np.uint8)}


def call_on_load(module: str, name: str, argument: str) -> Any:
    """Have a function called with a string when the state is loaded."""
    text = {
        "__class__": "str",
        "__module__": "builtins",
        "__loader__": "JsonNode",
        "content": json.dumps(argument),
    }
    arguments = {"__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode", "content": [text]}

    def change(schema: Any) -> None:
        schema["content"]["content"]["bad"] = {
            "__class__": name,
            "__module__": module,
            "__loader__": "ConstructorFromReduceNode",
            "content": arguments,
        }

    return change


@pytest.mark.parametrize(
    ("module", "name"),
    [
        *(("os", "system"), ("builtins", "eval"), ("numpy.testing", "runstring"), ("numpy", "memmap")),
        *(("userpkg.models", "system"), ("userpkg.models", "double"), ("sklearn.datasets", "load_files")),
        *(("numpy", "fromfile"), ("sklearn.utils._joblib", "os"), ("userpkg.__main__", "x"), ("unknown", "f")),
    ],
)
def test_states_cannot_call_anything(package: Any, tmp_path: Path, module: str, name: str) -> None:
    learner = SklearnLearner(package.Mean(), trusted=("userpkg",))
    state = learner.train_step(None, data(), context())
    bad = rewritten(state, call_on_load(module, name, f"touch {tmp_path / 'called'}"))
    for use in (learner.content_digest, lambda s: learner.predictor(s, CLASSES)):
        with pytest.raises(DamageError, match=rf"{module}\.{name}"):
            use(bad)
    assert not (tmp_path / "called").exists()


def test_a_state_of_something_else_is_refused() -> None:
    state = SklearnLearner(GaussianNB()).train_step(None, data(), context())
    other = SklearnLearner(SGDClassifier())
    for use in (other.content_digest, lambda s: other.train_step(s, data(), context())):
        with pytest.raises(DamageError, match="GaussianNB, not a SGDClassifier"):
            use(state)
    with pytest.raises(DamageError, match="another learner"):
        other.content_digest({"weights": np.zeros(3)})


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.InconsistentVersionWarning")
def test_damaged_bytes_are_refused() -> None:
    learner = SklearnLearner(GaussianNB())
    state = dict(learner.train_step(None, data(), context()))
    for bad in (state["skops"][:100], state["skops"][:0], np.zeros(9, np.uint8)):
        with pytest.raises(DamageError):
            learner.content_digest({**state, "skops": bad})
    with pytest.raises(DamageError):
        learner.content_digest(rewritten(state, lambda schema: schema.pop("__loader__")))
    emptied = rewritten(state, lambda schema: schema["content"]["content"].clear())
    assert learner.content_digest(emptied) != state["content"].tobytes().hex()


def test_the_digest_is_computed_not_read() -> None:
    learner = SklearnLearner(GaussianNB())
    state = learner.train_step(None, data(), context())
    lying = {**state, "content": np.zeros(32, np.uint8)}
    assert learner.content_digest(lying) == state["content"].tobytes().hex()
    changed = {**state, "skops": learner.train_step(None, data(seed=1), context())["skops"]}
    assert learner.content_digest(changed) != state["content"].tobytes().hex()
