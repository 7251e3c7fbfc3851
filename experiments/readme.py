"""Tables that an experiment writes into its README, between two marks."""

from __future__ import annotations

from pathlib import Path

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def put_tables(tables: str, path: Path) -> None:
    """Replace what stands between the marks.

    Args:
        tables: Markdown.
        path: The README, which has both marks.
    """
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}", encoding="utf-8")
