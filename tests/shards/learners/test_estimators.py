from __future__ import annotations

import functools
import json
import math
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.feature_selection import f_classif
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC
from sklearn_cases import CLASSES, context, data

from shards.errors import CodeError, ConfigurationError
from shards.learners.canonical import content_digest
from shards.learners.estimators import build, describe
from shards.learners.sklearn import SklearnLearner

VALUES_OF_PARAMS: list[Any] = [
    *(None, True, 3, -0.0, 1e-300, float("inf"), float("-inf"), float("nan"), "text", [1, [2.5, None]], (1, ("a",))),
    *({"a": 1, 2: (3,)}, {(1, 2): {"b": None}}, slice(0, 3), slice(None, None, -1), np.float64(0.1), np.int32(7)),
    *(np.bool_(True), np.str_("é"), np.arange(6.0).reshape(2, 3), np.asfortranarray(np.eye(2)), np.zeros((0, 2))),
    *(np.array(["a", "bc"]), np.array([1, "a", None], object), np.arange(3, dtype=">i4"), np.dtype("f4"), float),
    *(object, np.float32, np.log1p, np.mean, f_classif, SVC, [SVC(C=2.0), ("a", LogisticRegression(C=np.float64(3)))]),
]


@pytest.mark.parametrize("value", VALUES_OF_PARAMS, ids=lambda value: repr(value).partition(" at 0x")[0])
def test_descriptions_build_equal_values(value: Any) -> None:
    description = describe(value)
    built = build(json.loads(json.dumps(description)))
    if isinstance(value, np.ndarray) and value.dtype.kind == "i":
        value = value.astype("<i4")
    assert content_digest(built) == content_digest(value)
    assert type(built) is type(value)
    assert describe(built) == description


def test_own_classes_and_functions_need_trust(package: Any) -> None:
    estimator = make_pipeline(FunctionTransformer(package.double), package.Mean())
    with pytest.raises(ConfigurationError, match=r"userpkg.models:.*trusted=\[\"userpkg\"\]"):
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
        *("userpkg.models:system", "userpkg.models:functools.partial", "userpkg.models:missing", "userpkg.no:f"),
        *("sklearn.base:warnings.warn", "numpy:os", "posix:system", "__main__:f", ":f", "userpkg.models:", "userpkg"),
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
        *({"estimator": "numpy:memmap", "params": {}}, {"estimator": 1, "params": {}}, {"scalar": ["<f8", "!"]}),
        *({"unknown": 1}, {}, {"tuple": 3}, {"dict": [[1]]}, {"builtin": "eval"}, {"ndarray": ["<f8", [9], ""]}, b"x"),
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
