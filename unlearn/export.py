"""The registers of requests, for a data-protection officer: CSV for a spreadsheet, JSON for a program.

One of deletions and one of edits, never one of both: an edit removes nothing. One row a request, no ids and no facts of
anybody: counts, times, deadlines, where it stands. Pure.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from shards.digest import Json
from unlearn.facts import EditRequest
from unlearn.request import Request

COLUMNS = (
    "request",
    "idempotency_key",
    "state",
    "overdue",
    "late",
    "days_late",
    "submitted_at",
    "deadline",
    "withdrawn_at",
    "forgotten_at",
    "recovered_at",
    "subjects_named",
    "records_removed",
    "shards_hit",
    "reason",
    "failure",
    "digest",
    "guarantee",
    "method",
    "retrain_by",
    "retraining_due",
)
"""What a row holds. `overdue` asks somebody to act; `late` is what was forgotten after its deadline, for good, and
`days_late` by how many days, begun ones counted whole; both are empty before it is forgotten. `guarantee` is of what is
served since: "empirical" or "certified" from an approximate method until the model is retrained, else "exact"; empty
before."""

EDIT_COLUMNS = (
    "edit",
    "idempotency_key",
    "state",
    "submitted_at",
    "edited_at",
    "facts",
    "editor",
    "model",
    "edited_model",
    "output",
    "answers_given",
    "rephrasings_given",
    "rephrasings_asked",
    "texts_unchanged",
    "texts_asked",
    "reason",
    "failure",
    "guarantee",
)
"""What a row of an edit holds. What was given, asked and left unchanged was measured of the edited model, and is empty
unless the edit was made, as its id and the guarantee are."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings that a spreadsheet would take for a formula."""


def rows(requests: Sequence[Request], at: datetime) -> list[dict[str, Json]]:
    """Requests as rows.

    Args:
        requests: The requests.
        at: The time, UTC, which decides what is overdue.

    Returns:
        One mapping of `COLUMNS` a request; times in ISO 8601, UTC.
    """
    return [dict(zip(COLUMNS, _row(request, at), strict=True)) for request in requests]


def edit_rows(edits: Sequence[EditRequest]) -> list[dict[str, Json]]:
    """Edits of language models as rows.

    Args:
        edits: The requests.

    Returns:
        One mapping of `EDIT_COLUMNS` a request; times in ISO 8601, UTC.
    """
    return [dict(zip(EDIT_COLUMNS, _edit_row(edit), strict=True)) for edit in edits]


def as_json(register: Sequence[Mapping[str, Json]]) -> str:
    """A register as a JSON list.

    Args:
        register: Its rows.

    Returns:
        The text of the file.
    """
    return json.dumps(list(register), indent=2, ensure_ascii=False) + "\n"


def as_csv(register: Sequence[Mapping[str, Json]], columns: Sequence[str] = COLUMNS) -> str:
    """A register as CSV; text that a spreadsheet would run as a formula is quoted with an apostrophe.

    Args:
        register: Its rows.
        columns: Their keys, in order.

    Returns:
        The text of the file.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in register:
        writer.writerow({name: _harmless(value) for name, value in row.items()})
    return text.getvalue()


def _row(request: Request, at: datetime) -> tuple[Json, ...]:
    withdrawn, late = request.withdrawn_at is not None, request.days_late
    return (
        request.id,
        request.idempotency_key,
        request.state.value,
        request.is_overdue(at),
        None if late is None else late > 0,
        late,
        _time(request.submitted_at),
        _time(request.deadline),
        _time(request.withdrawn_at),
        _time(request.forgotten_at),
        _time(request.recovered_at),
        request.n_subjects,
        request.n_records if withdrawn else None,
        len(request.shards) if withdrawn else None,
        request.reason,
        request.failure,
        request.digest,
        request.guarantee,
        request.method if request.is_approximate else None,
        _time(request.escalate_by),
        request.is_due(at),
    )


def _edit_row(edit: EditRequest) -> tuple[Json, ...]:
    found = edit.measured
    return (
        edit.id,
        edit.idempotency_key,
        edit.state.value,
        _time(edit.submitted_at),
        _time(edit.edited_at),
        len(edit.facts),
        edit.editor,
        edit.artefact,
        edit.made,
        edit.output,
        None if found is None else found.reliability.given,
        None if found is None else found.generalization.given,
        None if found is None else found.generalization.asked,
        None if found is None else found.locality.given,
        None if found is None else found.locality.asked,
        edit.reason,
        edit.failure,
        edit.guarantee,
    )


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _harmless(value: Json) -> Json:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
