"""`unlearn forget`: a deletion request."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from unlearn.cli.arguments import AsJson, Run, opened
from unlearn.cli.build import say_built
from unlearn.cli.output import as_duration, counted, print_json, say

EXAMPLE = """\b
Examples:
  unlearn forget runs/people --subject w17 --reason "GDPR Art. 17" --idempotency-key case-4711
  unlearn forget runs/people --ids-from leavers.txt --recover"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        help="Forget subjects or records, at once: their data and every state that saw it are destroyed.",
        epilog=EXAMPLE,
    )(forget)


def forget(
    run: Run,
    subject: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="A subject, with all records; repeatable.")
    ] = None,
    record: Annotated[list[str] | None, typer.Option(metavar="ID", help="A single record; repeatable.")] = None,
    ids_from: Annotated[Path | None, typer.Option(help="File with one subject a line, UTF-8.")] = None,
    reason: Annotated[str, typer.Option(help="Why, for the log; do not name the person in it.")] = "",
    idempotency_key: Annotated[
        str | None, typer.Option(help="Your own name of the request; repeated, it is the same request.")
    ] = None,
    recover: Annotated[bool, typer.Option("--recover", help="Rebuild at once what forgetting removed.")] = False,
    *,
    json: AsJson = False,
) -> None:
    """Forget subjects or records."""
    if not subject and not record and ids_from is None:
        raise typer.BadParameter("nothing to forget: give --subject, --record or --ids-from")
    subjects = [*(subject or ()), *(() if ids_from is None else read_ids(ids_from))]
    with opened(run) as workspace:
        started = time.perf_counter()
        request = workspace.forget(subjects, record or (), reason=reason, idempotency_key=idempotency_key)
        seconds = time.perf_counter() - started
        if not json:
            say(
                f"{request.id}: {request.state.value} {counted(request.n_records, 'record')} of "
                f"{counted(len(request.shards), 'shard')} in {as_duration(seconds)}"
            )
        report = workspace.recover() if recover else None
        if json:
            final = workspace.status(request.id)
            print_json({"request": final, "seconds": seconds, "recover": report})
        elif report is not None:
            say_built(report)
        elif not request.state.is_terminal:
            say(f"these shards serve their last state before the data; next: unlearn recover {run}")


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
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--ids-from {path} cannot be read ({error}): give a UTF-8 text, one id a line") from error
    ids = [line.strip() for line in lines if line.strip()]
    if not ids:
        raise InputError(f"--ids-from {path} holds no id: give one a line; nothing was changed")
    return ids
