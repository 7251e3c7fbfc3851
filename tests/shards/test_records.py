"""Records: what is accepted comes out unchanged and canonical; everything else is refused by name and row."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from shards.errors import ConfigurationError, InputError
from shards.records import (
    NUMERIC_DTYPES,
    check_features,
    encode_target,
    feature_schema,
    make_features,
    make_records,
)
from shards.task import FieldSchema

ids = st.one_of(st.integers(), st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))


@st.composite
def batches(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, list[Any], list[Any]]:
    n = draw(st.integers(0, 6))
    shape = draw(st.lists(st.integers(1, 3), max_size=3))
    code = draw(st.sampled_from(sorted(NUMERIC_DTYPES)))
    dtype = np.dtype(code).newbyteorder(draw(st.sampled_from("<>")))
    finite = {"allow_nan": False, "allow_infinity": False} if dtype.kind == "f" else None
    array = draw(hnp.arrays(dtype, (n, *shape), elements=finite))
    names = draw(st.lists(ids, min_size=n, max_size=n, unique_by=str))
    subjects = draw(st.lists(ids, min_size=n, max_size=n))
    return array, draw(hnp.arrays("i8", n)), names, subjects


@settings(deadline=None)
@given(batches())
def test_values_survive_in_canonical_form(batch: tuple[np.ndarray, np.ndarray, list[Any], list[Any]]) -> None:
    X, y, names, subjects = batch
    records = make_records(X, y, record_ids=names, subjects=subjects)
    stored = records.features["x"]
    assert len(records) == len(X)
    assert stored.tolist() == X.tolist()
    assert stored.dtype.str == X.dtype.newbyteorder("<").str
    assert stored.flags.c_contiguous
    assert stored.flags.owndata
    assert records.target.tolist() == y.tolist()
    assert records.record_ids == tuple(str(name) for name in names)
    assert records.subjects == tuple(str(name) for name in subjects)


def test_later_changes_of_the_callers_arrays_do_not_matter() -> None:
    X, y, z = np.zeros((3, 2)), np.zeros(3), torch.zeros(3)
    names = ["a", "b", "c"]
    records = make_records({"x": X, "z": z}, y, record_ids=names)
    X[:], y[:], z[:], names[0] = 9, 9, 9, "changed"
    assert not records.features["x"].any()
    assert not records.features["z"].any()
    assert not records.target.any()
    assert records.record_ids == ("a", "b", "c")


@pytest.mark.parametrize(
    ("batch", "expected"), [(0, ("0", "1", "2")), (1, ("1:0", "1:1", "1:2")), (2, ("2:0", "2:1", "2:2"))]
)
def test_default_ids_and_subjects(batch: int, expected: tuple[str, ...]) -> None:
    records = make_records([[1.0]] * 3, [0, 1, 0], batch=batch)
    assert records.record_ids == expected
    assert records.subjects == expected


@pytest.mark.parametrize(
    "given_ids",
    [
        [1, "b", np.int8(3)],
        (np.str_("1"), "b", np.uint64(3)),
        np.array(["1", "b", "3"]),
        np.array([1, "b", 3], dtype=object),
        pd.Series([1, "b", 3]),
        pd.Series(["1", "b", "3"], dtype="category"),
        pa.array(["1", "b", "3"]),
        np.array(["1", "b", "3"], dtype=np.dtypes.StringDType()),
        iter([1, "b", 3]),
    ],
)
def test_ids_of_many_kinds(given_ids: Any) -> None:
    records = make_records(np.zeros((3, 1)), [0, 0, 0], record_ids=given_ids)
    assert records.record_ids == ("1", "b", "3")
    assert {type(name) for name in records.record_ids} == {str}


@pytest.mark.parametrize(
    "given_ids",
    [
        pytest.param([True, "b"], id="bool"),
        pytest.param([np.True_, "b"], id="numpy-bool"),
        pytest.param([None, "b"], id="none"),
        pytest.param([1.0, "b"], id="float"),
        pytest.param(np.array([1.0, 2.0]), id="float-array"),
        pytest.param(pd.Series([1, None]), id="pandas-missing"),
        pytest.param([b"a", "b"], id="bytes"),
        pytest.param(["", "b"], id="empty"),
        pytest.param(["a\ud800", "b"], id="surrogate"),
        pytest.param(["é" * 2049, "b"], id="too-long"),
        pytest.param([10**5000, "b"], id="huge-integer"),
        pytest.param("ab", id="a-text"),
        pytest.param({"a", "b"}, id="set"),
        pytest.param({"a": 1, "b": 2}, id="mapping"),
        pytest.param(7, id="number"),
        pytest.param(np.array([["a", "b"]]), id="two-dimensional"),
        pytest.param(np.array(["2020-01-01", "2020-01-02"], dtype="M8[ns]"), id="dates"),
        pytest.param(np.ma.array([1, 2], mask=[True, False]), id="masked"),
        pytest.param(["a"], id="too-few"),
    ],
)
@pytest.mark.parametrize("argument", ["record_ids", "subjects"])
def test_unusable_ids_are_refused(argument: str, given_ids: Any) -> None:
    with pytest.raises(InputError, match=argument):
        make_records(np.zeros((2, 1)), [0, 0], **{argument: given_ids})


def test_longest_id_is_accepted() -> None:
    assert make_records([[1.0]], [0], record_ids=["é" * 2048]).record_ids == ("é" * 2048,)


def test_repeated_ids_are_named_and_repeated_subjects_are_fine() -> None:
    with pytest.raises(InputError, match="'7'"):
        make_records(np.zeros((3, 1)), [0, 0, 0], record_ids=[7, "7", "8"])
    assert make_records(np.zeros((2, 1)), [0, 0], subjects=["a", "a"]).subjects == ("a", "a")


@pytest.mark.parametrize(
    ("X", "message"),
    [
        pytest.param([[1.0], [np.nan]], "feature 'x'.*row 1", id="nan"),
        pytest.param({"a": [0.0, 0.0], "b": np.array([[[0.0, 1]], [[0, np.inf]]])}, "'b'.*row 1.*0, 1", id="inf"),
        pytest.param(np.zeros((2, 1), dtype=complex), "real and imaginary", id="complex"),
        pytest.param(np.zeros((2, 1), dtype="M8[D]"), "dates", id="dates"),
        pytest.param([datetime.date(2020, 1, 1)] * 2, "objects", id="date-objects"),
        pytest.param(np.zeros((2, 1), dtype="m8[s]"), "durations", id="durations"),
        pytest.param(np.zeros(2, dtype=[("a", "f4")]), "field", id="structure"),
        pytest.param(np.array([b"a", b"b"]), "decode", id="bytes"),
        pytest.param(np.zeros((2, 1), dtype=np.longdouble), "float64", id="longdouble"),
        pytest.param(sparse.csr_matrix(np.eye(2)), "sparse.*toarray", id="sparse"),
        pytest.param(sparse.coo_array(np.eye(2)), "sparse.*toarray", id="sparse-array"),
        pytest.param(sparse.dok_array(np.eye(2)), "sparse.*toarray", id="sparse-that-calls-itself-a-mapping"),
        pytest.param(torch.eye(2).to_sparse(), "sparse", id="torch-sparse"),
        pytest.param(np.ma.array([[1.0], [2.0]], mask=[[0], [1]]), "masked", id="masked"),
        pytest.param([[1, 2], [3]], "one shape", id="ragged"),
        pytest.param([1, "a"], "objects", id="mixed-list"),
        pytest.param([None, 1.0], "misses a value in row 0", id="none"),
        pytest.param([["a", "b"], ["c", "d"]], "own feature", id="text-matrix"),
        pytest.param(["a", "b\ud800"], "row 1.*surrogate", id="surrogate"),
        pytest.param(["a", "b\0"], "row 1.*NUL", id="nul"),
        pytest.param(np.float64(3), "single value", id="scalar"),
        pytest.param([], "empty list", id="empty-list"),
        pytest.param(np.zeros((2, 0)), "nothing", id="no-columns"),
        pytest.param({}, "empty mapping", id="no-features"),
        pytest.param({"": [1, 2]}, "name", id="nameless"),
        pytest.param({3: [1, 2]}, "name", id="number-name"),
        pytest.param({"\ud800": [1, 2]}, "name", id="surrogate-name"),
        pytest.param({"a": [1, 2], "b": [1]}, "lengths differ", id="lengths"),
        pytest.param(np.zeros((3, 1)), "lengths differ", id="y-length"),
    ],
)
def test_unusable_features_are_refused(X: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"(?s){message}"):
        make_records(X, [0, 1])


@pytest.mark.parametrize("y", [[0.0, np.nan], [0.0, np.inf], [0j, 1j], [None, 1], 3])
def test_unusable_targets_are_refused(y: Any) -> None:
    with pytest.raises(InputError, match="y "):
        make_records(np.zeros((2, 1)), y)


def test_text_from_objects_lists_and_variable_width_strings() -> None:
    words = ["", "a\0b", "né", "😀" * 40]
    for column in (
        words,
        np.array(words, dtype=object),
        np.array(words, dtype=np.dtypes.StringDType()),
        pd.Series(words),
    ):
        records = make_records({"t": column}, column)
        assert records.features["t"].dtype.kind == "U"
        assert records.features["t"].tolist() == words
        assert records.target.tolist() == words


def test_nothing_is_allowed_where_shapes_are_known() -> None:
    records = make_records({"x": np.empty((0, 3), "f4"), "t": np.array([], dtype=str)}, np.empty(0, int))
    assert len(records) == 0
    assert feature_schema(records.features) == {"x": FieldSchema((3,), "<f4"), "t": FieldSchema((), "str")}


def test_take_by_rows_and_by_mask() -> None:
    records = make_records({"x": np.arange(8).reshape(4, 2), "t": list("abcd")}, np.arange(4), subjects=list("ssuu"))
    for rows in (np.array([3, 0]), np.array([3, 0], dtype="u1")):
        taken = records.take(rows)
        assert taken.record_ids == ("3", "0")
        assert taken.subjects == ("u", "s")
        assert taken.features["x"].tolist() == [[6, 7], [0, 1]]
        assert taken.features["t"].tolist() == ["d", "a"]
        assert taken.target.tolist() == [3, 0]
    assert records.take(np.array([False, True, False, True])).record_ids == ("1", "3")
    assert records.take(np.empty(0, int)).features["x"].shape == (0, 2)
    with pytest.raises(IndexError):
        records.take(np.array([True, False]))


def test_schema_keeps_order_and_ignores_text_width() -> None:
    features = make_features({"b": np.zeros((2, 3), ">f4"), "a": ["x", "long text"], "c": [True, False]})
    schema = feature_schema(features)
    assert schema == {"b": FieldSchema((3,), "<f4"), "a": FieldSchema((), "str"), "c": FieldSchema((), "|b1")}
    assert list(schema) == ["b", "a", "c"]
    fitted = check_features({name: features[name] for name in "abc"}, schema)
    assert list(fitted) == ["b", "a", "c"]


@pytest.mark.parametrize(
    ("given_dtype", "declared", "accepted"),
    [
        ("<f8", "<f4", True),
        ("<f2", "<f8", True),
        ("<i8", "<f4", True),
        ("|u1", "<f8", True),
        ("<i4", "<i8", False),
        ("<f8", "<i8", False),
        ("|b1", "<f4", False),
        ("|b1", "|u1", False),
        ("<i8", "str", False),
        ("<U3", "<f8", False),
        ("<U3", "str", True),
    ],
)
def test_only_declared_casts(given_dtype: str, declared: str, accepted: bool) -> None:
    array = np.array([0, 1, 1]).astype(given_dtype)
    schema = {"a": FieldSchema((), declared)}
    if not accepted:
        with pytest.raises(InputError, match=f"'a'.*{declared}"):
            check_features({"a": array}, schema)
        return
    fitted = check_features({"a": array}, schema)["a"]
    assert fitted.tolist() == array.tolist()
    assert declared == "str" or fitted.dtype.str == declared


def test_features_that_do_not_fit() -> None:
    schema = {"a": FieldSchema((2,), "<f4")}
    with pytest.raises(InputError, match=r"missing \['a'\], not declared \['x'\]"):
        check_features({"x": np.zeros((1, 2), "f4")}, schema)
    with pytest.raises(InputError, match=r"'a'.*\[n, 2\].*\[n, 3\]"):
        check_features({"a": np.zeros((1, 3), "f4")}, schema)
    with pytest.raises(InputError, match=r"'a'.*inf.*row 1"):
        check_features({"a": np.array([[0, 0], [0, 1e300]])}, schema)
    with pytest.raises(InputError, match="lengths differ"):
        check_features({"a": np.zeros((1, 2), "f4"), "b": np.zeros(2)}, schema | {"b": FieldSchema((), "<f8")})


@settings(deadline=None)
@given(st.lists(st.sampled_from(["cat", "dog", "éland"])), st.permutations(["cat", "dog", "éland", "never"]))
def test_class_codes_equal_a_look_up(labels: list[str], classes: list[str]) -> None:
    codes = encode_target(np.array(labels, dtype="<U5"), "classification", tuple(classes))
    assert codes.dtype == np.int64
    assert codes.tolist() == [classes.index(label) for label in labels]


def test_labels_match_by_value() -> None:
    assert encode_target(np.array([1.0, 0.0]), "classification", (0, 1)).tolist() == [1, 0]
    assert encode_target(np.array([True, False]), "classification", (False, True)).tolist() == [1, 0]
    with pytest.raises(InputError, match="'1'"):
        encode_target(np.array(["1"]), "classification", (0, 1))


def test_undeclared_classes_are_named_up_to_five() -> None:
    with pytest.raises(InputError, match=r"8 label.*2, 3, 4, 5, 6, … \(8 in all\).*declared are 0, 1") as caught:
        encode_target(np.arange(10), "classification", (0, 1))
    assert "7" not in str(caught.value)


def test_targets_of_the_wrong_kind() -> None:
    with pytest.raises(InputError, match="one label per record"):
        encode_target(np.zeros((2, 2)), "classification", (0,))
    with pytest.raises(InputError, match="text"):
        encode_target(np.array(["a"]), "regression", ())
    with pytest.raises(ConfigurationError, match="repeat"):
        encode_target(np.array([1]), "classification", (1, True))
    with pytest.raises(ConfigurationError, match="not text or a number"):
        encode_target(np.array([1]), "classification", ([1],))


def test_regression_targets_become_float64() -> None:
    encoded = encode_target(np.array([[1, 2], [3, 4]], dtype="u1"), "regression", ())
    assert encoded.dtype == np.float64
    assert encoded.tolist() == [[1.0, 2.0], [3.0, 4.0]]
