"""Training examples in memory: what a caller hands over, checked, copied and in canonical dtypes.

Whatever passes `make_records` can be stored, digested and trained on without a further look: ids are text that
survives UTF-8, arrays are little-endian and C-contiguous, and every number is finite.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from shards.digest import Json
from shards.errors import ConfigurationError, InputError
from shards.task import FieldSchema, Task

MAX_ID_BYTES = 4096
"""Longest record id or subject, in bytes of UTF-8."""

TEXT = "str"
"""The dtype of text in a `FieldSchema`; in memory it is a numpy `U` array of whatever width is needed."""

NUMERIC_DTYPES = frozenset(
    np.dtype(code).newbyteorder("<").str
    for code in ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
)
"""Every numeric dtype of a feature or target. Extended floats are out: their padding has no fixed bytes."""

_SHOWN = 5


@dataclass(frozen=True, eq=False)
class Records:
    """A batch of training examples.

    Attributes:
        record_ids: One id per record, unique.
        subjects: Whoever may ask for the record to be forgotten, one per record.
        features: Feature name to array `[n, *shape]` of bool, int, uint or float, little-endian and
            C-contiguous; or `[n]` of dtype `U`.
        target: `[n]` or `[n, *shape]`, of the same dtypes.
        columns: Names of the table's columns that were stacked into the feature `"x"`, in order; else empty.
        risks: Risk class of each record's subject, one per record; empty: none is given.
    """

    record_ids: tuple[str, ...]
    subjects: tuple[str, ...]
    features: Mapping[str, np.ndarray]
    target: np.ndarray
    columns: tuple[str, ...] = ()
    risks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.record_ids)

    def take(self, rows: np.ndarray) -> Records:
        """Copy some of the records, in the order asked for.

        Args:
            rows: `[k]` integer row numbers, or `[n]` bool mask.

        Returns:
            The chosen records.
        """
        chosen = np.flatnonzero(rows) if rows.dtype == np.bool_ and len(rows) == len(self) else rows
        # A mask of another length stays a mask, so that numpy refuses it.
        order = np.arange(len(self))[chosen].tolist()
        return Records(
            record_ids=tuple(self.record_ids[row] for row in order),
            subjects=tuple(self.subjects[row] for row in order),
            features={name: array[order] for name, array in self.features.items()},
            target=self.target[order],
            columns=self.columns,
            risks=tuple(self.risks[row] for row in order) if self.risks else (),
        )


def make_records(
    X: Any,
    y: Any,
    *,
    subjects: Any = None,
    record_ids: Any = None,
    risk: Any = None,
    batch: int = 0,
) -> Records:
    """Check and copy training examples.

    Args:
        X: Array-like `[n, ...]`, which becomes the feature `"x"`, or a mapping of feature name to array-like.
        y: Targets, array-like `[n]` or `[n, *shape]`.
        subjects: `[n]` str or int; None makes every record its own subject.
        record_ids: `[n]` str or int, unique; None numbers the records `"0"`, `"1"`, … in batch 0 and `"b:0"`,
            `"b:1"`, … in batch b.
        risk: Risk classes of the subjects, see `to_risks`; None gives none.
        batch: Number of the batch of ingestion, from 0.

    Returns:
        The records; nothing in them shares memory with the arguments.

    Raises:
        InputError: If lengths differ, an id is repeated or not usable, a number is not finite, or an array is
            of a kind that cannot be trained on.
    """
    features = make_features(X)
    lengths = {f"feature {name!r}": len(array) for name, array in features.items()}
    n = next(iter(lengths.values()))
    target = to_array(y, "y")
    lengths["y"] = len(target)
    ids = numbered_ids(n, batch) if record_ids is None else to_ids(record_ids, "record_ids")
    lengths["record_ids"] = len(ids)
    owners = ids if subjects is None else to_ids(subjects, "subjects")
    lengths["subjects"] = len(owners)
    risks = None if risk is None else to_risks(risk, owners)
    lengths |= {} if risks is None else {"risk": len(risks)}
    _check_lengths(lengths)
    _check_unique(ids)
    return Records(record_ids=ids, subjects=owners, features=features, target=target, risks=risks or ())


def make_features(X: Any) -> dict[str, np.ndarray]:
    """Check and copy features, for training or for prediction.

    Args:
        X: Array-like `[n, ...]`, which becomes the feature `"x"`, or a mapping of feature name to array-like.

    Returns:
        Feature name to array `[n, *shape]` in canonical dtype, in the order given.

    Raises:
        InputError: If there is no feature, lengths differ, or an array cannot be trained on.
    """
    # One of scipy's sparse formats calls itself a mapping, of positions to values.
    given: Mapping[Any, Any] = X if isinstance(X, Mapping) and not hasattr(X, "tocsr") else {"x": X}
    if not given:
        raise InputError("X is an empty mapping; give at least one feature")
    for name in given:
        if not isinstance(name, str) or not name or not is_unicode([name]):
            raise InputError(f"feature name {name!r} is not a non-empty text; rename the feature")
    for name, value in given.items():
        if isinstance(value, list | tuple) and not len(value):
            raise InputError(
                f"feature {name!r} is an empty list, which has no shape; give an array like np.empty((0, 3))"
            )
    features = {name: to_array(value, f"feature {name!r}") for name, value in given.items()}
    _check_lengths({f"feature {name!r}": len(array) for name, array in features.items()})
    return features


def feature_schema(features: Mapping[str, np.ndarray]) -> dict[str, FieldSchema]:
    """Shape and dtype of every feature.

    Args:
        features: Feature name to array `[n, *shape]`.

    Returns:
        Feature name to schema, in the same order.
    """
    return {name: field_schema(array) for name, array in features.items()}


def field_schema(array: np.ndarray) -> FieldSchema:
    """Shape without the record axis, and dtype (`"str"` for text of any width), of `array` `[n, *shape]`."""
    dtype = TEXT if array.dtype.kind == "U" else array.dtype.newbyteorder("<").str
    return FieldSchema(shape=array.shape[1:], dtype=dtype)


def check_features(features: Mapping[str, np.ndarray], schema: Mapping[str, FieldSchema]) -> dict[str, np.ndarray]:
    """Fit features to the declared schema.

    A float of another width and an integer where a float is declared are cast; every other difference of dtype
    is an error, since it more often is a mistake than an intention.

    Args:
        features: Feature name to array `[n, *shape]`.
        schema: The declared features.

    Returns:
        The features in the declared order and dtypes.

    Raises:
        InputError: If a feature is missing, was never declared, or has another shape or dtype.
    """
    missing = [name for name in schema if name not in features]
    unknown = [name for name in features if name not in schema]
    text = [name for name in unknown if features[name].dtype.kind == "U"]
    if missing == ["x"] and text:
        raise InputError(
            f"columns that hold text, where only numbers were declared: {', '.join(map(repr, text))}; correct those "
            "values, or name the feature columns; nothing was changed"
        )
    words = [name for name in missing if schema[name].dtype == "str"]
    if unknown == ["x"] and words:
        raise InputError(
            f"numbers alone, where text was declared of {', '.join(map(repr, words))}: give a table or a mapping of "
            f"columns {list(schema)}, text as text, such as `table.astype({{{words[0]!r}: str}})`; nothing was changed"
        )
    if missing or unknown:
        raise InputError(
            f"features do not fit the declared ones: expected {list(schema)}, got {list(features)} "
            f"(missing {missing}, not declared {unknown}); give exactly the declared features"
        )
    _check_lengths({f"feature {name!r}": len(features[name]) for name in schema})
    return {name: _fit(name, features[name], declared) for name, declared in schema.items()}


def encode_target(y: np.ndarray, kind: Literal["classification", "regression"], classes: Sequence[Json]) -> np.ndarray:
    """Turn targets into what a learner sees.

    Labels are matched by value, so `1`, `1.0` and `True` are one class, and `"1"` is another.

    Args:
        y: `[n]` labels, or `[n, *shape]` numbers for regression.
        kind: What is predicted.
        classes: Declared class labels; ignored for regression.

    Returns:
        `[n]` int64 indices into `classes`, or `[n, *shape]` float64.

    Raises:
        InputError: If a label is not declared, or the targets are of the wrong kind.
        ConfigurationError: If the declared classes repeat a label or hold one that is not text or a number.
    """
    if kind == "regression":
        if y.dtype.kind not in "biuf":
            raise InputError(f"y holds {_kind_name(y)}, but regression needs numbers; convert it")
        return np.ascontiguousarray(y, dtype=np.float64)
    for label in classes:
        if not isinstance(label, str | int | float):
            raise ConfigurationError(f"class {label!r} is not text or a number; declare classes of those")
    index = {label: position for position, label in enumerate(classes)}
    if len(index) != len(classes):
        raise ConfigurationError(f"the declared classes repeat a label: {_some(list(classes))}; declare each once")
    if y.ndim != 1:
        raise InputError(f"y has shape {list(y.shape)}, but classification needs one label per record, shape [n]")
    labels, inverse = np.unique(y, return_inverse=True)
    values = labels.tolist()
    undeclared = [label for label in values if label not in index]
    if undeclared:
        raise InputError(
            f"y holds {len(undeclared)} label(s) that are not declared classes: {_some(undeclared)}; "
            f"declared are {_some(list(classes))}: correct y, or declare every class from the start"
        )
    codes = np.array([index[label] for label in values], dtype=np.int64)
    return codes[inverse.reshape(-1)]


def fit_records(records: Records, task: Task) -> Records:
    """Hold records to a declared task.

    Args:
        records: As they came. A table's stacked columns may come in any order; arrays without names are taken as
            they are.
        task: The declared task.

    Returns:
        The records with features and target as a learner sees them.

    Raises:
        InputError: If they do not fit.
    """
    records = _in_declared_order(records, task)
    features = check_features(records.features, task.features)
    target = encode_target(records.target, task.kind, task.classes)
    if target.shape[1:] != tuple(task.target.shape):
        raise InputError(
            f"y has shape {list(target.shape[1:])} per record, but the first batch declared {list(task.target.shape)}"
        )
    return replace(records, features=features, target=target)


def _in_declared_order(records: Records, task: Task) -> Records:
    """A table's stacked columns in the order of the first batch; arrays without names are taken as they are."""
    columns = tuple(task.features) if "x" not in task.features else task.columns
    if not columns or not records.columns or records.columns == columns:
        return records
    if set(records.columns) != set(columns):
        raise InputError(
            f"the table's columns are {list(records.columns)}, but the first batch declared {list(columns)}: give "
            "exactly those; nothing was changed"
        )
    order = [records.columns.index(name) for name in columns]
    return replace(records, features={"x": np.ascontiguousarray(records.features["x"][:, order])}, columns=columns)


