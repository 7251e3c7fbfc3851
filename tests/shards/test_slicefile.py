"""Slice files: round trips, commitments against a plain reimplementation, files broken on purpose."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shards.digest import canonical_json, digest_json, digest_parts
from shards.errors import DamageError, InputError
from shards.records import NUMERIC_DTYPES
from shards.slicefile import SliceRecords, commitments, keep, merge, read, slice_digest, write

unicode = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
text = unicode.filter(lambda word: not word.endswith("\0"))  # numpy's U cannot hold a NUL at the end


@st.composite
def arrays(draw: st.DrawFn, n: int) -> np.ndarray:
    if draw(st.booleans()) and draw(st.booleans()):
        return np.array(draw(st.lists(text, min_size=n, max_size=n)), dtype="<U8")
    shape = draw(st.lists(st.integers(1, 3), max_size=3))
    return draw(hnp.arrays(draw(st.sampled_from(sorted(NUMERIC_DTYPES))), (n, *shape)))


@st.composite
def slices(draw: st.DrawFn) -> SliceRecords:
    n = draw(st.integers(0, 5))
    tokens = draw(st.lists(st.binary(min_size=16, max_size=16), min_size=n, max_size=n, unique=True))
    return SliceRecords(
        record_ids=tuple(draw(st.lists(unicode, min_size=n, max_size=n))),
        subjects=tuple(draw(st.lists(unicode, min_size=n, max_size=n))),
        tokens=np.frombuffer(b"".join(sorted(tokens)), np.uint8).reshape(n, 16),
        salts=draw(hnp.arrays("u1", (n, 32))),
        features={name: draw(arrays(n)) for name in draw(st.lists(unicode, unique=True, max_size=4))},
        target=draw(arrays(n)),
    )


def example(n: int = 3, **changes: Any) -> SliceRecords:
    rng = np.random.default_rng(0)
    data = SliceRecords(
        record_ids=tuple(f"r{row}" for row in range(n)),
        subjects=tuple(f"sü{row // 2}" for row in range(n)),
        tokens=np.sort(rng.integers(0, 256, n, dtype=np.uint8))[:, None] + np.zeros(16, np.uint8),
        salts=rng.integers(0, 256, (n, 32), dtype=np.uint8),
        features={
            "x": rng.normal(size=(n, 2)).astype("<f4"),
            "t": np.array(["ab", "c", "né"] * n)[:n],
            "b": np.arange(n) > 1,
        },
        target=np.arange(n),
    )
    return dataclasses.replace(data, **changes)


def same(left: SliceRecords, right: SliceRecords) -> bool:
    """Equality of everything, bit for bit (NaN included); text compared by value, as its width may differ."""

    def plain(data: SliceRecords) -> Any:
        def array(item: np.ndarray) -> Any:
            return item.tolist() if item.dtype.kind == "U" else (item.dtype.str, item.shape, item.tobytes())

        features = [(name, array(item)) for name, item in data.features.items()]
        return (
            data.record_ids,
            data.subjects,
            array(data.tokens),
            array(data.salts),
            features,
            array(data.target),
        )

    return bool(plain(left) == plain(right))


def plain_commitment(data: SliceRecords, row: int) -> bytes:
    """The docstring of `commitments`, word for word and one record at a time."""

    def field(array: np.ndarray) -> Any:
        return {"dtype": "str" if array.dtype.kind == "U" else array.dtype.str, "shape": list(array.shape[1:])}

    def prefixed(word: str) -> bytes:
        return struct.pack("<Q", len(word.encode())) + word.encode()

    names = sorted(data.features)
    columns = [data.features[name] for name in names] + [data.target]
    record = bytes.fromhex(digest_json("record", {"features": names, "fields": [field(item) for item in columns]}))
    record += prefixed(data.record_ids[row]) + prefixed(data.subjects[row]) + data.tokens[row].tobytes()
    record += b"".join(column[row].tobytes() for column in columns if column.dtype.kind != "U")
    record += b"".join(prefixed(str(column[row])) for column in columns if column.dtype.kind == "U")
    return hashlib.sha256(data.salts[row].tobytes() + hashlib.sha256(record).digest()).digest()


@settings(deadline=None)
@given(slices())
def test_round_trip(data: SliceRecords) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "slice"
        write(path, data)
        again = read(path)
        assert same(data, again)
        assert np.array_equal(commitments(data), commitments(again))


@settings(deadline=None)
@given(slices())
def test_commitments_equal_the_plain_definition(data: SliceRecords) -> None:
    found = commitments(data)
    assert found.dtype == np.uint8
    assert found.shape == (len(data), 32)
    expected = [plain_commitment(data, row) for row in range(len(data))]
    assert [row.tobytes() for row in found] == expected
    assert slice_digest(found) == digest_parts("slice", expected)


def test_numeric_arrays_are_views_of_the_file(tmp_path: Path) -> None:
    write(tmp_path / "s", example(5))
    again = read(tmp_path / "s")
    for array in (again.tokens, again.salts, again.features["x"], again.features["b"], again.target):
        assert not array.flags.owndata
        assert array.flags.aligned
        assert not array.flags.writeable


def test_every_part_of_a_record_is_committed_to() -> None:
    base = example(1)
    variants = [
        base,
        example(1, record_ids=("r1",)),
        example(1, record_ids=("r0s",), subjects=("ü0",)),  # the same letters, cut elsewhere
        example(1, subjects=("other",)),
        example(1, tokens=base.tokens ^ 1),
        example(1, salts=base.salts ^ 1),
        example(1, features={**base.features, "x": base.features["x"] + 1}),
        example(1, features={**base.features, "x": base.features["x"].view("<i4")}),
        example(1, features={**base.features, "x": base.features["x"].reshape(1, 2, 1)}),
        example(1, features={**base.features, "x": base.features["x"].view("<f8").reshape(1)}),
        example(1, features={**base.features, "t": np.array(["abc"])}),
        example(1, features={"x2" if name == "x" else name: item for name, item in base.features.items()}),
        example(1, features={name: item for name, item in base.features.items() if name != "b"}),
        example(1, features={"t": np.array(["a"]), "u": np.array(["b"])}),
        example(1, features={"t": np.array(["ab"]), "u": np.array([""])}),
        example(1, target=base.target + 1),
        example(1, target=base.target.astype("i4")),
    ]
    assert len({commitments(variant).tobytes() for variant in variants}) == len(variants)


def test_order_of_features_and_width_of_text_are_not_content() -> None:
    base = example()
    other = example(features={name: base.features[name] for name in reversed(base.features)})
    wide = example(features={**base.features, "t": base.features["t"].astype("<U50")})
    big = example(features={**base.features, "x": base.features["x"].astype(">f4")})
    strided = example(salts=np.repeat(base.salts, 2, axis=1)[:, ::2])
    for variant in (other, wide, strided, big):
        assert np.array_equal(commitments(base), commitments(variant))


def test_other_byte_orders_and_strides_are_stored_canonically(tmp_path: Path) -> None:
    base = example()
    odd = example(
        features={**base.features, "x": np.asfortranarray(base.features["x"].astype(">f4"))},
        target=np.repeat(base.target, 2)[::2],
    )
    write(tmp_path / "s", odd)
    assert same(read(tmp_path / "s"), base)


def test_slice_digest_tells_order_and_number() -> None:
    rows = commitments(example(3))
    found = {slice_digest(rows), slice_digest(rows[::-1]), slice_digest(rows[:2]), slice_digest(rows[:0])}
    assert len(found) == 4


@settings(deadline=None)
@given(slices(), st.data())
def test_keep_equals_a_loop(data: SliceRecords, draws: st.DataObject) -> None:
    stays = draws.draw(st.lists(st.booleans(), min_size=len(data), max_size=len(data)))
    rows = [row for row, stay in enumerate(stays) if stay]
    kept = keep(data, np.array(stays, dtype=bool))
    assert kept.record_ids == tuple(data.record_ids[row] for row in rows)
    assert kept.subjects == tuple(data.subjects[row] for row in rows)
    # What a record commits to does not depend on its neighbours.
    assert np.array_equal(commitments(kept), commitments(data)[rows])
    assert kept.features.keys() == data.features.keys()


@pytest.mark.parametrize("mask", [np.array([1, 0, 1]), np.array([True, False]), np.ones((3, 1), bool)])
def test_keep_refuses_other_masks(mask: np.ndarray) -> None:
    with pytest.raises(InputError, match="mask"):
        keep(example(3), mask)


def test_never_overwrites(tmp_path: Path) -> None:
    write(tmp_path / "s", example())
    before = (tmp_path / "s").read_bytes()
    with pytest.raises(FileExistsError):
        write(tmp_path / "s", example(2))
    assert (tmp_path / "s").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": {"x": np.zeros((3, 0))}}, "nothing in a record"),
        ({"features": {"x": np.zeros((2, 1))}}, "shape"),
        ({"features": {"x": np.zeros((3, 1), complex)}}, "complex"),
        ({"features": {"x": np.array([None] * 3)}}, "object"),
        ({"features": {"x": np.full((3, 2), "a")}}, "text of shape"),
        ({"features": {"\ud800": np.zeros(3)}}, "surrogate"),
        ({"features": {"x": np.broadcast_to(np.float64(0), (3, 2**28))}}, "2 GiB"),
        ({"target": np.zeros(2)}, "target"),
        ({"subjects": ("a",)}, "1 subjects"),
        ({"record_ids": ("a", "b", "\udfff")}, "surrogate"),
        ({"salts": np.zeros((3, 31), np.uint8)}, "salts"),
        ({"tokens": np.zeros((3, 16), np.int64)}, "tokens"),
        ({"tokens": np.zeros((3, 16), np.uint8)}, "ascending"),
        ({"tokens": example().tokens[::-1]}, "ascending"),
    ],
)
def test_what_cannot_be_written(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"(?s){message}"):
        write(tmp_path / "s", example(**changes))
    assert not (tmp_path / "s").exists()


@settings(deadline=None)
@given(st.lists(st.binary(min_size=16, max_size=16), min_size=2, max_size=4))
def test_token_order_is_that_of_byte_strings(tokens: list[bytes]) -> None:
    n = len(tokens)
    data = example(n, tokens=np.frombuffer(b"".join(tokens), np.uint8).reshape(n, 16))
    with tempfile.TemporaryDirectory() as directory:
        if all(left < right for left, right in itertools.pairwise(tokens)):
            write(Path(directory) / "s", data)
        else:
            with pytest.raises(InputError, match="ascending"):
                write(Path(directory) / "s", data)


def test_every_flipped_byte_is_noticed_or_harmless(tmp_path: Path) -> None:
    """Any flip is refused or changes the slice digest, unless everything read is what it was.

    The last happens in bytes that nobody reads, such as padding; never in the data itself.
    """
    original = example(3)
    path = tmp_path / "s"
    write(path, original)
    good = path.read_bytes()
    digest = slice_digest(commitments(original))
    whole = pa.py_buffer(good)
    columns = pa.ipc.open_file(whole).get_batch(0).columns
    buffers = [buffer for column in columns for buffer in column.buffers() if buffer is not None]
    starts = [buffer.address - whole.address for buffer in buffers]
    data_area = {start + byte for start, buffer in zip(starts, buffers, strict=True) for byte in range(buffer.size)}
    assert all(0 <= position < len(good) for position in data_area)
    assert len(data_area) > 3 * (16 + 32 + 8 + 1 + 8)
    noticed = 0
    for position in range(len(good)):
        for bit in (1, 128):
            damaged = tmp_path / "damaged"
            damaged.write_bytes(good[:position] + bytes([good[position] ^ bit]) + good[position + 1 :])
            try:
                found = read(damaged)
            except DamageError:
                noticed += 1
                continue
            if slice_digest(commitments(found)) == digest:
                assert position not in data_area
                assert {name: item.tolist() for name, item in found.features.items()} == {
                    name: item.tolist() for name, item in original.features.items()
                }
    assert noticed > 0


def test_truncated_files_are_damaged(tmp_path: Path) -> None:
    write(tmp_path / "s", example())
    good = (tmp_path / "s").read_bytes()
    for length in range(0, len(good), 7):
        (tmp_path / "cut").write_bytes(good[:length])
        with pytest.raises(DamageError, match="cut"):
            read(tmp_path / "cut")


def test_missing_and_foreign_files_are_damaged(tmp_path: Path) -> None:
    with pytest.raises(DamageError, match=r"none.*missing"):
        read(tmp_path / "none")
    (tmp_path / "text").write_text("hello" * 100)
    with pytest.raises(DamageError, match="text"):
        read(tmp_path / "text")


def _forge(path: Path, change: Callable[[pa.Table], pa.Table], batches: int = 1) -> None:
    """Write a slice file that a writer other than ours might have made."""
    write(path.with_suffix(".good"), example())
    table = change(pa.ipc.open_file(pa.memory_map(str(path.with_suffix(".good")))).read_all())
    with pa.ipc.new_file(path, table.schema) as writer:
        for _ in range(batches):
            writer.write_table(table)


def _redescribe(**changes: Any) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        described = json.loads(table.schema.metadata[b"shards.slice"]) | changes
        return table.replace_schema_metadata({"shards.slice": canonical_json(described)})

    return change


def _refield(number: int, **changes: Any) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        fields = json.loads(table.schema.metadata[b"shards.slice"])["fields"]
        fields[number] |= changes
        return _redescribe(fields=fields)(table)

    return change


def _with_null(name: str) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        values = table[name].to_pylist()
        column = pa.array([values[0], None, values[2]], table.schema.field(name).type)
        return table.set_column(table.schema.names.index(name), table.schema.field(name), column)

    return change


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda table: table.drop_columns(["salt"]), id="column-missing"),
        pytest.param(lambda table: table.append_column("more", table["token"]), id="column-added"),
        pytest.param(lambda table: table.select([1, 0, *range(2, 8)]), id="columns-swapped"),
        pytest.param(lambda table: table.set_column(3, "salt", table["token"]), id="column-of-other-type"),
        pytest.param(lambda table: table.replace_schema_metadata(None), id="no-metadata"),
        pytest.param(lambda table: table.replace_schema_metadata({"shards.slice": "{"}), id="not-json"),
        pytest.param(lambda table: table.replace_schema_metadata({"shards.slice": "[" * 9999}), id="deep-json"),
        pytest.param(lambda table: table.replace_schema_metadata({"shards.slice": "[]"}), id="json-list"),
        pytest.param(lambda table: table.slice(0, 3).take([2, 1, 0]), id="out-of-order"),
        pytest.param(_with_null("subject"), id="missing-text"),
        pytest.param(_with_null("feature_2"), id="missing-number"),
        pytest.param(_redescribe(version=2), id="version"),
        pytest.param(_redescribe(more=1), id="unknown-key"),
        pytest.param(_redescribe(features=["x", "t"]), id="feature-not-named"),
        pytest.param(_redescribe(features=["x", "x", "x"]), id="feature-named-twice"),
        pytest.param(_redescribe(features=[1, 2, 3]), id="feature-named-by-number"),
        pytest.param(_redescribe(features={"x": 1, "t": 2, "b": 3}), id="features-mapping"),
        pytest.param(_redescribe(fields=[1, 2, 3, 4]), id="fields-not-described"),
        pytest.param(_refield(0, dtype="|O"), id="object-dtype"),
        pytest.param(_refield(0, dtype="float32"), id="dtype-by-another-name"),
        pytest.param(_refield(0, dtype=["<f4"]), id="dtype-list"),
        pytest.param(_refield(0, shape=[3]), id="other-shape"),
        pytest.param(_refield(0, shape=[-2]), id="negative-shape"),
        pytest.param(_refield(2, shape=[True]), id="bool-shape"),
        pytest.param(_refield(1, shape=[1]), id="text-with-shape"),
        pytest.param(_refield(0, shape=[2**40, 2**40]), id="enormous-shape"),
    ],
)
def test_wrong_columns_and_metadata_are_damaged(tmp_path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    _forge(tmp_path / "forged", change)
    with pytest.raises(DamageError, match="forged"):
        read(tmp_path / "forged")


def test_forging_itself_is_harmless_and_other_metadata_is_ignored(tmp_path: Path) -> None:
    def add(table: pa.Table) -> pa.Table:
        return table.replace_schema_metadata(table.schema.metadata | {b"pandas": b"\x80\x04cos\nsystem\n"})

    _forge(tmp_path / "forged", add)
    assert same(read(tmp_path / "forged"), example())


def test_several_batches_are_damaged(tmp_path: Path) -> None:
    _forge(tmp_path / "forged", lambda table: table, batches=2)
    with pytest.raises(DamageError, match="2 record batches"):
        read(tmp_path / "forged")


# --- parts -------------------------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(data=slices(), draw=st.data())
def test_parts_of_a_slice_make_the_slice(data: SliceRecords, draw: st.DataObject) -> None:
    number = draw.draw(st.integers(1, 4))
    where = np.array(draw.draw(st.lists(st.integers(0, number - 1), min_size=len(data), max_size=len(data))), dtype=int)
    parts = [keep(data, where == part) for part in range(number)]
    merged = merge([lambda part=part: part for part in parts])
    assert commitments(merged).tobytes() == commitments(data).tobytes()
    assert (merged.record_ids, merged.subjects) == (data.record_ids, data.subjects)
    assert merged.salts.tobytes() == data.salts.tobytes()
    assert list(merged.features) == list(data.features)
    for array, found in zip(
        [*data.features.values(), data.target], [*merged.features.values(), merged.target], strict=True
    ):
        assert (found.dtype.kind, found.shape) == (array.dtype.kind, array.shape)
        assert found.tolist() == array.tolist() or found.tobytes() == array.tobytes()


def test_parts_that_do_not_belong_together_are_refused() -> None:
    one = example()
    with pytest.raises(InputError, match="in two parts"):
        merge([lambda: one, lambda: one])
    other = dataclasses.replace(example(), target=np.zeros((3, 2)), tokens=example().tokens ^ np.uint8(1))
    with pytest.raises(InputError, match="differ in their fields"):
        merge([lambda: one, lambda: other])


def test_commitments_do_not_depend_on_how_much_is_digested_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from shards import slicefile

    expected = commitments(example(20)).tobytes()
    for size in (1, 40, 333):
        monkeypatch.setattr(slicefile, "_BLOCK_BYTES", size)
        assert commitments(example(20)).tobytes() == expected


def test_more_text_than_arrow_counts_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = SliceRecords(
        record_ids=("one", "two"),
        subjects=("a", "b"),
        tokens=np.arange(32, dtype=np.uint8).reshape(2, 16),
        salts=np.zeros((2, 32), dtype=np.uint8),
        features={"x": np.zeros((2, 1))},
        target=np.zeros(2),
    )
    monkeypatch.setattr("shards.slicefile._MOST_TEXT", 6)
    write(tmp_path / "fits", data)
    monkeypatch.setattr("shards.slicefile._MOST_TEXT", 5)
    with pytest.raises(InputError, match="6 bytes, and 5 fit: use more slices"):
        write(tmp_path / "does not", data)
    assert not (tmp_path / "does not").exists()


def test_writing_records_does_not_load_pandas(tmp_path: Path) -> None:
    code = f"""
import sys
import numpy as np
from pathlib import Path
from shards.slicefile import SliceRecords, read, write
n = 3
words = np.array(["eins", "", "drei"])
path = Path({str(tmp_path / "slice")!r})
tokens = np.arange(48, dtype=np.uint8).reshape(n, 16)
salts = np.zeros((n, 32), dtype=np.uint8)
write(path, SliceRecords(("a", "b", "c"), ("x", "ü", "x"), tokens, salts, {{"w": words}}, words))
found = read(path)
assert found.subjects == ("x", "ü", "x") and found.target.tolist() == words.tolist()
print("pandas" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "False\n"
