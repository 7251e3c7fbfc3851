"""Readers that turn what users have, tables, files and torch datasets, into `Records`.

A table whose feature columns are all numbers becomes one feature `"x"`, and so does one whose only feature column
holds arrays (fixed-size lists); any other keeps its columns apart, each a feature under its own name.
"""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from shards.errors import InputError
from shards.records import Records, is_dataset, make_features, make_records, numbered_ids, to_array, to_ids

_EXACT_IN_FLOAT64 = 2**53
_NPZ_KEYS = ("X", "x", "y", "subjects", "record_ids", "risk")


def from_table(
    table: Any,
    *,
    target: str,
    subject: str | None = None,
    record_id: str | None = None,
    features: Sequence[str] | None = None,
    risk: str | None = None,
    batch: int = 0,
) -> Records:
    """Records from a table.

    Args:
        table: pandas DataFrame or pyarrow Table. A named level of a DataFrame's index may have a role as well, and is
            never a feature; an index without a role is ignored.
        target: Column of the target.
        subject: Column of the subjects; None makes every record its own subject.
        record_id: Column of the record ids; None numbers the records.
        features: Feature columns, in order; None takes all that have no other role.
        risk: Column of the subjects' risk classes; None gives none.
        batch: Number of the batch of ingestion, from 0.

    Returns:
        One record per row.

    Raises:
        InputError: If a column does not exist, misses a value, is of a type that cannot be trained on, or the
            target is among the features.
    """
    columns = _with_index(table)
    roles = {"target": target, "subject": subject, "record_id": record_id, "risk": risk}
    for role, name in roles.items():
        if name is not None:
            _find(columns, name, role)
    taken = {str(name) for name in roles.values() if name is not None}
    chosen = [name for name in _columns(table) if name not in taken] if features is None else list(features)
    if str(target) in map(str, chosen):
        raise InputError(f"target column {target!r} is among the features; a model would just read it off")
    found = features_from_table(table, chosen)
    records = make_records(
        found,
        _column_array(columns, target, "target"),
        subjects=None if subject is None else _column_ids(columns, subject, "subject"),
        record_ids=None if record_id is None else _column_ids(columns, record_id, "record_id"),
        risk=None if risk is None else _column_ids(columns, risk, "risk"),
        batch=batch,
    )
    return replace(records, columns=stacked_columns(found, chosen))


@dataclass(frozen=True)
class Roles:
    """What the columns of a table are.

    Attributes:
        target: Column of the target.
        subject: Column of the subjects; None makes every record its own subject.
        record_id: Column of the record ids; None numbers the records.
        features: Feature columns, in order; None takes all that have no other role.
        risk: Column of the subjects' risk classes; None gives none.
    """

    target: str
    subject: str | None = None
    record_id: str | None = None
    features: tuple[str, ...] | None = None
    risk: str | None = None

    @property
    def of_ids(self) -> list[str]:
        """The columns that say what a row is and not what it holds: ids, subjects, target and risk, each once."""
        named = (self.record_id, self.subject, self.target, self.risk)
        return list(dict.fromkeys(name for name in named if name is not None))

    def records(self, table: Any, batch: int, first: int = 0) -> Records:
        """Records from a part of a table.

        Args:
            table: The rows.
            batch: Number of the batch of ingestion, from 0.
            first: Number of the first of these rows in the whole table.

        Returns:
            Those that `from_table` gives for these rows of the whole table.

        Raises:
            InputError: As `from_table`.
        """
        found = from_table(table, **vars(self), batch=batch)
        if self.record_id is not None or not first:
            return found
        ids = numbered_ids(len(found), batch, first)
        return replace(found, record_ids=ids, subjects=ids if self.subject is None else found.subjects)

    def identities(self, table: Any, batch: int, first: int = 0) -> Identities:
        """Ids, subjects and targets of a part of a table, without its features.

        Args:
            table: The rows; holds the columns `of_ids` at least.
            batch: Number of the batch of ingestion, from 0.
            first: Number of the first of these rows in the whole table.

        Returns:
            What `records` gives for them.

        Raises:
            InputError: As `from_table`.
        """
        columns = _with_index(table)
        target = _column_array(columns, self.target, "target")
        if self.record_id is None:
            ids = numbered_ids(len(target), batch, first)
        else:
            ids = to_ids(_column_ids(columns, self.record_id, "record_id"), "record_ids")
        owners = ids if self.subject is None else to_ids(_column_ids(columns, self.subject, "subject"), "subjects")
        risks = () if self.risk is None else to_ids(_column_ids(columns, self.risk, "risk"), "risk")
        return Identities(ids, owners, target, risks)


