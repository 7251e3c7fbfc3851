from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import threading
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from shards.errors import CodeError, ConfigurationError
from shards.learners.canonical import content_digest

ROOT = Path(__file__).parents[3]


class Node:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


DIFFERENT: list[Any] = [
    *(None, True, False, 0, 1, -1, 1.0, 0.0, -0.0, float("inf"), float("nan"), 1j, "", "1", "a", b"a", bytearray(b"a")),
    *(np.float64(1), np.float32(1), np.int64(1), np.bool_(True), np.str_("a"), np.array(1.0), np.array([1.0])),
    *((), [], {}, set(), frozenset(), (1,), [1], {1}, {1: 1}, {"1": 1}, [[1]], [1, 2], [2, 1], [[1], 2], [[1, 2]]),
    *(OrderedDict(a=1, b=2), OrderedDict(b=2, a=1), {"a": 1, "b": 2}, defaultdict(list), defaultdict(dict)),
    *(np.zeros(4), np.zeros((2, 2)), np.zeros((4, 1)), np.zeros(4, "f4"), np.zeros(4, "i8"), np.array(["a"])),
    *(np.array([1, "a"], object), np.array([1.0, "a"], object), np.array([[1, "a"]], object), np.zeros((0, 3))),
    *(np.ma.array([1, 2], mask=[0, 1]), np.ma.array([1, 2], mask=[1, 0]), np.zeros((3, 0)), np.dtype("f4")),
    *(np.array([(1, 2)], [("a", "i4"), ("b", "i4")]), np.array([(2, 1)], [("a", "i4"), ("b", "i4")])),
    *(np.array([(1, 2)], [("b", "i4"), ("a", "i4")]), np.array(["2020-01-01"], "M8[D]"), np.array([1], "m8[s]")),
    *(sp.csr_matrix(np.eye(2)), sp.csc_matrix(np.eye(2)), sp.csr_array(np.eye(2)), sp.csr_matrix(np.eye(2)[::-1])),
    *(np.random.RandomState(0), np.random.RandomState(1), np.random.default_rng(0), np.random.default_rng(1)),
    *(int, float, np.float64, len, np.exp, np.log, np.mean, re.compile("a"), re.compile("b"), slice(1), slice(2)),
    *(Node(), Node(a=1), Node(b=1), Node(a=2), functools.partial(int, base=2), functools.partial(int, base=3)),
    *(os, "os", range(2), range(3), [1, [2]], {"a": {"b": 1}}, {"a": {"b": 2}}, Ellipsis, np.random.Generator),
]


def test_different_meanings_have_different_digests() -> None:
    digests = [content_digest(value) for value in DIFFERENT]
    clashes = [(DIFFERENT[i], DIFFERENT[j]) for i in range(len(digests)) for j in range(i) if digests[i] == digests[j]]
    assert clashes == []


def test_repeating_gives_the_same_digest() -> None:
    assert [content_digest(v) for v in DIFFERENT] == [content_digest(v) for v in DIFFERENT]


def test_layout_and_order_do_not_count() -> None:
    matrix = np.arange(12.0).reshape(3, 4)
    assert content_digest(matrix) == content_digest(np.asfortranarray(matrix))
    assert content_digest(matrix) == content_digest(np.arange(24.0).reshape(3, 8)[:, ::2] / 2)
    assert content_digest(matrix) == content_digest(matrix.astype(">f8"))
    assert content_digest({"a": 1, "b": [2]}) == content_digest({"b": [2], "a": 1})
    one, other = {0, 8}, {8, 0}
    assert list(one) != list(other)
    assert content_digest(one) == content_digest(other)
    assert content_digest(Node(a=1, b=2)) == content_digest(Node(b=2, a=1))
    assert content_digest(np.array(["a", "bc"], object)) == content_digest(np.array(["a", "bc", "d"], object)[:2])


def test_sharing_does_not_count() -> None:
    part = [1.5, "x"]
    assert content_digest([part, part]) == content_digest([[1.5, "x"], [1.5, "x"]])
    array = np.ones(3)
    assert content_digest({"a": array, "b": array}) == content_digest({"a": np.ones(3), "b": np.ones(3)})


def test_padding_of_structures_does_not_count() -> None:
    dtype = np.dtype([("a", "u1"), ("b", "<f8")], align=True)
    one, other = (np.frombuffer(bytes([fill]) * 3 * dtype.itemsize, np.uint8).copy().view(dtype) for fill in (0, 255))
    for array in (one, other):
        array["a"], array["b"] = 7, [1.0, 2.0, 3.0]
    assert one.tobytes() != other.tobytes()
    assert content_digest(one) == content_digest(other)


def test_sparse_layout_does_not_count() -> None:
    tidy = sp.csr_matrix((np.array([1.0, 2.0]), np.array([0, 2]), np.array([0, 2])), shape=(1, 3))
    untidy = sp.csr_matrix((np.array([2.0, 0.5, 0.5]), np.array([2, 0, 0]), np.array([0, 3])), shape=(1, 3))
    assert content_digest(tidy) == content_digest(untidy)
    untidy.data[0] = 3.0
    assert content_digest(tidy) != content_digest(untidy)


