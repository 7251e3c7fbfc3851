"""`unlearn ingest`: take in a batch of records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unlearn.cli.arguments import AsJson, Columns, RecordId, Run, Subject, Target, opened, split_names
from unlearn.cli.output import counted, print_json, say

EXAMPLE = """\b
Example:
  unlearn ingest runs/people people.csv --target income --subject person --record-id row"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(help="Take in a batch of records; nothing is trained yet.", epilog=EXAMPLE)(ingest)


def ingest(
    run: Run,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help=".csv, .parquet, or .npz with X, y and optionally subjects, record_ids."),
    ],
    target: Target = None,
    subject: Subject = None,
    record_id: RecordId = None,
    features: Columns = None,
    reconsent: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="A forgotten subject or record that agreed to return; repeatable."),
    ] = None,
    *,
    json: AsJson = False,
) -> None:
    """Take in a batch of records."""
    from shards.sources import from_file

    with opened(run) as workspace:
        records = from_file(
            file,
            target=target,
            subject=subject,
            record_id=record_id,
            features=split_names(features),
            batch=workspace.status().batches,
        )
        batch = workspace.ingest(records, reconsent=reconsent or ())
        subjects = len(set(records.subjects))
        if json:
            print_json({"workspace": workspace.path, "batch": batch, "records": len(records), "subjects": subjects})
            return
        say(f"batch {batch}: {counted(len(records), 'record')} of {counted(subjects, 'subject')} taken in")
        say(f"next: unlearn train {run}")
