"""`unlearn register`, `export-model`, `artefacts`, `retire`: what was derived from a model and lives elsewhere."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from unlearn.cli.arguments import AsJson, Run, opened
from unlearn.cli.output import as_time, cell, print_json, print_table, say

REGISTER = """\b
Example:
  unlearn register runs/people --name phone-model --kind "distilled model" --location s3://models/phone-7"""

EXPORT = """\b
Example:
  unlearn export-model runs/people --output people.pt2
  python -c "import torch; print(torch.export.load('people.pt2').module())"
"""

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
    app.command(
        name="export-model",
        help="Write the model as it is now, all its shards and how they are joined, as a torch.export program, and "
        "register it: receipts of later requests that touch it name it.",
        epilog=EXPORT,
    )(export_model)
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


def export_model(
    run: Run,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write, .pt2, outside of the workspace.")],
    name: Annotated[str | None, typer.Option(help="Your name for it.", show_default="that of the file")] = None,
    *,
    json: AsJson = False,
) -> None:
    """Write the model as it is now."""
    with opened(run) as workspace:
        found = workspace.export_model(output, name=name)
    print_json(found) if json else say(f"{found.id}: written to {found.location}")


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
