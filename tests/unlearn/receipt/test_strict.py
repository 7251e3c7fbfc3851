"""JSON that two readers could read in two ways, or that is made to break a reader, is refused."""

from __future__ import annotations

import json
import sys

import pytest

from unlearn.receipt import strict
from unlearn.receipt.strict import ReceiptError


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is not complete, well-formed JSON .it ends too early"),
        (b'{"a": ', "the file is not complete, well-formed JSON .it ends too early"),
        (b'{"a": 1}x', "the file is not complete, well-formed JSON .line 1: Extra data"),
        (b"{'a': 1}", "not complete, well-formed JSON"),
        (b'{"a": 1, "a": 1}', "the file: the field 'a' is there twice"),
        (b'[{"b": {"a": 1, "c": 2, "a": 3}}]', "the file: the field 'a' is there twice"),
        (b"NaN", "the file: the number NaN is no JSON"),
        (b"[-Infinity]", "the file: the number -Infinity is no JSON"),
        (b"1e999", "the file: a number is too large"),
        (b"9" * 5000, "the file holds a number that cannot be read"),
        (b'"\\ud800"', "the file holds half a surrogate pair"),
        (b'{"\\udfff": 1}', "the file holds half a surrogate pair"),
        (b"\xff\xfe1\x00", "the file is not UTF-8 text .byte 0"),
        ("1".encode("utf-16-le"), "not complete, well-formed JSON"),
        (b"\xef\xbb\xbf1", "not complete, well-formed JSON"),
        (b"[" * 302 + b"]" * 302, "the file is nested more than 300 deep"),
        (b'{"a":' * 302 + b"1" + b"}" * 302, "the file is nested more than 300 deep"),
        (b"[" * 1_000_000, "the file is nested more than 300 deep"),
        (b"[" * 1_000_000 + b"]" * 1_000_000, "the file is nested more than 300 deep"),
    ],
)
def test_refused(data: bytes, message: str) -> None:
    with pytest.raises(ReceiptError, match=message):
        strict.parse(data, "the file")


def test_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strict, "MAX_BYTES", 1000)
    with pytest.raises(ReceiptError, match="the file has 1,001 bytes, more than the 1,000 that are looked at"):
        strict.parse(b" " * 1000 + b"1", "the file")
    assert strict.parse(b" " * 999 + b"1", "the file") == 1


@pytest.mark.parametrize(
    "value", [None, True, 0, -1, 10**300, 1.5, "", "Ünïcode, 日本, 🙂", [], {}, {"a": [1, {"b": None}]}]
)
def test_accepted(value: object) -> None:
    assert strict.parse(json.dumps(value).encode(), "the file") == value
    assert strict.parse(json.dumps(value, ensure_ascii=False, indent=1).encode(), "the file") == value


def test_as_deep_as_the_deepest_pruned_tree() -> None:
    assert sys.getrecursionlimit() >= 1000
    value = strict.parse(b"[" * 300 + b"]" * 300, "the file")
    assert value == [strict.parse(b"[" * 299 + b"]" * 299, "the file")]


def test_many_equal_fields_are_found_in_good_time() -> None:
    names = ",".join(f'"{number}":0' for number in range(200_000))
    with pytest.raises(ReceiptError, match="the field '199999' is there twice"):
        strict.parse(f'{{{names},"199999":0}}'.encode(), "the file")


def test_messages_repeat_little_and_only_what_can_be_printed() -> None:
    assert strict.shown("a\nb\x1b[31m\u202e") == r"'a\nb\x1b[31m\u202e'"
    assert len(strict.shown("a" * 10**6)) <= 61


@pytest.mark.parametrize("value", [True, -1, 2**63, 1.0, "1", None])
def test_a_number_is_a_number(value: object) -> None:
    with pytest.raises(ReceiptError, match="n must be a whole number of at least 0"):
        strict.number(value, "n")


@pytest.mark.parametrize("value", ["ab" * 31, "AB" * 32, "ab" * 32 + "\n", "gg" * 32, b"ab" * 32, None])
def test_a_digest_is_a_digest(value: object) -> None:
    with pytest.raises(ReceiptError, match="d must be 64 hex digits in lower case"):
        strict.digest(value, "d")


@pytest.mark.parametrize(
    "value",
    [
        "2025-05-25",
        "2025-05-25T08:00:00",
        "2025-05-25T08:00:00Z",
        "2025-05-25T08:00:00+02:00",
        "2025-05-25T08:00:00.10+00:00",
        "2025-13-25T08:00:00+00:00",
        "20250525T080000+0000",
        1748160000,
        None,
    ],
)
def test_a_time_is_a_time(value: object) -> None:
    with pytest.raises(ReceiptError, match="t must be a time in UTC such as 2025-05-25T08:00:00"):
        strict.time(value, "t")


def test_texts_have_a_length() -> None:
    with pytest.raises(ReceiptError, match="t must be a text, not ''"):
        strict.text("", "t")
    with pytest.raises(ReceiptError, match="t must have at most 3 characters, not 4"):
        strict.text("abcd", "t", 3)
