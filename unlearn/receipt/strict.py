"""Strict reading of JSON from anywhere: one way to write each thing down, everything else refused.

Python's parser lets the last of two equal keys win, reads NaN, guesses encodings and follows nesting until its stack
ends. Whoever verifies with another parser would then see another receipt. Here all of that is refused.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NoReturn

from shards.digest import Json, canonical_json
from unlearn.errors import UnlearnError

MAX_BYTES = 256 * 2**20
"""Of a file, or of anything in it, that is looked at."""
MAX_DEPTH = 300
"""Of nesting: a pruned tree is at most 256 deep."""
MAX_TEXT = 65_536
"""Characters of one text."""
MAX_NAME = 4096
"""Characters of a name, and of a place where something lies."""
MAX_NUMBER = 2**63 - 1

_DIGEST = re.compile("[0-9a-f]{64}")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SHOWN = 60
"""Characters of somebody else's text that a message repeats."""


class ReceiptError(UnlearnError):
    """A receipt, envelope or key rotation that is malformed, or not signed as it must be."""


def parse(data: bytes, what: str) -> Json:
    """Read JSON, and refuse what two parsers could read in two ways.

    Args:
        data: UTF-8, no byte order mark.
        what: Name in error messages.

    Returns:
        The value, nested at most `MAX_DEPTH` deep.

    Raises:
        ReceiptError: If it is too large, no UTF-8, no JSON, cut short, nested too deeply, or holds a key twice, a
            number that is not finite, or half a surrogate pair.
    """
    if len(data) > MAX_BYTES:
        raise ReceiptError(f"{what} has {len(data):,} bytes, more than the {MAX_BYTES:,} that are looked at")
    try:
        content = data.decode("utf-8")
        value = json.loads(
            content,
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except UnicodeDecodeError as error:
        raise ReceiptError(f"{what} is not UTF-8 text (byte {error.start})") from error
    except json.JSONDecodeError as error:
        place = "it ends too early" if error.pos >= len(error.doc.rstrip()) else f"line {error.lineno}"
        raise ReceiptError(f"{what} is not complete, well-formed JSON ({place}: {error.msg})") from error
    except RecursionError:
        raise ReceiptError(f"{what} is nested more than {MAX_DEPTH} deep") from None
    except ReceiptError as error:
        raise ReceiptError(f"{what}: {error}") from None
    except ValueError as error:  # an integer of thousands of digits
        raise ReceiptError(f"{what} holds a number that cannot be read") from error
    _check_depth(value, what)
    if _SURROGATE.search(content):
        try:
            canonical_json(value)
        except UnicodeEncodeError:
            raise ReceiptError(f"{what} holds half a surrogate pair, which is no text") from None
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are all different."""
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ReceiptError(f"the field {shown(name)} is there twice")
            seen.add(name)
    return found


def _refuse_constant(text: str) -> NoReturn:
    raise ReceiptError(f"the number {text} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ReceiptError("a number is too large")
    return value


def _check_depth(value: Json, what: str) -> None:
    """Refuse deep nesting, level by level, so that later recursion over the value is safe."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        inner: list[Json] = []
        for item in level:
            if isinstance(item, dict):
                inner += item.values()
            elif isinstance(item, list):
                inner += item
        if not inner:
            return
        level = inner
    raise ReceiptError(f"{what} is nested more than {MAX_DEPTH} deep")


def shown(value: Json) -> str:
    """A value from a receipt for a message: on one line, printable, cut."""
    text = ascii(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def fields(value: Json, where: str, names: Sequence[str]) -> dict[str, Json]:
    """An object with exactly these fields.

    Args:
        value: What was read.
        where: Its place, for messages.
        names: The fields.

    Returns:
        The object.

    Raises:
        ReceiptError: If it is no object, lacks a field, or has one more.
    """
    if not isinstance(value, dict):
        raise ReceiptError(f"{where} must be an object with fields, not {shown(value)}")
    for name in names:
        if name not in value:
            raise ReceiptError(f"{where}: the field {name!r} is missing")
    for name in value:
        if name not in names:
            raise ReceiptError(f"{where}: the field {shown(name)} is unknown")
    return value


def items(value: Json, where: str, length: int | None = None) -> list[Json]:
    """A list.

    Args:
        value: What was read.
        where: Its place, for messages.
        length: How long it must be; None: any length.

    Returns:
        The list.

    Raises:
        ReceiptError: If it is no list, or of another length.
    """
    if not isinstance(value, list):
        raise ReceiptError(f"{where} must be a list, not {shown(value)}")
    if length is not None and len(value) != length:
        entries = "entry" if length == 1 else "entries"
        raise ReceiptError(f"{where} must have {length} {entries}, not {len(value)}")
    return value


def text(value: Json, where: str, most: int = MAX_TEXT) -> str:
    """A text that is not empty.

    Args:
        value: What was read.
        where: Its place, for messages.
        most: How many characters it may have.

    Returns:
        The text.

    Raises:
        ReceiptError: If it is no text, empty, or too long.
    """
    if not isinstance(value, str) or not value:
        raise ReceiptError(f"{where} must be a text, not {shown(value)}")
    if len(value) > most:
        raise ReceiptError(f"{where} must have at most {most:,} characters, not {len(value):,}")
    return value


def constant(value: Json, where: str, expected: Json) -> None:
    """Refuse anything but one value.

    Args:
        value: What was read.
        where: Its place, for messages.
        expected: What it must be.

    Raises:
        ReceiptError: If it is anything else.
    """
    if type(value) is not type(expected) or value != expected:
        raise ReceiptError(f"{where} must be {shown(expected)}, not {shown(value)}")


def digest(value: Json, where: str) -> str:
    """A SHA-256 in hex, lower case.

    Args:
        value: What was read.
        where: Its place, for messages.

    Returns:
        64 characters.

    Raises:
        ReceiptError: If it is anything else.
    """
    if not isinstance(value, str) or _DIGEST.fullmatch(value) is None:
        raise ReceiptError(f"{where} must be 64 hex digits in lower case, not {shown(value)}")
    return value


def number(value: Json, where: str) -> int:
    """A count or position.

    Args:
        value: What was read.
        where: Its place, for messages.

    Returns:
        An integer of at least 0.

    Raises:
        ReceiptError: If it is anything else; `true` is no number.
    """
    if type(value) is not int or not 0 <= value <= MAX_NUMBER:
        raise ReceiptError(f"{where} must be a whole number of at least 0, not {shown(value)}")
    return value


def time(value: Json, where: str) -> datetime:
    """A time, UTC, exactly as `datetime.isoformat` writes it.

    Args:
        value: What was read.
        where: Its place, for messages.

    Returns:
        The time.

    Raises:
        ReceiptError: If it is no such time.
    """
    problem = f"{where} must be a time in UTC such as 2025-05-25T08:00:00+00:00, not {shown(value)}"
    if not isinstance(value, str):
        raise ReceiptError(problem)
    try:
        found = datetime.fromisoformat(value)
    except ValueError as error:
        raise ReceiptError(problem) from error
    if found.utcoffset() != timedelta(0) or found.isoformat() != value:
        raise ReceiptError(problem)
    return found


def time_or_null(value: Json, where: str) -> datetime | None:
    """A time as `time` reads it, or null."""
    return None if value is None else time(value, where)
