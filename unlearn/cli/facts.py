"""`unlearn forget --fact`: an edit of a language model, and how it is shown."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from unlearn.cli.arguments import opened, parse_options
from unlearn.cli.output import as_duration, as_time, cell, counted, print_json, print_table, say

if TYPE_CHECKING:
    from rich.table import Table

    from unlearn.facts import EditRequest, Fact, Measured

Facts: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PROMPT|SUBJECT|NEW",
        help="Edit a language model in place of forgetting: what is to follow the prompt, which names the subject; "
        "then other wordings to ask, if there are any. A bar in a text is doubled; repeatable.",
    ),
]
Model: TypeAlias = Annotated[
    str | None, typer.Option(metavar="ARTEFACT_ID", help="With --fact: the language model, as it was registered.")
]
EditorName: TypeAlias = Annotated[
    str | None,
    typer.Option(help="With --fact: rome, memit, ft-l or ft-m, whose guarantee is empirical.", show_default="rome"),
]
EditorOptions: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--editor-option", metavar="NAME=VALUE", help="An option of the editor; the value in JSON, or text; repeatable."
    ),
]
Texts: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="With --fact: sentences of the kind the model is used on, one a line: what is to stay.",
    ),
]
Output: TypeAlias = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="With --fact: folder for the edited model.")
]


def check_usage(
    facts: Sequence[str] | None, needed: dict[str, object], optional: dict[str, object], other: dict[str, object]
) -> None:
    """Refuse options of an edit without a fact, and of a deletion with one: a request says one thing.

    Args:
        facts: The facts, as given.
        needed: Options that an edit needs, to what was given.
        optional: Options that it may have.
        other: Options that belong to a deletion.

    Raises:
        BadParameter: If they do not go together.
    """
    if not facts:
        for name, value in {**needed, **optional}.items():
            if value:
                raise typer.BadParameter("it is for an edit: give --fact as well", param_hint=name)
        return
    for name, value in other.items():
        if value:
            raise typer.BadParameter(
                "it is about records, and --fact edits a language model, which removes none: make two requests",
                param_hint=name,
            )
    for name, value in needed.items():
        if not value:
            raise typer.BadParameter("an edit needs it", param_hint=name)


def edit(
    run: Path,
    facts: Sequence[str],
    model: str,
    editor: str | None,
    editor_option: list[str] | None,
    texts: Path,
    output: Path,
    reason: str,
    idempotency_key: str | None,
    json: bool,
) -> None:
    """Edit facts, and say what came of it.

    Args:
        run: The workspace.
        facts: As given on the command line.
        model: Id of the artefact.
        editor: Name of the editor, or None.
        editor_option: Its options, as given.
        texts: File of sentences.
        output: Folder for the edited model.
        reason: Why.
        idempotency_key: The submitter's own key, or None.
        json: Whether to print JSON.
    """
    named = read_facts(facts)
    options = parse_options(editor_option, "--editor-option") or None
    sentences = read_texts(texts)
    with opened(run) as workspace:
        started = time.perf_counter()
        done = workspace.edit_facts(
            named,
            model=model,
            output=output,
            texts=sentences,
            editor=editor or "rome",
            editor_options=options,
            reason=reason,
            idempotency_key=idempotency_key,
        )
        seconds = time.perf_counter() - started
        paths = [receipt.path for receipt in workspace.receipts(done.id)]
    if json:
        print_json({"edit": done, "seconds": seconds, "receipts": paths})
        return
    say(f"{done.id}: edited {counted(len(done.facts), 'fact')} by {done.editor} in {as_duration(seconds)}")
    say("nothing was forgotten: no record was removed, and the model before says what it said until you destroy it")
    say_measured(done)
    say(f"the edited model is {done.made}, in {done.output}")
    if done.opening is not None:
        say(f"opening, shown once, to check later that a receipt is about these facts: {done.opening}")
    for path in paths:
        say(f"receipt: {path}")


def say_measured(done: EditRequest) -> None:
    """Say what was measured of an edited model."""
    for name, said in measured_rows(done):
        say(f"{name}: {said}")


def measured_rows(done: EditRequest) -> list[tuple[str, str]]:
    """What was measured, one thing a row.

    Args:
        done: The request.

    Returns:
        Name and counts; none of an edit that was not made.
    """
    return [] if done.measured is None else rows_of(done.measured)


def rows_of(measured: Measured) -> list[tuple[str, str]]:
    """Name and counts of each measure.

    Args:
        measured: What was measured.

    Returns:
        One a row.
    """
    what = {
        "reliability": "new answers given",
        "generalization": "given after other wordings",
        "locality": "texts continued as before",
    }
    return [
        (f"{words} ({name})", f"{item.given:,} of {item.asked:,}" if item.asked else "none was asked")
        for name, words in what.items()
        for item in [getattr(measured, name)]
    ]


def read_facts(facts: Sequence[str] | None) -> list[Fact]:
    """Facts from the command line."""
    from unlearn.facts import parse_fact

    return [parse_fact(text) for text in facts or ()]


def read_texts(path: Path) -> list[str]:
    """Read sentences, one a line; empty lines are skipped.

    Args:
        path: The file.

    Returns:
        The sentences.

    Raises:
        InputError: If it cannot be read.
    """
    from unlearn.errors import InputError

    try:
        lines = path.read_bytes().decode("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--texts {path} cannot be read ({error}): give a UTF-8 text, one sentence a line") from error
    return [line.strip() for line in lines if line.strip()]


def edit_table(item: EditRequest) -> Table:
    """One edit, one fact a row."""
    from rich.table import Table

    table = Table(title=cell(item.id), title_justify="left", show_header=False)
    config = ", ".join(f"{name}={value}" for name, value in item.config.items())
    for name, value in (
        ("what", "an edit of a language model: no record is removed by it"),
        ("state", item.state.value),
        ("facts", f"{len(item.facts):,}"),
        ("model", item.artefact),
        ("editor", item.editor),
        ("its options", config),
        ("submitted", f"{as_time(item.submitted_at)} UTC"),
        ("edited", "-" if item.edited_at is None else f"{as_time(item.edited_at)} UTC"),
        ("edited model", "-" if item.made is None else f"{item.made}, {item.output}"),
        ("guarantee", item.guarantee or "-"),
        *measured_rows(item),
        ("reason", item.reason or "-"),
        ("idempotency key", item.idempotency_key or "-"),
        ("failure", item.failure or "-"),
    ):
        table.add_row(name, cell(value))
    return table


def edits_table(items: Iterable[EditRequest]) -> Table:
    """All edits, one a row, oldest first."""
    from rich.table import Table

    columns = (
        "edit", "state", "facts", "editor", "model", "edited model", "submitted", "edited", "guarantee", "reason",
    )  # fmt: skip
    table = Table(*columns, title="edits of language models (times in UTC)", title_justify="left")
    for item in items:
        table.add_row(
            item.id,
            item.state.value,
            f"{len(item.facts):,}",
            item.editor,
            item.artefact,
            item.made or "-",
            as_time(item.submitted_at),
            as_time(item.edited_at),
            item.guarantee or "-",
            cell(item.reason or "-"),
        )
    return table


def print_edits(items: Sequence[EditRequest]) -> None:
    """Print the table of edits, if there are any."""
    if items:
        print_table(edits_table(items))