def to_array(value: Any, what: str) -> np.ndarray:
    """Copy an array-like into canonical form.

    Args:
        value: Array-like `[n, ...]`: numpy, nested lists, torch tensor, pandas or pyarrow column.
        what: Its name in error messages, such as `"feature 'x'"`.

    Returns:
        `[n, *shape]`, little-endian, C-contiguous, owning its memory; text as `U`, shape `[n]`.

    Raises:
        InputError: If it is sparse, masked, ragged, of a dtype that cannot be trained on, not finite, or has no
            record axis or an axis of length 0 after it.
    """
    array = _raw_array(value, what)
    if array.ndim == 0:
        raise InputError(f"{what} is a single value; give one row per record, shape [n, ...]")
    if 0 in array.shape[1:]:
        raise InputError(f"{what} has shape {list(array.shape)}: nothing in a record; leave it out")
    if array.dtype.kind in "OUT":
        return _text_array(array, what)
    _check_dtype(array, what)
    copied = np.array(array, dtype=array.dtype.newbyteorder("<"), order="C", copy=True, subok=False)
    check_finite(copied, what)
    return copied


def check_finite(array: np.ndarray, what: str) -> None:
    """Refuse NaN and infinity.

    Args:
        array: `[n, *shape]` of any numeric dtype.
        what: Its name in error messages.

    Raises:
        InputError: With the first row, and the place in it, that is not finite.
    """
    if array.dtype.kind != "f":
        return
    finite = np.isfinite(array)
    if finite.all():
        return
    row, *place = (int(axis) for axis in np.unravel_index(int(np.argmin(finite)), array.shape))
    where = f"row {row}" + (f", position {place}" if place else "")
    found = array[(row, *place)]
    raise InputError(f"{what} holds {found} in {where}; fill in or drop such records first")


