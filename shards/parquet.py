"""Parquet files cut into pieces that can be read apart from each other, in bounded memory and by anybody.

A piece is some row groups of one file; a row group too large for memory is a piece that is read in many parts. Files
are named by paths, or by URLs of stores that all workers reach.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from shards.digest import Json
from shards.errors import InputError
from shards.interrupts import guarded
from shards.remote import KINDS, connect

PIECE_BYTES = 1 << 27
"""About how much a piece is, decoded; one that is a single row group may be larger."""

PART_BYTES = 1 << 25
"""About how much of a piece is in memory at a time, decoded."""

PART_ROWS = 1 << 16
"""The most rows of a piece that are in memory at a time."""

_TEXT_BYTES = 64
"""About how much a text takes, where nothing else is known."""

_BUFFER_BYTES = 1 << 20
"""How much of an encoded column is read at once; without a buffer it would be all of a row group's."""


@dataclass(frozen=True)
class Piece:
    """Rows that are read together, one after the other.

    Attributes:
        file: Path or URL of the file.
        stamp: What tells the file from a changed one (`stamp`).
        groups: Its row groups, consecutive.
        offset: Number of the first row in the file.
        first: Number of the first row among those of all files.
        rows: How many rows.
    """

    file: str
    stamp: str
    groups: tuple[int, ...]
    offset: int
    first: int
    rows: int

    def to_json(self) -> Json:
        """The piece as JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> Piece:
        """The piece from its JSON."""
        return cls(**{**value, "groups": tuple(value["groups"])})


@dataclass(frozen=True)
class Survey:
    """What some files hold, as their footers say.

    Attributes:
        schema: Columns of the first file; the others have the same.
        pieces: All rows, in the order of the files.
    """

    schema: pa.Schema
    pieces: tuple[Piece, ...]

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(piece.rows for piece in self.pieces)


def parquet_files(source: Any) -> list[str]:
    """The files that a source names, in the order of their names.

    Args:
        source: A Parquet file, or a folder of them (what begins with `.` or `_` is left out), as path or URL; or a
            `pyarrow.dataset` of Parquet files on a local or mounted file system.

    Returns:
        Absolute paths, or URLs.

    Raises:
        InputError: If there are none, or their folders hold values that the files do not.
    """
    if hasattr(source, "get_fragments"):
        return _of_dataset(source)
    protocol, there, path = str(source).partition("://")
    found = _of_store(protocol, path.rstrip("/")) if there else _of_folder(Path(source))
    if not found:
        raise InputError(f"{source} holds no Parquet file: give a folder with *.parquet in it, or a file")
    for name in found:
        inside = name.removeprefix(str(Path(source).absolute()) if not there else str(source))
        if any("=" in folder for folder in inside.split("/")[:-1]):
            raise InputError(
                f"{name} lies in a folder named like column=value, which is no column of the file and would be lost: "
                "write the files with all their columns, then give that folder"
            )
    return found


def _of_folder(path: Path) -> list[str]:
    if path.is_file():
        return [str(path.absolute())]
    if not path.is_dir():
        raise InputError(f"{path} is neither a file nor a folder; give a folder of .parquet files")
    root = path.absolute()
    inside = [file.relative_to(root) for file in root.rglob("*.parquet") if file.is_file()]
    return [str(root / file) for file in sorted(inside) if not any(part[0] in "._" for part in file.parts)]


def _of_store(protocol: str, path: str) -> list[str]:
    remote = connect(_known(protocol))
    try:
        if remote.files.isfile(path):
            return [remote.url(path)]
        names = remote.files.find(path)
    except remote.errors as error:
        raise InputError(f"{protocol}://{path} cannot be listed ({error})") from error
    inside = [(name, name.removeprefix(f"{path}/").split("/")) for name in sorted(names) if name.endswith(".parquet")]
    return [remote.url(name) for name, parts in inside if not any(part[0] in "._" for part in parts)]


def _of_dataset(dataset: Any) -> list[str]:
    from pyarrow import dataset as datasets
    from pyarrow.fs import LocalFileSystem

    if not isinstance(dataset, datasets.FileSystemDataset) or not isinstance(
        dataset.format, datasets.ParquetFileFormat
    ):
        raise InputError(f"a {type(dataset).__name__} is no dataset of Parquet files; write it into some first")
    if not isinstance(dataset.filesystem, LocalFileSystem):
        raise InputError("the dataset is not on a file system that workers see; give its URL instead, such as s3://…")
    if getattr(dataset, "_scan_options", None):
        raise InputError(
            "the dataset has a filter, which only a scan would apply; write what it chooses into files first"
        )
    for fragment in dataset.get_fragments():
        if datasets.get_partition_keys(fragment.partition_expression):
            raise InputError(
                f"{fragment.path} has columns in the names of its folders, which would be lost: write the files with "
                "all their columns"
            )
    return [str(Path(name).absolute()) for name in dataset.files]


def survey(files: Sequence[str]) -> Survey:
    """Look at the footers of some files and cut them into pieces.

    Args:
        files: Paths or URLs, at least one.

    Returns:
        Schema and pieces.

    Raises:
        InputError: If one cannot be read as Parquet, or has other columns than the first.
    """
    pieces: list[Piece] = []
    schema: pa.Schema | None = None
    first = 0
    for file in files:
        mark = stamp(file)
        with _opened(file) as opened:
            found, metadata = opened.schema_arrow, opened.metadata
        schema = found if schema is None else _same(schema, found, file, files[0])
        offset = 0
        for groups, rows in _cut(metadata, row_bytes(schema)):
            pieces.append(Piece(file, mark, groups, offset, first, rows))
            offset += rows
            first += rows
    assert schema is not None  # noqa: S101 - there is a file
    return Survey(schema, tuple(pieces))


def read(piece: Piece, columns: Sequence[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The rows of a piece, a part at a time.

    Args:
        piece: The piece.
        columns: The columns to read.

    Yields:
        Number of the first row, counted as `Piece.first`; the rows.

    Raises:
        InputError: If the file cannot be read, or is not what it was any more.
    """
    done = 0
    if stamp(piece.file) == piece.stamp:
        with _opened(piece.file) as opened:
            wanted = pa.schema([field for field in opened.schema_arrow if field.name in set(columns)])
            size = max(min(PART_BYTES // row_bytes(wanted), PART_ROWS), 1)
            for batch in opened.iter_batches(size, list(piece.groups), list(columns), use_threads=False):
                yield piece.first + done, batch
                done += len(batch)
    if done != piece.rows or stamp(piece.file) != piece.stamp:
        raise InputError(f"{piece.file} was changed while it was read; nothing was ingested. Leave it alone and repeat")


def stamp(file: str) -> str:
    """What changes when a file changes: time and size of a file, the store's own tag of an object.

    Args:
        file: Path or URL.

    Returns:
        A short text.

    Raises:
        InputError: If it is not there.
    """
    protocol, there, path = file.partition("://")
    if not there:
        try:
            found = Path(file).stat()
        except OSError as error:
            raise InputError(f"{file} cannot be read ({error.strerror})") from error
        return f"{found.st_mtime_ns}-{found.st_size}"
    remote = connect(_known(protocol))
    try:
        info = remote.files.info(path)
    except remote.errors as error:
        raise InputError(f"{file} cannot be read ({error})") from error
    return f"{info.get('ETag', info.get('etag', info.get('created')))}-{info['size']}"


def row_bytes(schema: pa.Schema) -> int:
    """About how many bytes a row takes, decoded; at least 1."""
    return max(sum(_width(field.type) for field in schema), 1)


def _width(kind: pa.DataType) -> int:
    if isinstance(kind, pa.BaseExtensionType):
        return _width(kind.storage_type)
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size) * _width(kind.value_type)
    try:
        return (int(kind.bit_width) + 7) // 8 if not pa.types.is_dictionary(kind) else _TEXT_BYTES
    except ValueError:
        return _TEXT_BYTES


def _cut(metadata: Any, width: int) -> Iterator[tuple[tuple[int, ...], int]]:
    """Row groups that are read together, and how many rows that is."""
    groups: list[int] = []
    rows = size = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        # Repeated values take less room in the file than in memory, and long texts more than was guessed.
        more = max(group.num_rows * width, group.total_byte_size)
        if groups and size + more > PIECE_BYTES:
            yield tuple(groups), rows
            groups, rows, size = [], 0, 0
        groups.append(number)
        rows += group.num_rows
        size += more
    if rows:
        yield tuple(groups), rows


@guarded
def _opened(file: str) -> Iterator[Any]:
    """A Parquet file while it is read; what goes wrong meanwhile is an `InputError`."""
    protocol, there, path = file.partition("://")
    try:
        with (
            connect(_known(protocol)).files.open(path, "rb") if there else pa.OSFile(file) as handle,
            # Not a dataset: it would add columns for folders named like key=value on the way to the file.
            parquet.ParquetFile(handle, buffer_size=_BUFFER_BYTES, pre_buffer=False) as opened,
        ):
            yield opened
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{file} cannot be read as Parquet ({error}); correct or convert the file") from error


def _same(schema: pa.Schema, other: pa.Schema, file: str, first: str) -> pa.Schema:
    """The schema, which another file has as well."""
    mine, found = ({field.name: _plain(field.type) for field in item} for item in (schema, other))
    if mine != found or len(schema) != len(other):
        differ = sorted(name for name in mine.keys() | found.keys() if mine.get(name) != found.get(name))
        listed = ", ".join(f"{name!r} ({found.get(name, 'missing')}, not {mine.get(name, 'there')})" for name in differ)
        raise InputError(f"{file} has other columns than {first}: {listed}; give files of the same columns")
    return schema


def _plain(kind: pa.DataType) -> str:
    """A type without the ways in which it can be stored."""
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return "text" if is_text else str(kind)


def _known(protocol: str) -> str:
    if protocol not in KINDS:
        raise InputError(f"{protocol}:// cannot be read: give a path, or a URL that begins with s3:// or gs://")
    return protocol
