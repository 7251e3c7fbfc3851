"""`python -m experiments.readme [NAME …]`: write the figures of READMEs anew, from result files. Nothing is measured.

What a README says in figures stands between two marks there, and is made by `tables(document)` of the experiment's
`table.py` from its `result.json`. Each experiment does the same at the end of its run.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def put_tables(tables: str, path: Path) -> None:
    """Replace what stands between the marks.

    Args:
        tables: Markdown.
        path: The README, which has both marks.

    Raises:
        ValueError: If it has not.
    """
    text = path.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text.partition(BEGIN)[2]:
        raise ValueError(f"{path} does not have both marks, {BEGIN} and {END}: put them where the figures belong")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}", encoding="utf-8")


def measured(path: Path) -> str:
    """What stands between the marks of a README."""
    return path.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].strip()


def reported(folder: Path = HERE) -> list[str]:
    """Names of the experiments that make their README's figures of a result that is there."""
    return sorted(path.parent.name for path in folder.glob("*/table.py") if (path.parent / "result.json").exists())


def made(name: str) -> str:
    """What a README is to say, from the result file.

    Args:
        name: Of the experiment; one of `reported`.

    Returns:
        Markdown.
    """
    document = json.loads((HERE / name / "result.json").read_text(encoding="utf-8"))
    return str(importlib.import_module(f"experiments.{name}.table").tables(document))


def write(name: str) -> None:
    """Put the figures of an experiment's result file into its README.

    Args:
        name: Of the experiment; one without a `table.py` states no figures there, and nothing is done.
    """
    if (HERE / name / "table.py").exists():
        put_tables(made(name), HERE / name / "README.md")


def values(document: Mapping[str, Any]) -> dict[str, float]:
    """Figures by name, of a result that lists them."""
    return {figure["name"]: figure["value"] for figure in document["figures"]}


def fill(text: str, figures: Mapping[str, float]) -> str:
    """Put figures into a text.

    Args:
        text: Has `{name|format}` where a figure belongs.
        figures: By name.

    Returns:
        The text, a space before each % sign.

    Raises:
        KeyError: If there is no such figure.
    """
    said = re.sub(r"\{([^{}|]+)\|([^{}]+)\}", lambda found: format(figures[found[1]], found[2]), text)
    return re.sub(r"(?<=\d)%", " %", said)


def prose(text: str, figures: Mapping[str, float]) -> str:
    """Put figures into paragraphs and lists, and break their lines anew.

    Args:
        text: As `fill` takes it; paragraphs are parted by an empty line, items of a list begin with a dash.
        figures: By name.

    Returns:
        Markdown, in lines of at most 120 characters.
    """
    blocks = re.split(r"\n(?=\n|- )", fill(text, figures))
    return "\n".join(_wrapped(block) for block in blocks)


def _wrapped(block: str) -> str:
    indent = "  " if block.startswith("- ") else ""
    lines = textwrap.fill(
        " ".join(block.split()), 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return f"\n{lines}" if block.startswith("\n") else lines


def source(document: Mapping[str, Any]) -> str:
    """Where figures come from: command, time, load, file.

    Args:
        document: As a benchmark writes it.

    Returns:
        A sentence without a full stop.
    """
    minutes = document["seconds"] / 60
    took = f"{minutes:.0f} minutes" if minutes >= 1.5 else f"{document['seconds']:.0f} seconds"
    low, high = sorted((document["load_before"][0], document["load_after"][0]))
    cores = document["machine"]["cores"]
    return f"`{document['command']}`, {took} on {cores} cores at a load of {low:.0f} to {high:.0f} (`result.json`)"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, its columns aligned; those of numbers to the right.

    Args:
        head: Names of the columns.
        rows: Cells.

    Returns:
        Its lines.
    """
    columns = range(len(head))
    widths = [max(3, *(len(row[at]) for row in (head, *rows))) for at in columns]
    right = [any(row[at] for row in rows) and all(re.match(r"[-+]?[0-9]|$", row[at]) for row in rows) for at in columns]

    def line(cells: Sequence[str]) -> str:
        padded = [cells[at].rjust(widths[at]) if right[at] else cells[at].ljust(widths[at]) for at in columns]
        return f"| {' | '.join(padded)} |"

    marks = ["-" * (widths[at] - 1) + ":" if right[at] else "-" * widths[at] for at in columns]
    return "\n".join([line(head), line(marks), *map(line, rows)])


def short(number: float | None) -> str:
    """A figure in three digits, or whole; empty without one."""
    return "" if number is None else f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"


def listed(document: Mapping[str, Any]) -> str:
    """All figures of a benchmark, as they are.

    Args:
        document: As a benchmark writes it.

    Returns:
        Markdown: where they come from, and a table.
    """
    rows = []
    for figure in document["figures"]:
        bounds = (("≥", figure["at_least"]), ("≤", figure["at_most"]))
        rows.append(
            [
                f"`{figure['name']}`",
                figure["what"].replace("|", "/"),
                f"{short(figure['value'])} {figure['unit']}",
                " ".join(f"{sign} {short(bound)}" for sign, bound in bounds if bound is not None),
                {None: "", True: "reached", False: "missed"}[figure["passed"]],
            ]
        )
    return f"{source(document)}.\n\n{table(('figure', 'what', 'value', 'goal', ''), rows)}"


def main() -> None:
    """Parse the command line and write."""
    parser = argparse.ArgumentParser(prog="python -m experiments.readme", description="Write READMEs from results.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="of which experiments; default: all")
    given = parser.parse_args()
    known = reported()
    for name in given.names:
        if name not in known:
            parser.error(f"{name!r} has no result and table.py: choose from {', '.join(known)}")
    for name in given.names or known:
        write(name)


if __name__ == "__main__":
    main()
