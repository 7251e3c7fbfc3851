"""The command reference, made from the program itself: what `--help` says, on one page."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any

import typer

BEGIN = """# Commands

Made from the program: the same words as `unlearn COMMAND --help`. RUN is the folder of a workspace. Exit status: 0
done, 1 failed, with one line `error: …` on standard error, 2 misused, 130 interrupted. With `--json` a command prints
one JSON document on standard output and nothing else. `unlearn --install-completion` teaches your shell the names.
"""


def reference(app: typer.Typer) -> str:
    """All commands of a program, with all of their arguments and options, as a page.

    Args:
        app: The program.

    Returns:
        Markdown.
    """
    group: Any = typer.main.get_command(app)
    context = group.context_class(group, info_name=group.name)
    parts = [BEGIN, *_of(group, context, f"`{group.name}`")]
    for name, command in group.commands.items():
        parts += _of(command, command.context_class(command, info_name=name, parent=context), f"`{group.name} {name}`")
    return "\n".join(parts)


def _of(command: Any, context: Any, title: str) -> Iterable[str]:
    """One command: what it does, how it is called, its parameters, its examples."""
    yield f"\n## {title}\n"
    yield f"{_text(command.help or '')}\n"
    yield f"    {command.get_usage(context).removeprefix('Usage: ')}\n"
    yield "| name | what |"
    yield "| --- | --- |"
    for item in command.get_params(context):
        if (record := item.get_help_record(context)) is not None:
            yield _row(*record)
    if command.epilog:
        title, _, lines = command.epilog.replace("\b", "").strip().partition(":")
        yield f"\n{title}:\n\n```sh\n{textwrap.dedent(lines.strip(chr(10))).strip()}\n```\n"


def _row(name: str, what: str) -> str:
    text, bracket, facts = what.rpartition("  [")
    said = f"{_text(text)} *{_text(bracket.strip() + facts)}*" if bracket else _text(what)
    return f"| `{name}` | {said} |"  # a bar within code ends no cell


def _text(text: str) -> str:
    """One paragraph, whose angle brackets, asterisks and bars stand for themselves."""
    return " ".join(text.split()).replace("<", "&lt;").replace("*", "\\*").replace("|", "\\|")
