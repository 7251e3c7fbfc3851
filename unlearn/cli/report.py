"""`unlearn report`: one page on a workspace for whoever has to answer for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unlearn.cli.arguments import AsJson, Run, check_ending, opened
from unlearn.cli.output import print_json, say

if TYPE_CHECKING:
    from unlearn.report import Measured

EXAMPLE = """\b
Examples:
  unlearn report runs/people -o report.html
  unlearn report runs/people -o report.html --audit audit.json --measured accuracy.json
  unlearn report runs/people --json"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        help="Write a report as one page that needs nothing else: requests and deadlines, what was forgotten, what it "
        "cost, audits, receipts and how to check them, and what is not proven. It names no person and no record.",
        epilog=EXAMPLE,
    )(report)


def report(
    run: Run,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="The page; only an older report is overwritten."),
    ] = None,
    audit: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="A signed audit (`audit --out`) to show, beside those in the folder audits of RUN; repeatable.",
        ),
    ] = None,
    measured: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help='Accuracies you measured, JSON: [{"when": "after", "accuracy": 0.94, "records": 1000}, …].',
        ),
    ] = None,
    *,
    json: AsJson = False,
) -> None:
    """Write a report.

    Raises:
        BadParameter: If neither a file nor `--json` is given.
    """
    if output is None and not json:
        raise typer.BadParameter("name the file to write, or ask for --json", param_hint="--output")
    from unlearn.report import describe, write
    from unlearn.report.html import check_replaceable

    if output is not None:
        check_ending(output, "--output", ".html")
        if str(output) == "-":
            raise typer.BadParameter("a report is a page for a browser: name a file", param_hint="--output")
        check_replaceable(output)
    figures = [] if measured is None else read_measured(measured)
    with opened(run) as workspace:
        found = describe(workspace, audits=audit or (), measured=figures)
    if output is not None:
        write(found, output)
    if json:
        print_json(found.to_json())
        return
    say(found.status.sentence)
    for line in found.status.to_do:
        say(f"  - {line}")
    say(f"report written to {output}")


def read_measured(file: Path) -> list[Measured]:
    """Read accuracies that somebody measured.

    Args:
        file: JSON: a list of objects with `when`, `accuracy` (None: no shard could predict) and `records`.

    Returns:
        Them, in order.

    Raises:
        InputError: If it is something else.
    """
    import json

    from unlearn.errors import InputError
    from unlearn.report import Measured

    try:
        return [Measured(**item) for item in json.loads(file.read_bytes())]
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}): check the path") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f'{file} is no list such as [{{"when": "after", "accuracy": 0.94, "records": 1000}}]: {error}'
        ) from error
