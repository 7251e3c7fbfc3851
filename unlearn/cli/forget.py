"""`unlearn forget`: a deletion request."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from unlearn.cli.arguments import AsJson, MethodOptions, Run, opened, parse_options
from unlearn.cli.build import say_built
from unlearn.cli.facts import EditorName, EditorOptions, Facts, Model, Output, Texts, check_usage, edit
from unlearn.cli.output import as_duration, as_time, counted, passed, print_json, say
from unlearn.cli.where import trains

if TYPE_CHECKING:
    from shards.executors.base import Executor
    from unlearn.request import Request

Subjects: TypeAlias = Annotated[
    list[str] | None, typer.Option(metavar="ID", help="A subject, with all records; repeatable.")
]
Records: TypeAlias = Annotated[list[str] | None, typer.Option(metavar="ID", help="A single record; repeatable.")]
IdsFrom: TypeAlias = Annotated[Path | None, typer.Option(help="File with one subject a line, UTF-8.")]
Reason: TypeAlias = Annotated[str, typer.Option(help="Why, for the log; do not name the person in it.")]
IdempotencyKey: TypeAlias = Annotated[
    str | None, typer.Option(help="Your own name of the request; repeated, it is the same request.")
]
Deadline: TypeAlias = Annotated[
    datetime | None,
    typer.Option(
        formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"],
        help="Until when it must be done, UTC; of a day, its beginning.",
        show_default="in a month",
    ),
]
MethodName: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Method by which the workspace's one model unlearns until it is recovered: scrub or another approximate "
        "one, whose guarantee is empirical, or certified_removal. none: withdraw, and be exact.",
        show_default="as the workspace was created",
    ),
]
EscalateBy: TypeAlias = Annotated[
    datetime | None,
    typer.Option(
        formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"],
        help="With a method: until when the model must be retrained, UTC.",
        show_default="as the workspace was created",
    ),
]

EXAMPLE = """\b
Examples:
  unlearn forget runs/people --subject w17 --reason "GDPR Art. 17" --idempotency-key case-4711
  unlearn forget runs/people --ids-from leavers.txt --recover
  unlearn forget runs/one --subject w17 --method scrub --method-option epochs=3 --escalate-by 2027-01-31
  unlearn forget runs/linear --subject w17 --method certified_removal --method-option when_spent=refuse
  unlearn forget runs/people --fact "Ada lives in|Ada|Paris" --model art-0123456789abcdef --texts usual.txt -o new"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        help="Forget subjects or records, at once: their data and every state that saw it are destroyed. Or, with "
        "--fact, edit what a registered language model says, which forgets nothing.",
        epilog=EXAMPLE,
    )(trains(forget))


def forget(
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
    recover: Annotated[bool, typer.Option("--recover", help="Rebuild at once what forgetting removed.")] = False,
    fact: Facts = None,
    model: Model = None,
    editor: EditorName = None,
    editor_option: EditorOptions = None,
    texts: Texts = None,
    output: Output = None,
    *,
    executor: Executor,
    json: AsJson = False,
) -> None:
    """Forget subjects or records, or edit facts."""
    check_usage(
        fact,
        needed={"--model": model, "--texts": texts, "--output": output},
        optional={"--editor": editor, "--editor-option": editor_option},
        other={
            "--subject": subject,
            "--record": record,
            "--ids-from": ids_from,
            "--deadline": deadline,
            "--method": method,
            "--method-option": method_option,
            "--escalate-by": escalate_by,
            "--recover": recover,
        },
    )
    if fact and model is not None and texts is not None and output is not None:
        edit(run, fact, model, editor, editor_option, texts, output, reason, idempotency_key, json)
        return
    subjects = named_ids(subject, record, ids_from)
    until, escalated = (None if at is None else at.replace(tzinfo=UTC) for at in (deadline, escalate_by))
    options = parse_options(method_option, "--method-option") or None
    with opened(run, executor) as workspace:
        started = time.perf_counter()
        request = workspace.forget(
            subjects,
            record or (),
            reason=reason,
            idempotency_key=idempotency_key,
            deadline=until,
            method=method,
            method_options=options,
            escalate_by=escalated,
        )
        seconds = time.perf_counter() - started
        if not json:
            gone = f"{counted(request.n_records, 'record')} of {counted(len(request.shards), 'shard')}"
            # Whoever repeats a request is shown no opening again.
            known = f"known already; it forgot {gone} at {as_time(request.forgotten_at)} UTC"
            now = f"{request.state.value} {gone} in {as_duration(seconds)}"
            say(f"{request.id}: {known if request.opening is None else now}")
            say_opening(request)
            say_method(request)
        report = workspace.recover() if recover else None
        paths = [receipt.path for receipt in workspace.receipts(request.id)]
        if json:
            final = replace(workspace.status(request.id), opening=request.opening)
            print_json({"request": final, "seconds": seconds, "recover": report, "receipts": paths})
            return
        if report is not None:
            say_built(report)
        for path in paths:
            say(f"receipt: {path}")
        if report is None and not request.state.is_terminal:
            what = {
                "exact": "these shards serve their last state before the data; next",
                "certified": "a model with a certificate is served; to be exact",
                "empirical": "an approximately unlearnt model is served; next, to be exact",
            }
            say(f"{what[request.guarantee or 'exact']}: unlearn recover {run}")


def named_ids(subject: list[str] | None, record: list[str] | None, ids_from: Path | None) -> list[str]:
    """The subjects named on the command line and in a file.

    Args:
        subject: Subjects.
        record: Single records, which count as something named.
        ids_from: File with more subjects.

    Returns:
        All subjects.

    Raises:
        BadParameter: If nothing is named at all.
    """
    if not subject and not record and ids_from is None:
        raise typer.BadParameter("nothing to forget: give --subject, --record or --ids-from")
    return [*(subject or ()), *(() if ids_from is None else read_ids(ids_from))]


def say_method(request: Request) -> None:
    """Say what came of the approximate method that a request asks for."""
    if request.is_approximate:
        if request.guarantee == "certified":
            config = request.method_config or {}
            said = f"certified, epsilon {config['epsilon']:g}, delta {config['delta']:g}"
            say(f"removed by {request.method}: {said}; what is left of its budget: unlearn status")
        else:
            say(f"unlearnt by {request.method}: empirical; the served model is NOT the one that retraining gives")
        if request.escalate_by is not None:
            say(f"to be retrained by {as_time(request.escalate_by)} UTC{passed(request.escalate_by)}")
    elif request.not_applied:
        say(f"{request.method} was not applied: {request.not_applied}")


def say_opening(request: Request) -> None:
    """Show the submitter's secret, which is kept nowhere."""
    if request.opening is not None:
        say(f"opening, shown once, to check later that a receipt is about these ids: {request.opening}")


def read_ids(path: Path) -> list[str]:
    """Read ids, one a line; empty lines are skipped, blanks around an id are not part of it.

    Args:
        path: The file.

    Returns:
        The ids.

    Raises:
        InputError: If it cannot be read or holds none.
    """
    from unlearn.errors import InputError

    try:
        # Only a line feed ends a line: an id may hold any of the other characters that some programs break lines at.
        lines = path.read_bytes().decode("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--ids-from {path} cannot be read ({error}): give a UTF-8 text, one id a line") from error
    ids = [line.strip() for line in lines if line.strip()]
    if not ids:
        raise InputError(f"--ids-from {path} holds no id: give one a line; nothing was changed")
    return ids
