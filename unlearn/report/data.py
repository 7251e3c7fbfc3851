"""What a report says: frozen dataclasses that hold everything on the page, and nothing that is not on it.

Nobody is named in them: they have counts, times, states and digests. Ids of subjects and records, reasons, submitters'
own keys, labels of classes, names of artefacts and paths stay in the workspace (decision 0037).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from typing import Any, Literal

from shards.digest import Json
from unlearn.errors import InputError

Level = Literal["done", "wait", "act"]
"""Nothing is left to be done; something is under way; somebody has to act."""

Timing = Literal["in time", "late", "running", "overdue", "no deadline"]
"""Of a request and its deadline."""

Kind = Literal["exact", "certified", "empirical"]
"""Of the guarantee that holds of what is served."""

CellState = Literal["built", "missing", "empty"]
"""Of a step: its state is there; it is still to be trained; its slice holds no record."""


@dataclass(frozen=True)
class Status:
    """The report in one sentence.

    Attributes:
        level: Whether somebody has to act.
        sentence: Where things stand.
        to_do: What is to be done, each in a sentence.
    """

    level: Level
    sentence: str
    to_do: tuple[str, ...]


@dataclass(frozen=True)
class Model:
    """What is served.

    Attributes:
        learner: What a shard trains.
        task: `"classification"` or `"regression"`.
        joined_by: How the shards' outputs are joined.
        n_shards: S.
        n_slices: R, of each batch.
        batches: Batches ingested.
        records: Records present.
        serving: Shards that serve a state; the others abstain.
        steps_missing: Steps still to be trained.
        state_digest: Of the served state, hex; None: nothing is served, or it is damaged.
    """

    learner: str
    task: str
    joined_by: str
    n_shards: int
    n_slices: int
    batches: int
    records: int
    serving: int
    steps_missing: int
    state_digest: str | None


@dataclass(frozen=True)
class RequestFact:
    """A deletion request, without saying whose.

    Attributes:
        id: The random name that the workspace gave it.
        standing: Where it stands, in words.
        level: Whether somebody has to act on it.
        subjects: Subjects it named.
        records: Records it removed; before that, single records it named.
        shards: Shards that held some.
        submitted_at: When it was accepted.
        deadline: Until when its records had to be gone.
        timing: The one held against the other.
        days: Days late, or left until the deadline; None where neither is meant.
        effect_seconds: From its acceptance until nothing served depended on the records, in seconds.
        gone_seconds: Until everything that saw them was destroyed.
        rebuilt_seconds: Until the model was rebuilt.
        failure: Why it failed; empty unless it did.
        method: The approximate method that was applied for it; empty: none was.
        guarantee: What that method guarantees: `"certified"`, `"empirical"`, or empty without one.
    """

    id: str
    standing: str
    level: Level
    subjects: int
    records: int
    shards: int
    submitted_at: datetime
    deadline: datetime | None
    timing: Timing
    days: int | None
    effect_seconds: float | None
    gone_seconds: float | None
    rebuilt_seconds: float | None
    failure: str
    method: str
    guarantee: str


@dataclass(frozen=True)
class Requests:
    """All deletion requests.

    Attributes:
        total: How many there are.
        finished: Those of which nothing is left to be done.
        forgotten: Those whose records are gone.
        overdue: Those past their deadline whose records are not.
        late: Those whose records were gone too late.
        failed: Those that could not be carried out.
        shown: The latest, and all on which somebody has to act; the latest first.
    """

    total: int
    finished: int
    forgotten: int
    overdue: int
    late: int
    failed: int
    shown: tuple[RequestFact, ...]

    @property
    def left_out(self) -> int:
        """Those that are not shown."""
        return self.total - len(self.shown)


@dataclass(frozen=True)
class Forgotten:
    """What is gone, in numbers.

    Attributes:
        records: Records destroyed.
        subjects: Subjects named by the requests that did it.
        tombstones: Keyed digests kept, so that what was forgotten can be refused when it returns.
        lifted: Tombstones that were lifted by consent.
        states: States destroyed because they had seen such records, or were made by a method from ones that had.
        present: Records that are there now.
        artefacts: Registered results outside of the workspace.
        tainted: Those of them that saw forgotten records and were not reported gone.
    """

    records: int
    subjects: int
    tombstones: int
    lifted: int
    states: int
    present: int
    artefacts: int
    tainted: int


@dataclass(frozen=True)
class Cell:
    """A step: one slice of one shard.

    Attributes:
        position: Its number in the shard's chain.
        state: Whether there is a trained state.
        records: Records in the slice.
        requests: Requests whose earliest record in this shard was in this slice.
        destroyed: How often a trained state of it was destroyed.
    """

    position: int
    state: CellState
    records: int
    requests: int
    destroyed: int


@dataclass(frozen=True)
class ShardRow:
    """One shard.

    Attributes:
        shard: Its number.
        cells: Its steps, in order.
        served: Position of the step it serves; None: it abstains.
        last: Position of the last step it could serve; None: it holds no records.
        records: Records it holds.
        requests: Requests that hit it.
    """

    shard: int
    cells: tuple[Cell, ...]
    served: int | None
    last: int | None
    records: int
    requests: int


@dataclass(frozen=True)
class ShardMap:
    """All shards by all slices.

    Attributes:
        rows: Shards; where there are too many, those that the most requests hit.
        left_out: Shards left out, those that the fewest requests hit.
        n_slices: R, of each batch.
        batches: Batches.
        first_batch: The first whose slices are shown; earlier ones are left out where there are too many.
        shards_hit: Shards that some request hit.
        slices_hit: Slices in which a request had its earliest record of a shard.
        untouched: Steps of which no state was ever destroyed.
        missing: Steps still to be trained.
        steps: Steps there are.
    """

    rows: tuple[ShardRow, ...]
    left_out: int
    n_slices: int
    batches: int
    first_batch: int
    shards_hit: int
    slices_hit: int
    untouched: int
    missing: int
    steps: int


@dataclass(frozen=True)
class Phase:
    """Training that was done at one go, as the log tells.

    Attributes:
        kind: `"training"`, or `"recovery"` where requests were recovered by it.
        ended_at: When its last step was recorded.
        requests: Requests recovered by it.
        steps: Steps trained.
        visits: Record-visits made.
        share: Visits, as a share of training every step there was by then once.
    """

    kind: Literal["training", "recovery"]
    ended_at: datetime
    requests: int
    steps: int
    visits: int
    share: float


@dataclass(frozen=True)
class Served:
    """What a model knew, as a receipt says.

    Attributes:
        shards: Shards that served a state.
        records: Records these states were trained on.
        present: Records that were there.
    """

    shards: int
    records: int
    present: int

    @property
    def share(self) -> float:
        """Share of the present records that it knew."""
        return self.records / self.present if self.present else 0.0


@dataclass(frozen=True)
class Service:
    """The model before a request, while it was behind, and after it was rebuilt.

    Attributes:
        request: The request.
        before: Just before its records were withdrawn.
        behind: Just after.
        after: When the model was rebuilt; None: it is not yet.
        by_method: Whether a method made what was served just after, from a state that knew the records.
    """

    request: str
    before: Served
    behind: Served
    after: Served | None
    by_method: bool = False


@dataclass(frozen=True)
class Measured:
    """An accuracy that whoever made the report measured; the workspace holds no records to measure it on.

    Attributes:
        when: Of which model, in words.
        accuracy: Share predicted rightly; None: no shard could predict.
        records: Records it was measured on.

    Raises:
        InputError: If it is none.
    """

    when: str
    accuracy: float | None
    records: int

    def __post_init__(self) -> None:
        known = self.accuracy is None or (isinstance(self.accuracy, int | float) and 0 <= self.accuracy <= 1)
        if not (isinstance(self.when, str) and known and type(self.records) is int and self.records > 0):
            raise InputError(f"{self} is no accuracy: it lies between 0 and 1, and was measured on at least one record")


@dataclass(frozen=True)
class Cost:
    """What forgetting cost.

    Attributes:
        phases: Training and recoveries, in order; the latest, if there are many.
        phases_left_out: Earlier ones.
        trained: Record-visits of training every step once.
        rebuilt: Record-visits of training steps again.
        services: Of the latest requests whose receipts stood up.
        measured: Accuracies, in order.
    """

    phases: tuple[Phase, ...]
    phases_left_out: int
    trained: int
    rebuilt: int
    services: tuple[Service, ...]
    measured: tuple[Measured, ...]


@dataclass(frozen=True)
class Power:
    """What a test would have found.

    Attributes:
        what: In words.
        probability: How often.
    """

    what: str
    probability: float


@dataclass(frozen=True)
class Finding:
    """A figure with its interval, beside what it is if nothing is known of the forgotten records.

    Attributes:
        title: What was measured.
        unit: In what.
        value: The estimate.
        low: Lower end of its interval.
        high: Upper end.
        confidence: Of the interval.
        nothing: What it is on average if nothing is known.
        members: What it is of records that are in the data; None: not known.
        detectable: The nearest value to `nothing` that the test finds with `power`; None: not known.
        power: See `detectable`.
        p_value: Of nothing being known, adjusted if several tests were made.
        verdict: Of this figure; "inapplicable": it does not count.
        powers: What would have been found.
    """

    title: str
    unit: str
    value: float
    low: float
    high: float
    confidence: float
    nothing: float
    members: float | None
    detectable: float | None
    power: float
    p_value: float | None
    verdict: str
    powers: tuple[Power, ...]


@dataclass(frozen=True)
class AuditFact:
    """An audit, as its signed statement says.

    Attributes:
        digest: SHA-256 of what was signed, hex.
        signer: Id of the key that signed it.
        kind: What was asked: `"shard labels"` or `"attacks"`.
        at: When the state was looked at, ISO 8601.
        current: Whether that is the state that is served now.
        verdict: `"refuted"`, `"not refuted"` or `"inapplicable"`; never more.
        p_value: None where nothing was tested.
        alpha: The level it was held against.
        requests: Requests whose records were tested.
        records: Records tested.
        set_aside: Records presented and not tested.
        findings: The figures.
        epsilon_lower: No unlearning of what was tested, taken together, has a lower epsilon; None: no bound was made.
        epsilon_largest: The largest such bound that it could have given; None likewise.
        delta: Of both.
        assumptions: What it rests on.
        not_shown: What it does not show.
    """

    digest: str
    signer: str
    kind: Literal["shard labels", "attacks"]
    at: str
    current: bool
    verdict: str
    p_value: float | None
    alpha: float
    requests: int
    records: int
    set_aside: int
    findings: tuple[Finding, ...]
    epsilon_lower: float | None
    epsilon_largest: float | None
    delta: float
    assumptions: tuple[str, ...]
    not_shown: tuple[str, ...]


@dataclass(frozen=True)
class Refused:
    """A file that was to be an audit or a receipt and does not stand up.

    Attributes:
        what: Which: number or name.
        problem: What is wrong.
    """

    what: str
    problem: str


@dataclass(frozen=True)
class Claim:
    """An epsilon that is claimed.

    Attributes:
        what: Of what, in words.
        epsilon: The claim; None: none is made.
        delta: Its delta.
        basis: What it rests on.
        found: The largest lower bound of an audit of what is served now; None: there is none.
        largest: The largest bound that such audits could have given; None: there is none.
        confidence: Of what was found.
        verdict: Both held against each other, in words.
        refuted: Whether what was found contradicts the claim.
    """

    what: str
    epsilon: float | None
    delta: float
    basis: str
    found: float | None
    largest: float | None
    confidence: float | None
    verdict: str
    refuted: bool


@dataclass(frozen=True)
class ReceiptFact:
    """A receipt.

    Attributes:
        request: The request it is about.
        stage: `"forgotten"` or `"recovered"`; of an edit, `"edited"`.
        file: Its file, inside the workspace's folder.
        digest: SHA-256 of what was signed, hex, as the log holds it.
        issued_over: Events of the log when it was issued.
        problem: Why it does not stand up; empty: it does.
    """

    request: str
    stage: str
    file: str
    digest: str
    issued_over: int
    problem: str


@dataclass(frozen=True)
class Command:
    """A command to copy.

    Attributes:
        purpose: What it is for.
        text: The command.
    """

    purpose: str
    text: str


@dataclass(frozen=True)
class Receipts:
    """What can be checked.

    Attributes:
        issued: How many receipts there are.
        shown: Those of the requests that are shown, verified offline with this workspace's keys.
        key_id: Id of the key that signs now.
        public_key: That key, PEM.
        key_sha256: SHA-256 of the PEM file, hex.
        log_size: Events of the log.
        log_root: Root of the tree over them, hex.
        commands: How to check, in order.
    """

    issued: int
    shown: tuple[ReceiptFact, ...]
    key_id: str
    public_key: str
    key_sha256: str
    log_size: int
    log_root: str
    commands: tuple[Command, ...]

    @property
    def verified(self) -> int:
        """How many of the shown ones stood up."""
        return sum(not receipt.problem for receipt in self.shown)


@dataclass(frozen=True)
class Limits:
    """What holds, what it rests on, and what is not proven.

    Attributes:
        kind: Of the guarantee.
        guarantee: What holds of what is served now; empty: nothing was forgotten yet.
        assumptions: What that rests on.
        adaptive: What holds for requests that depend on what the model says.
        not_proven: What no receipt shows.
        not_looked_at: What verification against the workspace does not look at.
        of_page: What this page does not show.
        withheld: What it leaves out, so that it names nobody.
    """

    kind: Kind
    guarantee: str
    assumptions: tuple[str, ...]
    adaptive: str
    not_proven: tuple[str, ...]
    not_looked_at: tuple[str, ...]
    of_page: tuple[str, ...]
    withheld: tuple[str, ...]


@dataclass(frozen=True)
class EditFact:
    """A request to edit a language model, which forgets nothing.

    Attributes:
        id: Its name.
        standing: Where it stands.
        level: Whether something is left to be done.
        facts: How many facts.
        editor: Name of the editor.
        submitted_at: When it was accepted, UTC.
        measured: Each measure to how often the answer was given, and asked for; empty unless it was made.
        still_there: Whether the model before, which says the old answers, was not reported gone.
        failure: Why the edit was not made; empty unless it was not.
    """

    id: str
    standing: str
    level: Level
    facts: int
    editor: str
    submitted_at: datetime
    measured: Mapping[str, tuple[int, int]]
    still_there: bool
    failure: str


@dataclass(frozen=True)
class Report:
    """A report on a workspace, as it was at one moment.

    Attributes:
        name: Name of the workspace's folder.
        workspace: Its id.
        made_at: When the report was made, UTC.
        software_version: By which version.
        status: All in one sentence.
        model: What is served.
        requests: Deletion requests.
        forgotten: What is gone.
        shards: Which shards and slices were hit.
        cost: What it cost.
        audits: What audits found, the latest first.
        refused: Audits that do not stand up.
        claims: Epsilons claimed, beside what was found.
        receipts: What can be checked.
        limits: What is not proven.
        edits: Edits of language models, the latest first.
    """

    name: str
    workspace: str
    made_at: datetime
    software_version: str
    status: Status
    model: Model
    requests: Requests
    forgotten: Forgotten
    shards: ShardMap
    cost: Cost
    audits: tuple[AuditFact, ...]
    refused: tuple[Refused, ...]
    claims: tuple[Claim, ...]
    receipts: Receipts
    limits: Limits
    edits: tuple[EditFact, ...] = ()

    def to_json(self) -> dict[str, Json]:
        """All of it as JSON; times in ISO 8601."""
        found: dict[str, Json] = _plain(self)
        return found

    def _repr_html_(self) -> str:
        """The page in a frame of its own, as a notebook shows it."""
        from unlearn.report.html import frame

        return frame(self)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.isoformat() if isinstance(value, datetime) else value
