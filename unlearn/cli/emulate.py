"""`unlearn emulate`: synthetic records in place of real ones, with the privacy that they carry."""

from __future__ import annotations

import json as json_text
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unlearn.cli.arguments import AsJson, Columns, Subject, parse_classes, split_names
from unlearn.cli.output import counted, print_json, say
from unlearn.errors import InputError

if TYPE_CHECKING:
    from shards.records import Records
    from unlearn.emulation import Emulation

EXAMPLE = """\b
Examples:
  unlearn emulate people.csv --target label --subject person --classes no,yes --bounds 0:120 --epsilon 2 --delta 1e-6 \\
    --n 10000 --output synthetic.parquet
  unlearn emulate people.csv --target label --classes no,yes --bounds age=0:120 --bounds income=0:2e5 --epsilon 2 \\
    --delta 1e-6 --n 10000 --output synthetic.csv"""

METADATA = b"unlearn.emulation"
"""Key of a Parquet file's metadata under which its guarantee goes along."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        help="Draw synthetic records from private sums of real ones, to train on in their place: a subject's deletion "
        "has been served before it was asked for, up to epsilon.",
        epilog=EXAMPLE,
    )(emulate)


def emulate(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help=".csv or .parquet with the real records; features are numbers.")
    ],
    target: Annotated[str, typer.Option(help="Column of the class.")],
    classes: Annotated[str, typer.Option(metavar="A,B,…", help="All labels there may be; public.")],
    bounds: Annotated[
        list[str],
        typer.Option(
            metavar="[COLUMN=]LOW:HIGH",
            help="Least and largest value of a feature, or of all; public, not taken from the data; repeatable.",
        ),
    ],
    epsilon: Annotated[float, typer.Option(help="Of a subject's privacy.")],
    delta: Annotated[float, typer.Option(help="That it is stated for; far below 1 / subjects, or it says little.")],
    n: Annotated[int, typer.Option(min=1, help="Synthetic records to draw; public.")],
    output: Annotated[Path, typer.Option(help=".parquet, with the guarantee in its metadata, or .csv.")],
    subject: Subject = None,
    per_subject: Annotated[
        int, typer.Option(min=1, help="Records of a subject that are used, at most; more cost more noise.")
    ] = 1,
    features: Columns = None,
    *,
    json: AsJson = False,
) -> None:
    """Draw synthetic records.

    Raises:
        InputError: If the features are no numbers, bounds name none of them, or the output is there already.
    """
    import numpy as np

    from shards.sources import from_file
    from unlearn.emulation import emulate as draw

    if output.suffix not in {".csv", ".parquet"}:
        raise InputError(f"{output}: name a .parquet or .csv file to write")
    if output.exists():
        raise InputError(f"{output} is there already: name another file, or take it away; nothing was drawn")
    records = from_file(file, target=target, subject=subject, features=split_names(features))
    if set(records.features) != {"x"} or not records.columns:
        raise InputError(f"{file}: every feature must be a number; choose columns with --features")
    labels = parse_classes(classes) or []
    low, high = _bounds(bounds, records.columns)
    made = draw(
        records.features["x"],
        records.target,
        classes=labels,
        bounds=(np.array(low), np.array(high)),
        epsilon=epsilon,
        delta=delta,
        n=n,
        subjects=records.subjects if subject is not None else None,
        per_subject=per_subject,
    )
    guarantee = made.guarantee().to_json()
    _write(output, made, records, target, guarantee)
    if json:
        print_json({"output": output, "records": n, "guarantee": guarantee})
        return
    say(f"{counted(n, 'synthetic record')} written to {output}")
    whose = "subject" if subject is not None else "record"
    say(f"epsilon {made.guarantee().epsilon:.4g} at delta {delta:g} for each {whose}; it rests on this:")
    for line in made.guarantee().assumptions:
        say(f"  - {line}")


def _bounds(texts: Sequence[str], columns: Sequence[str]) -> tuple[list[float], list[float]]:
    """Least and largest value of every column."""
    found: dict[str, tuple[float, float]] = {}
    for text in texts:
        name, equals, numbers = text.rpartition("=")
        try:
            low, high = map(float, numbers.split(":"))
        except ValueError:
            raise typer.BadParameter(f"{text!r} is not [COLUMN=]LOW:HIGH", param_hint="--bounds") from None
        found |= {name: (low, high)} if equals else dict.fromkeys(columns, (low, high)) | found
    unknown, missing = found.keys() - set(columns), [column for column in columns if column not in found]
    if unknown or missing:
        raise InputError(
            f"--bounds: {', '.join(sorted(unknown) or missing)} "
            + ("is no feature" if unknown else "has none")
            + f"; features are {', '.join(columns)}"
        )
    return [found[column][0] for column in columns], [found[column][1] for column in columns]


def _write(output: Path, made: Emulation, records: Records, target: str, guarantee: dict[str, Any]) -> None:
    import pyarrow as pa
    from pyarrow import csv, parquet

    columns = {name: made.x[:, at] for at, name in enumerate(records.columns)}
    table = pa.table({**columns, target: made.y})
    whole = output.with_name(f".{output.name}.part")
    try:
        if output.suffix == ".csv":
            csv.write_csv(table, whole)
        else:
            parquet.write_table(table.replace_schema_metadata({METADATA: json_text.dumps(guarantee)}), whole)
        whole.replace(output)
    finally:
        whole.unlink(missing_ok=True)
