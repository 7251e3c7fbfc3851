"""`unlearn predict`: what the served ensemble says about the rows of a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unlearn.cli.arguments import AsJson, Columns, Run, Subject, Target, check_ending, opened, split_names
from unlearn.cli.columns import declared_columns, text_columns
from unlearn.cli.output import counted, print_json, say

if TYPE_CHECKING:
    import numpy as np

    from shards.task import Task

EXAMPLE = """\b
Examples:
  unlearn predict runs/people new.csv --out predictions.csv
  unlearn predict runs/people people.csv --target income --subject person --record-id row --proba"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        help="Predict for every row of a file; CSV on standard output or into a file. The declared columns are found "
        "by name, in whatever order, beside whatever others.",
        epilog=EXAMPLE,
    )(predict)


def predict(
    run: Run,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help=".csv or .parquet with the feature columns, or .npz with X.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="File to write the CSV to; - for the screen.", show_default="standard output")
    ] = None,
    proba: Annotated[bool, typer.Option("--proba", help="Add the probability of every class.")] = False,
    target: Target = None,
    subject: Subject = None,
    record_id: Annotated[
        str | None, typer.Option(help="Column of the record ids, which then stand beside the predictions.")
    ] = None,
    features: Columns = None,
    *,
    json: AsJson = False,
) -> None:
    """Predict for every row of a file."""
    from shards.sources import ids_from_file
    from unlearn.errors import NotServingError
    from unlearn.frames import prediction_columns

    if out is not None:
        check_ending(out, "--out", ".csv")
        out = None if str(out) == "-" else out
    with opened(run) as workspace:
        task = workspace.task
        if task is None:
            raise NotServingError(f"{run} holds no records and no trained state: ingest and train first")
        roles = [name for name in (target, subject, record_id) if name is not None]
        inputs = read_features(file, task, split_names(features), roles)
        output = workspace.predict_proba(inputs) if proba else workspace.predict(inputs)
        ids = {} if record_id is None else {"record_id": ids_from_file(file, record_id)}
        columns = ids | prediction_columns(output, task, proba=proba)
        rows = len(next(iter(columns.values())))
        if out is not None:
            out.write_text(_csv(columns), encoding="utf-8")
        if json:
            print_json({"rows": rows, "out": out} if out is not None else {"rows": rows, **columns})
        elif out is None:
            typer.echo(_csv(columns), nl=False)
        else:
            say(f"{counted(rows, 'prediction')} written to {out}")


def read_features(
    file: Path, task: Task, names: Sequence[str] | None, leave_out: Sequence[str]
) -> dict[str, np.ndarray]:
    """Read the declared features from a file that may hold other columns too.

    Args:
        file: The file.
        task: The declared task.
        names: Feature columns, or None: those the task names; where it names none, all that are not left out.
            Names that the task does not know stand for its columns in the order given.
        leave_out: Columns that are no features.

    Returns:
        Feature name to array `[n, *shape]`.

    Raises:
        InputError: If the file does not have what the task declares, or another number of columns is named.
    """
    from shards.sources import features_from_file
    from unlearn.errors import InputError

    if names is not None and task.columns and len(names) != len(task.columns):
        raise InputError(
            f"--features names {len(names)} of the {len(task.columns)} columns that the model takes: give "
            f"{', '.join(task.columns)}, or leave the option out"
        )
    if names is None:
        names = declared_columns(file, task)
    return features_from_file(file, features=names, leave_out=leave_out, text=text_columns(task))


def _csv(columns: dict[str, list[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()
