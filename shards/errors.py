"""Every error this project raises on purpose, below one root.

A message says what is wrong, where, and what to do about it.
"""

from __future__ import annotations


class UnlearnError(Exception):
    """Root of every error of `shards` and `unlearn`."""


class InputError(UnlearnError, ValueError):
    """Data or ids that cannot be accepted; nothing was changed."""


class ConfigurationError(UnlearnError, ValueError):
    """A learner, recipe or option that cannot work; nothing was changed."""


class CodeError(ConfigurationError):
    """User code that cannot be named, found or digested."""


class NotServingError(UnlearnError):
    """No shard has a state, so there is nothing to predict with."""


class DamageError(UnlearnError):
    """Stored bytes do not match their digest; they were not used."""


class LockedError(UnlearnError):
    """Another process is writing to the workspace."""


class StorageError(UnlearnError):
    """The disk or the store refused, or cannot be reached; what was acknowledged before is safe."""


class BudgetSpentError(UnlearnError):
    """No more labels may be published without breaking the promised epsilon."""


class TrainingError(UnlearnError):
    """The user's code raised inside a worker.

    Attributes:
        shard: Shard whose chain was under way.
        position: Position of the step in that chain, counted from 0.
        traceback: The worker's traceback, as text.
    """

    def __init__(self, message: str, shard: int, position: int, traceback: str) -> None:
        super().__init__(message)
        self.shard = shard
        self.position = position
        self.traceback = traceback


class CallError(UnlearnError):
    """A function that workers were to call raised.

    Attributes:
        number: Number of the item it was called with, counted from 0.
        traceback: The worker's traceback, as text.
    """

    def __init__(self, message: str, number: int, traceback: str) -> None:
        super().__init__(message)
        self.number = number
        self.traceback = traceback


class WorkerLostError(UnlearnError):
    """A worker process died more often than it is retried."""


class ClusterError(UnlearnError):
    """A cluster that cannot be reached, or cannot do what is asked of it."""


class EnvironmentMismatchError(UnlearnError):
    """A worker's numeric environment or code is not the one that was asked for."""
