"""How many faults were tried, and in how many something acknowledged was lost; one line at the end of the run."""

from __future__ import annotations

from collections import Counter

TRIED: Counter[str] = Counter()
LOST: Counter[str] = Counter()


def add(kind: str, tried: int, lost: int) -> str:
    """Count faults.

    Args:
        kind: What they were.
        tried: How many were applied.
        lost: After how many something was wrong.

    Returns:
        A line that says so.
    """
    TRIED[kind] += tried
    LOST[kind] += lost
    return f"{kind}: faults tried: {tried}, lost: {lost}"


def summary() -> str:
    """The line for the whole run, or an empty string if no fault was tried."""
    if not TRIED:
        return ""
    kinds = ", ".join(f"{kind} {number}" for kind, number in TRIED.items())
    return f"faults tried: {TRIED.total()}, lost: {LOST.total()} ({kinds})"
