"""Look at a workspace, and say what a report says of it.

What the ledger knows is read at one moment, also while another process trains; it is a short one, since a reader holds
up whoever forgets. Receipts are verified after that, each alone: one that does not stand up is on the page as such, and
nothing is taken from it.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearn.errors import DamageError, InputError, VerificationError
from unlearn.facts import EDIT_ID, STAGE, EditRequest, EditState
from unlearn.ledger.clock import now
from unlearn.report.audits import judge, read_audits
from unlearn.report.data import (
    AuditFact,
    Cell,
    CellState,
    Claim,
    Command,
    Cost,
    EditFact,
    Forgotten,
    Kind,
    Level,
    Measured,
    Model,
    ReceiptFact,
    Receipts,
    Report,
    RequestFact,
    Requests,
    Served,
    Service,
    ShardMap,
    ShardRow,
    Timing,
)
from unlearn.report.history import History, read_history
from unlearn.report.wording import counted, limits, sum_up
from unlearn.request import CERTIFIED, Request, RequestState

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]

    from unlearn.ledger import Approximation, Artefact, BuiltStep, NewSlice
    from unlearn.ledger.chain import Head
    from unlearn.receipt.predicate import Predicate, State
    from unlearn.site import Site
    from unlearn.workspace import Workspace

AUDITS = "audits"
"""Folder inside a workspace whose signed audits a report shows."""

MOST_REQUESTS = 100
"""Requests shown; those on which somebody has to act besides."""

MOST_ROWS = 64
"""Shards shown, where there are more than that; those that were hit come first."""

MOST_COLUMNS = 60
"""Slices shown, where there are more than that in several batches: those of the latest batches."""

MOST_PHASES = 12
MOST_SERVICES = 6

_STANDING = {
    RequestState.SUBMITTED: "waiting",
    RequestState.FORGOTTEN: "forgotten, to be rebuilt",
    RequestState.RECOVERED: "forgotten and rebuilt",
    RequestState.RECEIPTED: "forgotten and rebuilt",
    RequestState.FAILED: "failed",
}


def describe(
    workspace: Workspace,
    *,
    audits: Iterable[bytes | str | Path] = (),
    measured: Sequence[Measured] = (),
    at: datetime | None = None,
) -> Report:
    """Say what a report says of a workspace.

    Args:
        workspace: The workspace, open. Nothing is changed there.
        audits: Signed audits (`Workspace.sign_audit`) or their files, beside those in its folder `audits`.
        measured: Accuracies to show, in order. The workspace has nothing to measure them on.
        at: The time, UTC, which decides what is overdue; None: now.

    Returns:
        The report.

    Raises:
        InputError: If a file cannot be read.
    """
    from unlearn.issuing import software_version
    from unlearn.ledger.uncovered import UNCOVERED

    statements = _statements(workspace.path, audits)
    with workspace.at_one_moment() as site:
        look = _look(site)
    moment = at or now()
    # The log only grows, and can be read beyond that moment.
    history = read_history(entry.event for entry in islice(site.ledger.entries(), look.head.size))
    keys = _keys(site, look)
    shown = _shown(look, moment)
    receipts, predicates = _receipts(site, look, shown, keys)
    shards = _map(site, look, history)
    model = _model(workspace, look, shards)
    found, refused = read_audits(statements, keys, site.declaration.id, model.state_digest)
    requests = Requests(
        total=len(look.requests),
        finished=sum(request.state.is_terminal for request in look.requests),
        forgotten=sum(request.forgotten_at is not None for request in look.requests),
        overdue=sum(_is_overdue(request, moment) for request in look.requests),
        late=sum(bool(request.days_late) for request in look.requests),
        failed=sum(request.state is RequestState.FAILED for request in look.requests),
        shown=tuple(_request(request, moment) for request in shown),
    )
    forgotten = _forgotten(look, history)
    return Report(
        name=site.path.name,
        workspace=site.declaration.id,
        made_at=moment,
        software_version=software_version(),
        status=sum_up(
            model,
            requests,
            forgotten,
            found,
            refused,
            receipts,
            kind=look.kind,
            due=len(look.due(moment)),
            untrained=look.untrained,
            unissued=look.unissued,
        ),
        model=model,
        requests=requests,
        forgotten=forgotten,
        shards=shards,
        cost=_cost(history, predicates, tuple(measured)),
        audits=found,
        refused=refused,
        claims=_claims(site, look, requests, found),
        receipts=receipts,
        limits=limits(
            asked=bool(requests.forgotten),
            kind=look.kind,
            behind=bool(model.steps_missing),
            reproducible=site.learner.reproducible,
            private=site.declaration.votes is not None,
            not_looked_at=[item.what for item in UNCOVERED],
        ),
        edits=tuple(_edit(item, look) for item in reversed(look.edits)),
    )


@dataclass(frozen=True)
class _Look:
    """What the ledger said at one moment.

    Attributes:
        requests: All requests to forget, oldest first.
        edits: All requests to edit language models, oldest first.
        approximations: What approximate methods made and is served, by shard.
        served: The state that each shard serves.
        built: Shard and position of every trained step.
        slices: The slices that are not empty, by shard and position.
        batches: How many were ingested.
        records: How many are present.
        tombstones: How many there are.
        artefacts: What was registered.
        issued: Digest of every receipt, by request and stage.
        head: Of the log.
        keys: Ids of the signing keys, the current one last.
        published: Labels published by noisy votes.
        unissued: Receipts that are still to be issued.
    """

    requests: Sequence[Request]
    edits: Sequence[EditRequest]
    approximations: Mapping[int, Approximation]
    served: Sequence[BuiltStep]
    built: frozenset[tuple[int, int]]
    slices: Mapping[tuple[int, int], NewSlice]
    batches: int
    records: int
    tombstones: int
    artefacts: Sequence[Artefact]
    issued: Mapping[tuple[str, str], str]
    head: Head
    keys: Sequence[str]
    published: int
    unissued: int

    @property
    def untrained(self) -> int:
        """Slices of records that a shard has not learned from which serves what a method made."""
        return sum(
            place not in self.built
            and place[0] in self.approximations
            and place[1] > self.approximations[place[0]].position
            for place in self.slices
        )

    @property
    def kind(self) -> Kind:
        """Of the guarantee that holds of what is served: the weakest of any state."""
        if not self.approximations:
            return "exact"
        certified = all(made.method == CERTIFIED for made in self.approximations.values())
        return "certified" if certified else "empirical"

    def due(self, at: datetime) -> set[str]:
        """Requests after whose approximate method the model is to be retrained by then, as `Workspace.status` says."""
        refuted = any(made.refuted_at is not None for made in self.approximations.values())
        waiting = [request for request in self.requests if request.state is RequestState.FORGOTTEN]
        return {item.id for item in waiting if item.is_due(at) or (refuted and item.is_approximate)}


def _look(site: Site) -> _Look:
    ledger = site.ledger
    return _Look(
        requests=ledger.requests(),
        edits=ledger.edits(),
        approximations=ledger.approximations(),
        served=ledger.served()[1],
        built=frozenset(ledger.steps()),
        slices=ledger.slices(),
        batches=ledger.batches(),
        records=ledger.count(),
        tombstones=ledger.tombstone_root()[1],
        artefacts=ledger.artefacts(),
        issued=ledger.receipts_issued(),
        head=ledger.head(),
        keys=[name for name, _ in ledger.signing_keys()],
        published=ledger.published(),
        unissued=len(ledger.receipts_due()),
    )


def _statements(folder: Path, audits: Iterable[bytes | str | Path]) -> list[bytes]:
    """Signed audits: those in the workspace's folder, by name, then the others."""
    found: list[bytes] = []
    for item in (*sorted((folder / AUDITS).glob("*.json")), *audits):
        if isinstance(item, bytes):
            found.append(item)
            continue
        try:
            found.append(Path(item).read_bytes())
        except OSError as error:
            raise InputError(f"the audit {item} cannot be read ({error.strerror}): check the path") from error
    return found


