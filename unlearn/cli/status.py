"""`unlearn status`: what a workspace holds, and where requests stand."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unlearn.cli.arguments import AsJson, Run, opened
from unlearn.cli.facts import edit_table, print_edits
from unlearn.cli.output import as_time, cell, counted, print_json, print_table, say, to_plain

if TYPE_CHECKING:
    from rich.table import Table

    from unlearn.request import Request
    from unlearn.workspace import ApproximateState, Workspace, WorkspaceStatus

EXAMPLE = """\b
Examples:
  unlearn status runs/people
  unlearn status runs/people --overdue
  unlearn status runs/people req-0123456789abcdef --json"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(help="Say what a workspace holds, what is missing, and where requests stand.", epilog=EXAMPLE)(status)


def status(
    run: Run,
    request_id: Annotated[
        str | None,
        typer.Argument(metavar="REQUEST_ID", help="One request only; its idempotency key will do.", show_default=False),
    ] = None,
    overdue: Annotated[
        bool, typer.Option("--overdue", help="Only requests past their deadline; exit status 1 if there are any.")
    ] = False,
    *,
    json: AsJson = False,
) -> None:
    """Say where things stand."""
    with opened(run) as workspace:
        if overdue:
            _say_overdue(workspace, json)
            return
        if request_id is not None:
            _say_one(workspace, request_id, json)
            return
        requests, edits = workspace.requests(), workspace.edits()
        if json:
            print_json(
                {
                    **to_plain(workspace.status()),
                    "state_digest": _digest(workspace),
                    "request_list": [_told(request) for request in requests],
                    "edits": edits,
                }
            )
            return
        print_table(workspace_table(workspace))
        if requests:
            print_table(requests_table(requests))
        print_edits(edits)


def _say_one(workspace: Workspace, request_id: str, json: bool) -> None:
    """One request, to forget or to edit."""
    if request_id.startswith("edit-"):
        edit = workspace.edit(request_id)
        print_json(edit) if json else print_table(edit_table(edit))
        return
    request = workspace.status(request_id)
    print_json(_told(request)) if json else print_table(request_table(request))


def _told(request: Request) -> Any:
    """A request for machines, with what its times come to."""
    return {**to_plain(request), "days_late": request.days_late}


def _say_overdue(workspace: Workspace, json: bool) -> None:
    late = [request for request in workspace.requests() if request.is_overdue(datetime.now(UTC))]
    if json:
        print_json([_told(request) for request in late])
    elif late:
        print_table(requests_table(late))
    else:
        say("no request is overdue")
    if late:
        raise typer.Exit(1)


def _digest(workspace: Workspace) -> str:
    """The state digest, or what is wrong with the state."""
    from unlearn.errors import DamageError

    try:
        return workspace.state_digest()
    except DamageError as error:
        return f"none: {error}"


def workspace_table(workspace: Workspace) -> Table:
    """What the workspace holds, one fact a row."""
    found = workspace.status()
    declared = workspace.declaration
    behind = ", ".join(map(str, found.behind))
    waiting = ", ".join(f"{count:,} {state}" for state, count in found.requests.items() if count)
    return _facts(
        found.path,
        (
            ("learner", f"{declared.trained}, {declared.task}"),
            ("records", f"{found.records:,} (batches: {found.batches:,})"),
            (
                "shards",
                f"{found.n_shards:,} of {counted(found.n_slices, 'slice')} a batch, joined by {declared.aggregation}",
            ),
            ("shards serving", f"{found.serving:,} of {found.n_shards:,}"),
            ("shards behind", f"{len(found.behind):,}" + (f" ({behind})" if behind else "")),
            ("steps missing", f"{found.steps_missing:,} ({found.visits_missing:,} record-visits)"),
            ("requests", waiting or "none"),
            ("overdue", ", ".join(found.overdue) or "none"),
            ("forgotten late", ", ".join(found.late) or "none"),
            *_approximate(found),
            ("state digest", _digest(workspace)),
        ),
    )


