"""Runs what documents show: the blocks of a page, in order, in one folder, as whoever reads it would."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

from typer.testing import CliRunner, Result

from unlearn.cli.app import app

_FENCE = re.compile(r"^```(\w*)[ \t]*([^\n]*)\n(.*?)^```[ \t]*$", re.DOTALL | re.MULTILINE)
_ENDS = re.compile(r"\s(?:\|\|?|&&|;|>)\s")


class Block(NamedTuple):
    """A fenced block.

    Attributes:
        language: As it is named.
        title: Name of the file that it is, or empty.
        code: What it holds.
    """

    language: str
    title: str
    code: str


def blocks(page: Path | str) -> list[Block]:
    """The fenced blocks of a page, of which this is the file or the text."""
    found = _FENCE.findall(page.read_text(encoding="utf-8") if isinstance(page, Path) else page)
    return [Block(language, re.sub(r'.*title="([^"]*)".*|.*', r"\1", more), code) for language, more, code in found]


def commands(code: str) -> list[list[str]]:
    """The arguments of each of our commands, wherever it stands in its line."""
    lines = code.replace("\\\n", " ").splitlines()
    found = [re.search(r"(?:^|\s)unlearn (?!COMMAND)(.*)", line) for line in lines]
    return [shlex.split(_ENDS.split(match[1])[0], comments=True) for match in found if match]


def run(arguments: list[str]) -> Result:
    """Run one of our commands."""
    return CliRunner().invoke(app, arguments, prog_name="unlearn")


def check_parses(arguments: list[str]) -> None:
    """Fail unless there is such a command with such options; what may be run only elsewhere is not run."""
    # Help asked for last: what stands before it is parsed.
    found = run([*arguments, "--help"])
    assert found.exit_code == 0, (arguments, found.output)


def follow(path: Path, names: dict[str, Any]) -> None:
    """Do what a page says, in the current folder.

    Args:
        path: The page.
        names: What its Python blocks share.
    """
    for block in blocks(path):
        if block.title:
            Path(block.title).write_text(block.code, encoding="utf-8")
        elif block.language == "python":
            exec(compile(block.code, f"{path.name}: {block.code[:40]!r}", "exec"), names)
        elif block.language == "sh":
            lines = [line for line in block.code.replace("\\\n", " ").splitlines() if line.strip()]
            assert all(line.startswith("unlearn ") for line in lines), lines
            for arguments in commands(block.code):
                found = run(arguments)
                assert found.exit_code == 0, (arguments, found.output, found.exception)
        else:
            assert block.language in {"cron", "text"}, f"nobody runs a block of {block.language!r}"
            for arguments in commands(block.code):
                check_parses(arguments)
