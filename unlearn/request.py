"""A deletion request and the one table of how it may move. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from unlearn.errors import UnlearnError


class RequestState(StrEnum):
    """Where a deletion request stands.

    Attributes:
        SUBMITTED: Durable, and no longer served; what saw the data is being destroyed.
        FORGOTTEN: Records and everything trained on them are gone from the workspace.
        RECOVERED: The steps that forgetting removed have been built again.
    """

    SUBMITTED = "submitted"
    FORGOTTEN = "forgotten"
    RECOVERED = "recovered"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing is left to be done."""
        return not TRANSITIONS[self]


TRANSITIONS: dict[RequestState, frozenset[RequestState]] = {
    RequestState.SUBMITTED: frozenset({RequestState.FORGOTTEN}),
    RequestState.FORGOTTEN: frozenset({RequestState.RECOVERED}),
    RequestState.RECOVERED: frozenset(),
}
"""From each state, the states a request may move to."""


def check_transition(before: RequestState, after: RequestState) -> None:
    """Refuse a move the table does not hold.

    Args:
        before: The state the request is in.
        after: The state it is to move to.

    Raises:
        UnlearnError: If the table has no such move.
    """
    if after not in TRANSITIONS[before]:
        raise UnlearnError(f"a request cannot move from {before} to {after}")


@dataclass(frozen=True)
class Request:
    """A deletion request as the workspace knows it: counts and times, no ids.

    Attributes:
        id: Name of the request, given by the workspace.
        state: Where it stands.
        reason: Why, in the words of whoever submitted it.
        idempotency_key: The submitter's own key, or None.
        n_subjects: Subjects named in it.
        n_records: Records it removed.
        shards: Shard to the earliest position whose step had seen the records.
        submitted_at: When it became durable, UTC.
        forgotten_at: When everything that saw the records was gone, UTC; None before.
        recovered_at: When the removed steps had been rebuilt, UTC; None before.
    """

    id: str
    state: RequestState
    reason: str
    idempotency_key: str | None
    n_subjects: int
    n_records: int
    shards: dict[int, int]
    submitted_at: datetime
    forgotten_at: datetime | None = None
    recovered_at: datetime | None = None
