"""The figures of the README, from `result.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.readme import table


def tables(document: Mapping[str, Any]) -> str:
    """What was found, for readers.

    Args:
        document: The result file.

    Returns:
        Markdown.
    """
    rows = [
        [
            row["MKL_CBWR"] or "",
            row["ATEN_CPU_CAPABILITY"] or "",
            f"{row['milliseconds']:.3f}",
            f"{row['ratio']:.2f}",
            ", ".join(f"`{digest}`" for digest in row["weights"]),
        ]
        for row in document["rows"]
    ]
    head = (
        "`MKL_CBWR`",
        "`ATEN_CPU_CAPABILITY`",
        "ms a minibatch",
        "by that without switches",
        "digest of the weights",
    )
    return table(head, rows)
