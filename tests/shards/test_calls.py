"""Calls of functions in workers: values come back as they were, and what returned is not called again."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import call_functions
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shards.calls import CallOrder, call_key, read_value, write_value
from shards.errors import CallError, CodeError, DamageError, InputError
from shards.executors.local import LocalExecutor

# --- values -------------------------------------------------------------------------------------------------------

kinds = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?"),
)
arrays = hnp.arrays(kinds, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
    arrays,
    arrays.map(lambda a: a.T),
    arrays.filter(lambda a: a.size > 0).map(lambda a: a.ravel()[0]).filter(np.isfinite),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner), st.tuples(inner, inner), st.dictionaries(st.text(), inner)),
    max_leaves=12,
)


def as_read(value: Any) -> Any:
    """What a value is to come back as: tuples as lists, single numbers as Python's, arrays in this machine's order."""
    if isinstance(value, np.ndarray):
        return (
            "array",
            value.dtype.newbyteorder("=").str,
            value.shape,
            value.astype(value.dtype.newbyteorder("=")).tobytes(),
        )
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, dict):
        return {key: as_read(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_read(item) for item in value]
    return (type(value).__name__, repr(value))


@given(values)
def test_values_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.mktemp("values") / "value"
    write_value(path, value)
    assert as_read(read_value(path)) == as_read(value)
    assert [item.name for item in path.parent.iterdir()] == ["value"]


@pytest.mark.parametrize(
    "value",
    [
        {1, 2},
        b"bytes",
        float("nan"),
        [float("inf")],
        np.float64("nan"),
        1j,
        np.array([1j]),
        np.array(["text"]),
        np.array([None]),
        np.array(["2020-01-01"], dtype="M8[D]"),
        np.zeros(2, dtype=np.longdouble),
        {1: "a number as key"},
        {"__array__": "0"},
        {"a": [{"b": object()}]},
        "\ud800",
        {"\ud800": 1},
        call_functions.square,
    ],
    ids=lambda value: repr(value).partition(" at 0x")[0][:30].encode("ascii", "backslashreplace").decode(),
)
def test_what_cannot_be_kept_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(InputError, match="cannot be kept"):
        write_value(tmp_path / "value", value)
    assert list(tmp_path.iterdir()) == []


def test_what_refers_to_itself_is_refused(tmp_path: Path) -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InputError, match="cannot be kept"):
        write_value(tmp_path / "value", loop)


def test_a_damaged_file_is_never_read_as_another_value(tmp_path: Path) -> None:
    path = tmp_path / "value"
    value = {"a": np.arange(3.0), "b": "text"}
    write_value(path, value)
    whole = path.read_bytes()
    for data in [b"", whole[:5], whole[: len(whole) // 2], whole[:-1], b"x" * 100, whole + b"x"]:
        path.write_bytes(data)
        with pytest.raises(DamageError, match="delete it, and it is computed again"):
            read_value(path)
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            found = as_read(read_value(path))
        except DamageError:
            continue
        assert found == as_read(value), f"bit of byte {at}"


# --- names --------------------------------------------------------------------------------------------------------


def test_a_name_says_what_was_called() -> None:
    usual = ("m:f", {"a": 1}, "e", "c")
    assert call_key(*usual) == call_key("m:f", {"a": 1}, "e", "c")
    others = [("m:g", {"a": 1}, "e", "c"), ("m:f", {"a": 2}, "e", "c"), ("m:f", {"a": 1}, "f", "c")]
    others.append(("m:f", {"a": 1}, "e", "d"))
    assert len({call_key(*other) for other in [usual, *others]}) == 5


def test_an_order_survives_its_json() -> None:
    order = CallOrder(3, "m:f", {"a": [1]}, "e", "c", "/x")
    assert CallOrder.from_json(order.to_json()) == order


# --- map ----------------------------------------------------------------------------------------------------------


def noted(notes: Path, values: Sequence[int]) -> list[dict[str, Any]]:
    return [{"notes": str(notes), "value": value} for value in values]


def calls(notes: Path) -> list[int]:
    return sorted(int(line) for line in notes.read_text().split()) if notes.exists() else []


def test_values_are_in_the_order_of_their_items(tmp_path: Path) -> None:
    done: list[int] = []
    found = LocalExecutor(2).map(call_functions.square, [3, 1, 2, 0], tmp_path / "calls", on_done=done.append)
    assert [value["square"] for value in found] == [9, 1, 4, 0]
    assert [value["pair"] for value in found] == [[n, "text"] for n in (3, 1, 2, 0)]
    assert sorted(done) == [0, 1, 2, 3]
    assert LocalExecutor(1).map("call_functions:square", [], tmp_path / "calls") == []


def test_what_returned_is_not_called_again(tmp_path: Path) -> None:
    notes, executor = tmp_path / "notes", LocalExecutor(2)
    executor.map(call_functions.square, noted(notes, [1, 2]), tmp_path / "calls")
    assert calls(notes) == [1, 2]
    done: list[int] = []
    found = executor.map(call_functions.square, noted(notes, [2, 5, 1]), tmp_path / "calls", on_done=done.append)
    assert [value["square"] for value in found] == [4, 25, 1]
    assert calls(notes) == [1, 2, 5]
    assert sorted(done) == [0, 1, 2]


def test_an_item_given_twice_is_called_once_and_told_twice(tmp_path: Path) -> None:
    notes, done = tmp_path / "notes", []
    found = LocalExecutor(2).map(
        call_functions.square, noted(notes, [4, 4, 1]), tmp_path / "calls", on_done=done.append
    )
    assert [value["square"] for value in found] == [16, 16, 1]
    assert calls(notes) == [1, 4]
    assert sorted(done) == [0, 1, 2]


def test_an_error_names_the_item_and_what_returned_is_kept(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    with pytest.raises(CallError, match="fail_at_two, item 1 failed: RuntimeError: the function's own words") as caught:
        LocalExecutor(1).map(call_functions.fail_at_two, noted(notes, [1, 2, 3]), tmp_path / "calls")
    assert caught.value.number == 1
    assert "call_functions.py" in caught.value.traceback
    assert calls(notes) == [1, 2]
    found = LocalExecutor(1).map(call_functions.fail_at_two, noted(notes, [1, 3]), tmp_path / "calls")
    assert (found, calls(notes)) == ([1, 3], [1, 2, 3])


def test_a_value_that_cannot_be_kept_names_the_item(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unkept, item 0: .* of type set cannot be kept"):
        LocalExecutor(1).map(call_functions.unkept, [7], tmp_path / "calls")


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    items = [{"value": 5, "flag": str(tmp_path / "flag")}]
    assert LocalExecutor(1).map(call_functions.die_once, items, tmp_path / "calls") == [5]
    assert (tmp_path / "flag").exists()


def test_a_damaged_value_is_told_and_not_replaced_in_silence(tmp_path: Path) -> None:
    LocalExecutor(1).map(call_functions.square, [1], tmp_path / "calls")
    (file,) = (tmp_path / "calls").iterdir()
    file.write_bytes(b"damaged")
    with pytest.raises(DamageError, match="delete it"):
        LocalExecutor(1).map(call_functions.square, [1], tmp_path / "calls")
    file.unlink()
    assert LocalExecutor(1).map(call_functions.square, [1], tmp_path / "calls")[0]["square"] == 1


def test_changed_code_is_called_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path / "code")
    (tmp_path / "code").mkdir()
    module = tmp_path / "code" / "changing_calls.py"
    for text, value in (("1", 1), ("2", 2), ("1", 1)):
        module.write_text(f"def f(item):\n    open(item, 'a').write('x')\n    return {text}\n")
        assert LocalExecutor(1).map("changing_calls:f", [str(tmp_path / "notes")], tmp_path / "calls") == [value]
    # The third time the code is the first again, whose value is there.
    assert (tmp_path / "notes").read_text() == "xx"
    sys.modules.pop("changing_calls", None)


def test_a_function_that_others_cannot_find_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CodeError, match="lambda"):
        LocalExecutor(1).map(lambda item: item, [1], tmp_path / "calls")
    with pytest.raises(CodeError, match="no module 'no_such_module'"):
        LocalExecutor(1).map("no_such_module:f", [1], tmp_path / "calls")
    with pytest.raises(CodeError, match="no_such_function"):
        LocalExecutor(1).map("call_functions:no_such_function", [1], tmp_path / "calls")
