"""`unlearn submit`, `process`, `extend`, `export`: requests at a deletion desk."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unlearn.cli.arguments import AsJson, MethodOptions, Run, check_ending, opened, parse_options
from unlearn.cli.build import say_built
from unlearn.cli.facts import say_measured
from unlearn.cli.forget import (
    Deadline,
    EscalateBy,
    IdempotencyKey,
    IdsFrom,
    MethodName,
    Reason,
    Records,
    Subjects,
    named_ids,
    say_method,
    say_opening,
)
from unlearn.cli.output import as_time, counted, passed, print_json, say
from unlearn.cli.where import trains

if TYPE_CHECKING:
    from shards.executors.base import Executor
    from unlearn.building import BuildReport
    from unlearn.request import Request

SUBMIT = """\b
Examples:
  unlearn submit runs/people --subject w17 --idempotency-key case-4711
  unlearn submit runs/people --ids-from leavers.txt --deadline 2027-01-31"""

PROCESS = """\b
Examples:
  unlearn process runs/people
  unlearn process runs/people --recover --workers 2"""

EXTEND = """\b
Example:
  unlearn extend runs/people req-0123456789abcdef --until 2027-03-31"""

EXPORT = """\b
Examples:
  unlearn export runs/people --output requests.csv
  unlearn export runs/people --output - --json
  unlearn export runs/people --edits --output edits.csv"""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        help="Accept a request to forget, durably and without waiting; it takes effect with the next `process`.",
        epilog=SUBMIT,
    )(submit)
    app.command(help="Carry out what was submitted; exit status 1 if a request failed.", epilog=PROCESS)(
        trains(process)
    )
    app.command(help="Move the deadline of a request.", epilog=EXTEND)(extend)
    app.command(help="Write the register of requests, for a data-protection officer.", epilog=EXPORT)(export)


def submit(
    run: Run,
    subject: Subjects = None,
    record: Records = None,
    ids_from: IdsFrom = None,
    reason: Reason = "",
    idempotency_key: IdempotencyKey = None,
    deadline: Deadline = None,
    method: MethodName = None,
    method_option: MethodOptions = None,
    escalate_by: EscalateBy = None,
    *,
    json: AsJson = False,
) -> None:
    """Accept a request to forget."""
    subjects = named_ids(subject, record, ids_from)
    with opened(run) as workspace:
        request = workspace.submit(
            subjects,
            record or (),
            reason=reason,
            idempotency_key=idempotency_key,
            deadline=as_utc(deadline),
            method=method,
            method_options=parse_options(method_option, "--method-option") or None,
            escalate_by=as_utc(escalate_by),
        )
    from unlearn.request import RequestState

    if json:
        print_json(request)
    elif request.state is RequestState.SUBMITTED:
        late = passed(request.deadline)
        say(f"{request.id}: accepted, {request.state.value}; its deadline is {as_time(request.deadline)} UTC{late}")
        say_opening(request)
        say(f"it takes effect with the next: unlearn process {run}")
    elif not request.failure:
        say(f"{request.id}: known already, and {request.state.value}; nothing was submitted again")
    if request.failure:
        typer.echo(
            f"{request.id} is known already: it {request.failure}, so it failed and changed nothing; submit what it "
            "should have named under another idempotency key",
            err=True,
        )
        raise typer.Exit(1)


def process(
    run: Run,
    recover: Annotated[bool, typer.Option("--recover", help="Rebuild at once what forgetting removed.")] = False,
    *,
    executor: Executor,
    json: AsJson = False,
) -> None:
    """Carry out what was submitted."""
    with opened(run, executor) as workspace:
        waited = [item.id for item in workspace.edits() if item.state.value == "submitted"]
        requests = workspace.process()
        report = workspace.recover() if recover else None
        requests = [workspace.status(request.id) for request in requests]
        edits = [workspace.edit(name) for name in waited]
    from unlearn.request import RequestState

    failed = [request.id for request in requests if request.state is RequestState.FAILED]
    failed += [item.id for item in edits if item.failure]
    if json:
        more = ({} if report is None else {"recover": report}) | ({"edits": edits} if edits else {})
        print_json({"requests": requests, **more} if more else requests)
    else:
        _say_processed(run, requests, report)
        for item in edits:
            say(f"{item.id}, an edit: {item.state.value}{f', {item.failure}' if item.failure else ''}")
            say_measured(item)
    if failed:
        typer.echo(
            f"{counted(len(failed), 'request')} failed and changed nothing: {', '.join(failed)}; submit again "
            "what they should have named",
            err=True,
        )
        raise typer.Exit(1)


def _say_processed(run: Path, requests: Sequence[Request], report: BuildReport | None) -> None:
    for request in requests:
        what = request.failure or f"{counted(request.n_records, 'record')} of {counted(len(request.shards), 'shard')}"
        say(f"{request.id}: {request.state.value}, {what}")
        say_method(request)
    if not requests:
        say("no request was waiting")
    if report is not None:
        say_built(report)
    elif any(request.shards for request in requests):
        say(f"next: unlearn recover {run}")


def extend(
    run: Run,
    request_id: Annotated[str, typer.Argument(metavar="REQUEST_ID", help="The request.")],
    until: Annotated[
        datetime,
        typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="The new deadline, UTC; of a day, its beginning."),
    ],
    *,
    json: AsJson = False,
) -> None:
    """Move a deadline."""
    with opened(run) as workspace:
        request = workspace.extend(request_id, until.replace(tzinfo=UTC))
    print_json(request) if json else say(f"{request.id}: the deadline is {as_time(request.deadline)} UTC now")


def export(
    run: Run,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write, .csv or .json; - for the screen.")],
    *,
    edits: Annotated[bool, typer.Option("--edits", help="Edits of language models, instead of deletions.")] = False,
    json: AsJson = False,
) -> None:
    """Write the register of requests."""
    check_ending(output, "--output", ".csv", ".json")
    from unlearn.export import COLUMNS, EDIT_COLUMNS, as_csv, as_json, edit_rows, rows

    with opened(run) as workspace:
        found = edit_rows(workspace.edits()) if edits else rows(workspace.requests(), datetime.now(UTC))
    as_document = json or output.suffix.lower() == ".json"
    text = as_json(found) if as_document else as_csv(found, EDIT_COLUMNS if edits else COLUMNS)
    if str(output) == "-":
        typer.echo(text, nl=False)
        return
    output.write_text(text, encoding="utf-8")
    say(f"{counted(len(found), 'edit' if edits else 'request')} written to {output}")


def as_utc(deadline: datetime | None) -> datetime | None:
    """A deadline from the command line, which is in UTC."""
    return None if deadline is None else deadline.replace(tzinfo=UTC)