def to_ids(ids: Any, what: str) -> tuple[str, ...]:
    """Record ids or subjects as text.

    Args:
        ids: `[n]` str or int, in any mixture; list, tuple, numpy array, pandas or pyarrow column.
        what: Name in error messages.

    Returns:
        The ids as text, integers in decimal.

    Raises:
        InputError: If an id is of another type, empty, longer than 4096 bytes of UTF-8, or not valid Unicode.
    """
    texts = tuple(_id_text(value, row, what) for row, value in enumerate(_id_list(ids, what)))
    if not is_unicode(texts):
        row = next(row for row, text in enumerate(texts) if not is_unicode([text]))
        raise InputError(f"{what}: row {row} is {texts[row]!r}, which holds a lone surrogate; correct the text")
    for row, text in enumerate(texts):
        # Four bytes a character at most, so most ids need not be encoded to be measured.
        if 4 * len(text) > MAX_ID_BYTES and len(text.encode()) > MAX_ID_BYTES:
            raise InputError(f"{what}: row {row} is longer than {MAX_ID_BYTES} bytes of UTF-8; shorten it")
    return texts


def is_dataset(X: object) -> bool:
    """Whether this is a torch dataset with an index; torch is not imported to find out.

    Args:
        X: Whatever was given for features.

    Returns:
        True if it is one.

    Raises:
        InputError: If it is a loader or a stream, whose rows have no fixed place.
    """
    data: Any = sys.modules.get("torch.utils.data")
    if data is None:
        return False
    if isinstance(X, data.DataLoader):
        raise InputError(
            "a DataLoader gives batches, in an order of its own: give its dataset (loader.dataset); how large batches "
            "are, and in which order records are visited, is the learner's to say"
        )
    if isinstance(X, data.IterableDataset):
        raise InputError(
            f"a {type(X).__name__} is an IterableDataset: a stream, whose records have no index to be found again by. "
            "Give a map-style dataset, with __len__ and __getitem__; or collect it, "
            "shards.sources.from_dataset(list(stream)); or, if it does not fit into memory, write it as Parquet for "
            "Workspace.ingest_parquet"
        )
    return isinstance(X, data.Dataset)


