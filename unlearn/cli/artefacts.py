"""`unlearn register`, `artefacts`, `retire`: what was derived from a model and lives elsewhere."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from unlearn.cli.arguments import AsJson, Run, opened
from unlearn.cli.output import as_time, cell, print_json, print_table, say

REGISTER = """\b
Example:
  unlearn register runs/people --name phone-model --kind "distilled model" --location s3://models/phone-7"""

ARTEFACTS = """\b
Example:
  unlearn artefacts runs/people --json"""

RETIRE = """\b
Example:
  unlearn retire runs/people art-0123456789abcdef"""


class Source(StrEnum):
    """What something was derived from."""

    MODEL = "model"
    RECORDS = "records"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        name="register",
        help="Note something derived from the model as it is now, so that receipts can name it.",
        epilog=REGISTER,
    )(note)
    app.command(help="List what was derived, and what of it is tainted by later requests.", epilog=ARTEFACTS)(artefacts)
    app.command(help="Note that something derived was destroyed or made anew.", epilog=RETIRE)(retire)


def note(
    run: Run,
    name: Annotated[str, typer.Option(help="Your name for it.")],
    kind: Annotated[str, typer.Option(help="What it is.")],
    location: Annotated[str, typer.Option(help="Where it lies.")],
    source: Annotated[Source, typer.Option(help="What it was derived from: the model served, or all records.")] = (
        Source.MODEL
    ),
    *,
    json: AsJson = False,
) -> None:
    """Note something derived."""
    with opened(run) as workspace:
        found = workspace.register(name, kind, location, source=source.value)
    print_json(found) if json else say(f"{found.id}: noted")


def artefacts(run: Run, *, json: AsJson = False) -> None:
    """List what was derived."""
    from rich.table import Table

    with opened(run) as workspace:
        found = workspace.artefacts()
    if json:
        print_json(found)
        return
    table = Table("artefact", "name", "kind", "location", "registered", "state", title="derived", title_justify="left")
    for item in found:
        state = (
            "retired" if item.retired_at else f"TAINTED by {', '.join(item.tainted_by)}" if item.tainted_by else "clean"
        )
        table.add_row(
            item.id, cell(item.name), cell(item.kind), cell(item.location), as_time(item.registered_at), state
        )
    print_table(table)


def retire(
    run: Run,
    artefact_id: Annotated[str, typer.Argument(metavar="ARTEFACT_ID", help="The artefact.")],
    *,
    json: AsJson = False,
) -> None:
    """Note that something derived is gone."""
    with opened(run) as workspace:
        workspace.retire(artefact_id)
    print_json({"retired": artefact_id}) if json else say(f"{artefact_id}: retired")