# What is served


def _model(workspace: Workspace, look: _Look, shards: ShardMap) -> Model:
    declared = workspace.declaration
    try:
        digest = workspace.state_digest() if look.served else None
    except DamageError:  # of a state; the page says that there is none that can be vouched for
        digest = None
    return Model(
        learner=declared.trained,
        task=declared.task,
        joined_by="noisy votes" if declared.votes is not None else str(declared.aggregation),
        n_shards=declared.n_shards,
        n_slices=declared.n_slices,
        batches=look.batches,
        records=look.records,
        serving=len(look.served),
        steps_missing=shards.missing,
        state_digest=digest,
    )


# Requests


def _is_overdue(request: Request, at: datetime) -> bool:
    """Failed requests changed nothing and have an entry of their own."""
    return request.state is not RequestState.FAILED and request.is_overdue(at)


def _shown(look: _Look, at: datetime) -> list[Request]:
    """The latest, and those on which somebody has to act; the latest first."""
    wanted = {request.id for request in look.requests[-MOST_REQUESTS:]} | look.due(at)
    return [
        request
        for request in reversed(look.requests)
        if request.id in wanted or request.is_overdue(at) or request.state is RequestState.FAILED
    ]


def _request(request: Request, at: datetime) -> RequestFact:
    timing, days = _timing(request, at)
    standing = _STANDING[request.state]
    if request.state is RequestState.SUBMITTED and request.withdrawn_at is not None:
        standing = "being destroyed"
    level: Level = "done" if request.state.is_terminal else "wait"
    if timing == "overdue" or request.state is RequestState.FAILED:
        level = "act"

    def since(moment: datetime | None) -> float | None:
        return None if moment is None else (moment - request.submitted_at).total_seconds()

    return RequestFact(
        id=request.id,
        standing=standing,
        level=level,
        subjects=request.n_subjects,
        records=request.n_records,
        shards=len(request.shards),
        submitted_at=request.submitted_at,
        deadline=request.deadline,
        timing=timing,
        days=days,
        effect_seconds=since(request.withdrawn_at),
        gone_seconds=since(request.forgotten_at),
        rebuilt_seconds=since(request.recovered_at),
        failure=request.failure,
        method=request.method or "" if request.is_approximate else "",
        guarantee="" if not request.is_approximate else "certified" if request.method == CERTIFIED else "empirical",
    )


