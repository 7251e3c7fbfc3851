"""What time it is, and how long one waits for a turn."""

from __future__ import annotations

from datetime import UTC, datetime

BUSY_SECONDS = 30
"""How long a transaction waits for the one before it."""


def now() -> datetime:
    """The time, UTC."""
    return datetime.now(UTC)
