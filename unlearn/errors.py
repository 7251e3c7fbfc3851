"""Errors of workspaces and requests, below the root that `shards` defines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from shards.errors import (
    BudgetSpentError,
    CallError,
    ClusterError,
    CodeError,
    ConfigurationError,
    DamageError,
    EnvironmentMismatchError,
    InputError,
    LockedError,
    NotServingError,
    StorageError,
    TrainingError,
    UnlearnError,
    WorkerLostError,
)

__all__ = [
    "AlreadyForgottenError",
    "BudgetSpentError",
    "CallError",
    "ClusterError",
    "CodeError",
    "ConfigurationError",
    "ConformanceError",
    "DamageError",
    "EnvironmentMismatchError",
    "FencedError",
    "IdempotencyError",
    "InputError",
    "LockedError",
    "NotAppliedError",
    "NotServingError",
    "ProofError",
    "StorageError",
    "TombstoneError",
    "TrainingError",
    "UnknownIdError",
    "UnlearnError",
    "UnsignedError",
    "VerificationError",
    "WorkerLostError",
    "WorkspaceError",
    "some",
]


class WorkspaceError(UnlearnError):
    """A path is no workspace, already is one, or is of a format this version does not know."""


class FencedError(LockedError):
    """Another process took the workspace over while this one was writing to it."""


class UnsignedError(WorkspaceError):
    """What was asked for is done, but receipts could not be issued, since there is no key to sign them with."""


class UnknownIdError(InputError):
    """A subject, record or request the workspace does not hold."""


class AlreadyForgottenError(InputError):
    """A subject or record that was forgotten before."""


class TombstoneError(InputError):
    """An ingest that would bring back what was forgotten."""


class IdempotencyError(InputError):
    """An idempotency key that was used before for another request."""


class NotAppliedError(UnlearnError):
    """An edit of a language model that was asked for and could not be made; nothing was changed."""


class ConformanceError(UnlearnError, AssertionError):
    """Something that does not hold to what its kind promises.

    Args:
        check: Name of the check.
        subject: What was checked.
        message: What was expected, and what was found.
    """

    def __init__(self, check: str, subject: str, message: str) -> None:
        super().__init__(f"{subject} fails the check {check!r}: {message}")
        self.check = check
        self.subject = subject


class ProofError(UnlearnError):
    """A proof over a tree of hashes that does not show what it should."""


class VerificationError(UnlearnError):
    """A receipt, or a workspace against its receipts, that does not stand up to a step of the verification.

    Args:
        step: Number of the step.
        title: What the step looks at.
        message: What is wrong, and what that means.
    """

    def __init__(self, step: int, title: str, message: str) -> None:
        super().__init__(f"verification failed at step {step} ({title}): {message}")
        self.step = step
        self.title = title


def meant(name: str, known: Iterable[str]) -> str:
    """Which known name one that is unknown may stand for, for a message: `; did you mean 'x'?`, or nothing."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def some(names: Sequence[str], most: int = 5) -> str:
    """The first few of many names, for a message."""
    shown = ", ".join(repr(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
