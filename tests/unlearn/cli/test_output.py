"""Tables in windows of any width: what somebody has to type again is never cut."""

from __future__ import annotations

from datetime import UTC, datetime
from io import StringIO

import pytest
from rich.console import Console
from rich.table import Table

from unlearn.cli.output import show_table
from unlearn.cli.status import requests_table
from unlearn.request import Request, RequestState

IDS = ("req-0123456789abcdef", "req-fedcba9876543210")
MOMENT = datetime(2026, 11, 28, 4, 40, 2, tzinfo=UTC)


def shown(table: Table, width: int) -> list[str]:
    file = StringIO()
    show_table(Console(width=width, file=file, highlight=False), table)
    return file.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 80, 100, 120, 200])
def test_ids_and_times_are_whole_in_any_window(width: int) -> None:
    requests = [
        Request(
            id=name,
            state=RequestState.SUBMITTED,
            reason="a letter that they sent in May",
            idempotency_key=None,
            digest="d",
            n_subjects=1,
            n_records=7,
            shards={},
            submitted_at=MOMENT,
            deadline=MOMENT,
        )
        for name in IDS
    ]
    lines = shown(requests_table(requests), width)
    assert all(len(line) <= width for line in lines)
    assert [name for line in lines for name in IDS if name in line] == list(IDS)
    text = "\n".join(lines)
    assert "…" not in text
    assert text.count("2026-11-28") == text.count("04:40:02") == 4
    assert all(name in text for name in ("request", "deadline", "recovered", "reason", "submitted"))


def test_a_table_stays_one_where_it_fits() -> None:
    def table() -> Table:
        found = Table("artefact", "kind")
        found.add_row(IDS[0], "a distilled model")
        return found

    assert len(shown(table(), 80)) == 5
    assert [line for line in shown(table(), 35) if "artefact" in line or "kind" in line] == [
        "│ artefact │ req-0123456789abcdef │",
        "│ kind     │ a distilled model    │",
    ]


def test_a_digest_goes_on_in_the_next_line() -> None:
    table = Table(title="run", show_header=False)
    table.add_row("state digest", "0123456789abcdef" * 4)
    text = "".join(line.split("│")[2].strip() for line in shown(table, 60) if "│" in line)
    assert text == "0123456789abcdef" * 4