def _timing(request: Request, at: datetime) -> tuple[Timing, int | None]:
    if request.deadline is None or request.state is RequestState.FAILED:
        return "no deadline", None
    if request.days_late is not None:
        return ("late", request.days_late) if request.days_late else ("in time", None)
    if request.is_overdue(at):
        return "overdue", -((request.deadline - at).days)
    return "running", (request.deadline - at).days


def _edit(item: EditRequest, look: _Look) -> EditFact:
    standing = {
        EditState.SUBMITTED: "waiting",
        EditState.EDITED: "edited",
        EditState.RECEIPTED: "edited",
        EditState.NOT_APPLIED: "not applied",
    }[item.state]
    measured = {} if item.measured is None else vars(item.measured)
    return EditFact(
        id=item.id,
        standing=standing,
        level="done" if item.state.is_terminal else "wait",
        facts=len(item.facts),
        editor=item.editor,
        submitted_at=item.submitted_at,
        measured={name: (asked.given, asked.asked) for name, asked in measured.items()},
        still_there=any(
            artefact.id == item.artefact and artefact.retired_at is None and item.id in artefact.tainted_by
            for artefact in look.artefacts
        ),
        failure=item.failure,
    )


# What is gone, and where it was


def _forgotten(look: _Look, history: History) -> Forgotten:
    gone = [request for request in look.requests if request.forgotten_at is not None]
    return Forgotten(
        records=sum(request.n_records for request in gone),
        subjects=sum(request.n_subjects for request in gone),
        tombstones=look.tombstones,
        lifted=history.lifted,
        states=history.destroyed.total() + history.made_and_gone,
        present=look.records,
        artefacts=len(look.artefacts),
        # An edit taints the model before it too, which saw nothing by that.
        tainted=sum(
            any(not EDIT_ID.fullmatch(name) for name in item.tainted_by) and item.retired_at is None
            for item in look.artefacts
        ),
    )


