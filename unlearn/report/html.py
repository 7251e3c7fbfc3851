"""A report as one page that needs nothing else: no script, no font, no picture from anywhere.

Every text is escaped, whoever wrote it, and the page forbids its reader's browser to load or run anything.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from shards.files import sync_path
from unlearn.errors import ConfigurationError, InputError
from unlearn.report import charts
from unlearn.report.data import CellState, ReceiptFact, Report
from unlearn.report.wording import counted

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"

MARK = '<meta name="generator" content="sisa-unlearn report">'
"""Stands at the beginning of every report; a file without it is not overwritten by one."""

NOTHING = "\N{EN DASH}"
"""Stands where there is no figure."""

_MARKED = 1024
"""Within so many bytes."""


def render(report: Report) -> str:
    """A report as a page.

    Args:
        report: What it says.

    Returns:
        HTML.

    Raises:
        ConfigurationError: If Jinja is not installed.
    """
    return environment().get_template("report.html").render(report=report, mark=MARK)


def frame(report: Report) -> str:
    """A report inside another page, which its style does not reach.

    Args:
        report: What it says.

    Returns:
        HTML of a frame.
    """
    title = escape(f"Report on {report.name}")
    return (
        f'<iframe title="{title}" sandbox srcdoc="{escape(render(report))}" '
        'style="width:100%;height:44rem;border:1px solid #8886;border-radius:6px"></iframe>'
    )


def write(report: Report, path: str | Path) -> Path:
    """Write a report: whole, or not at all.

    Args:
        report: What it says.
        path: The file; an older report there is replaced.

    Returns:
        The file.

    Raises:
        InputError: If something else than a report is there, or its folder is not.
        ConfigurationError: If Jinja is not installed.
        OSError: If the disk refuses.
    """
    file = Path(path)
    check_replaceable(file)
    text = render(report)
    draft = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        with draft.open("w", encoding="utf-8") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        draft.replace(file)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_path(file.parent)
    return file


def check_replaceable(file: Path) -> None:
    """Refuse to write a report where it would destroy something else.

    Args:
        file: Where it is to go.

    Raises:
        InputError: If something else than a report is there, or its folder is not.
    """
    if not file.parent.is_dir():
        raise InputError(f"the folder {file.parent} does not exist: make it, or write the report elsewhere")
    if file.is_dir():
        raise InputError(f"{file} is a folder: name a file for the report")
    if file.exists():
        with file.open("rb") as opened:
            if MARK.encode() not in opened.read(_MARKED):
                raise InputError(f"{file} exists and is not a report, so it is not overwritten: name another file")


@cache
def environment() -> Environment:
    """The templates, and what they can call.

    Returns:
        The environment of Jinja.

    Raises:
        ConfigurationError: If Jinja is not installed.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise ConfigurationError(
            'reports are written with Jinja, which is not installed: pip install "sisa-unlearn[report]"'
        ) from error
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "code": code,
        "counted": counted,
        "duration": duration,
        "grouped": grouped,
        "moment": moment,
        "number": charts.number,
        "percent": percent,
        "rate": rate,
    }
    made.globals |= {"charts": charts, "cell_words": cell_words, "by_request": by_request}
    return made


def moment(at: datetime | None) -> str:
    """A time as the page shows it, UTC to the minute."""
    return NOTHING if at is None else at.strftime("%Y-%m-%d %H:%M")


def duration(seconds: float | None) -> str:
    """How long something took, in the unit that suits it."""
    if seconds is None:
        return NOTHING
    units = ((86_400.0, "days"), (3_600.0, "h"), (60.0, "min"), (1.0, "s"))
    for size, unit in units:
        if seconds >= (2 * size if unit == "days" else size):
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds * 1000:.0f} ms"


def percent(share: float) -> str:
    """A share in per cent: never 0 or 100 but where it is."""
    if 0 < share < 0.001:
        return "< 0.1%"
    if 0.999 < share < 1:
        return "> 99.9%"
    return f"{share:.1%}"


def rate(share: float) -> str:
    """A probability in per cent, without a decimal that says nothing."""
    return f"{100 * share:.4g}%"


def grouped(digest: str) -> list[str]:
    """A digest in groups of eight digits, as people compare them."""
    return [digest[at : at + 8] for at in range(0, len(digest), 8)]


def code(text: str) -> list[tuple[bool, str]]:
    """A sentence as parts, each with whether it stood between backticks, that is, whether it is to be typed."""
    return [(bool(number % 2), part) for number, part in enumerate(text.split("`")) if part]


def cell_words(state: CellState, requests: int, destroyed: int) -> str:
    """What a cell of the map says, for whoever does not see its colour."""
    if state == "empty":
        return "no record" if not requests else f"no record left; {counted(requests, 'request')} began here"
    there = {"built": "trained again" if destroyed else "never destroyed", "missing": "to be trained"}[state]
    return there if not requests else f"{there}; {counted(requests, 'request')} began here"


def by_request(receipts: Sequence[ReceiptFact]) -> list[list[ReceiptFact]]:
    """Receipts of the same request together, in the order in which they come."""
    found: dict[str, list[ReceiptFact]] = {}
    for receipt in receipts:
        found.setdefault(receipt.request, []).append(receipt)
    return list(found.values())
