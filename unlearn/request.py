"""A deletion request and the one table of how it may move. Pure."""

from __future__ import annotations

import calendar
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from shards.digest import Json, digest_json
from unlearn.errors import UnlearnError

REQUEST_ID = re.compile("req-[0-9a-f]{16}")
"""What a request is called."""

RESPONSE_MONTHS = 1
"""How long one may take to act on a request: GDPR Art. 12(3), one month of its receipt, extendable by two."""


FAILURES = {"unknown id": "names a subject or record that is not here"}
"""Why a request may fail: what the log says, to what the register says. Lines are added, and never changed."""

NOT_APPLIED = {
    "nothing served": "nothing that was served had seen the records, so there was nothing for a method to unlearn",
    "nothing stays": "no record stays that the model could still be a model of, so it was withdrawn",
    "training": "a training was under way, which builds the exact model: what had seen the records was withdrawn",
    "made before": "a method had made what was served, which had nothing of these records to unlearn: it was withdrawn",
    "failed": "the method failed, so what had seen the records was withdrawn instead",
    "time limit": "the method took longer than the workspace allows: it was stopped, and what had seen the records was "
    "withdrawn instead",
    "budget spent": "the budget of certified removal was spent, so what had seen the records was withdrawn instead",
}
"""Why no approximate method was applied though one was asked for: what the log says, to what the register says. Lines
are added, and never changed."""

CERTIFIED = "certified_removal"
"""The method whose guarantee is certified; that of all others is empirical."""

_ESCALATED = tuple(NOT_APPLIED[code] for code in ("failed", "time limit", "budget spent"))
"""Why a method was not applied where a model should have been served meanwhile: it is to be retrained at once."""


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
        method: Approximate method it asks for, by name; None: what saw the records is withdrawn, and nothing else.
        method_config: Configuration of that method, in full.
        escalate_by: Until when the model is to be retrained after the method, UTC; None: whenever somebody does.
        not_applied: Why the method was not applied though it was asked for; empty if it was, or none was.
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
    method: str | None = None
    method_config: Mapping[str, Json] | None = None
    escalate_by: datetime | None = None
    not_applied: str = ""
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
    def method_digest(self) -> str | None:
        """Digest of the method's configuration, as the log holds it; None without a method."""
        return None if self.method is None else digest_json("method", [self.method, self.method_config])

    @property
    def is_approximate(self) -> bool:
        """Whether a state made by an approximate method took the place of what was withdrawn for it."""
        return self.method is not None and self.withdrawn_at is not None and not self.not_applied

    @property
    def guarantee(self) -> str | None:
        """What holds of the model that is served since: `"exact"`, `"certified"` or `"empirical"`; None before that."""
        if self.withdrawn_at is None:
            return None
        if not self.is_approximate or self.recovered_at is not None:
            return "exact"
        return "certified" if self.method == CERTIFIED else "empirical"

    def is_due(self, at: datetime) -> bool:
        """Whether the model should have been retrained by now after an approximate method, and is not.

        A method that failed, was stopped or had no budget left leaves nothing to serve: then it is due at once.

        Args:
            at: The time, UTC.

        Returns:
            True if somebody has to recover.
        """
        late = self.escalate_by is not None and at >= self.escalate_by
        asked = self.is_approximate and late
        return (asked or self.not_applied.startswith(_ESCALATED)) and self.recovered_at is None

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
