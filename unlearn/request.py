"""A deletion request and the one table of how it may move. Pure."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from unlearn.errors import UnlearnError

REQUEST_ID = re.compile("req-[0-9a-f]{16}")
"""What a request is called."""

RESPONSE_MONTHS = 1
"""How long one may take to act on a request: GDPR Art. 12(3), one month of its receipt, extendable by two."""


FAILURES = {"unknown id": "names a subject or record that is not here"}
"""Why a request may fail: what the log says, to what the register says. Lines are added, and never changed."""


class RequestState(StrEnum):
    """Where a deletion request stands. Whether it is overdue beside that, a clock decides: `Request.is_overdue`.

    Attributes:
        SUBMITTED: Accepted and durable. Before `withdrawn_at` is set, its records are still served; after it, they are
            not, and what saw them is being destroyed.
        FORGOTTEN: Records and everything trained on them are gone from the workspace.
        RECOVERED: The steps that forgetting removed have been built again.
        RECEIPTED: The last receipt is issued; nothing is left to be done.
        FAILED: It could not be carried out as submitted, and changed nothing; `Request.failure` says why.
    """

    SUBMITTED = "submitted"
    FORGOTTEN = "forgotten"
    RECOVERED = "recovered"
    RECEIPTED = "receipted"
    FAILED = "failed"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing is left to be done."""
        return not TRANSITIONS[self]


TRANSITIONS: dict[RequestState, frozenset[RequestState]] = {
    RequestState.SUBMITTED: frozenset({RequestState.FORGOTTEN, RequestState.FAILED}),
    RequestState.FORGOTTEN: frozenset({RequestState.RECOVERED}),
    RequestState.RECOVERED: frozenset({RequestState.RECEIPTED}),
    RequestState.RECEIPTED: frozenset(),
    RequestState.FAILED: frozenset(),
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
        digest: Salted digest of the ids it names; see `opening`.
        n_subjects: Subjects named in it.
        n_records: Records it removed; before it is withdrawn, single records named in it.
        shards: Shard to the earliest position whose step had seen the records.
        submitted_at: When it became durable, UTC.
        deadline: Until when it must be forgotten, UTC, or None.
        withdrawn_at: When no process served anything that saw the records any more, UTC; None before.
        forgotten_at: When everything that saw the records was gone, UTC; None before.
        recovered_at: When the removed steps had been rebuilt, UTC; None before.
        failure: Why it failed; empty unless it did.
        opening: Given once, to whoever submitted it, and kept nowhere: with it and the ids anybody can check that a
            receipt is about exactly these ids. None whenever the request is read from the workspace.
    """

    id: str
    state: RequestState
    reason: str
    idempotency_key: str | None
    digest: str
    n_subjects: int
    n_records: int
    shards: dict[int, int]
    submitted_at: datetime
    deadline: datetime | None = None
    withdrawn_at: datetime | None = None
    forgotten_at: datetime | None = None
    recovered_at: datetime | None = None
    failure: str = ""
    opening: str | None = None

    def is_overdue(self, at: datetime) -> bool:
        """Whether its deadline has passed and its data is not gone, failed or not.

        Args:
            at: The time, UTC.

        Returns:
            True if somebody has to act.
        """
        return self.forgotten_at is None and self.deadline is not None and at > self.deadline

    @property
    def days_late(self) -> int | None:
        """Days from its deadline until it was forgotten, begun ones counted whole: 0 in time, None if unknown.

        A late deletion stays late when it is done.
        """
        if self.forgotten_at is None or self.deadline is None:
            return None
        return max(-((self.deadline - self.forgotten_at) // timedelta(days=1)), 0)


def months_later(at: datetime, months: int) -> datetime:
    """The same day so many months later, or the last one of a shorter month.

    Args:
        at: The time.
        months: How many, at least 0.

    Returns:
        The time then.
    """
    year, month = divmod(at.year * 12 + at.month - 1 + months, 12)
    day = min(at.day, calendar.monthrange(year, month + 1)[1])
    return at.replace(year=year, month=month + 1, day=day)
