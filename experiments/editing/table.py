"""Tables out of what was measured, between two marks of the README."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unlearn.language.editing.registry import EDITORS

KINDS = {
    "reliability": "reliability",
    "generalization": "general.",
    "locality": "locality",
    "shared_name_locality": "first name",
    "attribute_locality": "same subject",
    "portability_alias": "alias",
    "portability_reversed": "reversed",
    "portability_one_hop": "one hop",
}
"""Kinds of probe, and their columns."""

SPREAD = Path(__file__).parent / "spread.json"
"""What `spread.py` measured."""

_BYTES = 4
"""Of a number of an edit, in float32."""

_TITLES = {"single": "each edit alone", "batch": "{} edits at once", "sequence": "{} edits, one after the other"}


def tables(document: Mapping[str, Any]) -> str:
    """All tables.

    Args:
        document: As `result.json` holds it.

    Returns:
        Markdown.
    """
    groups: dict[tuple[str, str, int], dict[str, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for name, cell in document["cells"].items():
        size, row, mode, number, _ = name.split("/")
        groups[size, mode, int(number)][row].append(cell)
    lines = []
    sizes = list(dict.fromkeys(name.split("/")[0] for name in sorted(document["cells"], key=_width)))
    places = {key: (sizes.index(key[0]), list(_TITLES).index(key[1]), key[2]) for key in groups}
    for key in sorted(groups, key=places.__getitem__):
        size, mode, number = key
        rows = groups[key]
        lines += [f"### {size}: {_TITLES[mode].format(number)}", "", _head(), "| --- |" + " --: |" * (len(KINDS) + 4)]
        lines += [_row(row, rows[row]) for row in sorted(rows, key=_order)]
        lines += ["", _counted([cell for cells in rows.values() for cell in cells]), ""]
    if "traces" in document:
        lines += ["### Where a model looks its facts up", "", *_traces(document["traces"]), ""]
    lines += ["### Published, of other and larger models", "", *_published(), ""]
    if SPREAD.exists():
        lines += [spread_table(json.loads(SPREAD.read_text(encoding="utf-8"))), ""]
    recall = ", ".join(f"{name} {value:.3f}" for name, value in sorted(document["recall"].items()))
    if recall:
        lines.append(f"Share of what was told that is known before editing: {recall}. {document['machine']['cpu']}.")
    return "\n".join(lines).rstrip()


def _width(name: str) -> tuple[int, str]:
    size = name.split("/")[0]
    return (0 if size.startswith("gpt2") else 1, size.rjust(40))


def _order(row: str) -> tuple[int, str]:
    names = list(EDITORS)
    # A variant stands after the editor whose name it begins with.
    return (names.index(row) if row in names else names.index(row.split("-")[0]), row)


def _head() -> str:
    return f"| editor | {' | '.join(KINDS.values())} | s to train | s an edit | kB an edit | seeds |"


def _row(row: str, cells: list[Mapping[str, Any]]) -> str:
    whole = [cell for cell in cells if "failed" not in cell]
    if not whole:
        return f"| `{row}` | not made: {cells[0]['failed'].split(':')[0]} |" + " |" * (len(KINDS) + 3)
    shares = []
    for kind in KINDS:
        values = [100 * cell[kind] for cell in whole if kind in cell]
        spread = f" ± {np.std(values):.0f}" if len(values) > 1 else ""
        shares.append(f"{np.mean(values):.0f}{spread}" if values else "")
    training, seconds, numbers = (
        float(np.mean([cell[key] for cell in whole])) for key in ("training_seconds", "seconds", "numbers")
    )
    trained = f"{training:.0f}" if training else ""
    cost = f"{trained} | {seconds:.1f} | {numbers * _BYTES / 1000:,.1f} | {len(whole)} of {len(cells)}"
    return f"| `{row}` | {' | '.join(shares)} | {cost} |"


def _counted(cells: list[Mapping[str, Any]]) -> str:
    """How many consequences were asked of how many there are; the same for every editor of a model."""
    whole = next((cell for cell in cells if "failed" not in cell), None)
    if whole is None:
        return "No editor made these edits."
    if not whole["asked"]:
        return "The file tells no consequences."
    said = ", ".join(
        f"{KINDS[kind]} {asked} of {possible}" for kind, (asked, possible) in whole["asked"].items() if kind in KINDS
    )
    return f"Consequences asked for, in the first seed, of those there are: {said}."


def _traces(traces: Mapping[str, Mapping[str, Any]]) -> list[str]:
    columns = {"subject_last": "subject's last token", "last": "prompt's last token"}
    lines = [f"| model / seed | known | disturbed | {' | '.join(columns.values())} |", "| --- |" + " --: |" * 4]
    for model in sorted(traces, key=_width):
        one = traces[model]
        best = [max((effect, block) for block, effect in enumerate(one["effects"][site])) for site in columns]
        effects = " | ".join(f"{effect:.3f}, block {block}" for effect, block in best)
        lines.append(f"| {model} | {one['clean']:.2f} | {one['corrupted']:.2f} | {effects} |")
    return lines


def _published() -> list[str]:
    lines = ["| editor | figures |", "| --- | --- |"]
    return lines + [f"| `{name}` | {'; '.join(editor.card.published)} |" for name, editor in EDITORS.items()]


def spread_table(document: Mapping[str, Mapping[str, float]], *, most: int = 6) -> str:
    """MEMIT, spread in several ways: the best of each model and number of edits.

    Args:
        document: As `spread.py` writes it.
        most: So many rows for each.

    Returns:
        Markdown.
    """
    groups: dict[tuple[str, int], list[tuple[dict[str, Any], Mapping[str, float]]]] = defaultdict(list)
    for name, shares in document.items():
        one = json.loads(name)
        groups[one["size"], one["edits"]].append((one, shares))
    kinds = list(KINDS)[:5]
    lines = ["### MEMIT, spread in other ways", ""]
    for (size, edits), rows in sorted(groups.items()):
        # The best is the one whose worst share of the three that are asked for is the largest.
        rows.sort(key=lambda row: -min(row[1][kind] for kind in kinds[:3] if kind in row[1]))
        lines += [
            f"{size}, {edits} edits at once: the best {min(most, len(rows))} of {len(rows)} settings, and the worst.",
            "",
            f"| layers | lambda | ridge | texts | {' | '.join(KINDS[kind] for kind in kinds)} |",
            "| --- | --: | --: | --: |" + " --: |" * len(kinds),
        ]
        for one, shares in [*rows[:most], *rows[max(most, len(rows) - 1) :]]:
            layers = ", ".join(map(str, one["layers"]))
            said = " | ".join(f"{100 * shares[kind]:.0f}" if kind in shares else "" for kind in kinds)
            lines.append(f"| {layers} | {one['moment_weight']:g} | {one['ridge']:g} | {one['texts']:,} | {said} |")
        lines.append("")
    return "\n".join(lines).rstrip()
