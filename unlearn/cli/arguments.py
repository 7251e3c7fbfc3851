"""Arguments that several commands share, and the texts that are turned into values."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from shards.interrupts import guarded

if TYPE_CHECKING:
    from shards.digest import Json
    from shards.executors.base import Executor
    from shards.placement import Region
    from unlearn.workspace import Workspace

Run: TypeAlias = Annotated[Path, typer.Argument(metavar="RUN", help="The workspace's folder.")]
AsJson: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output, nothing else.")
]
Target: TypeAlias = Annotated[str | None, typer.Option(help="Column of the target.")]
Subject: TypeAlias = Annotated[str | None, typer.Option(help="Column that says whose a record is.")]
RecordId: TypeAlias = Annotated[str | None, typer.Option(help="Column of the record ids.")]
RiskColumn: TypeAlias = Annotated[
    str | None, typer.Option("--risk", help="Column of the subjects' risk classes, where `create` declared some.")
]
Columns: TypeAlias = Annotated[
    str | None, typer.Option(metavar="A,B,…", help="Feature columns, in order.", show_default="all others")
]
Options: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="NAME=VALUE", help="An option of the learner; the value in JSON, or text."),
]

MethodOptions: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--method-option", metavar="NAME=VALUE", help="An option of the method; the value in JSON, or text; repeatable."
    ),
]

RiskClasses: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME:SHARDS:SLICES",
        help="A class of subjects and where they go, such as guest:16-19:* (shards 16 to 19) or guest:*:4 (the last of "
        "5 slices), numbered from 0; repeatable. `ingest --risk` then says each subject's class.",
        show_default="one for all, anywhere",
    ),
]

_FORMATS = frozenset({".csv", ".html", ".json", ".npz", ".parquet", ".pdf", ".tsv", ".xls", ".xlsx"})
"""Endings by which programs choose how to read a file."""

_NUMBERS = re.compile(r"\*|[0-9]{1,9}(-[0-9]{1,9})?")

_RAISED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What a user's file may stumble over while it is imported."""


def split_names(text: str | None) -> list[str] | None:
    """Names separated by commas; None stays None."""
    return None if text is None else [name.strip() for name in text.split(",")]


def check_ending(file: Path, option: str, *written: str) -> None:
    """Refuse a file whose name promises another format than what is written into it.

    Args:
        file: The file to write.
        option: By which it was given.
        *written: Endings of the formats there are, the first one for names that promise nothing.

    Raises:
        BadParameter: If its ending is that of another format.
    """
    if file.suffix.lower() in _FORMATS.difference(written):
        raise typer.BadParameter(
            f"{file} would hold no {file.suffix.lower()[1:]}: give a name that ends in {' or '.join(written)}",
            param_hint=option,
        )


def parse_options(texts: Sequence[str] | None, option: str = "--option") -> dict[str, Json]:
    """Read `name=value` options.

    Args:
        texts: As given on the command line.
        option: By which they were given.

    Returns:
        Name to value: what JSON makes of it, else the text itself.

    Raises:
        BadParameter: If one has no name, no `=`, or repeats a name.
    """
    options: dict[str, Json] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint=option)
        if name in options:
            raise typer.BadParameter(f"{name!r} is given twice", param_hint=option)
        options[name] = _json_or_text(value)
    return options


def parse_classes(text: str | None) -> list[Json] | None:
    """Read class labels.

    Args:
        text: Labels separated by commas, numbers where they look like numbers; or a JSON list.

    Returns:
        The labels, or None if none were given.

    Raises:
        BadParameter: If it begins like a JSON list and is none.
    """
    if text is None:
        return None
    if not text.lstrip().startswith("["):
        return [_label(name.strip()) for name in text.split(",")]
    try:
        return list(json.loads(text, parse_constant=_refuse_constant))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a JSON list ({error})", param_hint="--classes") from error


def parse_risk_classes(texts: Sequence[str] | None) -> dict[str, Region] | None:
    """Read `NAME:SHARDS:SLICES` options.

    Args:
        texts: As given on the command line; each part a number, the first and the last of some, or `*` for all.

    Returns:
        Risk class to region; None if there are no classes.

    Raises:
        BadParameter: If one is not of this form, or repeats a name.
    """
    if not texts:
        return None
    from shards.placement import Region

    found: dict[str, Region] = {}
    for text in texts:
        name, _, numbers = text.partition(":")
        shards, _, slices = numbers.partition(":")
        if not (name and _NUMBERS.fullmatch(shards) and _NUMBERS.fullmatch(slices)):
            raise typer.BadParameter(
                f"{text!r} is not NAME:SHARDS:SLICES as in guest:16-19:*", param_hint="--risk-class"
            )
        if name in found:
            raise typer.BadParameter(f"{name!r} is given twice", param_hint="--risk-class")
        found[name] = Region(_numbers(shards), _numbers(slices))
    return found


def _numbers(text: str) -> range | None:
    first, _, last = text.partition("-")
    return None if text == "*" else range(int(first), int(last or first) + 1)


def find_code_here() -> None:
    """Let references such as `package.module:name` find the user's code in the current directory.

    At the end of the path, so that no file that happens to lie here takes the place of a library's module.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)


@guarded
def opened(run: Path, executor: Executor | None = None) -> Iterator[Workspace]:
    """Open a workspace for one command.

    Args:
        run: Its folder.
        executor: Where it trains; None: on this machine.

    Yields:
        The workspace, closed afterwards.
    """
    from unlearn.workspace import Workspace

    with closing(Workspace.open(run, executor=executor or "local")) as workspace:
        yield workspace


def make_learner(name: str, options: dict[str, Json]) -> Any:
    """Make the learner that a name stands for.

    Args:
        name: One of `shards.learners.NAMES`, or `"package.module:name"` of a module factory, a learner or an estimator.
        options: Options of the learner.

    Returns:
        The learner.

    Raises:
        UnlearnError: If there is no such thing, or it does not take the options.
        CodeError: If the user's file raises while it is imported.
    """
    from shards.errors import CodeError, UnlearnError
    from shards.learners import as_learner

    try:
        return as_learner(name, options)
    except UnlearnError:
        raise
    except _RAISED as error:
        raise CodeError(
            f"{name!r}: your file raised {type(error).__name__} while it was imported ({error}): repair it; `unlearn "
            "--debug …` shows where"
        ) from error


def _json_or_text(text: str) -> Json:
    try:
        value: Json = json.loads(text, parse_constant=_refuse_constant)
    except ValueError:
        return text
    return value


def _label(text: str) -> Json:
    value = _json_or_text(text)
    return value if isinstance(value, str | int | float) else text


def _refuse_constant(name: str) -> None:
    """NaN and the infinities are no JSON, though Python reads them.

    Raises:
        ValueError: Always.
    """
    raise ValueError(f"{name} is not JSON")