@dataclass(frozen=True, eq=False)
class Identities:
    """Records without their features: `record_ids`, `subjects`, `target` and `risks` as in `Records`."""

    record_ids: tuple[str, ...]
    subjects: tuple[str, ...]
    target: np.ndarray
    risks: tuple[str, ...] = ()


def stacked_columns(features: Mapping[str, np.ndarray], names: Sequence[str]) -> tuple[str, ...]:
    """Names of the columns that `features_from_table` stacked into one feature.

    Args:
        features: What it returned.
        names: The columns it was asked for, in order.

    Returns:
        The names; empty if it kept the columns apart.
    """
    return tuple(map(str, names)) if list(features) == ["x"] and features["x"].ndim > 1 else ()


def features_from_table(table: Any, features: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Features from a table, for training and for prediction alike.

    Args:
        table: pandas DataFrame or pyarrow Table.
        features: Feature columns, in order; None takes all columns.

    Returns:
        `{"x": [n, columns]}` where all columns are numbers or bool: float64 if integers and floats are mixed,
        else the smallest dtype that holds all. `{"x": [n, *shape]}` where the only column holds fixed-size lists.
        Otherwise column name to `[n]`, text as dtype `U`, or `[n, *shape]`.

    Raises:
        InputError: If a column does not exist, is named twice, misses a value, is of a type that cannot be
            trained on, or would be rounded; or if there is none.
    """
    columns = _columns(table)
    names = list(columns) if features is None else [str(name) for name in features]
    if not names:
        raise InputError("the table has no feature column; name at least one")
    if len(set(names)) != len(names):
        raise InputError(f"a feature column is named twice in {names}; name each once")
    arrays = {name: _column_array(columns, name, "feature") for name in names}
    if len(arrays) == 1 and next(iter(arrays.values())).ndim > 1:
        return {"x": next(iter(arrays.values()))}
    if any(array.dtype.kind == "U" or array.ndim > 1 for array in arrays.values()):
        return arrays
    return {"x": _stack_columns(arrays)}


def from_file(
    path: str | Path,
    *,
    target: str | None = None,
    subject: str | None = None,
    record_id: str | None = None,
    features: Sequence[str] | None = None,
    risk: str | None = None,
    text: Sequence[str] = (),
    batch: int = 0,
) -> Records:
    """Records from a file, read according to its suffix.

    In CSV, ids are read as text, so `007` stays `007`; unquoted `NA`, `null` and empty cells are missing.

    Args:
        path: `.csv` (UTF-8, with a header), `.parquet`, or `.npz` with arrays `X` and `y` (or `x` and `y`) and
            optionally `subjects`, `record_ids` and `risk`.
        target: Column of the target; for tables only, and required there.
        subject: Column of the subjects; for tables only.
        record_id: Column of the record ids; for tables only.
        features: Feature columns; for tables only. None takes all that have no other role.
        risk: Column of the subjects' risk classes; for tables only.
        text: Features that are text even where a CSV file holds digits only.
        batch: Number of the batch of ingestion, from 0.

    Returns:
        The records.

    Raises:
        InputError: If the file does not exist, cannot be read, is of an unknown kind, or its content does not
            make records.
    """
    path = _existing(path)
    if _is_npz(path):
        if any(role is not None for role in (target, subject, record_id, features, risk)):
            raise InputError(
                f"{path}: an .npz file has no columns; leave out target, subject, record_id, features and risk, "
                "and name its arrays X, y, subjects, record_ids and risk"
            )
        return _from_npz(path, batch)
    table = _read_table(path, [name for name in (subject, record_id, risk, *text) if name is not None])
    if target is None:
        raise InputError(f"{path}: no target column named; its columns are {_listing(table.column_names)}")
    return from_table(
        table, target=target, subject=subject, record_id=record_id, features=features, risk=risk, batch=batch
    )


def features_from_file(
    path: str | Path,
    *,
    features: Sequence[str] | None = None,
    leave_out: Sequence[str] = (),
    text: Sequence[str] = (),
) -> dict[str, np.ndarray]:
    """Features from a file for prediction, which needs neither target nor ids.

    Args:
        path: As for `from_file`; of an `.npz` file only `X` (or `x`) is read.
        features: Feature columns, in order; for tables only. None takes all that are not left out.
        leave_out: Columns that are no features; the file may lack them.
        text: Columns that are text even where a CSV file holds digits only.

    Returns:
        Features as by `features_from_table`.

    Raises:
        InputError: If the file does not exist, cannot be read, is of an unknown kind, or its content does not
            make features.
    """
    path = _existing(path)
    if _is_npz(path):
        if features is not None or leave_out:
            raise InputError(f"{path}: an .npz file has no columns to choose from; its array X is taken whole")
        return make_features(_npz_arrays(path)[0])
    table = _read_table(path, text)
    if features is None:
        features = [name for name in table.column_names if name not in leave_out]
    return features_from_table(table, features)


def ids_from_file(path: str | Path, column: str) -> list[Any]:
    """A column of ids of a table, as they are ingested.

    Args:
        path: A `.csv` or `.parquet` file.
        column: Its name.

    Returns:
        One a row; of a CSV file text, with its leading zeros.

    Raises:
        InputError: If the file cannot be read, or has no such column or a row without an id.
    """
    return _column_ids(_columns(_read_table(_existing(path), [column])), column, "record id")


def from_dataset(
    dataset: Any,
    *,
    subjects: Any = None,
    record_ids: Any = None,
    risk: Any = None,
    batch: int = 0,
    limit: int | None = None,
) -> Records:
    """Records from a map-style torch or torchvision dataset of `(input, target)`.

    Each item is taken once and stored as it comes, so transforms should be deterministic; random augmentation
    belongs into the learner.

    Args:
        dataset: Has `len()` and integer indexing. Inputs and targets: tensors, numpy arrays, numbers, text or
            PIL images, which become `[channels, height, width]` uint8.
        subjects: One str or int per record; None makes every record its own subject.
        record_ids: One str or int per record; None numbers the records.
        risk: The risk class of each record's subject, as `make_records` takes it; None gives none.
        batch: Number of the batch of ingestion, from 0.
        limit: Take the first `limit` items only; None takes all.

    Returns:
        The records, with one feature `"x"`.

    Raises:
        InputError: If it is not a map-style dataset, is empty, or its items are not pairs of one shape and
            dtype.
    """
    _check_indexed(dataset)
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}; give at least 1, or None for all items")
    n = len(dataset) if limit is None else min(limit, len(dataset))
    if n == 0:
        raise InputError("the dataset is empty, so the shape of its items is unknown; give at least one item")
    inputs, targets = _Stack("input", n), _Stack("target", n)
    for row in range(n):
        item = dataset[row]
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise InputError(f"dataset item {row} is a {type(item).__name__}, expected a pair (input, target)")
        inputs.put(row, item[0])
        targets.put(row, item[1])
    return make_records(
        inputs.array(), targets.array(), subjects=subjects, record_ids=record_ids, risk=risk, batch=batch
    )


def features_from_dataset(dataset: Any) -> np.ndarray:
    """Inputs of a map-style dataset, to predict from.

    Args:
        dataset: As in `from_dataset`; items may also be an input alone, or in a tuple of its own.

    Returns:
        `[n, ...]`.

    Raises:
        InputError: As in `from_dataset`.
    """
    _check_indexed(dataset)
    if not len(dataset):
        raise InputError("the dataset is empty, so the shape of its items is unknown; give at least one item")
    inputs = _Stack("input", len(dataset))
    for row in range(len(dataset)):
        item = dataset[row]
        inputs.put(row, item[0] if isinstance(item, tuple | list) and len(item) in (1, 2) else item)
    return inputs.array()


def _check_indexed(dataset: Any) -> None:
    """Refuse what has no length or index."""
    # That a torch dataset has none, where its class inherits both names, only its kind says.
    if is_dataset(dataset) or (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        return
    raise InputError(
        f"a {type(dataset).__name__} has no length or index; give a map-style dataset, or collect its items"
    )


class _Stack:
    """Rows of one shape and dtype, filled one by one, so that a large dataset is held only once."""

    def __init__(self, what: str, n: int) -> None:
        self._what = what
        self._n = n
        self._rows: np.ndarray | None = None

    def put(self, row: int, value: Any) -> None:
        """Set row `row`; rows come in order.

        Raises:
            InputError: If the value cannot be stored, or differs from the first in shape or dtype.
        """
        what = f"{self._what} of dataset item {row}"
        # One row of text would fix the width of all, so text is held as Python objects until the end.
        item = np.array(value, dtype=object) if isinstance(value, str) else to_array([_plain(value, what)], what)[0]
        if self._rows is None:
            self._rows = np.empty((self._n, *item.shape), dtype=item.dtype)
        if item.shape != self._rows.shape[1:] or item.dtype != self._rows.dtype:
            raise InputError(
                f"{what} is {item.dtype} of shape {list(item.shape)}, but the first is {self._rows.dtype} "
                f"of shape {list(self._rows.shape[1:])}; let the dataset give all items alike"
            )
        self._rows[row] = item[()]

    def array(self) -> np.ndarray:
        """All rows."""
        return np.empty(0) if self._rows is None else self._rows


def _plain(value: Any, what: str) -> Any:
    """A dataset item's part as something numpy takes."""
    if type(value).__module__.partition(".")[0] == "PIL":
        return _image(value, what)
    if callable(getattr(value, "detach", None)):
        return to_array(value.reshape(1, *value.shape), what)[0]
    return value


def _image(image: Any, what: str) -> np.ndarray:
    """A PIL image as `[channels, height, width]` uint8."""
    converted = image.convert({"1": "L", "P": "RGB"}.get(image.mode, image.mode))
    pixels = np.asarray(converted)
    if pixels.dtype != np.uint8:
        raise InputError(f"{what} is an image of mode {image.mode}, not 8 bits a channel; convert it to an array")
    return np.moveaxis(pixels.reshape(*pixels.shape[:2], -1), -1, 0)


def _columns(table: Any) -> dict[str, Any]:
    """Column name to pyarrow column or pandas Series."""
    if isinstance(table, pa.Table | pa.RecordBatch):
        named = list(zip(table.schema.names, table.columns, strict=True))
    elif hasattr(table, "iloc") and hasattr(table, "columns"):
        # By position: a name that occurs twice would give a table.
        named = [(str(name), table.iloc[:, number]) for number, name in enumerate(table.columns)]
    else:
        raise InputError(f"a {type(table).__name__} is not a table; give a pandas DataFrame or a pyarrow Table")
    columns = dict(named)
    if len(columns) != len(named):
        repeated = sorted({name for name, _ in named if [other for other, _ in named].count(name) > 1})
        raise InputError(f"column names occur more than once: {_listing(repeated)}; rename them")
    return columns


def _with_index(table: Any) -> dict[str, Any]:
    """Columns by name, and beside them the named levels of a DataFrame's index that are no column."""
    columns = _columns(table)
    index: Any = getattr(table, "index", None)
    if not hasattr(index, "get_level_values"):
        return columns
    levels = {
        str(name): index.get_level_values(number).to_series()
        for number, name in enumerate(index.names)
        if name is not None
    }
    return levels | columns


def _find(columns: Mapping[str, Any], name: str, role: str) -> Any:
    """A column by name."""
    if str(name) not in columns:
        raise InputError(f"there is no {role} column {name!r}; the columns are {_listing(columns)}")
    return columns[str(name)]


def _arrow(columns: Mapping[str, Any], name: str, role: str) -> pa.Array:
    """A column as an Arrow array without dictionary and without missing values."""
    column = _find(columns, name, role)
    if str(getattr(column, "dtype", "")).startswith("Sparse"):
        raise InputError(f"{role} column {name!r} is sparse; make the table dense first: table.sparse.to_dense()")
    try:
        if not isinstance(column, pa.ChunkedArray | pa.Array):
            column = pa.Array.from_pandas(column)
        if pa.types.is_string(column.type):
            # Chunks of more than 2 GiB in all do not combine otherwise.
            column = column.cast(pa.large_string())
        if isinstance(column, pa.ChunkedArray):
            column = column.combine_chunks()
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise InputError(
            f"{role} column {name!r} cannot be read ({error}); make it all numbers, all bool or all text"
        ) from error
    if column.null_count:
        missing = np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))
        more = f" and {missing.size - 1:,} more" if missing.size > 1 else ""
        hint = (
            " (in CSV, an empty cell, NA, N/A, null and nan without quotes count as missing)"
            if _is_text(column.type)
            else ""
        )
        raise InputError(
            f"{role} column {name!r} misses a value in row {missing[0]}{more}, counted from 0; fill in or drop such "
            f"rows first{hint}"
        )
    return column


