"""How commands print: lines and tables for people, one JSON document for machines, on standard output."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from unlearn.progress import QUIET

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_WIDE = 200
"""Columns of a table that goes into a pipe or file, where no window bounds it."""

_ANY = 10_000
"""Columns that no table needs."""


def say(text: str) -> None:
    """Print a text for people, line by line; nothing with `--quiet`."""
    if QUIET.get():
        return
    typer.echo("\n".join(map(printable, text.split("\n"))))


def printable(text: str) -> str:
    r"""A text without what takes hold of a terminal: whatever is not printable is escaped.

    Args:
        text: The text, of whoever.

    Returns:
        The text, in which for example an escape character is the four characters `\x1b`.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def cell(text: str) -> str:
    """A text as a table's cell shows it, whatever it holds."""
    from rich.markup import escape

    return escape(printable(text))


def print_json(value: Any) -> None:
    """Print one JSON document.

    Args:
        value: Dataclasses, mappings, sequences, times, paths and plain values, nested.
    """
    lines = json.dumps(to_plain(value), indent=2, ensure_ascii=False, allow_nan=False).split("\n")
    typer.echo("\n".join("".join(c if c.isprintable() else _escaped(c) for c in line) for line in lines))


def _escaped(character: str) -> str:
    """A character as JSON may write it, which leaves a terminal alone; only texts hold such."""
    halves = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{halves[at]:02x}{halves[at + 1]:02x}" for at in range(0, len(halves), 2))


def to_plain(value: Any) -> Any:
    """Turn dataclasses and what they hold into what JSON knows; times become ISO 8601, ranges their first and last.

    Args:
        value: Dataclasses, mappings, sequences, times, paths and plain values, nested.

    Returns:
        Dicts with text keys, lists, text, numbers, bool and None.
    """
    if is_dataclass(value) and not isinstance(value, type):
        found = {item.name: to_plain(getattr(value, item.name)) for item in fields(value)}
        # A request's guarantee follows from other fields, but nobody should have to know how.
        worked_out = getattr(type(value), "guarantee", None)
        return found | ({"guarantee": to_plain(worked_out.__get__(value))} if isinstance(worked_out, property) else {})
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, range):
        return [value.start, value.stop - 1]
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Path) else value


def print_table(table: Table) -> None:
    """Print a table, as wide as the window, or as it needs where there is none; row by row where it would be cut."""
    import sys

    from rich.console import Console

    show_table(Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False), table)


def show_table(console: Console, table: Table) -> None:
    """Show a table on a console, which may be too narrow for it, and cut nothing: an id that was cut is of no use.

    Args:
        console: Where it goes.
        table: A table of texts.
    """
    from rich.measure import Measurement

    for column in table.columns:
        column.overflow = "fold"
        column.no_wrap = table.show_header and not any(" " in str(text) for text in (column.header, *column.cells))
    needed = Measurement.get(console, console.options.update(max_width=_ANY), table).minimum
    console.print(_row_by_row(table) if table.show_header and needed > console.width else table)


def _row_by_row(table: Table) -> Table:
    """The same with a line for each cell, beside its column's name."""
    from rich.table import Table

    found = Table(title=table.title, title_justify=table.title_justify, show_header=False)
    found.add_column(no_wrap=True)
    found.add_column(overflow="fold")
    names = [column.header for column in table.columns]
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        for name, value in zip(names, cells, strict=True):
            found.add_row(name, value)
        found.add_section()
    return found


def as_time(value: datetime | None) -> str:
    """A moment in UTC to the second, or a dash."""
    return "-" if value is None else value.strftime("%Y-%m-%d %H:%M:%S")


def passed(until: datetime | None) -> str:
    """What to add to a deadline that is in the past."""
    return ", which has passed" if until is not None and until < datetime.now(UTC) else ""


def as_duration(seconds: float) -> str:
    """A duration in the unit that suits it."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def counted(number: int, noun: str) -> str:
    """A number with its noun: `1 record`, `2,000 records`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
