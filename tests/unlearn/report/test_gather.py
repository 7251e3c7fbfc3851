"""What a report says of a workspace, held against the workspace."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shards.private_votes import PrivateVotes
from shards.records import make_records
from tests.unlearn.helpers import canaries, copied, create, filled, labels, mlp, names, owner, raw, shard_of
from unlearn import Workspace
from unlearn.errors import InputError, UnsignedError
from unlearn.methods.certified_learner import CertifiedLearner
from unlearn.receipt import create_key, load_signer, public_key_from_pem, seal
from unlearn.receipt.predicate import (
    ADAPTIVE_CERTIFIED,
    ADAPTIVE_EXCLUDED,
    ADAPTIVE_PRIVATE,
    CERTIFIED_GUARANTEE,
    EMPIRICAL_GUARANTEE,
    NOT_PROVEN,
    NOT_PROVEN_CERTIFIED,
    NOT_PROVEN_EMPIRICAL,
    RECOVERED_GUARANTEE,
)
from unlearn.report import Measured, Report, describe, render
from unlearn.report.audits import judge, read_audits
from unlearn.report.data import AuditFact, Served
from unlearn.report.gather import _service
from unlearn.report.wording import sum_up
from unlearn.request import RequestState

REASON = "<script>alert('a reason nobody else may read')</script>"
CASE = "case-4711-of-canary"
GONE = [3, 4, 5, 17]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained workspace of 30 records, never changed."""
    workspace = filled(tmp_path_factory.mktemp("trained") / "run")
    workspace.close()
    return workspace.path


