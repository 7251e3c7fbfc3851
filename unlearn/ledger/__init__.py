"""The durable log: what was ingested, built, asked to be forgotten, and done about it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlearn.ledger.clock import now
    from unlearn.ledger.database import Database
    from unlearn.ledger.evidence import EditEvidence, Evidence
    from unlearn.ledger.ledger import Ledger, check_repeat
    from unlearn.ledger.rows import (
        APPLYING,
        EDITING,
        Approximation,
        Artefact,
        BuiltStep,
        Edited,
        EditSubmission,
        Erasure,
        Given,
        Location,
        NewRecord,
        NewSlice,
        Submission,
        Unlearnt,
        Withdrawal,
    )

__all__ = [
    "APPLYING",
    "EDITING",
    "Approximation",
    "Artefact",
    "BuiltStep",
    "Database",
    "EditEvidence",
    "EditSubmission",
    "Edited",
    "Erasure",
    "Evidence",
    "Given",
    "Ledger",
    "Location",
    "NewRecord",
    "NewSlice",
    "Submission",
    "Unlearnt",
    "Withdrawal",
    "check_repeat",
    "now",
]

_HOMES = {
    "Database": "database",
    "EditEvidence": "evidence",
    "Evidence": "evidence",
    "Ledger": "ledger",
    "check_repeat": "ledger",
    "now": "clock",
}
"""Where a name lives, if not in `rows`."""


def __getattr__(name: str) -> Any:
    """Import what is asked for, so that who verifies proofs alone need not load a database library."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'rows')}"), name)
