"""The stored records of one (batch, shard, slice): an Arrow IPC file, written once, read without a copy.

Numeric arrays are fixed-width binary columns, whose bytes are the array's bytes: nothing is converted either
way. Shapes, dtypes and feature names stand as JSON in the schema's metadata; dtypes are checked against an
allow-list.

The commitment of a record is SHA-256(salt || record digest). The salt is destroyed with the record, after which
the commitment says nothing about it.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from shards.digest import Json, canonical_json, digest_json, digest_parts
from shards.errors import DamageError, InputError
from shards.records import NUMERIC_DTYPES, TEXT, field_schema, is_unicode
from shards.task import FieldSchema

if TYPE_CHECKING:
    import pyarrow as pa

TOKEN_BYTES = 16
SALT_BYTES = 32

_METADATA_KEY = b"shards.slice"
_VERSION = 1
_MAGIC = b"ARROW1\0\0"
_BLOCK_BYTES = 1 << 24
"""How much of a slice is copied at once to be digested."""

_MAX_RECORD_BYTES = 2**31 - 1
"""Arrow counts the width of fixed-width binary in an int32."""

_MOST_TEXT = 2**31 - 1
"""Bytes of all ids of a slice: Arrow counts them in an int32."""


@dataclass(frozen=True, eq=False)
class SliceRecords:
    """The records of one slice, in canonical order: ascending token bytes.

    Attributes:
        record_ids: One id per record.
        subjects: One subject per record.
        tokens: `[n, 16]` uint8, keyed pseudonym of each record, strictly ascending.
        salts: `[n, 32]` uint8, the secret random salt of each record's commitment.
        features: Feature name to array `[n, *shape]`; dtypes as in `shards.records.Records`.
        target: `[n]` or `[n, *shape]`.
    """

    record_ids: tuple[str, ...]
    subjects: tuple[str, ...]
    tokens: np.ndarray
    salts: np.ndarray
    features: Mapping[str, np.ndarray]
    target: np.ndarray

    def __len__(self) -> int:
        return len(self.record_ids)


def write(path: Path, data: SliceRecords) -> None:
    """Write a slice file, through to the disk.

    The directory entry is not synced and a failed write leaves a partial file: publishing is the caller's, who
    chooses a temporary or fresh name.

    Args:
        path: A name that does not exist yet.
        data: The records.

    Raises:
        InputError: If arrays differ in length, are out of order, or cannot be stored.
        FileExistsError: If there is a file of that name.
    """
    batch = _batch(path, data)
    with path.open("xb") as file:
        _write_batch(file, batch)
        file.flush()
        os.fsync(file.fileno())


def to_bytes(where: object, data: SliceRecords) -> bytes:
    """The content of a slice file, for where it is not written to a disk.

    Args:
        where: Where it will lie, for messages.
        data: The records.

    Returns:
        The bytes that `write` writes.
    """
    file = io.BytesIO()
    _write_batch(file, _batch(where, data))
    return file.getvalue()


def _batch(where: object, data: SliceRecords) -> pa.RecordBatch:
    import pyarrow as pa

    fault = _fault(data)
    if fault:
        raise InputError(f"cannot write {where}: {fault}")
    names = list(data.features)
    schema = _schema(names, [field_schema(data.features[name]) for name in names], field_schema(data.target))
    columns = [
        _texts(data.record_ids, pa.string()),
        _texts(data.subjects, pa.string()),
        *(_encode(array) for array in (data.tokens, data.salts, *data.features.values(), data.target)),
    ]
    return pa.record_batch(columns, schema=schema)


def _write_batch(file: IO[bytes], batch: pa.RecordBatch) -> None:
    import pyarrow as pa

    with pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)


def read(path: Path) -> SliceRecords:
    """Read a slice file; numeric arrays are read-only views of the memory-mapped file.

    As long as one of them is alive, so are the file's bytes on the disk, even after the file was deleted:
    whoever destroys records drops the arrays too. Content is not compared with any digest here: that is what
    `commitments` and `slice_digest` are for.

    Args:
        path: The file.

    Returns:
        The records.

    Raises:
        DamageError: If the file is missing or is not a well-formed slice file.
    """
    import pyarrow as pa

    try:
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
    except FileNotFoundError as error:
        raise DamageError(missing(path)) from error
    except (IsADirectoryError, PermissionError) as error:
        raise DamageError(f"slice file {path} cannot be read ({error.strerror}); restore it from a copy") from error
    return _read(path, magic, lambda: pa.memory_map(str(path), "r"))


def missing(where: object) -> str:
    """What to say of a slice file that is not there."""
    return f"slice file {where} is missing; restore it, or ingest its records again"


def from_bytes(where: object, data: bytes) -> SliceRecords:
    """Read a slice file that is in memory; numeric arrays are read-only views of it.

    Args:
        where: Where it lies, for messages.
        data: Its content.

    Returns:
        The records.

    Raises:
        DamageError: If it is not a well-formed slice file.
    """
    import pyarrow as pa

    return _read(where, data[: len(_MAGIC)], lambda: pa.BufferReader(data))


def _read(where: object, magic: bytes, opened: Callable[[], pa.NativeFile]) -> SliceRecords:
    import pyarrow as pa

    if magic != _MAGIC:
        raise DamageError(f"slice file {where} does not start like an Arrow file; restore it from a copy")
    try:
        return _parse(opened())
    # Arrow reports short reads as OSError and allocations of a damaged size as MemoryError.
    except (pa.ArrowException, ValueError, TypeError, KeyError, OSError, MemoryError, RecursionError) as error:
        raise DamageError(
            f"slice file {where} is damaged ({error}); restore it from a copy, or ingest its records again"
        ) from error


def commitments(data: SliceRecords) -> np.ndarray:
    """Salted digest of each record.

    The record digest is SHA-256 of: the digest of names, dtypes and shapes of all features (sorted by name) and
    of the target; record id and subject, each after its length; the token; the little-endian bytes of all
    numeric features in that order and of the target; every text, after its length. Lengths are unsigned 64-bit
    little-endian numbers. Since the first part fixes the length of every numeric one, no two different records
    have the same parts.

    Args:
        data: The records.

    Returns:
        `[n, 32]` uint8: SHA-256(salt || record digest).
    """
    n = len(data)
    arrays = [*(data.features[name] for name in sorted(data.features)), data.target]
    head = bytes.fromhex(
        digest_json("record", _description(sorted(data.features), [field_schema(array) for array in arrays]))
    )
    numeric = _rows([data.tokens, *(array for array in arrays if array.dtype.kind != "U")], n)
    texts = [array.tolist() for array in arrays if array.dtype.kind == "U"]
    tails: Iterator[bytes] | list[bytes] = (
        (b"".join(map(_prefixed, row)) for row in zip(*texts, strict=True)) if texts else [b""] * n
    )
    salts = np.ascontiguousarray(data.salts).tobytes()
    sha256 = hashlib.sha256
    out = bytearray()
    for row, (record_id, subject, numbers, tail) in enumerate(
        zip(data.record_ids, data.subjects, numeric, tails, strict=True)
    ):
        record = b"".join((head, _prefixed(record_id), _prefixed(subject), numbers, tail))
        salt = salts[row * SALT_BYTES : (row + 1) * SALT_BYTES]
        out += sha256(salt + sha256(record).digest()).digest()
    return np.frombuffer(out, dtype=np.uint8).reshape(n, 32)


def slice_digest(commitments: np.ndarray) -> str:
    """Digest of a slice: of its records' commitments, in order.

    Args:
        commitments: `[n, 32]` uint8; n may be 0.

    Returns:
        Hex digest, 64 characters.
    """
    return digest_parts("slice", (row.tobytes() for row in commitments))


def keep(data: SliceRecords, mask: np.ndarray) -> SliceRecords:
    """Copy the records that stay.

    Args:
        data: The records.
        mask: `[n]` bool, True for a record that stays.

    Returns:
        Those records, in the same order, sharing no array with `data`.

    Raises:
        InputError: If the mask is not one bool per record.
    """
    if mask.dtype != np.bool_ or mask.shape != (len(data),):
        raise InputError(f"mask is {mask.dtype} of shape {list(mask.shape)}; give bool of shape [{len(data)}]")
    stays = mask.tolist()
    return SliceRecords(
        record_ids=tuple(item for item, stay in zip(data.record_ids, stays, strict=True) if stay),
        subjects=tuple(item for item, stay in zip(data.subjects, stays, strict=True) if stay),
        tokens=data.tokens[mask],
        salts=data.salts[mask],
        features={name: array[mask] for name, array in data.features.items()},
        target=data.target[mask],
    )


def merge(parts: Sequence[Callable[[], SliceRecords]]) -> SliceRecords:
    """Put the parts of a slice together; one part at a time is held besides the result.

    Args:
        parts: Each reads one part, the same whenever it is called; at least one. All have the same fields.

    Returns:
        All their records, in canonical order.

    Raises:
        InputError: If their fields differ, or a record is in two parts.
    """
    pieces = [read().tokens.copy() for read in parts]
    tokens = np.concatenate(pieces)
    n = len(tokens)
    high, low = tokens.view(">u8").T
    order = np.lexsort((low, high))
    place = np.empty(n, dtype=np.int64)
    place[order] = np.arange(n)
    filling = _Filling(n)
    start = 0
    for read, piece in zip(parts, pieces, strict=True):
        filling.put(place[start : start + len(piece)], read())
        start += len(piece)
    merged = filling.records(tokens[order])
    if not _ascending(merged.tokens):
        raise InputError("a record is in two parts of a slice; leave no token twice")
    return merged


class _Filling:
    """Records that come in any order, put where they belong, so that they are held only once."""

    def __init__(self, n: int) -> None:
        self._ids = [""] * n
        self._subjects = [""] * n
        self._salts = np.empty((n, SALT_BYTES), dtype=np.uint8)
        self._arrays: dict[str, np.ndarray] = {}
        self._texts: dict[str, list[str]] = {}
        self._fields: dict[str, FieldSchema] | None = None

    def put(self, place: np.ndarray, part: SliceRecords) -> None:
        """Set the rows at `place` `[k]` to the records of a part `[k]`."""
        arrays = {**{f"f {name}": array for name, array in part.features.items()}, _TARGET: part.target}
        fields = {name: field_schema(array) for name, array in arrays.items()}
        if self._fields is None:
            self._fields = fields
            for name, array in arrays.items():
                if array.dtype.kind == "U":
                    self._texts[name] = [""] * len(self._ids)
                else:
                    self._arrays[name] = np.empty((len(self._ids), *array.shape[1:]), dtype=array.dtype)
        if list(self._fields.items()) != list(fields.items()):
            raise InputError(f"parts of a slice differ in their fields: {self._fields} and {fields}")
        rows = place.tolist()
        texts = [(self._ids, part.record_ids), (self._subjects, part.subjects)]
        texts += [(kept, arrays[name].tolist()) for name, kept in self._texts.items()]
        for kept, values in texts:
            for row, value in zip(rows, values, strict=True):
                kept[row] = value
        self._salts[place] = part.salts
        for name, array in self._arrays.items():
            array[place] = arrays[name]

    def records(self, tokens: np.ndarray) -> SliceRecords:
        """All of them, with their tokens in order."""
        fields = self._fields or {}
        # Without a record there is no width to find.
        texts = {name: np.array(kept, dtype="<U") if kept else np.empty(0, "<U1") for name, kept in self._texts.items()}
        arrays = {name: texts[name] if name in texts else self._arrays[name] for name in fields}
        target = arrays.pop(_TARGET)
        return SliceRecords(
            record_ids=tuple(self._ids),
            subjects=tuple(self._subjects),
            tokens=tokens,
            salts=self._salts,
            features={name.removeprefix("f "): array for name, array in arrays.items()},
            target=target,
        )


_TARGET = "target"


def _fault(data: SliceRecords) -> str | None:
    """What keeps the records from being a slice, or None."""
    n = len(data)
    for name, array, width in (("tokens", data.tokens, TOKEN_BYTES), ("salts", data.salts, SALT_BYTES)):
        if array.dtype != np.uint8 or array.shape != (n, width):
            return f"{name} are {array.dtype} of shape {list(array.shape)}, expected uint8 of [{n}, {width}]"
    if not is_unicode([*data.record_ids, *data.subjects, *data.features]):
        return "a record id, a subject or a feature name holds a lone surrogate; correct the text"
    if len(data.subjects) != n:
        return f"there are {n} record ids and {len(data.subjects)} subjects"
    if not _ascending(data.tokens):
        return "tokens are not strictly ascending; sort the records by token and leave no token twice"
    for name, array in {
        **{f"feature {name!r}": item for name, item in data.features.items()},
        "target": data.target,
    }.items():
        fault = _array_fault(array, n)
        if fault:
            return f"{name} {fault}"
    return None


def _array_fault(array: np.ndarray, n: int) -> str | None:
    """What keeps one array from being stored, or None."""
    if array.ndim == 0 or len(array) != n:
        return f"has shape {list(array.shape)}, expected [{n}, ...]"
    field = field_schema(array)
    if field.dtype == TEXT:
        return None if not field.shape else f"is text of shape {list(array.shape)}, expected [{n}]"
    if array.dtype.newbyteorder("<").str not in NUMERIC_DTYPES:
        return f"has dtype {array.dtype}, which cannot be stored; convert it to a number or text"
    if 0 in field.shape:
        return f"has shape {list(array.shape)}: nothing in a record; leave it out"
    if math.prod(field.shape) * array.dtype.itemsize > _MAX_RECORD_BYTES:
        return "has more than 2 GiB per record; split it into several features"
    return None


def _ascending(tokens: np.ndarray) -> bool:
    """Whether `[n, 16]` uint8 tokens strictly ascend, compared as byte strings."""
    words = np.ascontiguousarray(tokens).view(">u8")  # [n, 2], compared like the bytes they are made of
    high, low = words[:, 0], words[:, 1]
    return bool(np.all((high[:-1] < high[1:]) | ((high[:-1] == high[1:]) & (low[:-1] < low[1:]))))


def _little(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))


def _encode(array: np.ndarray) -> pa.Array:
    """An array as an Arrow column that shares its bytes, or as a column of text."""
    import pyarrow as pa

    if array.dtype.kind == "U":
        return _texts(array.tolist(), pa.large_string())
    width = array.dtype.itemsize * math.prod(array.shape[1:])
    flat = _little(array).reshape(-1).view(np.uint8)
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(array), [None, pa.py_buffer(flat)])


def _texts(texts: Sequence[str], kind: pa.DataType) -> pa.Array:
    """Texts as an Arrow column, made of its buffers: `pa.array` loads pandas, to ask whether it was given any."""
    import pyarrow as pa

    encoded = [text.encode() for text in texts]
    ends = np.cumsum([0, *map(len, encoded)])
    if kind == pa.string():
        if ends[-1] > _MOST_TEXT:
            raise InputError(f"the ids of a slice have {ends[-1]:,} bytes, and {_MOST_TEXT:,} fit: use more slices")
        ends = ends.astype(np.int32)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(kind, len(encoded), buffers)


def _decode(column: pa.Array, field: FieldSchema) -> np.ndarray:
    """The array of a column; a view of its bytes unless it is text."""
    n = len(column)
    if field.dtype == TEXT:
        return np.array(column.to_pylist(), dtype="<U") if n else np.empty(0, dtype="<U1")
    dtype = np.dtype(field.dtype)
    size = math.prod(field.shape)
    # A column of no rows may come without a buffer.
    buffer = column.buffers()[1] if n else b""
    offset = column.offset * size * dtype.itemsize
    return np.frombuffer(buffer, dtype=dtype, count=n * size, offset=offset).reshape(n, *field.shape)


def _description(names: list[str], fields: list[FieldSchema]) -> Json:
    """JSON of the features' names and of every field; the target's field is the last and has no name."""
    return {
        "features": names,
        "fields": [{"dtype": field.dtype, "shape": list(field.shape)} for field in fields],
    }


def _schema(names: list[str], features: list[FieldSchema], target: FieldSchema) -> pa.Schema:
    """The one Arrow schema that a slice file of these fields has."""
    import pyarrow as pa

    def column(field: FieldSchema) -> pa.DataType:
        if field.dtype == TEXT:
            return pa.large_string()
        return pa.binary(math.prod(field.shape) * np.dtype(field.dtype).itemsize)

    description = _description(names, [*features, target])
    columns = [("record_id", pa.string()), ("subject", pa.string())]
    columns += [("token", pa.binary(TOKEN_BYTES)), ("salt", pa.binary(SALT_BYTES))]
    columns += [(f"feature_{number}", column(field)) for number, field in enumerate(features)]
    columns += [("target", column(target))]
    return pa.schema(
        [pa.field(name, kind, nullable=False) for name, kind in columns],
        metadata={_METADATA_KEY: canonical_json(description | {"version": _VERSION})},
    )


def _parse(file: pa.NativeFile) -> SliceRecords:
    """Read and check a file; anything wrong with it raises one of the errors that `_read` expects."""
    import pyarrow as pa

    reader = pa.ipc.open_file(file)
    names, features, target = _parse_description((reader.schema.metadata or {})[_METADATA_KEY])
    # Other metadata is never looked at; types are compared as a whole, so no extension type gets through.
    if not reader.schema.equals(_schema(names, features, target), check_metadata=False):
        raise ValueError("its columns are not those its metadata describes")
    if reader.num_record_batches != 1:
        raise ValueError(f"it holds {reader.num_record_batches} record batches, expected 1")
    batch = reader.get_batch(0)
    # Lengths of columns and buffers, offsets and UTF-8: nothing below reads outside of a buffer.
    batch.validate(full=True)
    columns = batch.columns
    if any(column.null_count for column in columns):
        raise ValueError("it holds missing values")
    byte = [FieldSchema((width,), "|u1") for width in (TOKEN_BYTES, SALT_BYTES)]
    arrays = [_decode(column, field) for column, field in zip(columns[2:], [*byte, *features, target], strict=True)]
    data = SliceRecords(
        record_ids=tuple(columns[0].to_pylist()),
        subjects=tuple(columns[1].to_pylist()),
        tokens=arrays[0],
        salts=arrays[1],
        features=dict(zip(names, arrays[2:-1], strict=True)),
        target=arrays[-1],
    )
    fault = _fault(data)
    if fault:
        raise ValueError(fault)
    return data


def _parse_description(encoded: bytes) -> tuple[list[str], list[FieldSchema], FieldSchema]:
    """Feature names, their fields and the target's field, from the schema's metadata."""
    described = json.loads(encoded)
    if not isinstance(described, dict) or described.keys() != {"version", "features", "fields"}:
        raise ValueError("its metadata is not a slice's")
    names, fields = described["features"], described["fields"]
    if described["version"] != _VERSION:
        raise ValueError(f"its version is {described['version']!r}, expected {_VERSION}")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("its feature names are not text")
    if len(set(names)) != len(names) or not isinstance(fields, list) or len(fields) != len(names) + 1:
        raise ValueError("its features are repeated or not described")
    parsed = [_parse_field(field) for field in fields]
    return names, parsed[:-1], parsed[-1]


def _parse_field(field: Json) -> FieldSchema:
    """One field; only dtypes of the allow-list are ever handed to numpy."""
    if not isinstance(field, dict) or field.keys() != {"dtype", "shape"}:
        raise ValueError("a field is not described by dtype and shape")
    dtype, shape = field["dtype"], field["shape"]
    if not isinstance(dtype, str) or (dtype != TEXT and dtype not in NUMERIC_DTYPES):
        raise ValueError(f"dtype {dtype!r} is not one that is stored")
    if not isinstance(shape, list) or not all(type(length) is int and length > 0 for length in shape):
        raise ValueError(f"shape {shape!r} is not a list of lengths")
    if dtype == TEXT and shape:
        raise ValueError("text has a shape")
    if dtype != TEXT and math.prod(shape) * np.dtype(dtype).itemsize > _MAX_RECORD_BYTES:
        raise ValueError(f"shape {shape!r} is larger than any that is stored")
    return FieldSchema(tuple(shape), dtype)


def _rows(arrays: list[np.ndarray], n: int) -> Iterator[memoryview]:
    """The bytes of each row of numeric arrays, one array after the other; copied a block at a time."""
    if not n:
        return
    width = sum(array.dtype.itemsize * math.prod(array.shape[1:]) for array in arrays)
    rows = max(_BLOCK_BYTES // width, 1)
    for first in range(0, n, rows):
        blocks = (_little(array[first : first + rows]) for array in arrays)
        flat = [block.reshape(len(block), -1).view(np.uint8) for block in blocks]
        view = memoryview(np.concatenate(flat, axis=1).reshape(-1))  # type: ignore[arg-type]
        yield from (view[start : start + width] for start in range(0, len(view), width))


def _prefixed(text: str) -> bytes:
    """UTF-8 after its length."""
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded
