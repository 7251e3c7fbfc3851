"""Carry deletion requests out: find what they name, withdraw it from service, destroy what saw it.

The order of a deletion, whatever crashes in between:

1. the request is durable, its records are not found any more, its ids are refused, and the shards it touches
   serve the last step that never saw them (one transaction);
2. every checkpoint that saw them is destroyed;
3. the slices that held them are rewritten without them;
4. the request is noted as forgotten.

A crash after 1 is finished by whoever opens the workspace next; a crash before 1 leaves the request as it was:
accepted, if it was submitted, and unheard of otherwise.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby

from shards.digest import Json, digest_parts
from unlearn.erasure import purge_checkpoints, rewrite
from unlearn.errors import AlreadyForgottenError, DamageError, FencedError, UnknownIdError, some
from unlearn.ledger import Location, Submission, Unlearnt, Withdrawal
from unlearn.lookup import records_of
from unlearn.receipt.predicate import OPENING_BYTES, request_digest
from unlearn.request import RESPONSE_MONTHS, Request, RequestState, months_later
from unlearn.site import Site

GROUP = 200
"""Requests withdrawn in one transaction: enough to share its cost, few enough not to keep others waiting."""


@dataclass(frozen=True)
class Named:
    """What a request names.

    Attributes:
        subjects: Subjects, none twice.
        record_ids: Single records, none twice.
    """

    subjects: tuple[str, ...]
    record_ids: tuple[str, ...]


@dataclass(frozen=True)
class Draft:
    """A request as somebody makes it, before anything is looked up.

    Attributes:
        request: The request, in state submitted, with its opening.
        fingerprint: Keyed digest of what it names, so that the log can compare but not tell.
        dated: Whether its deadline was given.
        escalated: Whether it was given until when the model is to be retrained.
    """

    request: Request
    fingerprint: str
    dated: bool
    escalated: bool = False


@dataclass(frozen=True)
class Instead:
    """What a request asks for in place of what is withdrawn for it.

    Attributes:
        method: Approximate method; None: nothing.
        config: Its configuration, in full.
        escalate_by: Until when the model is to be retrained after it, or None.
        dated: Whether that was given with the request.
    """

    method: str | None = None
    config: Mapping[str, Json] | None = None
    escalate_by: datetime | None = None
    dated: bool = False


@dataclass(frozen=True)
class NotApplied:
    """Why no approximate method was applied.

    Attributes:
        code: One of `request.NOT_APPLIED`.
        detail: What happened, for whoever asked; kept nowhere.
    """

    code: str
    detail: str = ""


def draft(
    site: Site,
    named: Named,
    *,
    reason: str,
    idempotency_key: str | None,
    deadline: datetime | None,
    at: datetime,
    instead: Instead = Instead(),
) -> Draft:
    """Write a request down.

    Args:
        site: The workspace.
        named: What it names.
        reason: Why.
        idempotency_key: The submitter's own key, or None.
        deadline: Until when it must be forgotten; None: a month from now.
        at: The time, UTC.
        instead: The approximate method it asks for, if it does.

    Returns:
        The request.
    """
    opening = secrets.token_bytes(OPENING_BYTES)
    request = Request(
        id=f"req-{secrets.token_hex(8)}",
        state=RequestState.SUBMITTED,
        reason=reason,
        idempotency_key=idempotency_key,
        digest=request_digest(opening, named.subjects, named.record_ids),
        n_subjects=len(named.subjects),
        n_records=len(named.record_ids),
        shards={},
        submitted_at=at,
        deadline=(deadline or months_later(at, RESPONSE_MONTHS)).astimezone(UTC),
        method=instead.method,
        method_config=instead.config,
        escalate_by=None if instead.escalate_by is None else instead.escalate_by.astimezone(UTC),
        opening=opening.hex(),
    )
    tokens = (site.tokens("subject", named.subjects), site.tokens("record", named.record_ids))
    parts = [b"".join(sorted(group)) for group in tokens]
    fingerprint = digest_parts("request", [site.keys.pseudonyms, *parts])
    return Draft(request, fingerprint, deadline is not None, instead.dated)


def find(site: Site, request: Request, fingerprint: str, named: Named, taken: Set[bytes] = frozenset()) -> Withdrawal:
    """Find out what a request removes.

    Args:
        site: The workspace.
        request: The request.
        fingerprint: Keyed digest of what it names.
        named: What it names.
        taken: Tokens that requests before it, not yet carried out, remove.

    Returns:
        What it removes; of ids that were forgotten before, or are being forgotten, nothing. The latter it has to wait
        for: what those requests hit is hit by this one as well. So is whatever an approximate method made, also of
        others: while that is served, no receipt may say that a model is exact.

    Raises:
        UnknownIdError: If an id was never in the workspace.
        DamageError: If a record file cannot be read that may hold some of them.
    """
    theirs = records_of(site, named.subjects)
    subject_tokens = dict(zip(site.tokens("subject", named.subjects), named.subjects, strict=True))
    record_tokens = dict(zip(site.tokens("record", named.record_ids), named.record_ids, strict=True))
    single = site.ledger.locations(list(record_tokens))
    found = {*site.tokens("subject", list(theirs)), *(item.token for item in single), *taken}
    absent = {token: name for token, name in (subject_tokens | record_tokens).items() if token not in found}
    dead = site.ledger.tombstones(list(absent)) if absent else set()
    unknown = [name for token, name in absent.items() if token not in dead]
    if unknown:
        raise UnknownIdError(
            f"{len(unknown)} of the subjects or records are not in {site.path} ({some(unknown)}): check the ids, and "
            "whether they name subjects or records; nothing was changed"
        )
    everything = {*single, *(item for items in theirs.values() for item in items)}
    under_way = site.ledger.tombstones_under_way()
    late = under_way & {*subject_tokens, *record_tokens, *(item.token for item in everything)}
    hit = _earliest(everything)
    under_way_too = site.ledger.hit_under_way(sorted(late)) if late else {}
    approximate = {shard: made.position for shard, made in site.ledger.approximations().items()}
    for shard, position in (*under_way_too.items(), *approximate.items()):
        hit[shard] = min(position, hit.get(shard, position))
    gone = sorted((item for item in everything if item.token not in taken and item.token not in under_way), key=_place)
    return Withdrawal(
        request=replace(request, n_records=len(gone), shards=dict(sorted(hit.items()))),
        fingerprint=fingerprint,
        gone=tuple(gone),
        tombstones={item.token: "record" for item in gone} | dict.fromkeys(subject_tokens, "subject"),
    )


def refuse_repeated(site: Site, named: Named) -> None:
    """Refuse ids that were forgotten before, for callers who want to know.

    Args:
        site: The workspace.
        named: What a request names.

    Raises:
        AlreadyForgottenError: If there are some.
    """
    tokens = {
        **dict(zip(site.tokens("subject", named.subjects), named.subjects, strict=True)),
        **dict(zip(site.tokens("record", named.record_ids), named.record_ids, strict=True)),
    }
    dead = site.ledger.tombstones(list(tokens))
    present = {item.token for item in site.ledger.locations(list(dead))} if dead else set()
    theirs = set(site.tokens("subject", list(records_of(site, [tokens[token] for token in dead])))) if dead else set()
    again = [tokens[token] for token in dead - present - theirs]
    if again:
        raise AlreadyForgottenError(
            f"{len(again)} of the subjects or records were forgotten before ({some(sorted(again))}): leave them out, "
            "or repeat the first request with its idempotency key; nothing was changed"
        )


def destroy(site: Site) -> list[DamageError]:
    """Destroy what saw the records of all withdrawn requests; may be repeated after a crash at any point.

    Args:
        site: The workspace, whose lock the caller holds.

    Returns:
        What could not be rewritten because it is damaged; the requests concerned stay submitted, and everything
        else goes on.
    """
    with site.ledger.at_one_moment():
        erasures, forgotten = site.ledger.erasures(), site.ledger.tombstones_under_way()
        # A state may go of whose records none is left to go: where what a method made is withdrawn.
        shards = {item.shard for item in erasures} | site.ledger.shards_under_way()
    # Checkpoints first: that also frees the room which rewriting needs.
    purge_checkpoints(site, sorted(shards))
    rewritten, damaged = {}, []
    for item in erasures:
        try:
            rewritten[item.shard, item.position] = rewrite(site, item, forgotten)
        except DamageError as error:
            damaged.append(error)
    site.ledger.replace_slices(rewritten)
    site.ledger.finish_forget()
    return damaged


def stop_nothing(shards: Collection[int]) -> None:
    """Nobody trains."""
    del shards


Make = Callable[[Sequence[Withdrawal]], Unlearnt | NotApplied]
"""Has the approximate method that requests ask for make a state without what they remove."""


def training_instead(withdrawals: Sequence[Withdrawal]) -> NotApplied:
    """Make nothing: the exact model is being built."""
    del withdrawals
    return NotApplied("training")


def serve_pending(
    site: Site, stop: Callable[[Collection[int]], None] = stop_nothing, make: Make = training_instead
) -> list[DamageError]:
    """Carry out every request that was accepted and waits, and destroy the ids they named.

    A request that names an id nobody knows fails, and changes nothing. One whose record files are damaged waits on.

    Args:
        site: The workspace, whose lock the caller holds.
        stop: Told which shards the requests hit, once these are not served any more and before anything is destroyed:
            when it returns, nobody trains them.
        make: Makes what requests ask for in place of what is withdrawn for them.

    Returns:
        What keeps requests waiting.
    """
    epoch = site.inbox.begin_epoch()
    site.ledger.change_epoch(epoch)
    waiting = site.ledger.pending()
    damaged: list[DamageError] = []
    kept: dict[str, tuple[str, bytes]] = {}
    for group in _alike(waiting):
        damaged += _serve(site, group, epoch, kept, make)
        stop({item.shard for item in site.ledger.erasures()} | site.ledger.shards_under_way())
        damaged += destroy(site)
    if kept:
        site.ledger.reseal(kept)
    site.inbox.end_epochs_but({epoch, *(item.epoch for item in site.ledger.pending())})
    return damaged


def _alike(waiting: Sequence[Submission]) -> Iterator[Sequence[Submission]]:
    """Some at a time, in order, and together only what asks for the same method."""
    for _, items in groupby(waiting, lambda item: item.request.method_digest):
        alike = list(items)
        for start in range(0, len(alike), GROUP):
            yield alike[start : start + GROUP]


def _serve(
    site: Site, group: Sequence[Submission], epoch: str, kept: dict[str, tuple[str, bytes]], make: Make
) -> list[DamageError]:
    """Withdraw a group of requests together; `kept` takes the ids of those that have to wait, encrypted anew."""
    withdrawals: list[Withdrawal] = []
    damaged: list[DamageError] = []
    taken: set[bytes] = set()
    for item in group:
        request = item.request
        try:
            named = Named(*site.inbox.open(item.epoch, request.id, item.sealed))
        except DamageError as error:
            damaged.append(error if site.ledger.is_as_accepted(item) else _exchanged(site, item))
            continue
        try:
            withdrawal = find(site, request, item.fingerprint, named, taken)
        except UnknownIdError:
            site.ledger.fail(request.id, "unknown id")
        except DamageError as error:
            damaged.append(error)
            kept[request.id] = (epoch, site.inbox.seal(epoch, request.id, named.subjects, named.record_ids))
        else:
            taken |= withdrawal.tombstones.keys()
            withdrawals.append(withdrawal)
    if withdrawals:
        _withdraw(site, withdrawals, make)
    return damaged


def _withdraw(site: Site, withdrawals: Sequence[Withdrawal], make: Make) -> None:
    if withdrawals[0].request.method is None:
        site.ledger.withdraw(withdrawals)
        return
    stuck = site.ledger.erasures()
    # What could not be destroyed yet must not be taken for what stays.
    made = NotApplied("failed", f"the record file {stuck[0].file} is damaged") if stuck else make(withdrawals)
    if isinstance(made, NotApplied):
        site.ledger.withdraw(withdrawals, not_applied=made.code)
    else:
        _serve_instead(site, withdrawals, made)


def _serve_instead(site: Site, withdrawals: Sequence[Withdrawal], unlearnt: Unlearnt) -> None:
    """Withdraw, and serve what a method made, which is on the disk."""
    made = unlearnt.approximation
    try:
        site.ledger.withdraw(withdrawals, unlearnt)
    except FencedError:
        # Whoever took over puts in order what was noted before; this may have come after.
        if made.key not in site.ledger.named(made.shard):
            site.folder(made.shard).purge([made.key])
        raise


def _exchanged(site: Site, item: Submission) -> DamageError:
    return DamageError(
        f"the encrypted ids of request {item.request.id} in {site.ledger.name} are not those that were accepted: the "
        "database was changed by something else than this program, and the key is not to blame; restore the database "
        "from a copy, or submit the request again"
    )


def _place(item: Location) -> tuple[int, int, bytes]:
    return item.shard, item.position, item.token


def _earliest(gone: Iterable[Location]) -> dict[int, int]:
    earliest: dict[int, int] = {}
    for item in gone:
        earliest[item.shard] = min(item.position, earliest.get(item.shard, item.position))
    return earliest
