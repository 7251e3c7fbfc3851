"""The figures of the README, from `result.json`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from experiments.readme import fill, prose, source, table, values

TEXT = """\
Five slices keep the accuracy of heads (the CIFAR loss is {cifar.heads.slices_5.lost|.4f}) and save {saved|.0%} of a
deletion's record-visits. They do not save time, since features are worked out again in every step: heads over a
costly map are better off with more shards than with slices."""


def tables(document: Mapping[str, Any]) -> str:
    """What was found, for readers.

    Args:
        document: The result file.

    Returns:
        Markdown.
    """
    value = values(document)
    rows = []
    for name in value:
        part = re.fullmatch(r"(\w+)\.(\w+)\.slices_(\d+)\.lost", name)
        if part is None:
            continue
        start = f"{part[1]}.{part[2]}.slices_{part[3]}"
        rows.append(
            [
                part[1],
                part[2].replace("_", " "),
                f"{document['setting']['n_shards']} x {part[3]}",
                f"{value[f'{start}.accuracy']:.3f}",
                f"{value[f'{part[1]}.{part[2]}.whole.accuracy']:.3f}",
                f"{value[name]:.3f}",
                f"{value[f'{start}.training']:.0f} s",
                f"{value[f'{start}.recovery']:.1f} s",
                fill(f"{{{start}.visits|,.0f}} ({{{start}.visits_share|.1%}})", value),
            ]
        )
    head = (
        *("data", "learner", "shards x slices", "accuracy", "one model", "lost", "training"),
        *("recovery from one, training", "record-visits of a deletion"),
    )
    saved = 1 - value["cifar.heads.slices_5.visits"] / value["cifar.heads.slices_1.visits"]
    return "\n\n".join([f"{source(document)}.", table(head, rows), prose(TEXT, value | {"saved": saved})])
