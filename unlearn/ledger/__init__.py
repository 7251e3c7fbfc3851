"""The durable log: what was ingested, built, asked to be forgotten, and done about it."""

from unlearn.ledger.database import Database
from unlearn.ledger.evidence import Evidence
from unlearn.ledger.ledger import Ledger, check_repeat, now
from unlearn.ledger.rows import (
    Artefact,
    BuiltStep,
    Erasure,
    Location,
    NewRecord,
    NewSlice,
    Submission,
    Withdrawal,
)

__all__ = [
    "Artefact",
    "BuiltStep",
    "Database",
    "Erasure",
    "Evidence",
    "Ledger",
    "Location",
    "NewRecord",
    "NewSlice",
    "Submission",
    "Withdrawal",
    "check_repeat",
    "now",
]
