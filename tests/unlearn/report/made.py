"""Reports made by hand, of workspaces that nobody trained: one of everything, one of nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from unlearn.report.data import (
    AuditFact,
    Cell,
    CellState,
    Claim,
    Command,
    Cost,
    Finding,
    Forgotten,
    Measured,
    Model,
    Phase,
    Power,
    ReceiptFact,
    Receipts,
    Refused,
    Report,
    RequestFact,
    Requests,
    Served,
    Service,
    ShardMap,
    ShardRow,
    Status,
)
from unlearn.report.wording import limits

AT = datetime(2030, 5, 17, 9, 30, tzinfo=UTC)
DIGEST = "0123456789abcdef" * 4
KEY = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n"

HOSTILE = (
    "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7*7 }} javascript:alert(1) https://evil.example/x"
)
"""What somebody may have put into a ledger, a learner's name, or a statement that they signed."""


def request(name: str, **changes: object) -> RequestFact:
    plain = RequestFact(
        id=name,
        standing="forgotten and rebuilt",
        level="done",
        subjects=0,
        records=1,
        shards=1,
        submitted_at=AT - timedelta(days=9),
        deadline=AT + timedelta(days=21),
        timing="in time",
        days=None,
        effect_seconds=0.004,
        gone_seconds=0.9,
        rebuilt_seconds=7200.0,
        failure="",
        method="",
        guarantee="",
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


REQUESTS = (
    request("req-0000000000000005", standing="failed", level="act", timing="no deadline", failure=HOSTILE, shards=0),
    request("req-0000000000000004", standing="waiting", level="act", timing="overdue", days=3, records=0, subjects=2),
    request("req-0000000000000003", standing="waiting", level="wait", timing="running", days=12, rebuilt_seconds=None),
    request(
        "req-0000000000000002",
        timing="late",
        days=1,
        method=HOSTILE,
        guarantee="empirical",
        subjects=1,
        records=1234,
        shards=3,
    ),
    request("req-0000000000000001", deadline=None, timing="no deadline", gone_seconds=300_000.0),
)


def rows(n_shards: int, n_slices: int) -> tuple[ShardRow, ...]:
    """Shards in which every state of a cell occurs."""

    def cell(shard: int, position: int) -> Cell:
        states: tuple[CellState, ...] = ("built", "built", "missing", "empty", "built")
        state = states[(shard + position) % 5]
        return Cell(position, state, 0 if state == "empty" else 7, (shard * position) % 3, (shard + position) % 2)

    def row(shard: int) -> ShardRow:
        cells = tuple(cell(shard, position) for position in range(n_slices))
        return ShardRow(
            shard, cells, shard % 3 or None, n_slices - 1, 7 * n_slices, sum(item.requests for item in cells)
        )

    return tuple(row(shard) for shard in range(n_shards))


def finding(**changes: object) -> Finding:
    plain = Finding(
        title="How much better forgotten people fit the shard they were in than the other shards",
        unit="logit of the true class",
        value=-0.106,
        low=-0.644,
        high=0.432,
        confidence=0.95,
        nothing=0.0,
        members=3.735,
        detectable=1.211,
        power=0.95,
        p_value=0.8261,
        verdict="not refuted",
        powers=(Power("every shard still knowing them", 1.0), Power("one shard alone still knowing them", 0.3825)),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def audit(**changes: object) -> AuditFact:
    plain = AuditFact(
        digest=DIGEST,
        signer=DIGEST,
        kind="shard labels",
        at="2030-05-16T08:00:00+00:00",
        current=True,
        verdict="not refuted",
        p_value=0.8261,
        alpha=0.05,
        requests=2,
        records=101,
        set_aside=0,
        findings=(finding(),),
        epsilon_lower=0.0,
        epsilon_largest=6.21,
        delta=0.0,
        assumptions=("Shards were chosen by a keyed hash.",),
        not_shown=("What a stronger score would find; `unlearn verify --replay` compares bytes instead.",),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def everything() -> Report:
    """A report with one of everything, and hostile texts wherever somebody else's text can come in."""
    receipts = (
        ReceiptFact("req-0000000000000002", "forgotten", "receipts/a.json", DIGEST, 118, ""),
        ReceiptFact("req-0000000000000002", "recovered", "receipts/b.json", DIGEST, 208, HOSTILE),
    )
    attacked = finding(
        title=HOSTILE, unit="area under the ROC curve", value=0.6, low=0.5, high=0.7, nothing=0.5, members=0.51
    )
    return Report(
        name=HOSTILE,
        workspace="0123456789abcdef" * 2,
        made_at=AT,
        software_version="1.2.3",
        status=Status(
            "act", "1 of 5 requests has been carried out.", ("1 request is past the deadline: run `unlearn process`.",)
        ),
        model=Model(HOSTILE, "classification", "mean", 6, 3, 2, 252, 4, 3, DIGEST),
        requests=Requests(7, 1, 2, 1, 1, 1, REQUESTS),
        forgotten=Forgotten(1235, 3, 1236, 1, 90, 252, 2, 1),
        shards=ShardMap(rows(6, 6), 2, 3, 2, 0, 4, 9, 11, 7, 29),
        cost=Cost(
            phases=(Phase("training", AT, 0, 100, 79_409, 1.0), Phase("recovery", AT, 2, 88, 73_432, 0.925)),
            phases_left_out=1,
            trained=79_409,
            rebuilt=75_839,
            services=(
                Service("req-0000000000000002", Served(20, 3999, 3999), Served(9, 454, 3899), Served(20, 3899, 3899)),
                Service("req-0000000000000001", Served(20, 4000, 4000), Served(0, 0, 3999), None),
            ),
            measured=(Measured(HOSTILE, 0.947, 1000), Measured("behind", None, 1000)),
        ),
        audits=(
            audit(),
            audit(kind="attacks", verdict="refuted", findings=(attacked, finding(members=None, detectable=None))),
            audit(current=False, verdict="inapplicable", p_value=None, set_aside=3, epsilon_lower=None, at=HOSTILE),
        ),
        refused=(Refused("audit 4", HOSTILE),),
        claims=(
            Claim("What is served", 0.0, 0.0, "Exact.", 0.4, 6.21, 0.95, "REFUTED", refuted=True),
            Claim("Labels", 2.0, 1e-6, HOSTILE, None, None, None, "proven, not tested", refuted=False),
            Claim("Approximate", None, 0.0, "None is claimed.", 0.1, 3.0, 0.95, "not refuted", refuted=False),
        ),
        receipts=Receipts(
            4, receipts, DIGEST, KEY, DIGEST, 209, DIGEST, (Command("Look.", f"unlearn key '{HOSTILE}'"),)
        ),
        limits=limits(
            asked=True,
            kind="empirical",
            behind=False,
            reproducible=True,
            private=True,
            not_looked_at=("how long steps took to train",),
        ),
    )


def nothing() -> Report:
    """A report on a workspace that was created a moment ago."""
    return Report(
        name="people",
        workspace="0123456789abcdef" * 2,
        made_at=AT,
        software_version="1.2.3",
        status=Status("done", "Nobody has asked to be forgotten yet.", ()),
        model=Model("SGDClassifier", "classification", "mean", 3, 2, 0, 0, 0, 0, None),
        requests=Requests(0, 0, 0, 0, 0, 0, ()),
        forgotten=Forgotten(0, 0, 0, 0, 0, 0, 0, 0),
        shards=ShardMap((), 0, 2, 0, 0, 0, 0, 0, 0, 0),
        cost=Cost((), 0, 0, 0, (), ()),
        audits=(),
        refused=(),
        claims=(),
        receipts=Receipts(0, (), DIGEST, KEY, DIGEST, 2, DIGEST, (Command("Look.", "unlearn key people"),)),
        limits=limits(
            asked=False, kind="exact", behind=False, reproducible=True, private=False, not_looked_at=("locks",)
        ),
    )