def _approximate(found: WorkspaceStatus) -> list[tuple[str, str]]:
    """What approximate methods made of the served model, if they did."""
    if not found.approximate and not found.due:
        return []
    rows = [_made(made) for made in found.approximate]
    return [*rows, ("to be retrained now", ", ".join(found.due) or "none is due")]


def _made(made: ApproximateState) -> tuple[str, str]:
    times = counted(made.applications, "application")
    refuted = "" if made.refuted_at is None else f"; REFUTED by an audit, {as_time(made.refuted_at)} UTC"
    if made.certificate is not None:
        epsilon, delta, spent, left = (made.certificate[name] for name in ("epsilon", "delta", "spent", "left"))
        promised = f"epsilon {epsilon:g}, delta {delta:g}; of epsilon {spent:.3g} is spent"
        return (
            "CERTIFIED",
            f"serving a model after {made.method}: {promised}, {counted(left, 'removal')} left{refuted}",
        )
    how = f"{' and '.join(made.methods)}, {made.guarantee}, {times}"
    return ("APPROXIMATE", f"serving an approximately unlearnt model: {how}; NOT what retraining gives{refuted}")


def request_table(request: Request) -> Table:
    """One request, one fact a row."""
    return _facts(
        request.id,
        (
            ("state", request.state.value),
            ("records", f"{request.n_records:,}"),
            ("subjects named", f"{request.n_subjects:,}"),
            ("shards", ", ".join(map(str, sorted(request.shards))) or "-"),
            ("submitted", f"{as_time(request.submitted_at)} UTC"),
            ("deadline", f"{as_time(request.deadline)} UTC" + (" (OVERDUE)" if _is_overdue(request) else "")),
            ("withdrawn", "-" if request.withdrawn_at is None else f"{as_time(request.withdrawn_at)} UTC"),
            (
                "forgotten",
                "-" if request.forgotten_at is None else f"{as_time(request.forgotten_at)} UTC{_late(request)}",
            ),
            ("recovered", "-" if request.recovered_at is None else f"{as_time(request.recovered_at)} UTC"),
            *_method(request),
            ("reason", request.reason or "-"),
            ("idempotency key", request.idempotency_key or "-"),
            ("failure", request.failure or "-"),
        ),
    )


def _method(request: Request) -> list[tuple[str, str]]:
    """The approximate method it asks for, if it does, and what came of that."""
    if request.method is None:
        return []
    from unlearn.request import CERTIFIED

    kind = "certified" if request.method == CERTIFIED else "empirical"
    said = f"NOT applied: {request.not_applied}" if request.not_applied else f"{kind}, not exact, until it is recovered"
    config = ", ".join(f"{name}={value}" for name, value in (request.method_config or {}).items())
    until = "-" if request.escalate_by is None else f"{as_time(request.escalate_by)} UTC"
    due = " (DUE)" if request.is_due(datetime.now(UTC)) else ""
    return [("method", f"{request.method}: {said}"), ("its options", config), ("retrain by", until + due)]


def requests_table(requests: Iterable[Request]) -> Table:
    """All requests, one a row, oldest first."""
    from rich.table import Table

    table = Table("request", "state", title="requests (times in UTC)", title_justify="left")
    for name in ("records", "shards"):
        table.add_column(name, justify="right")
    for name in ("submitted", "deadline", "forgotten", "recovered", "reason"):
        table.add_column(name)
    for item in requests:
        table.add_row(
            item.id,
            item.state.value,
            f"{item.n_records:,}",
            f"{len(item.shards):,}",
            as_time(item.submitted_at),
            as_time(item.deadline) + (" OVERDUE" if _is_overdue(item) else ""),
            as_time(item.forgotten_at) + _late(item),
            as_time(item.recovered_at),
            cell(item.reason) or "-",
        )
    return table


def _late(request: Request) -> str:
    return f" ({counted(request.days_late, 'day')} LATE)" if request.days_late else ""


def _is_overdue(request: Request) -> bool:
    return request.is_overdue(datetime.now(UTC))


def _facts(title: str, rows: Iterable[tuple[str, str]]) -> Table:
    from rich.table import Table

    table = Table(title=cell(title), title_justify="left", show_header=False)
    for name, value in rows:
        table.add_row(name, cell(value))
    return table
