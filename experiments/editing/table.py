"""Tables out of what was measured, between two marks of the README."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

KINDS = {
    "reliability": "reliability",
    "generalization": "general.",
    "locality": "locality",
    "shared_name_locality": "shared name",
    "attribute_locality": "same subject",
}
"""Kinds of probe, and their columns."""


def tables(document: Mapping[str, Any]) -> str:
    """All tables.

    Args:
        document: As `result.json` holds it.

    Returns:
        Markdown.
    """
    groups: dict[tuple[str, int], dict[str, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for name, cell in document["cells"].items():
        row, mode, number, _ = name.split("/")
        groups[mode, int(number)][row].append(cell)
    lines = []
    order = {"single": 0, "batch": 1, "sequence": 2}
    merged: dict[tuple[str, int], dict[str, list[Mapping[str, Any]]]] = defaultdict(dict)
    for (mode, number), rows in groups.items():
        # Editors that train first make fewer edits one at a time: one table for all of them.
        key = (mode, 0 if mode == "single" else number)
        merged[key] |= rows
    titles = {"single": "Each edit alone", "batch": "{} edits at once", "sequence": "{} edits, one after the other"}
    for (mode, number), rows in sorted(merged.items(), key=lambda item: (order[item[0][0]], item[0][1])):
        lines += [f"### {titles[mode].format(number)}", "", _head(), "| --- |" + " --: |" * (len(KINDS) + 3)]
        lines += [_row(row, cells) for row, cells in rows.items()]
        lines.append("")
    recall = ", ".join(f"{value:.3f}" for _, value in sorted(document["recall"].items()))
    lines.append(f"Recall of the models before editing: {recall}. {document['machine']['cpu']}.")
    return "\n".join(lines)


def _head() -> str:
    return f"| editor | {' | '.join(KINDS.values())} | s an edit | numbers an edit | seeds |"


def _row(row: str, cells: list[Mapping[str, Any]]) -> str:
    whole = [cell for cell in cells if "failed" not in cell]
    if not whole:
        return f"| `{row}` | {cells[0]['failed'][:60]} |" + " |" * (len(KINDS) + 2)
    shares = []
    for kind in KINDS:
        values = [100 * cell[kind] for cell in whole if kind in cell]
        shares.append(f"{np.mean(values):.0f} ± {np.std(values):.0f}" if values else "")
    seconds, numbers = (np.mean([cell[key] for cell in whole]) for key in ("seconds", "numbers"))
    return f"| `{row}` | {' | '.join(shares)} | {seconds:.1f} | {numbers:,.0f} | {len(whole)} of {len(cells)} |"