@pytest.fixture
def workspace(trained: Path, tmp_path: Path) -> Iterator[Workspace]:
    found = Workspace.open(shutil.copytree(trained, tmp_path / "run"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def forgotten(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with four records forgotten, one alone and three together, and not recovered; never changed."""
    found = Workspace.open(shutil.copytree(trained, tmp_path_factory.mktemp("forgotten") / "run"))
    for rows in (GONE[:1], GONE[1:]):
        found.forget(record_ids=names(rows), reason=REASON, idempotency_key=f"{CASE}-{len(rows)}")
    found.close()
    return found.path


@pytest.fixture(scope="module")
def recovered(forgotten: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, recovered, with an audit in its folder; never changed."""
    found = Workspace.open(shutil.copytree(forgotten, tmp_path_factory.mktemp("recovered") / "run"))
    found.recover(progress=False)
    audit = found.audit(canaries(GONE), labels(GONE), record_ids=names(GONE), permutations=99)
    (found.path / "audits").mkdir()
    (found.path / "audits" / "first.json").write_bytes(found.sign_audit(audit))
    found.close()
    return found.path


def of(folder: Path, **options: Any) -> Report:
    workspace = Workspace.open(folder)
    try:
        return describe(workspace, **options)
    finally:
        workspace.close()


# --- a life --------------------------------------------------------------------------------------------------------


def test_before_anything(tmp_path: Path) -> None:
    report = of(create(tmp_path / "run").path)
    assert report.status.level == "done"
    assert "Nobody has asked to be forgotten yet; 0 records are in the data" in report.status.sentence
    assert (report.shards.rows, report.claims, report.receipts.issued, report.limits.guarantee) == ((), (), 0, "")
    assert report.model.state_digest is None


def test_trained(trained: Path) -> None:
    report = of(trained)
    assert (report.model.records, report.model.serving, report.model.steps_missing) == (30, 3, 0)
    assert report.model.learner == "SklearnLearner of SGDClassifier"
    assert [phase.kind for phase in report.cost.phases] == ["training"]
    assert report.cost.rebuilt == 0
    assert {cell.state for row in report.shards.rows for cell in row.cells} == {"built"}
    assert sum(cell.records for row in report.shards.rows for cell in row.cells) == 30
    assert report.shards.untouched == report.shards.steps == 6


def test_forgotten_and_behind(trained: Path, forgotten: Path) -> None:
    report = of(forgotten)
    assert report.status.level == "wait"
    assert "what is served never saw them" in report.status.sentence
    assert report.forgotten.records == 4
    assert report.forgotten.present == 26
    assert report.forgotten.tombstones == 4
    assert report.limits.guarantee.startswith("Exact, for a reduced training set")
    assert all(
        item.standing == "forgotten, to be rebuilt" and item.timing == "in time" for item in report.requests.shown
    )
    # The map is what the requests hit, by where their records were.
    before = Workspace.open(trained)
    alone = shard_of(before, names(GONE[:1])[0])
    first: dict[int, int] = {}
    for shard, position in (shard_of(before, name) for name in names(GONE[1:])):
        first[shard] = min(first.get(shard, position), position)
    before.close()
    expected = Counter([alone, *first.items()])
    cells = {(row.shard, cell.position): cell for row in report.shards.rows for cell in row.cells}
    assert {place: cell.requests for place, cell in cells.items() if cell.requests} == dict(expected)
    reached = {(shard, later) for shard, position in expected for later in range(position, 2)}
    assert {place for place, cell in cells.items() if cell.destroyed} == reached
    assert {place for place, cell in cells.items() if cell.state == "missing"} == reached
    assert report.forgotten.states == sum(cell.destroyed for cell in cells.values()) == len(reached)
    assert report.shards.shards_hit == len({shard for shard, _ in expected})
    assert report.model.steps_missing == len(reached) == report.shards.missing
    opened = Workspace.open(forgotten)
    assert opened.status().steps_missing == len(reached)
    opened.close()
    assert {service.after for service in report.cost.services} == {None}


def test_recovered(recovered: Path) -> None:
    report = of(recovered)
    assert report.status.level == "done"
    assert report.status.sentence == (
        "Both requests have been carried out: 4 records forgotten, the model is rebuilt without them, and all 4 "
        "receipts were verified."
    )
    assert report.status.to_do == ()
    assert report.limits.guarantee.startswith("Exact. Every state")
    assert {cell.state for row in report.shards.rows for cell in row.cells} == {"built"}
    training, recovery = report.cost.phases
    assert (recovery.kind, recovery.requests) == ("recovery", 2)
    assert (training.visits, recovery.visits) == (report.cost.trained, report.cost.rebuilt)
    assert recovery.share == recovery.visits / training.visits
    assert recovery.steps == report.forgotten.states
    for service, present in zip(report.cost.services, ((30, 29), (29, 26)), strict=True):
        assert (service.before.present, service.behind.present) == present
        assert service.before.records >= service.behind.records
        assert service.after is not None
        assert (service.after.shards, service.after.share) == (3, 1.0)
    opened = Workspace.open(recovered)
    assert report.model.state_digest == opened.state_digest()
    issued = [item.digest for request in reversed(opened.requests()) for item in opened.receipts(request.id)]
    opened.close()
    assert [item.digest for item in report.receipts.shown] == issued
    assert {item.problem for item in report.receipts.shown} == {""}


def test_an_audit_in_the_folder(recovered: Path) -> None:
    report = of(recovered)
    (audit,) = report.audits
    said = json.loads(json.dumps(report.to_json()))["audits"][0]
    assert audit.current
    assert (audit.kind, audit.records, audit.requests, audit.alpha) == ("shard labels", 4, 2, 0.05)
    assert said["findings"][0]["low"] <= said["findings"][0]["value"] <= said["findings"][0]["high"]
    (claim,) = report.claims
    assert (claim.epsilon, claim.found, claim.largest) == (0.0, audit.epsilon_lower, audit.epsilon_largest)
    assert claim.verdict == f"Not refuted; the largest ε that these audits could have certified: {claim.largest:.2f}"
    # Named besides, it is shown once.
    assert of(recovered, audits=[recovered / "audits" / "first.json"]).audits == report.audits


# --- deadlines and other trouble -----------------------------------------------------------------------------------


def test_deadlines(workspace: Workspace) -> None:
    now = datetime.now(UTC)
    waiting = workspace.submit(record_ids=names([1]), deadline=now + timedelta(days=5, hours=1))
    (shown,) = describe(workspace, at=now).requests.shown
    assert (shown.standing, shown.timing, shown.days, shown.effect_seconds) == ("waiting", "running", 5, None)
    late = describe(workspace, at=now + timedelta(days=8))
    assert (late.requests.shown[0].timing, late.requests.shown[0].days) == ("overdue", 3)
    assert late.status.level == "act"
    assert "1 request is past the deadline" in late.status.to_do[0]
    assert "No request was carried out yet, of 1" in late.status.sentence
    workspace.extend(waiting.id, now + timedelta(days=30))
    assert describe(workspace, at=now + timedelta(days=8)).requests.overdue == 0


def test_late_and_failed(workspace: Workspace) -> None:
    workspace.forget(record_ids=names([1]), deadline=datetime.now(UTC) - timedelta(days=2, hours=1))
    failed = workspace.submit(record_ids=["nobody"])
    workspace.process()
    report = describe(workspace)
    assert (report.requests.late, report.requests.failed, report.requests.total) == (1, 1, 2)
    assert "(1 request after the deadline)" in report.status.sentence
    assert any("1 request failed" in line for line in report.status.to_do)
    bad, late = report.requests.shown
    assert (bad.id, bad.standing, bad.level, bad.timing) == (failed.id, "failed", "act", "no deadline")
    assert (late.timing, late.days) == ("late", 3)


def test_no_more_than_a_hundred_requests_but_all_that_matter(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unlearn.report.gather.MOST_REQUESTS", 2)
    old = workspace.submit(record_ids=["nobody"])
    workspace.process()
    for row in range(3):
        workspace.forget(record_ids=names([row]))
    report = describe(workspace)
    latest = [item.id for item in reversed(workspace.requests())][:2]
    assert [item.id for item in report.requests.shown] == [*latest, old.id]
    assert report.requests.left_out == 1
    assert (report.receipts.issued, len(report.receipts.shown)) == (3, 2)
    assert report.status.sentence.endswith("and the 2 of 3 receipts that were looked at were verified.")


def test_shards_that_were_hit_come_first(forgotten: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = of(forgotten).shards
    monkeypatch.setattr("unlearn.report.gather.MOST_ROWS", whole.shards_hit)
    some = of(forgotten).shards
    assert [row.shard for row in some.rows] == [row.shard for row in whole.rows if row.requests][: whole.shards_hit]
    assert some.left_out == 3 - whole.shards_hit
    assert (some.steps, some.untouched) == (whole.steps, whole.untouched)


def test_slices_of_the_latest_batches_are_shown(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    for batch in (1, 2):
        rows = range(100 * batch, 100 * batch + 9)
        workspace.ingest(canaries(rows), labels(rows), record_ids=names(rows))
    whole = describe(workspace).shards
    monkeypatch.setattr("unlearn.report.gather.MOST_COLUMNS", 5)
    some = describe(workspace).shards
    assert (whole.first_batch, some.first_batch, some.batches) == (0, 1, 3)
    assert [row.cells for row in some.rows] == [row.cells[2:] for row in whole.rows]
    assert (some.steps, some.untouched) == (whole.steps, whole.untouched)
    assert [row.last for row in some.rows] == [5, 5, 5]
    assert {cell.state for row in some.rows for cell in row.cells} == {"missing"}


def test_a_receipt_that_was_changed(recovered: Path, tmp_path: Path) -> None:
    workspace = copied(Workspace.open(recovered), tmp_path / "run")
    first, second = workspace.requests()
    forged, gone = workspace.receipts(first.id)[1].path, workspace.receipts(second.id)[0].path
    text = forged.read_text()
    forged.write_text(text.replace(text[900], "A" if text[900] != "A" else "B", 1))
    gone.unlink()
    report = describe(workspace)
    workspace.close()
    problems = {(item.request, item.stage): item.problem for item in report.receipts.shown}
    assert problems[first.id, "recovered"].startswith("verification failed at step")
    assert "cannot be read" in problems[second.id, "forgotten"]
    assert report.receipts.verified == 2
    assert report.status.level == "act"
    assert "not every receipt stands up" in report.status.sentence


def test_a_receipt_in_the_place_of_another(recovered: Path, tmp_path: Path) -> None:
    workspace = copied(Workspace.open(recovered), tmp_path / "run")
    (request, _) = workspace.requests()
    before, after = workspace.receipts(request.id)
    shutil.copy(before.path, after.path)
    report = describe(workspace)
    workspace.close()
    assert [item.problem for item in report.receipts.shown if item.problem] == [
        "it is another receipt than the one that the log says was issued"
    ]


def test_derived_results_are_counted_and_not_named(workspace: Workspace) -> None:
    for number in (1, 2):
        workspace.register(f"canary-model-of-person-{number}", "distilled model", "s3://canary-bucket/model")
    workspace.forget(record_ids=names(range(15)))
    report = describe(workspace)
    assert (report.forgotten.artefacts, report.forgotten.tainted) == (2, 2)
    assert any("2 derived results" in line for line in report.status.to_do)
    assert "canary" not in render(report).replace(workspace.path.name, "")


def test_a_receipt_that_is_still_to_be_issued(workspace: Workspace) -> None:
    keys, away = workspace.path / "keys", workspace.path.parent / "keys"
    keys.rename(away)
    with pytest.raises(UnsignedError):
        workspace.forget(record_ids=names([1]))
    away.rename(keys)
    line = "1 receipt is still to be issued: `unlearn recover` does it."
    due = describe(workspace)
    assert (due.status.level, due.receipts.issued, line in due.status.to_do) == ("wait", 0, True)
    workspace.recover(progress=False)
    issued = describe(workspace)
    assert (issued.status.level, issued.receipts.issued, issued.status.to_do) == ("done", 2, ())


def test_a_damaged_state_has_no_digest(workspace: Workspace) -> None:
    for path in workspace.path.glob("shards/*/checkpoints/*"):
        path.unlink()
    assert describe(workspace).model.state_digest is None


# --- other guarantees ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_an_approximate_method_made_is_never_called_exact(tmp_path: Path) -> None:
    workspace = filled(tmp_path / "run", mlp(), 40, n_shards=1, n_slices=1)
    until = datetime.now(UTC) + timedelta(days=3)
    workspace.forget(record_ids=names([1, 2]), method="gradient_ascent", escalate_by=until)
    report = describe(workspace)
    assert report.status.level == "wait"
    assert "made by an approximate method, and is not yet retrained without them" in report.status.sentence
    assert report.limits.guarantee == EMPIRICAL_GUARANTEE
    assert set(NOT_PROVEN_EMPIRICAL) <= set(report.limits.not_proven)
    (claim,) = report.claims
    assert (claim.epsilon, claim.refuted) == (None, False)
    assert report.requests.shown[0].method == "gradient_ascent"
    assert "by gradient_ascent, empirical" in " ".join(render(report).split())
    (first,) = report.cost.services
    assert (first.before, first.behind, first.by_method) == (Served(1, 40, 40), Served(1, 38, 38), True)
    rows = range(100, 104)
    workspace.ingest(canaries(rows), labels(rows), record_ids=names(rows))
    more = describe(workspace).status
    assert "1 slice of new records still to be learned from: `unlearn train` does it." in more.to_do
    assert "is not yet retrained without them, nor trained on the new records" in more.sentence
    later = describe(workspace, at=until + timedelta(hours=1))
    assert later.status.level == "act"
    assert any("due to be retrained after 1 request" in line for line in later.status.to_do)
    workspace.recover(progress=False)
    after = describe(workspace)
    workspace.close()
    assert after.limits.guarantee == RECOVERED_GUARANTEE
    assert after.claims[0].epsilon == 0.0


@pytest.mark.slow
def test_what_a_method_made_of_a_second_batch_is_one_model(tmp_path: Path) -> None:
    workspace = filled(tmp_path / "run", mlp(), 40, n_shards=1, n_slices=1)
    rows = range(100, 110)
    workspace.ingest(canaries(rows), labels(rows), record_ids=names(rows))
    workspace.train(progress=False)
    workspace.forget(
        record_ids=names([101]), method="gradient_ascent", escalate_by=datetime.now(UTC) + timedelta(days=3)
    )
    (service,) = describe(workspace).cost.services
    workspace.close()
    assert (service.before, service.behind) == (Served(1, 50, 50), Served(1, 49, 49))


def test_what_a_method_made_stands_in_place_of_an_older_state(recovered: Path) -> None:
    from unlearn.receipt import verify_offline
    from unlearn.receipt.predicate import Approximation

    workspace = Workspace.open(recovered)
    key = public_key_from_pem(workspace.public_key.encode())
    data = workspace.receipts(workspace.requests()[0].id)[0].path.read_bytes()
    workspace.close()
    told = verify_offline(data, [key]).predicate
    older, *others = told.withdrawal.states_after
    state = older._replace(position=older.position + 1, key="0" * 64, records=older.records + 5)
    made = Approximation("fine_tune", "", "", "", {}, 1, state, older.key, "", None, None, "")
    known = sum(other.records for other in others)
    plain, by_method = (_service(item) for item in (told, replace(told, approximation=made)))
    assert (plain.by_method, plain.behind.shards, plain.behind.records) == (
        False,
        1 + len(others),
        older.records + known,
    )
    assert (by_method.by_method, by_method.behind.shards) == (True, 1 + len(others))
    assert by_method.behind.records == older.records + 5 + known
    missing = replace(told.withdrawal, states_after=tuple(others))
    alone = _service(replace(told, withdrawal=missing, approximation=made))
    assert (alone.behind.shards, alone.behind.records) == (1 + len(others), older.records + 5 + known)


def test_new_records_wait_beside_what_a_method_made(recovered: Path) -> None:
    report = of(recovered)
    told = [
        sum_up(
            report.model,
            report.requests,
            report.forgotten,
            (),
            (),
            report.receipts,
            kind="certified",
            due=0,
            untrained=n,
        )
        for n in (0, 2)
    ]
    assert [status.level for status in told] == ["done", "wait"]
    assert told[1].to_do == ("2 slices of new records still to be learned from: `unlearn train` does it.",)
    assert ["nor trained on the new records" in status.sentence for status in told] == [False, True]


@pytest.mark.slow
def test_certified_removal_claims_what_its_certificate_says(tmp_path: Path) -> None:
    learner = CertifiedLearner(0.01, scale=0.1, tolerance=9e-5)
    workspace = filled(tmp_path / "run", learner, n_shards=1, n_slices=1, method="certified_removal")
    workspace.forget(record_ids=names([1, 2]))
    report = describe(workspace)
    promised = learner.promise.certificate(1, 1)
    assert report.cost.services[0].behind == Served(1, 28, 28)
    rows = range(100, 104)
    workspace.ingest(canaries(rows), labels(rows), record_ids=names(rows))
    later = describe(workspace)
    assert later.status.level == "wait"
    assert "1 slice of new records still to be learned from" in " ".join(later.status.to_do)
    workspace.train(progress=False)
    assert describe(workspace).forgotten.states == 2
    workspace.close()
    assert report.status.level == "done"
    assert "made by certified removal" in report.status.sentence
    assert (report.limits.kind, report.limits.guarantee) == ("certified", CERTIFIED_GUARANTEE)
    assert report.limits.adaptive == ADAPTIVE_CERTIFIED
    assert len(report.limits.not_proven) == len(NOT_PROVEN_CERTIFIED) + len(NOT_PROVEN) - 1
    (claim,) = report.claims
    assert (claim.epsilon, claim.delta) == (promised["epsilon"], promised["delta"])
    assert f"{promised['left']} removals left" in claim.basis
    assert "by certified_removal, certified" in " ".join(render(report).split())


def test_labels_by_noisy_votes(trained: Path, tmp_path: Path) -> None:
    votes = PrivateVotes(sigma=10.0, max_epsilon=4.0, delta=1e-5)
    workspace = filled(tmp_path / "run", random_state=None, aggregation=votes)
    workspace.predict(canaries(range(5)))
    report = describe(workspace)
    workspace.close()
    (claim,) = report.claims
    assert (claim.epsilon, claim.delta, claim.found, claim.refuted) == (4.0, 1e-5, None, False)
    assert "the 5 labels published so far" in claim.basis
    assert report.limits.adaptive == ADAPTIVE_PRIVATE
    assert report.model.joined_by == "noisy votes"
    assert of(trained).limits.adaptive == ADAPTIVE_EXCLUDED


# --- nobody is named -----------------------------------------------------------------------------------------------


def test_nobody_is_named(tmp_path: Path) -> None:
    workspace = create(tmp_path / "run")
    rows = range(20)
    owners = [owner(row // 2) for row in rows]
    workspace.ingest(canaries(rows), labels(rows), record_ids=names(rows), subjects=owners)
    workspace.forget(subjects=[owner(3)], record_ids=names([0]), reason=REASON, idempotency_key=CASE)
    workspace.submit(subjects=[owner(4)], reason=REASON)
    report = describe(workspace)
    workspace.close()
    page, document = render(report), json.dumps(report.to_json())
    for text in (page, document):
        assert "canary" not in text
        assert "reason nobody" not in text
        assert str(tmp_path) not in text
        assert CASE not in text
    assert report.requests.shown[1].subjects == 1
    assert report.forgotten.subjects == 1


def test_a_report_changes_nothing(recovered: Path, tmp_path: Path) -> None:
    workspace = copied(Workspace.open(recovered), tmp_path / "run")
    workspace.close()
    before = raw(tmp_path / "run")
    of(tmp_path / "run")
    after = raw(tmp_path / "run")
    volatile = {"ledger.db", "ledger.db-shm", "ledger.db-wal", "lock"}
    assert {k: v for k, v in after.items() if k not in volatile} == {
        k: v for k, v in before.items() if k not in volatile
    }


# --- audits --------------------------------------------------------------------------------------------------------


def test_audits_of_a_state_that_is_gone_count_for_nothing(recovered: Path, tmp_path: Path) -> None:
    workspace = copied(Workspace.open(recovered), tmp_path / "run")
    workspace.forget(record_ids=names([20]))
    report = describe(workspace)
    workspace.close()
    assert [audit.current for audit in report.audits] == [False]
    assert (report.claims[0].found, report.claims[0].verdict) == (
        None,
        "Not tested: no audit of the state that is served now bounds ε",
    )


def test_audits_that_this_workspace_did_not_sign(recovered: Path, tmp_path: Path) -> None:
    data = (recovered / "audits" / "first.json").read_bytes()
    workspace = Workspace.open(recovered)
    own = [public_key_from_pem(workspace.public_key.encode())]
    workspace_id, digest = workspace.declaration.id, workspace.state_digest()
    workspace.close()
    stranger = load_signer(create_key(tmp_path))
    cases = [
        read_audits([data], [stranger.public_key], workspace_id, digest),
        read_audits([data.replace(b'"sig": "', b'"sig": "AA')], own, workspace_id, digest),
        read_audits([data], own, "0" * 32, digest),
        read_audits([b"not an envelope"], own, workspace_id, digest),
        read_audits([seal({"_type": "other"}, [stranger])], [stranger.public_key], workspace_id, digest),
    ]
    for found, refused in cases:
        assert found == ()
        assert [item.what for item in refused] == ["audit 1"]
    assert "another workspace" in cases[2][1][0].problem
    assert read_audits([data, data], own, workspace_id, digest)[1] == ()


def test_a_signed_audit_that_lacks_figures(recovered: Path) -> None:
    from unlearn.issuing import current_signer

    workspace = Workspace.open(recovered)
    signer = current_signer(workspace._site)
    said = json.loads(_payload(recovered / "audits" / "first.json"))
    del said["predicate"]["audit"]["test"]["interval"]
    found, refused = read_audits([seal(said, [signer])], [signer.public_key], workspace.declaration.id, None)
    workspace.close()
    assert found == ()
    assert "lacks what an audit says" in refused[0].problem


def _payload(path: Path) -> bytes:
    from unlearn.receipt.envelope import parse_envelope

    return bytes(parse_envelope(path.read_bytes()).payload)


def test_an_audit_that_refutes_is_the_first_thing_to_be_read(recovered: Path) -> None:
    (audit,) = of(recovered).audits
    refuting = replace(audit, verdict="refuted", epsilon_lower=1.25)
    earlier = replace(audit, current=False, epsilon_lower=9.0)
    claim = judge("What is served", "Exact.", [refuting, earlier], epsilon=0.0)
    assert (claim.refuted, claim.found) == (True, 1.25)
    assert claim.verdict.startswith("Refuted")
    assert not judge("", "", [refuting], epsilon=None).refuted


def test_several_audits_of_a_state_share_the_error(recovered: Path) -> None:
    (audit,) = of(recovered).audits
    quiet = [replace(audit, verdict="not refuted", p_value=0.5, epsilon_lower=0.0) for _ in range(19)]
    by_chance = replace(audit, verdict="refuted", p_value=0.04, epsilon_lower=0.2)
    surely = replace(by_chance, p_value=0.05 / 20)
    alone, among, found = (
        judge("", "", audits, epsilon=0.0) for audits in ([by_chance], [by_chance, *quiet], [surely, *quiet])
    )
    assert (alone.refuted, among.refuted, found.refuted) == (True, False, True)
    assert among.verdict.startswith("1 of 20 audits of the state that is served now refuted it at a level of their own")
    assert (alone.confidence, among.confidence) == (0.95, 0.0)
    assert judge("", "", [by_chance, by_chance, *quiet], epsilon=0.0).verdict.startswith("2 of 21 audits")


def test_audits_without_a_bound_try_what_is_exact_and_no_other_claim(recovered: Path) -> None:
    (audit,) = of(recovered).audits
    found = replace(audit, verdict="refuted", p_value=0.04, epsilon_lower=1.25)
    attack = replace(audit, verdict="not refuted", p_value=0.5, epsilon_lower=None)
    assert not judge("", "", [found, attack], epsilon=0.0).refuted
    assert judge("", "", [found, attack], epsilon=1.0).refuted
    assert judge("", "", [found, attack], epsilon=1.0).confidence == 0.95


def test_what_one_of_many_audits_refuted_is_told_with_their_number(recovered: Path) -> None:
    report = of(recovered)
    (audit,) = report.audits
    quiet = [replace(audit, verdict="not refuted", p_value=0.5) for _ in range(19)]
    denied = replace(audit, verdict="refuted", p_value=0.04)
    earlier = replace(denied, current=False)

    def act(*audits: AuditFact) -> tuple[str, ...]:
        some = (report.model, report.requests, report.forgotten, audits, (), report.receipts)
        return sum_up(*some, kind="exact", due=0).to_do

    assert act(*quiet, earlier) == ()
    assert act(denied, earlier)[0].startswith("1 audit refuted that what is served has forgotten: find out why")
    assert act(replace(denied, p_value=0.05 / 20), *quiet)[0].startswith("1 audit refuted")
    assert act(denied, *quiet)[0].startswith(
        "1 of 20 audits refuted that what is served has forgotten, which may be chance"
    )


def test_a_bound_is_held_against_a_claim_of_its_own_delta(recovered: Path) -> None:
    (audit,) = of(recovered).audits
    found = replace(audit, verdict="refuted", epsilon_lower=1.25, epsilon_largest=3.0, delta=1e-5)
    assert judge("", "", [found], epsilon=1.0, delta=1e-5).refuted
    kept = judge("", "", [found], epsilon=2.0, delta=1e-5)
    assert (kept.refuted, kept.verdict) == (
        False,
        "Not refuted; the largest ε that these audits could have certified: 3.00",
    )
    other = judge("", "", [found], epsilon=1.0, delta=1e-6)
    assert (other.refuted, other.found) == (False, None)
    assert other.verdict == "Not tested: no audit of the state that is served now bounds ε at this δ (1e-06)"


def test_attacks(workspace: Workspace) -> None:
    gone, strangers = range(12), range(100, 112)
    workspace.forget(record_ids=names(gone))
    workspace.recover(progress=False)
    others = make_records(canaries(strangers), labels(strangers), record_ids=names(strangers))
    options: dict[str, Any] = {"record_ids": names(gone), "attacks": ["loss"], "permutations": 99, "progress": False}
    compared = workspace.audit(canaries(gone), labels(gone), held_out=others, **options)
    alone = workspace.audit(canaries(gone), labels(gone), **options)
    report = describe(workspace, audits=[workspace.sign_audit(compared), workspace.sign_audit(alone)])
    assert report.refused == ()
    by_verdict = {audit.verdict: audit for audit in report.audits if audit.kind == "attacks"}
    tested, untested = by_verdict[compared.verdict], by_verdict["inapplicable"]
    assert (tested.p_value, untested.p_value) == (compared.p_value, None)
    assert tested.findings[0].value == compared.findings[0].forgetting.auc.value  # type: ignore[union-attr]
    assert untested.findings[0].value == alone.findings[0].exposure.auc.value
    assert untested.findings[0].members is None
    assert "forgotten people from people who never came" in tested.findings[0].title
    assert render(report)


def test_files_that_are_not_there(trained: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.json cannot be read"):
        of(trained, audits=["missing.json"])


@pytest.mark.parametrize(
    "given", [(1, 0.5, 10), ("x", 1.5, 10), ("x", -0.1, 10), ("x", "0.5", 10), ("x", 0.5, 0), ("x", 0.5, 1.5)]
)
def test_measurements_that_are_none(given: tuple[Any, Any, Any]) -> None:
    with pytest.raises(InputError, match="is no accuracy"):
        Measured(*given)


def test_every_state_of_a_request_has_words(workspace: Workspace) -> None:
    from unlearn.report.gather import _STANDING

    assert set(_STANDING) == set(RequestState)