def _column_array(columns: Mapping[str, Any], name: str, role: str) -> np.ndarray:
    """A column as `[n]` numbers, bool or text, or as `[n, *shape]` numbers or bool."""
    column, shape = _flattened(_arrow(columns, name, role), name, role)
    kind = column.type
    what = f"{role} column {name!r}"
    if shape and _is_text(kind):
        raise InputError(f"{what} holds lists of text, which cannot be trained on; give each text as its own column")
    if _is_text(kind):
        return to_array(column.to_pylist(), what) if len(column) else np.empty(0, dtype="<U1")
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        flat = column.to_numpy(zero_copy_only=False)
        return to_array(flat.reshape(-1, *shape) if flat.size or 0 not in shape else flat, what)
    advice = "leave it out or convert it to numbers or text"
    if pa.types.is_temporal(kind):
        advice = "convert it to a number, such as days since a public date, or leave it out"
    elif pa.types.is_decimal(kind):
        advice = "convert it to float64"
    elif pa.types.is_nested(kind):
        advice = "spread it out into columns of numbers, or make it fixed-size lists"
    elif pa.types.is_binary(kind):
        advice = "save the text as UTF-8"
    raise InputError(f"{what} is of type {kind}, which cannot be trained on; {advice}")


def _flattened(column: pa.Array, name: str, role: str) -> tuple[pa.Array, tuple[int, ...]]:
    """The values of a column of fixed-size lists, one row after the other, and the shape of a row; `()` for others."""
    shape: list[int] = []
    if isinstance(column, pa.ExtensionArray):
        if not isinstance(column.type, pa.FixedShapeTensorType):
            return column, ()
        if list(column.type.permutation or range(len(column.type.shape))) != list(range(len(column.type.shape))):
            raise InputError(f"{role} column {name!r} holds tensors with permuted axes; save them in their own order")
        shape = list(column.type.shape)
        column = column.storage.flatten()
    while True:
        if shape and column.null_count:
            place = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False))) // max(math.prod(shape), 1)
            raise InputError(f"{role} column {name!r} misses a value in row {place}; fill in or drop such rows first")
        if not pa.types.is_fixed_size_list(column.type):
            return column, tuple(shape)
        shape.append(column.type.list_size)
        column = column.flatten()