def _map(site: Site, look: _Look, history: History) -> ShardMap:
    n_slices = site.declaration.n_slices
    served = {step.shard: step.position for step in look.served}
    shards = range(site.declaration.n_shards) if look.batches else ()
    rows = [_row(shard, look.batches * n_slices, look, history, served.get(shard)) for shard in shards]
    shown = rows
    if len(rows) > MOST_ROWS:
        kept = sorted(rows, key=lambda row: (-row.requests, row.served == row.last, row.shard))[:MOST_ROWS]
        shown = sorted(kept, key=lambda row: row.shard)
    cells = [cell for row in rows for cell in row.cells if cell.state != "empty"]
    first_batch = max(look.batches - max(MOST_COLUMNS // n_slices, 1), 0)
    return ShardMap(
        rows=tuple(replace(row, cells=row.cells[first_batch * n_slices :]) for row in shown),
        left_out=len(rows) - len(shown),
        n_slices=n_slices,
        batches=look.batches,
        first_batch=first_batch,
        shards_hit=len({shard for shard, _ in history.hits}),
        slices_hit=len(history.hits),
        untouched=sum(not cell.destroyed for cell in cells),
        missing=sum(cell.state == "missing" for cell in cells),
        steps=len(cells),
    )


def _row(shard: int, positions: int, look: _Look, history: History, served: int | None) -> ShardRow:
    cells: list[Cell] = []
    records, whole = 0, True
    for position in range(positions):
        place = shard, position
        here = look.slices[place].records if place in look.slices else 0
        records += here
        # A step needs records up to it, and the step before it.
        whole = whole and (place in look.built or not records)
        state: CellState = "empty" if not records else "built" if whole else "missing"
        cells.append(Cell(position, state, here, history.hits[place], history.destroyed[place]))
    return ShardRow(
        shard=shard,
        cells=tuple(cells),
        served=served,
        last=positions - 1 if records else None,
        records=records,
        requests=sum(cell.requests for cell in cells),
    )


# What it cost


def _cost(history: History, predicates: Sequence[Predicate], measured: tuple[Measured, ...]) -> Cost:
    # The latest receipt of a request says all that the one before it says.
    latest: dict[str, Predicate] = {}
    for predicate in predicates:
        latest[predicate.request.id] = predicate
    services = [_service(predicate) for predicate in list(latest.values())[:MOST_SERVICES]]
    return Cost(
        phases=tuple(history.phases[-MOST_PHASES:]),
        phases_left_out=max(len(history.phases) - MOST_PHASES, 0),
        trained=history.trained,
        rebuilt=history.rebuilt,
        services=tuple(reversed(services)),
        measured=measured,
    )


def _service(predicate: Predicate) -> Service:
    def served(states: Sequence[State], present: int) -> Served:
        return Served(len(states), sum(state.records for state in states), present)

    withdrawal, recovery, made = predicate.withdrawal, predicate.recovery, predicate.approximation
    left = {state.shard: state for state in withdrawal.states_after}
    if made is not None:
        # It stands in place of an older state of its shard, if there is one.
        left[made.state.shard] = made.state
    return Service(
        request=predicate.request.id,
        before=served(withdrawal.states_before, withdrawal.before.count),
        behind=served(tuple(left.values()), withdrawal.after.count),
        by_method=made is not None,
        after=None if recovery is None else served(recovery.states, recovery.records.count),
    )


# What is claimed


def _claims(site: Site, look: _Look, requests: Requests, audits: Sequence[AuditFact]) -> tuple[Claim, ...]:
    claims = []
    if requests.forgotten:
        claims.append(_claim(site, look, audits))
    votes = site.declaration.votes
    if votes is not None:
        claims.append(
            Claim(
                what="All published labels together, of any one person",
                epsilon=votes.max_epsilon,
                delta=votes.delta,
                basis=f"Noisy votes on a budget; the {look.published:,} labels published so far come to "
                f"ε = {votes.epsilon(look.published):.3g}.",
                found=None,
                largest=None,
                confidence=None,
                verdict="Proven, not tested: audits look at states, which this claim is not about",
                refuted=False,
            )
        )
    return tuple(claims)


def _claim(site: Site, look: _Look, audits: Sequence[AuditFact]) -> Claim:
    what = "What is served, of what was forgotten"
    if look.kind == "exact":
        basis = "No state that is served has seen the records: exact, which is ε = 0 and δ = 0."
        return judge(what, basis, audits, epsilon=0.0)
    if look.kind == "empirical":
        basis = "An approximate method made what is served: no ε is claimed for it."
        return judge(what, basis, audits, epsilon=None)
    from unlearn.approximating import certificate_of

    promised: Any = certificate_of(site, next(iter(look.approximations.values())))
    basis = (
        "Certified removal, of all models since the last training from nothing together: "
        f"ε = {promised['spent']:.3g} is spent, and {counted(promised['left'], 'removal')} left."
    )
    return judge(what, basis, audits, epsilon=float(promised["epsilon"]), delta=float(promised["delta"]))


# What can be checked


def _keys(site: Site, look: _Look) -> list[SSlibKey]:
    """All keys of the workspace, the current one last."""
    from unlearn.issuing import key_path
    from unlearn.receipt import public_key_from_pem

    paths = [key_path(site, name).with_suffix(".pub.pem") for name in look.keys]
    try:
        return [public_key_from_pem(path.read_bytes()) for path in paths]
    except OSError as error:
        raise DamageError(
            f"the public key {error.filename} cannot be read ({error.strerror}): restore it from a copy"
        ) from error


def _receipts(
    site: Site, look: _Look, requests: Sequence[Request], keys: Sequence[SSlibKey]
) -> tuple[Receipts, list[Predicate]]:
    """Receipts of the shown requests, the latest first, and what those say that stand up."""
    from unlearn.receipt import public_pem

    shown: list[ReceiptFact] = []
    predicates: list[Predicate] = []
    for request in requests:
        for stage in ("forgotten", "recovered"):
            if (request.id, stage) in look.issued:
                fact, predicate = _receipt(site, request.id, stage, look.issued[request.id, stage], keys)
                shown.append(fact)
                predicates += [] if predicate is None else [predicate]
    shown += [
        _edit_receipt(site, item.id, look.issued[item.id, STAGE], keys)
        for item in reversed(look.edits)
        if (item.id, STAGE) in look.issued
    ]
    pem = public_pem(keys[-1])
    return (
        Receipts(
            issued=len(look.issued),
            shown=tuple(shown),
            key_id=str(keys[-1].keyid),
            public_key=pem,
            key_sha256=hashlib.sha256(pem.encode()).hexdigest(),
            log_size=look.head.size,
            log_root=look.head.root.hex(),
            commands=_commands(site.path.name, shown),
        ),
        predicates,
    )


def _receipt(
    site: Site, request: str, stage: str, digest: str, keys: Sequence[SSlibKey]
) -> tuple[ReceiptFact, Predicate | None]:
    from unlearn.issuing import receipt_path
    from unlearn.receipt import verify_offline

    path = receipt_path(site, request, stage)
    file = path.relative_to(site.path).as_posix()
    try:
        found = verify_offline(path.read_bytes(), keys, request_id=request, workspace_id=site.declaration.id)
    except OSError as error:
        return ReceiptFact(request, stage, file, digest, 0, f"its file cannot be read ({error.strerror})"), None
    except VerificationError as error:
        return ReceiptFact(request, stage, file, digest, 0, str(error)), None
    said = found.predicate
    if found.payload != digest or said.stage != stage:
        problem = "it is another receipt than the one that the log says was issued"
        return ReceiptFact(request, stage, file, digest, said.log.size, problem), None
    return ReceiptFact(request, stage, file, digest, said.log.size, ""), said


def _edit_receipt(site: Site, edit: str, digest: str, keys: Sequence[SSlibKey]) -> ReceiptFact:
    from unlearn.issuing import receipt_path
    from unlearn.receipt.edit import verify_edit_offline

    path = receipt_path(site, edit, STAGE)
    file, size, problem = path.relative_to(site.path).as_posix(), 0, ""
    try:
        found = verify_edit_offline(path.read_bytes(), keys, request_id=edit)
        size = found.predicate.log.size
        if found.payload != digest or found.predicate.workspace != site.declaration.id:
            problem = "it is another receipt than the one that the log says was issued"
    except OSError as error:
        problem = f"its file cannot be read ({error.strerror})"
    except VerificationError as error:
        problem = str(error)
    return ReceiptFact(edit, STAGE, file, digest, size, problem)


def _commands(name: str, receipts: Sequence[ReceiptFact]) -> tuple[Command, ...]:
    """How to check, run in the folder that holds the workspace's."""
    run, key = shlex.quote(name), "office.pub.pem"
    commands = [
        Command("Write the public key to a file, unless you have it already.", f"unlearn key {run} --output {key}"),
        Command("Its fingerprint, to compare with one that reached you by another way.", f"sha256sum {key}"),
    ]
    of_deletions = [receipt for receipt in receipts if receipt.stage != STAGE]
    if receipts and not of_deletions:
        check = f"unlearn verify {shlex.quote(f'{name}/{receipts[0].file}')} --public-key {key}"
        commands += [Command("Verify the receipt of an edit; add --model for the weights.", check)]
    if of_deletions:
        latest = max(of_deletions, key=lambda receipt: receipt.stage == "recovered")
        file = shlex.quote(f"{name}/{latest.file}")
        check = f"unlearn verify {file} --public-key {key}"
        commands += [
            Command("Verify a receipt alone: the file and the key are enough, anywhere.", check),
            Command("Hold it against the workspace: every event, record and state.", f"{check} --workspace {run}"),
            Command("Train every step again, and compare byte for byte.", f"{check} --workspace {run} --replay"),
        ]
    return tuple(commands)
