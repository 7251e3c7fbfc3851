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
        [kind, f"{found['tried']:,}", f"{found['lost']:,}", found["date"][:10], f"`{found['commit']}`"]
        for kind, found in document.items()
    ]
    return table(("kind", "tried", "lost", "until", "commit"), rows)