def refuse_other_order(X: Any, **beside: Any) -> None:
    """Refuse pandas objects whose indexes hold the same labels in another order: rows are taken by position.

    Args:
        X: Features; anything without an index is in whatever order it is.
        beside: What belongs to the same rows, by its name in messages.

    Raises:
        InputError: If one of them was shuffled or sorted apart from X.
    """
    index = _pandas_index(X)
    for name, value in beside.items():
        other = _pandas_index(value)
        if index is None or other is None or len(index) != len(other) or index.equals(other):
            continue
        if set(index) == set(other):
            raise InputError(
                f"{name} has the index of X in another order, and rows are taken by position: give "
                f"{name}.loc[X.index], or reset the index of both where the order is meant"
            )


def _pandas_index(value: Any) -> Any:
    index = getattr(value, "index", None)
    # That of a list is a method.
    return index if hasattr(index, "equals") else None


def to_risks(risk: Any, subjects: Sequence[str]) -> tuple[str, ...]:
    """Risk class of each record's subject, as text.

    Args:
        risk: Array-like `[n]` with the class of each record's subject; or a mapping of subjects to their classes; or
            the one class of them all, as text.
        subjects: `[n]`, whose the records are.

    Returns:
        The classes, one per record if the arrays have that length.

    Raises:
        InputError: If a subject is not in the mapping, or a class is no text.
    """
    if isinstance(risk, str):
        return to_ids([risk], "risk") * len(subjects)
    if not isinstance(risk, Mapping):
        return to_ids(risk, "risk")
    classes = dict(zip(to_ids(list(risk), "risk"), to_ids(list(risk.values()), "risk"), strict=True))
    missing = list(dict.fromkeys(name for name in subjects if name not in classes))
    if missing:
        raise InputError(
            f"risk names no class for {len(missing)} of the subjects ({_some(missing)}): give every subject one; "
            "nothing was ingested"
        )
    return tuple(classes[name] for name in subjects)


