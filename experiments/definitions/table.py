"""The figures of the README, from `result.json`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from experiments.readme import table

NOISY = "claimed and measured"


def tables(document: Mapping[str, Any]) -> str:
    """What was found, for readers.

    Args:
        document: The result file.

    Returns:
        Markdown.
    """
    rows = [row for row in document["rows"] if row["part"] != NOISY]
    noisy = [row for row in document["rows"] if row["part"] == NOISY]
    parts = [row["part"] for row in rows]
    first = [
        [part if part != before else "", *_checked(row)]
        for before, part, row in zip(["", *parts], parts, rows, strict=False)
    ]
    heads = [_noise(row) for row in noisy]
    second = [
        [
            head if head != before else "",
            row["model"].partition(": ")[2],
            f"{row['k']}",
            f"{row['claimed']:.3g}",
            f"{row['bound']:.2f}",
            f"{row['gaussian']:.2f}",
        ]
        for before, head, row in zip(["", *heads], heads, noisy, strict=False)
    ]
    head = ("", "model", "k", "δ", "claimed ε", "measured: at least", "could show at most", "verdict")
    about = (
        f"Claimed and measured at δ = {noisy[0]['delta']:g}, {noisy[0]['runs']:,} trainings of each kind; so many "
        f"could show {noisy[0]['certifiable']:.2f} at most:"
    )
    minutes = document["processor_seconds"] / 60
    return "\n\n".join(
        [
            f"`{document['command']}`, {minutes:.0f} minutes of processor time (`result.json`).",
            table(head, first),
            about,
            table(
                (
                    *("noise multiplier (accuracy)", "records to delete", "k", "claimed ε"),
                    *("measured: at least", "if Gaussian"),
                ),
                second,
            ),
        ]
    )


def _checked(row: Mapping[str, Any]) -> list[str]:
    exact = row["p_value"] is not None
    claimed = "none" if row["claimed"] == "infinity" else "exact" if exact else f"{row['claimed']:.3g}"
    return [
        row["model"],
        f"{row['k']}",
        f"{row['delta']:g}",
        claimed,
        f"p = {row['p_value']:.2g}" if exact else f"{row['bound']:.2f}",
        "" if exact else f"{row['certifiable']:.2f}",
        row["verdict"],
    ]


def _noise(row: Mapping[str, Any]) -> str:
    noise = re.search(r"noise ([0-9.]+)", row["model"])
    return f"{noise[1] if noise else ''} ({row['accuracy']:.2f})"