def _column_ids(columns: Mapping[str, Any], name: str, role: str) -> list[Any]:
    """A column of ids, as Python values for `make_records` to judge."""
    values: list[Any] = _arrow(columns, name, role).to_pylist()
    return values


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _stack_columns(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Columns `[n]` of numbers or bool as one `[n, columns]`, without rounding."""
    kinds = {array.dtype.kind for array in arrays.values()}
    common = np.result_type(*(array.dtype for array in arrays.values()))
    if "f" in kinds and kinds & {"i", "u"}:
        common = np.dtype(np.float64)
    if common.kind == "f":
        for name, array in arrays.items():
            if array.dtype.kind in "iu" and array.size and _largest(array) > _EXACT_IN_FLOAT64:
                raise InputError(
                    f"feature column {name!r} holds integers beyond 2**53, which would be rounded beside "
                    f"columns of other types ({common}); leave it out, or convert it to text or float64"
                )
    return np.stack([array.astype(common) for array in arrays.values()], axis=1)


def _largest(array: np.ndarray) -> int:
    """Largest absolute value of integers `[n]`, as a Python integer, which cannot overflow."""
    return max(abs(int(array.min())), abs(int(array.max())))


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is not a file; give the path of a .csv, .parquet or .npz file")
    return path


def _is_npz(path: Path) -> bool:
    return path.suffix.lower() == ".npz"


def _read_table(path: Path, text: Sequence[str]) -> pa.Table:
    """A table from a file, with the named columns as text in CSV."""
    suffix = path.suffix.lower()
    if suffix not in {".csv", ".parquet"}:
        raise InputError(f"{path}: unknown suffix {path.suffix!r}; give a .csv, .parquet or .npz file")
    try:
        if suffix == ".csv":
            _check_commas(path)
        table = _read_csv(path, text) if suffix == ".csv" else _read_parquet(path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        how = "correct it, or save it as UTF-8 with commas and a header" if suffix == ".csv" else "correct it"
        # What follows the counts is a row, somebody's data, which belongs into no log.
        said = re.sub(r"(Expected \d+ columns, got \d+):.*", r"\1 in a row", str(error), flags=re.DOTALL)
        raise InputError(f"{path} cannot be read as {suffix[1:]} ({said}); {how}") from None
    if suffix == ".csv" and table.num_rows == 0:
        raise InputError(f"{path} has a header and no rows below it; give a file with records")
    return table


def _check_commas(path: Path) -> None:
    """Refuse columns that something else separates, before a comma in a row is taken for an end of a column."""
    with path.open("rb") as file:
        header = file.readline().decode("utf-8-sig", errors="replace").strip()
    if "," not in header and (marks := [mark for mark in (";", "\t") if mark in header]):
        raise InputError(
            f"{path} has one column, {header!r}: its columns are separated by {marks[0]!r}; save it with commas"
        )


def _read_csv(path: Path, text: Sequence[str]) -> pa.Table:
    from pyarrow import csv

    return csv.read_csv(
        path,
        convert_options=csv.ConvertOptions(
            # Numbers would lose their leading zeros, and two people could become one.
            column_types={str(name): pa.string() for name in text},
            # A number column with a stray NA would otherwise turn into text without a word.
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


def _read_parquet(path: Path) -> pa.Table:
    from pyarrow import parquet

    # Not read_table: it would add columns for directories named like key=value on the way to the file.
    with parquet.ParquetFile(path) as file:
        return file.read()


def _from_npz(path: Path, batch: int) -> Records:
    """Records from the arrays of an .npz file."""
    inputs, arrays = _npz_arrays(path, "y")
    return make_records(
        inputs,
        arrays["y"],
        subjects=arrays.get("subjects"),
        record_ids=arrays.get("record_ids"),
        risk=arrays.get("risk"),
        batch=batch,
    )


def _npz_arrays(path: Path, *needed: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """`X` (or `x`) and all arrays of an .npz file that must have the needed ones; nothing is unpickled."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored.items())
    except (ValueError, OSError, EOFError, KeyError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} cannot be read as npz ({error}); save plain arrays with numpy.savez") from error
    unknown = [key for key in arrays if key not in _NPZ_KEYS]
    if unknown:
        # A misspelt "subjects" would otherwise make every record its own subject.
        raise InputError(f"{path} holds unknown arrays {unknown}; accepted are {list(_NPZ_KEYS)}")
    inputs = [key for key in ("X", "x") if key in arrays]
    if len(inputs) != 1 or any(key not in arrays for key in needed):
        expected = " and ".join(["X (or x)", *needed])
        raise InputError(f"{path} holds arrays {list(arrays)}; expected {expected}")
    return arrays[inputs[0]], arrays


def _listing(names: Any) -> str:
    return ", ".join(repr(str(name)) for name in names) or "none"