def test_what_a_mask_hides_does_not_count() -> None:
    assert content_digest(np.ma.array([1, 2], mask=[0, 1])) == content_digest(np.ma.array([1, 9], mask=[0, 1]))


def test_a_used_generator_differs() -> None:
    for make in (np.random.RandomState, np.random.default_rng):
        used = make(0)
        used.normal()
        assert content_digest(used) != content_digest(make(0))


def test_cycles_are_refused_with_their_place() -> None:
    node = Node(inner=Node())
    node.inner.back = node
    with pytest.raises(ConfigurationError, match=r"object\.inner\.back .*contains itself"):
        content_digest(node)
    items: list[Any] = [1]
    items.append(items)
    with pytest.raises(ConfigurationError, match="contains itself"):
        content_digest(items)


def test_what_has_no_content_is_refused_with_its_place() -> None:
    with pytest.raises(ConfigurationError, match=r"object\.lock of type _thread:lock"):
        content_digest(Node(lock=threading.Lock()))
    with pytest.raises(CodeError, match="<lambda>"):
        content_digest(Node(call=lambda: 0))


def test_numpy_text_of_variable_width() -> None:
    one = np.array(["a" * 40, "b"], dtype=np.dtypes.StringDType())
    assert content_digest(one) == content_digest(one.copy())
    assert content_digest(one) != content_digest(one[::-1])


# --- fitted estimators, which the subprocess below fits as well ---


def fitted(name: str) -> Any:
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier, SGDRegressor
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 4)), np.arange(60) % 3
    words = np.array(["red", "green", "blue", "grey"], object)[rng.integers(0, 4, (60, 2))]
    table = pd.DataFrame({"a": pd.Series(words[:, 0], dtype=object), "b": words[:, 1], "c": X[:, 0]})
    if name == "MLP":
        mlp = MLPClassifier((5,), random_state=0)
        for start in range(0, 60, 20):
            mlp.partial_fit(X[start : start + 20], y[start : start + 20], classes=np.arange(3))
        return mlp
    if name == "table":
        columns = ColumnTransformer([("words", OneHotEncoder(), ["a", "b"])], remainder="passthrough")
        return make_pipeline(columns, LogisticRegression()).fit(table, y)
    makers = {
        "SGDClassifier": lambda: SGDClassifier(random_state=0),
        "LogisticRegression": LogisticRegression,
        "pipeline": lambda: make_pipeline(StandardScaler(), LogisticRegression()),
        "GaussianNB": GaussianNB,
        "RandomForest": lambda: RandomForestClassifier(7, random_state=0),
        "HistGradientBoosting": lambda: HistGradientBoostingClassifier(max_iter=5, random_state=0),
        "KNeighbors": KNeighborsClassifier,
        "Ridge": Ridge,
        "SGDRegressor": lambda: SGDRegressor(random_state=0),
    }
    return makers[name]().fit(X, y)


NAMES = (
    *("SGDClassifier", "LogisticRegression", "pipeline", "table", "GaussianNB", "MLP", "RandomForest"),
    *("HistGradientBoosting", "KNeighbors", "Ridge", "SGDRegressor"),
)

SCRIPT = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("cases", sys.argv[1])
cases = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cases)
for name in cases.NAMES:
    print(name, cases.content_digest(cases.fitted(name)))
"""


@pytest.fixture(scope="module")
def elsewhere() -> dict[str, str]:
    env = {**os.environ, "PYTHONHASHSEED": "4711", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, __file__], env=env, cwd=ROOT, capture_output=True, text=True, check=True
    )
    return dict(line.split() for line in done.stdout.splitlines())


@pytest.mark.parametrize("name", NAMES)
def test_estimators_digest_the_same_after_a_round_trip_and_elsewhere(name: str, elsewhere: dict[str, str]) -> None:
    import skops.io

    digest = content_digest(fitted(name))
    stored = skops.io.dumps(fitted(name))
    loaded = skops.io.loads(stored, trusted=skops.io.get_untrusted_types(data=stored))
    assert content_digest(loaded) == digest
    assert elsewhere[name] == digest


@pytest.mark.parametrize("name", NAMES)
def test_one_changed_number_changes_the_digest(name: str) -> None:
    estimator = fitted(name)
    before = content_digest(estimator)
    for array in numbers(estimator):
        old = array.flat[0].copy()
        array.flat[0] = np.nextafter(old, np.inf)
        assert content_digest(estimator) != before
        array.flat[0] = old
    assert content_digest(estimator) == before


def numbers(estimator: Any) -> list[np.ndarray]:
    """Some float arrays that the estimator has learnt and that can be written to."""
    last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    if hasattr(last, "estimators_"):
        return [last.estimators_[3].tree_.value, last.estimators_[3].tree_.threshold]
    if hasattr(last, "_predictors"):
        return [last._predictors[2][1].nodes["value"], last._predictors[0][0].nodes["gain"]]
    names = [name for name in ("coef_", "theta_", "var_", "_fit_X") if hasattr(last, name)]
    return [getattr(last, name) for name in names] if names else [last.coefs_[1], last.intercepts_[0]]
