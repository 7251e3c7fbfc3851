"""`unlearn ingest`: take in a batch of records."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unlearn.cli.arguments import AsJson, Columns, RecordId, RiskColumn, Run, Subject, Target, opened, split_names
from unlearn.cli.columns import text_columns
from unlearn.cli.output import counted, print_json, say
from unlearn.cli.where import trains
from unlearn.errors import InputError

if TYPE_CHECKING:
    from shards.digest import Json
    from shards.executors.base import Executor

EXAMPLE = """\b
Examples:
  unlearn ingest runs/people people.csv --target income --subject person --record-id row
  unlearn ingest runs/people parts/ --target income --subject person --record-id row
  unlearn ingest runs/members people.csv --target income --subject person --risk membership
  unlearn ingest /shared/runs/people /shared/parts/ --target income --record-id row --address auto"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(help="Take in a batch of records; nothing is trained yet.", epilog=EXAMPLE)(trains(ingest))


def ingest(
    run: Run,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help=".csv, .parquet, or .npz with X, y and optionally subjects, record_ids, risk; or a folder of .parquet "
            "files, which may be larger than memory.",
        ),
    ],
    target: Target = None,
    subject: Subject = None,
    record_id: RecordId = None,
    features: Columns = None,
    risk: RiskColumn = None,
    reconsent: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="A forgotten subject or record that agreed to return; repeatable."),
    ] = None,
    *,
    executor: Executor,
    json: AsJson = False,
) -> None:
    """Take in a batch of records.

    Raises:
        InputError: If a folder is given without a target.
    """
    from shards.sources import from_file

    chosen = split_names(features)
    with opened(run, executor) as workspace:
        subjects: int | None = None
        if file.is_dir():
            if target is None:
                raise InputError(f"{file}: no target column named; give --target")
            before = workspace.status().records
            batch = workspace.ingest_parquet(
                file,
                target=target,
                subject=subject,
                record_id=record_id,
                features=chosen,
                risk=risk,
                reconsent=reconsent or (),
            )
            n = workspace.status().records - before
        else:
            records = from_file(
                file,
                target=target,
                subject=subject,
                record_id=record_id,
                features=chosen,
                risk=risk,
                text=text_columns(workspace.task),
                batch=workspace.status().batches,
            )
            batch = workspace.ingest(records, reconsent=reconsent or ())
            n, subjects = len(records), len(set(records.subjects))
    if json:
        # Nobody counts the subjects of what is larger than memory.
        counts: dict[str, Json] = {"records": n} | ({} if subjects is None else {"subjects": subjects})
        print_json({"workspace": workspace.path, "batch": batch, **counts})
        return
    of = "" if subjects is None else f" of {counted(subjects, 'subject')}"
    say(f"batch {batch}: {counted(n, 'record')}{of} taken in")
    say(f"next: unlearn train {run}")