def _id_list(ids: Any, what: str) -> list[Any]:
    """The ids as a list of whatever they are."""
    if isinstance(ids, np.ndarray) and (ids.dtype.kind not in "iuUOT" or ids.ndim != 1):
        raise InputError(
            f"{what} is an array of {ids.dtype}, shape {list(ids.shape)}; give one text or integer per record"
        )
    if isinstance(ids, str | bytes | Mapping | set | frozenset) or not isinstance(ids, Iterable):
        raise InputError(f"{what} is a {type(ids).__name__}; give a list of one text or integer per record")
    tolist = getattr(ids, "tolist", None)
    return list(tolist()) if callable(tolist) else list(ids)


def _id_text(value: Any, row: int, what: str) -> str:
    """One id as text."""
    if isinstance(value, str):
        if not value:
            raise InputError(f"{what}: row {row} is an empty text; every record needs an id that names it")
        # Plain str even where a subclass (numpy.str_, an Enum) would print itself otherwise.
        return str.__str__(value)
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        number = int(value)
        if number.bit_length() > MAX_ID_BYTES:
            raise InputError(f"{what}: row {row} is an integer of {number.bit_length()} bits; shorten it")
        return str(number)
    if _is_missing(value):
        raise InputError(f"{what}: row {row} misses its id; name it, or drop such rows first")
    whole = " (pandas turns whole numbers into floats where one of them is missing)" if isinstance(value, float) else ""
    raise InputError(
        f"{what}: row {row} is {value!r} ({type(value).__name__}); ids are text or integers: convert it{whole}"
    )


def _is_missing(value: Any) -> bool:
    """Whether this stands for a value that is not there: None, NaN, or what pandas says instead."""
    return value is None or (isinstance(value, float) and value != value) or type(value).__name__ in _ABSENT


_ABSENT = ("NAType", "NaTType")
"""Types of `pandas.NA` and `pandas.NaT`, which is not imported for them."""


def numbered_ids(n: int, batch: int, first: int = 0) -> tuple[str, ...]:
    """Ids of records that have none: row numbers, which no other batch's repeat.

    Args:
        n: How many.
        batch: Number of the batch of ingestion, from 0.
        first: Row number of the first.

    Returns:
        `"17"` in the first batch, `"b:17"` in batch b.
    """
    prefix = "" if batch == 0 else f"{batch}:"
    return tuple(f"{prefix}{row}" for row in range(first, first + n))


def _check_lengths(lengths: Mapping[str, int]) -> None:
    if len(set(lengths.values())) > 1:
        listing = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise InputError(f"lengths differ ({listing}); give one row per record everywhere")


def _check_unique(ids: tuple[str, ...]) -> None:
    if len(set(ids)) == len(ids):
        return
    repeated = [name for name, count in Counter(ids).items() if count > 1]
    raise repeated_ids(len(repeated), repeated)


def repeated_ids(count: int, names: Sequence[str]) -> InputError:
    """The error to raise where record ids occur more than once.

    Args:
        count: How many ids do.
        names: Some of them at least.

    Returns:
        The error.
    """
    shown = ", ".join(repr(name) for name in names[:_SHOWN]) + (f", … ({count} in all)" if count > _SHOWN else "")
    return InputError(
        f"record_ids: {count} id(s) occur more than once: {shown}; "
        "every record needs its own (integers and their decimal text are the same id)"
    )


def _raw_array(value: Any, what: str) -> np.ndarray:
    """An array-like as a numpy array, without a copy where there need be none."""
    if hasattr(value, "tocsr") or getattr(value, "is_sparse", False) is True:
        raise InputError(f"{what} is a sparse matrix; give a dense array, for example {what.split()[0]}.toarray()")
    if np.ma.isMaskedArray(value) and np.ma.is_masked(value):
        raise InputError(f"{what} is a masked array with missing values; fill in or drop such records first")
    try:
        if callable(getattr(value, "detach", None)):
            return np.asarray(value.detach().cpu().numpy())
        array = np.asarray(value)
        if array.dtype.kind in "US" and not isinstance(value, np.ndarray):
            # numpy would turn the numbers of a mixed list into text, and drop NULs at the end.
            array = np.asarray(value, dtype=object)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{what} is not an array ({error}); give rows of one shape and one type") from error
    return array


