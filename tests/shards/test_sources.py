"""Sources: tables, files and datasets become the records one would write down by hand."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, TensorDataset
from torchvision import transforms

from shards.errors import InputError
from shards.records import Records
from shards.sources import features_from_file, features_from_table, from_dataset, from_file, from_table


def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "age": [31, 42, 53],
            "income": [1.5, 2.5, 3.5],
            "owner": ["ann", "bob", "ann"],
            "row": [7, 8, 9],
            "label": ["yes", "no", "yes"],
        },
        index=[5, 5, 1],
    )


def both(table: pd.DataFrame) -> list[Any]:
    return [table, pa.Table.from_pandas(table, preserve_index=False)]


@pytest.mark.parametrize("kind", [0, 1])
def test_numeric_table(kind: int) -> None:
    records = from_table(both(frame())[kind], target="label", subject="owner", record_id="row")
    assert records.record_ids == ("7", "8", "9")
    assert records.subjects == ("ann", "bob", "ann")
    assert list(records.features) == ["x"]
    assert records.features["x"].tolist() == [[31, 1.5], [42, 2.5], [53, 3.5]]
    assert records.target.tolist() == ["yes", "no", "yes"]


@pytest.mark.parametrize("kind", [0, 1])
def test_mixed_table_keeps_columns_apart(kind: int) -> None:
    records = from_table(both(frame())[kind], target="income", record_id="row", batch=3)
    assert list(records.features) == ["age", "owner", "label"]
    assert records.features["age"].dtype == np.int64
    assert records.features["owner"].dtype.kind == "U"
    assert records.features["owner"].tolist() == ["ann", "bob", "ann"]
    assert records.subjects == ("7", "8", "9")
    assert from_table(both(frame())[kind], target="income", batch=3).record_ids == ("3:0", "3:1", "3:2")


def test_chosen_features_come_in_the_order_asked_for() -> None:
    records = from_table(frame(), target="label", features=["income", "age"])
    assert records.features["x"].tolist() == [[1.5, 31], [2.5, 42], [3.5, 53]]
    assert list(from_table(frame(), target="label", features=["owner"]).features) == ["owner"]


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        (["f4", "f4"], "f4"),
        (["f4", "f8"], "f8"),
        (["f4", "i8"], "f8"),
        (["f4", "u1"], "f8"),
        (["f4", "?"], "f4"),
        (["i8", "i8"], "i8"),
        (["i4", "u1"], "i4"),
        (["i8", "?"], "i8"),
        (["?", "?"], "?"),
        (["u8", "i8"], "f8"),
    ],
)
def test_common_dtype(dtypes: list[str], expected: str) -> None:
    table = pd.DataFrame({f"c{i}": np.array([0, 1]).astype(dtype) for i, dtype in enumerate(dtypes)})
    for given_table in both(table):
        x = features_from_table(given_table)["x"]
        assert x.dtype == np.dtype(expected)
        assert x.tolist() == [[0, 0], [1, 1]]


@settings(deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1), st.booleans())
def test_stacking_never_rounds(values: list[int], beside_float: bool) -> None:
    table = pa.table({"a": pa.array(values, pa.int64()), "b": np.zeros(len(values), "f4" if beside_float else "i1")})
    if beside_float and any(abs(value) > 2**53 for value in values):
        with pytest.raises(InputError, match=r"'a'.*2\*\*53"):
            features_from_table(table)
    else:
        assert [int(value) for value in features_from_table(table)["x"][:, 0]] == values


def test_categories_and_dictionaries_become_text_or_numbers() -> None:
    table = pd.DataFrame({"c": pd.Categorical(["b", "a", "b"]), "n": pd.Categorical([3, 1, 3]), "y": [0, 1, 0]})
    for given_table in both(table):
        records = from_table(given_table, target="y", subject="c", features=["c", "n"])
        assert records.features["c"].tolist() == ["b", "a", "b"]
        assert records.features["n"].tolist() == [3, 1, 3]
        assert records.subjects == ("b", "a", "b")
        assert from_table(given_table, target="c").target.tolist() == ["b", "a", "b"]
    chunked = pa.table(
        {"c": pa.chunked_array([pa.array(["a"]).dictionary_encode(), pa.array(["b"]).dictionary_encode()])}
    )
    assert features_from_table(chunked)["c"].tolist() == ["a", "b"]


def test_pandas_own_dtypes() -> None:
    table = pd.DataFrame(
        {
            "i": pd.array([1, 2], dtype="Int64"),
            "f": pd.array([1.5, 2.5], dtype="Float64"),
            "b": pd.array([True, False], dtype="boolean"),
            "a": pd.array([1, 2], dtype="int64[pyarrow]"),
        }
    )
    assert features_from_table(table)["x"].tolist() == [[1, 1.5, 1, 1], [2, 2.5, 0, 2]]
    words = pd.DataFrame({"s": pd.array(["a", "b"], dtype="string"), "o": pd.Series(["c", "d"], dtype=object)})
    assert {name: list(item) for name, item in features_from_table(words).items()} == {
        "s": ["a", "b"],
        "o": ["c", "d"],
    }


def test_number_column_names_are_text() -> None:
    table = pd.DataFrame([[1.0, 2.0, 0], [3.0, 4.0, 1]])
    assert from_table(table, target="2").features["x"].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
@pytest.mark.parametrize("column", ["age", "owner", "row", "label"])
def test_missing_values_are_named_by_column_and_row(column: str, missing: Any) -> None:
    table = frame().astype(object)
    table.iloc[1, table.columns.get_loc(column)] = missing
    with pytest.raises(InputError, match=f"'{column}'.*row 1"):
        from_table(table, target="label", subject="owner", record_id="row")


def test_nan_of_arrow_and_infinity_are_named_too() -> None:
    for bad in (np.nan, np.inf):
        table = pa.table({"a": [0.0, 0.0], "b": pa.array([0.0, bad]), "y": [0, 1]})
        with pytest.raises(InputError, match=r"'b'.*row 1"):
            from_table(table, target="y")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "lable"}, "target column 'lable'.*'age', 'income', 'owner', 'row', 'label'"),
        ({"target": "label", "subject": "who"}, "subject column 'who'.*'owner'"),
        ({"target": "label", "record_id": "id"}, "record_id column 'id'.*'row'"),
        ({"target": "label", "features": ["size"]}, "feature column 'size'.*'age'"),
        ({"target": "label", "features": ["age", "age"]}, "twice"),
        ({"target": "label", "features": []}, "no feature column"),
        ({"target": "label", "features": ["age", "label"]}, "among the features"),
        ({"target": "label", "subject": "income"}, "float"),
        ({"target": "age", "record_id": "owner"}, "'ann'"),
    ],
)
def test_wrong_columns(arguments: dict[str, Any], message: str) -> None:
    for table in both(frame()):
        with pytest.raises(InputError, match=message):
            from_table(table, **arguments)


@pytest.mark.parametrize(
    "column",
    [
        pytest.param(pa.array([datetime.date(2020, 1, 1)] * 2), id="date"),
        pytest.param(pa.array([datetime.datetime(2020, 1, 1)] * 2), id="time"),
        pytest.param(pa.array([decimal.Decimal(1)] * 2), id="decimal"),
        pytest.param(pa.array([[1.0], [2.0]]), id="list"),
        pytest.param(pa.array([{"a": 1}] * 2), id="struct"),
        pytest.param(pa.array([b"a", b"b"]), id="binary"),
        pytest.param(pa.array([None, None]), id="null"),
    ],
)
def test_columns_that_cannot_be_trained_on(column: pa.Array) -> None:
    with pytest.raises(InputError, match="'c'"):
        features_from_table(pa.table({"c": column}))


def test_other_things_that_are_not_tables() -> None:
    with pytest.raises(InputError, match="not a table"):
        features_from_table(np.zeros((2, 2)))
    with pytest.raises(InputError, match="more than once: 'a'"):
        features_from_table(pd.DataFrame(np.zeros((2, 2)), columns=["a", "a"]))
    with pytest.raises(InputError, match="more than once: '1'"):
        features_from_table(pd.DataFrame(np.zeros((2, 2)), columns=[1, "1"]))
    with pytest.raises(InputError, match=r"'a'.*cannot be read"):
        features_from_table(pd.DataFrame({"a": [1, "b"]}))


def test_empty_table_with_types() -> None:
    records = from_table(frame().iloc[:0].astype({"label": "string"}), target="label", features=["age"])
    assert len(records) == 0
    assert records.features["x"].shape == (0, 1)


def test_what_is_trained_on_is_what_is_predicted_from() -> None:
    for features in (["income", "age"], ["owner", "age"]):
        trained = from_table(frame(), target="label", features=features).features
        asked = features_from_table(frame().drop(columns="label"), features)
        assert list(trained) == list(asked)
        assert all(np.array_equal(trained[name], asked[name]) for name in asked)


def equal(left: Records, right: Records) -> bool:
    def plain(records: Records) -> Any:
        features = [(name, item.dtype.kind, item.tolist()) for name, item in records.features.items()]
        return records.record_ids, records.subjects, features, records.target.tolist()

    return bool(plain(left) == plain(right))


@pytest.mark.parametrize("suffix", ["csv", "CSV", "parquet"])
def test_files_equal_their_table(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "year=2020" / f"data.{suffix}"
    path.parent.mkdir()
    if suffix == "parquet":
        frame().to_parquet(path)
    else:
        frame().to_csv(path, index=False)
    arguments: dict[str, Any] = {"target": "label", "subject": "owner", "record_id": "row", "batch": 1}
    if suffix == "parquet":
        # The index, which repeats, is a column of the file; it was not asked for.
        arguments["features"] = ["age", "income"]
    assert equal(from_file(str(path), **arguments), from_table(frame(), **arguments))


def test_ids_in_csv_keep_their_zeros(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,who,x,y\n007,01,1,0\n7,1,2,1\n")
    records = from_file(path, target="y", subject="who", record_id="id")
    assert records.record_ids == ("007", "7")
    assert records.subjects == ("01", "1")


@pytest.mark.parametrize("cell", ["NA", ""])
def test_missing_cells_in_csv(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"who,x,t,y\na,1,u,0\nb,{cell},v,1\n")
    with pytest.raises(InputError, match=r"'x'.*row 1"):
        from_file(path, target="y")
    path.write_text(f"who,x,t,y\na,1,u,0\n{cell},2,v,1\n")
    with pytest.raises(InputError, match=r"'who'.*row 1"):
        from_file(path, target="y", subject="who")
    path.write_text(f'who,x,t,y\na,1,u,0\nb,2,"{cell}",1\n')
    assert from_file(path, target="y", features=["t"]).features["t"].tolist() == ["u", cell]


@pytest.mark.parametrize("key", ["X", "x"])
def test_npz(tmp_path: Path, key: str) -> None:
    X, y = np.arange(12, dtype="f4").reshape(3, 2, 2), np.array([0, 1, 0])
    np.savez(tmp_path / "a.npz", **{key: X}, y=y)
    records = from_file(tmp_path / "a.npz", batch=2)
    assert records.features["x"].tolist() == X.tolist()
    assert records.record_ids == ("2:0", "2:1", "2:2")
    np.savez_compressed(tmp_path / "b.npz", **{key: X}, y=y, subjects=["a", "b", "a"], record_ids=[5, 6, 7])
    records = from_file(tmp_path / "b.npz")
    assert records.subjects == ("a", "b", "a")
    assert records.record_ids == ("5", "6", "7")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": np.zeros(1)}, "expected X"),
        ({"y": np.zeros(1)}, "expected X"),
        ({"X": np.zeros(1), "x": np.zeros(1), "y": np.zeros(1)}, "expected X"),
        ({"X": np.zeros(1), "y": np.zeros(1), "subject": ["a"]}, r"unknown arrays \['subject'\]"),
        ({"X": np.array([{}]), "y": np.zeros(1)}, "cannot be read"),
    ],
)
def test_npz_with_other_arrays(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=message):
        from_file(tmp_path / "a.npz")


def test_npz_takes_no_columns(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", X=np.zeros(1), y=np.zeros(1))
    with pytest.raises(InputError, match="no columns"):
        from_file(tmp_path / "a.npz", target="y")


def _npy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def _latin(path: Path) -> None:
    path.write_bytes("a,y\nné,1\n".encode("latin-1"))


@pytest.mark.parametrize(
    ("name", "fill", "message"),
    [
        ("none.csv", lambda path: None, "not a file"),
        ("dir.csv", lambda path: path.mkdir(), "not a file"),
        ("a.xlsx", lambda path: path.write_text("a"), "unknown suffix '.xlsx'"),
        ("a", lambda path: path.write_text("a"), "unknown suffix ''"),
        ("a.parquet", lambda path: path.write_text("no parquet"), "cannot be read as parquet"),
        ("a.npz", lambda path: path.write_text("no npz"), "cannot be read as npz"),
        ("a.npz", lambda path: path.write_bytes(b"PK\3\4"), "cannot be read as npz"),
        ("a.npz", _npy, "cannot be read as npz"),
        ("a.csv", lambda path: path.write_text("a,y\n1,2\n3\n"), "cannot be read as csv"),
        ("a.csv", lambda path: path.write_text(""), "cannot be read as csv"),
        ("a.csv", _latin, "UTF-8"),
        ("a.csv", lambda path: path.write_text("a,a,y\n1,2,3\n"), "more than once"),
        ("a.csv", lambda path: path.write_text("a,z\n1,2\n"), "target column 'y'.*'a', 'z'"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, fill: Callable[[Path], Any], message: str) -> None:
    fill(tmp_path / name)
    target = None if name.endswith("npz") else "y"
    with pytest.raises(InputError, match=message):
        from_file(tmp_path / name, target=target)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_features_from_a_table_are_those_trained_on(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"data{suffix}"
    frame().to_csv(path, index=False) if suffix == ".csv" else frame().to_parquet(path, index=False)
    trained = from_file(path, target="label", subject="owner", record_id="row").features
    left = features_from_file(path, leave_out=("label", "owner", "row", "not in the file"))
    named = features_from_file(path, features=("age", "income"))
    for found in (left, named):
        assert list(found) == ["x"]
        assert found["x"].dtype == trained["x"].dtype
        assert np.array_equal(found["x"], trained["x"])
    assert features_from_file(path, features=("income", "age"))["x"][0].tolist() == [1.5, 31]
    with pytest.raises(InputError, match="no feature column 'height'"):
        features_from_file(path, features=("height",))


def test_text_features_stay_text_where_they_hold_digits(tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("code,size\n007,1\n", encoding="utf-8")
    assert features_from_file(tmp_path / "new.csv", text=("code",))["code"].tolist() == ["007"]


def test_features_from_npz(tmp_path: Path) -> None:
    X = np.arange(6.0).reshape(3, 2)
    np.savez(tmp_path / "new.npz", X=X)
    np.savez(tmp_path / "old.npz", x=X, y=[0, 1, 0], subjects=["a", "b", "c"])
    np.savez(tmp_path / "none.npz", y=[0, 1, 0])
    for name in ("new.npz", "old.npz"):
        assert np.array_equal(features_from_file(tmp_path / name)["x"], X)
    with pytest.raises(InputError, match="expected X"):
        features_from_file(tmp_path / "none.npz")
    for chosen in ({"features": ("a",)}, {"leave_out": ("a",)}):
        with pytest.raises(InputError, match="no columns"):
            features_from_file(tmp_path / "new.npz", **chosen)


def test_tables_need_a_target(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1], "b": [2]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="'a', 'b'"):
        from_file(tmp_path / "a.parquet")


class Items(Dataset[Any]):
    def __init__(self, *items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def test_tensor_dataset() -> None:
    X, y = torch.arange(24.0).reshape(4, 3, 2), torch.tensor([0, 1, 2, 3])
    X.requires_grad_()
    records = from_dataset(TensorDataset(X, y), subjects=["a", "a"], record_ids=[1, 2], limit=2, batch=1)
    assert records.features["x"].dtype == np.float32
    assert records.features["x"].tolist() == X[:2].tolist()
    assert records.target.tolist() == [0, 1]
    assert records.subjects == ("a", "a")
    assert len(from_dataset(TensorDataset(X, y), limit=99)) == 4


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 4), ("1", 1), ("P", 3), ("LA", 2)])
def test_images_become_channels_height_width(mode: str, channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    x = from_dataset(Items((image, 1), (image, 0))).features["x"]
    assert x.dtype == np.uint8
    assert x.shape == (2, channels, 5, 4)
    # torchvision reads the same pixels on its own way; for palettes and bits it does so after a conversion.
    same = image.convert("RGB") if mode == "P" else image.convert("L") if mode == "1" else image
    assert x[1].tolist() == transforms.PILToTensor()(same).tolist()


@pytest.mark.parametrize("mode", ["F", "I", "I;16"])
def test_images_that_are_not_bytes_are_refused(mode: str) -> None:
    with pytest.raises(InputError, match="8 bits"):
        from_dataset(Items((Image.new(mode, (2, 2)), 0)))


def test_numpy_numbers_and_text() -> None:
    records = from_dataset([(np.float32([1, 2]), 1.5), (np.float32([3, 4]), 2.5)])
    assert records.features["x"].dtype == np.float32
    assert records.target.tolist() == [1.5, 2.5]
    records = from_dataset([("a", "short"), ("longer", "y")])
    assert records.features["x"].tolist() == ["a", "longer"]
    assert records.target.tolist() == ["short", "y"]
    assert from_dataset([[3, torch.tensor([1.0, 2.0])]]).target.tolist() == [[1.0, 2.0]]


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([(1, 2)])


@pytest.mark.parametrize(
    ("dataset", "arguments", "message"),
    [
        (Stream(), {}, "map-style"),
        (Items(), {}, "empty"),
        (Items((1, 2)), {"limit": 0}, "limit"),
        (Items((1, 2), 3), {}, "item 1 is a int"),
        (Items((1, 2, 3)), {}, "pair"),
        (Items((np.zeros(2), 1), (np.zeros(3), 1)), {}, r"input of dataset item 1.*\[3\].*\[2\]"),
        (Items((1, 1), (1, 2.5)), {}, "target of dataset item 1.*float64.*int64"),
        (Items(("a", 1), (1, 1)), {}, "input of dataset item 1"),
        (Items((None, 1)), {}, "input of dataset item 0"),
        (Items((np.zeros(1), 1), (np.array([np.nan]), 1)), {}, "input of dataset item 1.*nan"),
        (Items((torch.zeros(1, dtype=torch.bfloat16), 1)), {}, "input of dataset item 0"),
        (Items((1, 2)), {"subjects": ["a", "b"]}, "lengths differ"),
    ],
)
def test_datasets_that_cannot_be_read(dataset: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_dataset(dataset, **arguments)


# --- arrays in a column ------------------------------------------------------------------------------------------


def lists(values: np.ndarray) -> pa.Array:
    """`[n, *shape]` as fixed-size lists."""
    found = pa.array(values.reshape(-1))
    for size in values.shape[:0:-1]:
        found = pa.FixedSizeListArray.from_arrays(found, size)
    return found


@pytest.mark.parametrize("shape", [(4,), (2, 3), (1, 2, 2)])
def test_one_column_of_arrays_is_the_feature(shape: tuple[int, ...]) -> None:
    values = np.arange(5 * np.prod(shape), dtype=np.uint8).reshape(5, *shape)
    for column in (lists(values), pa.chunked_array([lists(values)[:2], lists(values)[2:]])):
        records = from_table(pa.table({"image": column, "label": [0, 1, 0, 1, 0]}), target="label")
        assert list(records.features) == ["x"]
        assert records.features["x"].dtype == np.uint8
        assert np.array_equal(records.features["x"], values)
        assert records.columns == ("image",)


def test_arrays_beside_other_columns_stay_apart() -> None:
    values = np.random.default_rng(0).normal(size=(3, 4))
    table = pa.table({"vector": lists(values), "age": [1, 2, 3], "label": [0, 1, 0]})
    records = from_table(table, target="label")
    assert list(records.features) == ["vector", "age"]
    assert np.array_equal(records.features["vector"], values)
    assert records.columns == ()


def test_tensors_of_arrow_are_arrays_too() -> None:
    values = np.arange(12.0).reshape(2, 2, 3)
    tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(values)
    records = from_table(pa.table({"image": tensor, "label": [0, 1]}), target="label")
    assert np.array_equal(records.features["x"], values)


def test_arrays_survive_parquet(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    pq.write_table(pa.table({"image": lists(values), "label": [0, 1]}), tmp_path / "a.parquet")
    records = from_file(tmp_path / "a.parquet", target="label")
    assert np.array_equal(records.features["x"], values)


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pa.array([[1.0], None], pa.list_(pa.float64(), 1)), "misses a value in row 1"),
        (pa.array([[1.0, 2.0], [1.0, None]], pa.list_(pa.float64(), 2)), "misses a value in row 1"),
        (pa.array([[[1.0]], [None]], pa.list_(pa.list_(pa.float64(), 1), 1)), "misses a value in row 1"),
        (pa.array([["a"], ["b"]], pa.list_(pa.string(), 1)), "lists of text"),
        (pa.array([[1.0], [2.0]], pa.list_(pa.float64())), "fixed-size lists"),
        (pa.array([[1.0], [np.nan]], pa.list_(pa.float64(), 1)), r"nan in row 1, position \[0\]"),
    ],
)
def test_arrays_that_cannot_be_trained_on(column: pa.Array, said: str) -> None:
    with pytest.raises(InputError, match=said):
        from_table(pa.table({"image": column, "label": [0, 1]}), target="label")