def _text_array(array: np.ndarray, what: str) -> np.ndarray:
    """Text `[n]`, from an array of `U`, of numpy's variable-width strings, or of Python strings."""
    values = array.reshape(-1).tolist()
    strange = next((row for row, item in enumerate(values) if not isinstance(item, str)), None)
    if strange is not None:
        found = values[strange]
        if _is_missing(found) and array.ndim == 1:
            raise InputError(f"{what} misses a value in row {strange}; fill in or drop such rows first")
        raise InputError(
            f"{what} holds Python objects (item {strange} is a {type(found).__name__}); "
            "give numbers of one dtype, or text only; for a mixed table use shards.sources.from_table"
        )
    if array.ndim != 1:
        raise InputError(f"{what} is text of shape {list(array.shape)}; give each text column as its own feature")
    if not is_unicode(values):
        row = next(row for row, text in enumerate(values) if not is_unicode([text]))
        raise InputError(f"{what}: row {row} holds a lone surrogate, which is not valid Unicode; correct the text")
    ending = next((row for row, text in enumerate(values) if text.endswith("\0")), None)
    if ending is not None:
        raise InputError(f"{what}: row {ending} ends with a NUL character, which would be lost; strip it")
    return np.array(values, dtype="<U") if values else np.empty(0, dtype="<U1")


def _check_dtype(array: np.ndarray, what: str) -> None:
    """Refuse what is not one of the numeric dtypes."""
    if array.dtype.newbyteorder("<").str in NUMERIC_DTYPES:
        return
    advice = {
        "c": "give real and imaginary part as two features",
        "M": "convert it to a number, such as days since a public date",
        "m": "convert it to a number, such as seconds",
        "S": "decode it to text",
        "V": "give each field as its own feature",
        "f": "convert it to float64",
    }.get(array.dtype.kind, "convert it to numbers or text")
    raise InputError(f"{what} holds {_kind_name(array)}, which cannot be trained on; {advice}")


def _of_rows(shape: Sequence[int]) -> str:
    """The shape of many records, for a message."""
    return f"[{', '.join(map(str, ('n', *shape)))}]"


def _fit(name: str, array: np.ndarray, declared: FieldSchema) -> np.ndarray:
    """One feature in its declared shape and dtype."""
    found = field_schema(array)
    if found.shape != tuple(declared.shape):
        raise InputError(
            f"feature {name!r}: expected shape {_of_rows(declared.shape)}, got {_of_rows(found.shape)}; "
            "give records of the declared shape"
        )
    if found.dtype == declared.dtype:
        return array if declared.dtype == TEXT else np.ascontiguousarray(array, dtype=declared.dtype)
    expected = None if declared.dtype == TEXT else np.dtype(declared.dtype)
    if expected is None or expected.kind != "f" or array.dtype.kind not in "iuf":
        raise InputError(
            f"feature {name!r}: expected dtype {declared.dtype}, got {found.dtype}; convert it if that is right"
        )
    with np.errstate(over="ignore"):
        cast = np.ascontiguousarray(array, dtype=expected)
    check_finite(cast, f"feature {name!r}, as the declared {declared.dtype},")
    return cast


def is_unicode(texts: Sequence[str]) -> bool:
    """Whether all texts are valid Unicode, without lone surrogates; joined, since one call is fast."""
    try:
        "\n".join(texts).encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind_name(array: np.ndarray) -> str:
    names = {
        "c": "complex numbers",
        "M": "dates",
        "m": "durations",
        "S": "bytes",
        "V": "structures",
        "U": "text",
    }
    return f"{names.get(array.dtype.kind, 'values')} ({array.dtype})"


def _some(values: Sequence[Any]) -> str:
    shown = ", ".join(repr(value) for value in values[:_SHOWN])
    return shown + (f", … ({len(values)} in all)" if len(values) > _SHOWN else "")
