"""Approximate methods between forgetting and recovery: what is served, what is said of it, what is never claimed."""

from __future__ import annotations

import copy
import json
import shutil
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import unlearn
from shards import slicefile
from shards.executors.base import Executor
from shards.executors.local import LocalExecutor
from shards.learners.torch import TorchLearner
from tests.unlearn import attacks
from tests.unlearn.helpers import canaries, filled, labels, mlp, names, raw, secrets_of, sgd, spellings
from unlearn import Workspace, approximating, building
from unlearn.approximating import LONGEST
from unlearn.errors import (
    ConfigurationError,
    FencedError,
    IdempotencyError,
    InputError,
    NotServingError,
    TombstoneError,
    VerificationError,
    WorkerLostError,
    WorkspaceError,
)
from unlearn.forgetting import serve_pending
from unlearn.issuing import current_signer
from unlearn.methods import METHODS
from unlearn.receipt import seal
from unlearn.receipt.offline import verify_offline
from unlearn.receipt.predicate import (
    EMPIRICAL_GUARANTEE,
    FORGOTTEN_GUARANTEE,
    NOT_PROVEN,
    RECEIPT_TYPE,
    RECOVERED_GUARANTEE,
)
from unlearn.request import NOT_APPLIED, RequestState

PROBE = canaries(range(10_000, 10_020))
"""Features nobody trains on."""

N = 40
DIVERGES = {"learning_rate": 1e30}
"""Options with which gradient ascent ends in no numbers."""


def one(folder: Path, n: int = N, **options: Any) -> Workspace:
    """A trained workspace of one torch model."""
    return filled(folder, mlp(), n, **{"n_shards": 1, "n_slices": 1, **options})


def fresh(folder: Path, rows: Sequence[int]) -> str:
    """State digest of a workspace that never held other records than these."""
    with closing(Workspace.create(folder, mlp(), n_shards=1, classes=[0, 1], random_state=0)) as workspace:
        workspace.ingest(canaries(rows), labels(rows), record_ids=names(rows))
        workspace.train()
        return workspace.state_digest()


def said(workspace: Workspace, request_id: str) -> Any:
    """What the latest receipt of a request says."""
    return workspace.receipt(request_id).statement


def verified(workspace: Workspace, request_id: str, *, replay: bool = False) -> dict[int, str]:
    """What the steps of the verification of all receipts of a request found, of the latest."""
    details = {}
    for receipt in workspace.receipts(request_id):
        found = unlearn.verify(receipt, workspace.public_key, workspace=workspace, replay=replay)
        details = {step.number: step.detail for step in found.steps}
    return details


def checkpoints(workspace: Workspace) -> set[str]:
    """Keys of the checkpoints that are on the disk."""
    return {path.stem for path in workspace.path.glob("shards/*/checkpoints/*")}


def served_key(workspace: Workspace) -> str:
    _, (step,) = workspace._site.ledger.served()
    return step.key


# --- what is served ----------------------------------------------------------------------------------------------


def test_what_is_served_is_what_the_method_makes_of_the_old_model(tmp_path: Path) -> None:
    """Compared with the method itself, called here on the checkpoint and the records that were there before."""
    with closing(one(tmp_path / "run")) as workspace:
        site = workspace._site
        learner, task = site.learner, site.task()
        assert isinstance(learner, TorchLearner)
        state = site.folder(0).load(served_key(workspace)).state
        (piece,) = site.ledger.slices().values()
        data = slicefile.read(workspace.path / "shards" / "0000" / "records" / piece.file)
        gone = np.isin(data.record_ids, names([3, 5]))
        module = learner.module_of(state, task)
        inputs, targets = learner.tensors_of(state, data.features, data.target, module, task)
        method = METHODS["scrub"]
        forget, retain = ((inputs[torch.from_numpy(rows)], targets[torch.from_numpy(rows)]) for rows in (gone, ~gone))
        made = method(module, forget, retain, method.config(epochs=4, ascents=2, learning_rate=0.05))
        expected = learner.predictor(learner.state_of(made, state), task)({"x": PROBE})
        before = workspace.predict_proba(PROBE)
        options = {"epochs": 4, "ascents": 2, "learning_rate": 0.05}
        request = workspace.forget(record_ids=names([3, 5]), method="scrub", method_options=options)
        assert request.method == "scrub"
        assert (request.state, request.is_approximate, request.n_records) == (RequestState.FORGOTTEN, True, 2)
        after = workspace.predict_proba(PROBE)
        assert np.abs(after - before).max() > 1e-3
        np.testing.assert_allclose(after, expected, rtol=0, atol=1e-6)


def test_nothing_of_the_records_or_of_the_old_model_stays(tmp_path: Path) -> None:
    with closing(one(tmp_path / "run")) as workspace:
        gone, stay = names([3, 5]), names([4])
        secrets = secrets_of(workspace, [*gone, *stay])
        old = served_key(workspace)
        header = workspace._site.folder(0).header(old)
        model = spellings(*(bytes.fromhex(text) for text in (header.content, header.payload, header.salt)))
        workspace.forget(record_ids=gone, method="fine_tune", method_options={"epochs": 1})
        together = b"\n\n".join(raw(workspace.path).values())
        for row, name in ((3, gone[0]), (5, gone[1]), (4, stay[0])):
            is_there = name in stay
            assert (name.encode() in together) is is_there
            assert (canaries([row]).tobytes() in together) is is_there
            assert any(secret in together for secret in secrets[name]) is is_there
        assert not any(text in together for text in model)
        assert checkpoints(workspace) == {served_key(workspace)} != {old}


def test_other_processes_and_threads_serve_it_too(tmp_path: Path) -> None:
    with closing(one(tmp_path / "run")) as workspace, closing(Workspace.open(tmp_path / "run")) as other:
        before = other.predict_proba(PROBE)
        workspace.forget(record_ids=names([3]), method="fine_tune")
        after = other.predict_proba(PROBE)
        assert not np.array_equal(before, after)
        assert np.array_equal(after, workspace.predict_proba(PROBE))
        assert other.state_digest() == workspace.state_digest()
        workspace.recover()
        assert not np.array_equal(after, other.predict_proba(PROBE))


def test_one_after_the_other_and_then_exact(tmp_path: Path) -> None:
    with closing(one(tmp_path / "run")) as workspace:
        first = workspace.forget(record_ids=names([3, 5]), method="scrub")
        made_first = served_key(workspace)
        second = workspace.forget(record_ids=names([7]), method="neg_grad_plus", reason="asked by letter")
        made_second = served_key(workspace)
        (state,) = workspace.status().approximate
        assert (state.method, state.applications, state.guarantee) == ("neg_grad_plus", 2, "empirical")
        assert state.methods == ("scrub", "neg_grad_plus")
        account = said(workspace, second.id)["predicate"]["approximation"]
        assert (account["applications"], account["made_from"]) == (2, made_first)
        assert checkpoints(workspace) == {made_second}
        for request in (first, second):
            verified(workspace, request.id)
        report = workspace.recover()
        assert report.recovered == (first.id, second.id)
        assert workspace.status().approximate == ()
        assert made_second not in checkpoints(workspace)
        assert workspace.state_digest() == fresh(tmp_path / "fresh", [row for row in range(N) if row not in (3, 5, 7)])
        for request in (first, second):
            verified(workspace, request.id)
            forgotten, recovered = workspace.receipts(request.id)
            unlearn.verify(recovered, workspace.public_key, forgotten=forgotten)
            assert recovered.statement["predicate"]["guarantee"]["kind"] == "exact"
            assert recovered.statement["predicate"]["guarantee"]["statement"] == RECOVERED_GUARANTEE
            assert recovered.statement["predicate"]["not_proven"] == list(NOT_PROVEN)


def test_training_a_new_batch_makes_it_exact_as_well(tmp_path: Path) -> None:
    with closing(one(tmp_path / "run")) as workspace:
        request = workspace.forget(record_ids=names([3]), method="fine_tune")
        rows = range(100, 110)
        workspace.ingest(canaries(rows), labels(rows), record_ids=names(rows))
        assert len(workspace.status().approximate) == 1
        # It has not seen the second batch. Were it served on, the receipt of who forgets from that could not say exact.
        late = workspace.forget(record_ids=names([100]), method="fine_tune")
        assert late.not_applied == NOT_APPLIED["made before"]
        assert workspace.status().approximate == ()
        with pytest.raises(NotServingError):
            workspace.predict(PROBE)
        assert said(workspace, late.id)["predicateType"] == RECEIPT_TYPE
        verified(workspace, late.id)
        assert set(workspace.train().recovered) == {request.id, late.id}
        assert workspace.status().approximate == ()
        verified(workspace, request.id)
        after = workspace.forget(record_ids=names([101, 4]), method="fine_tune")
        assert after.is_approximate
        assert said(workspace, after.id)["predicate"]["approximation"]["state"][:2] == [0, 1]
        verified(workspace, after.id)


def test_together_in_one_application(tmp_path: Path) -> None:
    with closing(one(tmp_path / "run")) as workspace:
        requests = [workspace.submit(record_ids=names([row]), method="fine_tune") for row in (3, 5)]
        exact = workspace.submit(record_ids=names([7]))
        assert [request.state for request in workspace.process()] == [RequestState.FORGOTTEN] * 3
        # The last one asks for nothing in place of what is withdrawn for it.
        assert workspace.status().approximate == ()
        for request in requests:
            assert said(workspace, request.id)["predicate"]["approximation"]["applications"] == 1
            verified(workspace, request.id)
        assert said(workspace, exact.id)["predicateType"] == RECEIPT_TYPE
        verified(workspace, exact.id)
        with pytest.raises(NotServingError):
            workspace.predict(PROBE)


# --- what is said ------------------------------------------------------------------------------------------------


def test_a_receipt_never_says_that_it_is_exact(tmp_path: Path) -> None:
    with closing(one(tmp_path / "run")) as workspace:
        request = workspace.forget(record_ids=names([3, 5]), method="scrub")
        predicate = said(workspace, request.id)["predicate"]
        card = METHODS["scrub"].card
        assert predicate["guarantee"]["kind"] == "empirical"
        assert predicate["guarantee"]["statement"] == EMPIRICAL_GUARANTEE
        account = predicate["approximation"]
        assert (account["method"], account["citation"], account["statement"]) == (
            "scrub",
            card.citation,
            card.statement,
        )
        assert account["config"]["epochs"] == METHODS["scrub"].config().epochs
        details = verified(workspace, request.id, replay=True)
        assert "version 2, stage forgotten" in details[3]
        assert "made by the approximate method 'scrub', which is NOT that of retraining" in details[8]
        assert "is NOT that of training: its guarantee is empirical" in details[15]
        assert "nobody can make it again" in details[17]


def test_exact_requests_are_as_they_were(tmp_path: Path) -> None:
    with closing(one(tmp_path / "run", method="scrub")) as workspace:
        request = workspace.forget(record_ids=names([3]), method="none")
        assert (request.method, request.is_approximate) == (None, False)
        statement = said(workspace, request.id)
        assert statement["predicateType"] == RECEIPT_TYPE
        assert "approximation" not in statement["predicate"]
        assert statement["predicate"]["guarantee"]["statement"] == FORGOTTEN_GUARANTEE
        with pytest.raises(NotServingError):
            workspace.predict(PROBE)


@pytest.mark.parametrize("method", ["none", "fine_tune"])
def test_who_names_again_what_the_served_model_may_know_is_not_told_that_it_does_not(
    tmp_path: Path, method: str
) -> None:
    """A request without records left to remove gets an exact receipt: then nothing may be served that saw them."""
    with closing(one(tmp_path / "run")) as workspace:
        first = workspace.forget(record_ids=names([3, 5]), method="fine_tune")
        made = served_key(workspace)
        other = workspace.submit(record_ids=names([3]), method=method)
        assert [request.id for request in workspace.process()] == [other.id]
        assert workspace.status(other.id).guarantee == "exact"
        if method != "none":
            assert workspace.status(other.id).not_applied == NOT_APPLIED["made before"]
        predicate = said(workspace, other.id)["predicate"]
        assert predicate["guarantee"]["statement"] == FORGOTTEN_GUARANTEE
        assert predicate["withdrawal"]["states"]["after"] == []
        assert predicate["withdrawal"]["destroyed"] == [[0, 0, made]]
        assert workspace.status().approximate == ()
        assert checkpoints(workspace) == set()
        with pytest.raises(NotServingError):
            workspace.predict(PROBE)
        for request in (first, other):
            verified(workspace, request.id)
        assert set(workspace.recover().recovered) == {first.id, other.id}
        for request in (first, other):
            verified(workspace, request.id)
        # Once it is exact, there is nothing left to withdraw.
        again = workspace.submit(record_ids=names([5]), method=method)
        workspace.process()
        assert workspace.status(again.id).shards == {}
        assert workspace.predict(PROBE).shape == (len(PROBE),)


def test_a_withdrawn_state_without_records_to_remove_is_destroyed_after_a_crash_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(one(tmp_path / "run", 12)) as workspace:
        workspace.forget(record_ids=names([3]), method="fine_tune")
        made = served_key(workspace)
        other = workspace.submit(record_ids=names([3]))

        def crash(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr("unlearn.forgetting.destroy", crash)
            with pytest.raises(KeyboardInterrupt):
                workspace.process()
        assert checkpoints(workspace) == {made}
    with closing(Workspace.open(tmp_path / "run")) as workspace:
        assert checkpoints(workspace) == set()
        assert workspace.status(other.id).state is RequestState.FORGOTTEN
        verified(workspace, other.id)


def test_whoever_returns_waits_until_nothing_served_may_know_him(tmp_path: Path) -> None:
    """Else nothing would tell, when he is forgotten once more and exactly, that what is served had seen his records."""
    back = {"record_ids": names([3]), "reconsent": names([3])}
    with closing(one(tmp_path / "run", 12)) as workspace:
        workspace.forget(record_ids=names([3]), method="fine_tune")
        before = workspace._site.ledger.head()
        with pytest.raises(TombstoneError, match="run `unlearn recover` first; nothing was ingested"):
            workspace.ingest(canaries([3]), labels([3]), **back)
        assert workspace._site.ledger.head() == before
        workspace.recover()
        assert workspace.ingest(canaries([3]), labels([3]), **back) == 1


def test_a_writer_that_was_shut_out_leaves_nothing_that_a_method_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one put in order what there was before, and does not look again."""
    with closing(one(tmp_path / "run", 12)) as workspace:
        old = served_key(workspace)

        def shut_out(*_: object) -> None:
            assert len(checkpoints(workspace)) == 2
            raise FencedError("another process took over")

        monkeypatch.setattr(workspace._site.ledger, "withdraw", shut_out)
        with pytest.raises(FencedError):
            workspace.forget(record_ids=names([3]), method="fine_tune")
        assert checkpoints(workspace) == {old}


def test_what_a_method_made_does_not_hide_what_training_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are of one position, and only one of them is looked at when an interrupted training is put in order."""
    with closing(one(tmp_path / "run", 12)) as workspace:
        workspace.forget(record_ids=names([3]), method="fine_tune")
        made, looked_at = served_key(workspace), set[str]()
        headers = building._headers

        def looking(site: Any, shard: int, keys: Any) -> Any:
            looked_at.update(keys)
            return headers(site, shard, keys)

        monkeypatch.setattr(building, "_headers", looking)
        assert building.adopt(workspace._site, [0]) == 0
        assert made not in looked_at


@pytest.fixture(scope="module")
def approximate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, str]:
    """A workspace that serves what a method made, and the request; nobody changes it."""
    workspace = one(tmp_path_factory.mktemp("approximate") / "run")
    return workspace, workspace.forget(record_ids=names([3, 5]), method="scrub").id


def as_exact(statement: Any) -> None:
    """The words of an exact receipt, in the form of version 2."""
    guarantee = statement["predicate"]["guarantee"]
    guarantee["kind"], guarantee["statement"] = "exact", FORGOTTEN_GUARANTEE
    statement["predicate"]["not_proven"] = list(NOT_PROVEN)


def as_version_1(statement: Any) -> None:
    """A whole exact receipt of version 1, which says nothing of a method."""
    as_exact(statement)
    statement["predicateType"] = RECEIPT_TYPE
    del statement["predicate"]["approximation"]
    statement["predicate"]["environments"] = {}


def better_card(statement: Any) -> None:
    statement["predicate"]["approximation"]["statement"] = "The model never saw the records."


def fewer_applications(statement: Any) -> None:
    statement["predicate"]["approximation"]["applications"] = 0


def other_state(statement: Any) -> None:
    statement["predicate"]["approximation"]["state"][0] = 1


@pytest.mark.parametrize(
    ("edit", "step", "message"),
    [
        (as_exact, 3, "kind must be 'empirical'"),
        (as_version_1, 6, "it claims more than was done"),
        (better_card, 6, "approximation"),
        (fewer_applications, 3, "applications must be at least 1"),
        (other_state, 6, "approximation"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_an_approximate_receipt_that_is_edited_is_refused(
    approximate: tuple[Workspace, str], edit: Any, step: int, message: str
) -> None:
    """Also if whoever edits it has the key."""
    workspace, request = approximate
    signer = current_signer(workspace._site)
    statement = copy.deepcopy(said(workspace, request))
    verify_offline(seal(statement, [signer]), [signer.public_key])
    edit(statement)
    with pytest.raises(VerificationError, match=message) as caught:
        verify_offline(seal(statement, [signer]), [signer.public_key])
    assert caught.value.step == step
    envelope = json.loads(workspace.receipt(request).data)
    envelope["payload"] = json.loads(seal(statement, [signer]))["payload"]
    with pytest.raises(VerificationError, match="signature"):
        verify_offline(json.dumps(envelope).encode(), [signer.public_key])


def test_an_exchanged_state_is_found_and_recovered(tmp_path: Path) -> None:
    with closing(one(tmp_path / "run")) as workspace:
        request = workspace.forget(record_ids=names([3, 5]), method="scrub")
        path = workspace._site.folder(0).checkpoint(served_key(workspace))
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(VerificationError, match="is damaged") as caught:
            verified(workspace, request.id)
        assert caught.value.step == 15
        workspace.recover()
        assert workspace.state_digest() == fresh(tmp_path / "fresh", [row for row in range(N) if row not in (3, 5)])
        verified(workspace, request.id)


def test_the_register_is_compared_with_the_log(tmp_path: Path) -> None:
    with closing(one(tmp_path / "run", 12)) as workspace:
        request = workspace.forget(record_ids=names([3]), method="fine_tune", method_options={"epochs": 1})
        receipt, key = workspace.receipt(request.id), workspace.public_key
    for number, (statement, what) in enumerate(
        (
            ("UPDATE unlearning SET method = 'scrub'", "facts about requests"),
            ("UPDATE unlearning SET config = '{}'", "facts about requests"),
            ("UPDATE unlearning SET escalate_by = submitted_at FROM request", "facts about requests"),
            ("UPDATE unlearning SET not_applied = 'x'", "facts about requests"),
            ("UPDATE approximation SET applications = 7", "states made by approximate methods"),
            ("UPDATE approximation SET config = '{}'", "states made by approximate methods"),
            ("UPDATE approximation SET refuted_at = submitted_at FROM request", "states made by approximate methods"),
            ("DELETE FROM approximation", "states made by approximate methods"),
        )
    ):
        folder = shutil.copytree(tmp_path / "run", tmp_path / str(number))
        attacks.execute(folder, statement)
        with pytest.raises(VerificationError, match=what):
            unlearn.verify(receipt, key, workspace=folder)


def test_what_is_derived_from_it_is_tainted_by_what_it_may_still_know(tmp_path: Path) -> None:
    with closing(one(tmp_path / "run")) as workspace:
        request = workspace.forget(record_ids=names([3]), method="fine_tune")
        derived = workspace.register("student", "distilled model", "elsewhere")
        records = workspace.register("table", "copy of the records", "elsewhere", source="records")
        tainted = {item.id: item.tainted_by for item in workspace.artefacts()}
        assert tainted == {derived.id: (request.id,), records.id: ()}
        workspace.recover()
        listed = said(workspace, request.id)["predicate"]["artefacts"]
        assert [item["name"] for item in listed] == ["student"]
        verified(workspace, request.id)


# --- what fails --------------------------------------------------------------------------------------------------


def test_a_method_that_fails_keeps_nobody_from_being_forgotten(tmp_path: Path) -> None:
    with closing(one(tmp_path / "run")) as workspace:
        request = workspace.forget(record_ids=names([3]), method="gradient_ascent", method_options=DIVERGES)
        assert request.state is RequestState.FORGOTTEN
        assert not request.is_approximate
        assert request.not_applied.startswith(f"{NOT_APPLIED['failed']}: ConfigurationError: the loss is nan")
        assert "\n" not in request.not_applied
        assert workspace.status(request.id).not_applied == NOT_APPLIED["failed"]
        assert workspace.status().due == (request.id,)
        with pytest.raises(NotServingError):
            workspace.predict(PROBE)
        assert checkpoints(workspace) == set()
        assert list(workspace.path.glob("shards/*/staging/*")) == []
        assert workspace._site.ledger.operation() == ""
        assert said(workspace, request.id)["predicateType"] == RECEIPT_TYPE
        verified(workspace, request.id)
        workspace.recover()
        assert workspace.state_digest() == fresh(tmp_path / "fresh", [row for row in range(N) if row != 3])
        verified(workspace, request.id)


def test_a_method_that_never_ends_is_stopped_and_the_model_due_to_be_retrained(tmp_path: Path) -> None:
    """As many epochs as nobody lives to see; the worker is ended, whatever it is at."""
    for_ever = {"epochs": 10**9}
    limit = timedelta(seconds=1)
    with closing(one(tmp_path / "run", method="fine_tune", method_time_limit=limit)) as workspace:
        started = time.monotonic()
        request = workspace.forget(record_ids=names([3]), method="fine_tune", method_options=for_ever)
        assert 1 <= time.monotonic() - started < 60
        assert request.not_applied == f"{NOT_APPLIED['time limit']}: 1 seconds had passed"
        assert (request.state, request.guarantee) == (RequestState.FORGOTTEN, "exact")
        with pytest.raises(NotServingError):
            workspace.predict(PROBE)
        assert checkpoints(workspace) == set()
        assert workspace._site.ledger.operation() == ""
        status = workspace.status()
        assert status.due == (request.id,)
        assert workspace.status(request.id).is_due(datetime.now(UTC))
        assert said(workspace, request.id)["predicateType"] == RECEIPT_TYPE
        verified(workspace, request.id)
        assert request.id in workspace.recover(due=True).recovered
        assert workspace.status().due == ()
        assert workspace.state_digest() == fresh(tmp_path / "fresh", [row for row in range(N) if row != 3])


def test_a_method_is_stopped_after_its_time_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(approximating.time, "monotonic", lambda: clock[0])
    stopped: list[Any] = []
    watch, patient = approximating._Watch(7, 2.5), approximating._Watch(7, None)
    for at, expected in ((102.4, []), (102.5, [[7]])):
        clock[0] = at
        watch(stopped.append)
        patient(stopped.append)
        assert stopped == expected


@pytest.mark.parametrize("wrong", [timedelta(0), timedelta(seconds=-1), 3, LONGEST + timedelta(days=1)])
def test_a_time_limit_is_a_time(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="method_time_limit is a positive timedelta"):
        Workspace.create(tmp_path / "run", mlp(), n_shards=1, method="fine_tune", method_time_limit=wrong)
    with pytest.raises(ConfigurationError, match="belong to a method"):
        Workspace.create(tmp_path / "run", mlp(), n_shards=1, method_time_limit=timedelta(seconds=1))


def test_a_workspace_with_a_time_limit_has_a_format_of_its_own(tmp_path: Path) -> None:
    """Older versions would not know that the method is to be stopped."""
    for number, options in ((5, {}), (6, {"method_time_limit": timedelta(seconds=2.5)})):
        folder = tmp_path / str(number)
        Workspace.create(folder, mlp(), n_shards=1, method="fine_tune", **options).close()
        described = json.loads((folder / "workspace.json").read_text())
        assert described["format"] == number
        assert described["method"].get("time_limit") == (2.5 if options else None)
        Workspace.open(folder).close()
    described["method"]["time_limit"] = 0
    (folder / "workspace.json").write_text(json.dumps(described))
    with pytest.raises(WorkspaceError, match="damaged"):
        Workspace.open(folder)


class Lossy(LocalExecutor):
    """Loses the workers of everything but training."""

    def perform(self, program: Any, work: Any, on_turn: Any) -> None:
        if any("call" in item.message() for item in work):
            raise WorkerLostError("the worker process died")
        super().perform(program, work, on_turn)


def test_a_worker_that_dies_keeps_nobody_either(tmp_path: Path) -> None:
    executor: Executor = Lossy()
    with closing(one(tmp_path / "run", executor=executor)) as workspace:
        request = workspace.forget(record_ids=names([3]), method="fine_tune")
        assert request.not_applied == f"{NOT_APPLIED['failed']}: the worker process died"
        verified(workspace, request.id)


def test_whoever_interrupts_a_method_leaves_a_request_that_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with closing(one(tmp_path / "run")) as workspace:
        before = workspace.predict_proba(PROBE)
        with monkeypatch.context() as patch:
            patch.setattr(LocalExecutor, "perform", interrupted)
            with pytest.raises(KeyboardInterrupt):
                workspace.forget(record_ids=names([3]), method="fine_tune", idempotency_key="case")
        assert workspace.status().requests["submitted"] == 1
        assert np.array_equal(workspace.predict_proba(PROBE), before)
        request = workspace.forget(record_ids=names([3]), method="fine_tune", idempotency_key="case")
        assert request.is_approximate
        assert len(workspace.requests()) == 1
        verified(workspace, request.id)


def test_nothing_is_made_where_there_is_nothing_to_make_it_of(tmp_path: Path) -> None:
    with closing(one(tmp_path / "run", 6)) as workspace:
        every = workspace.forget(record_ids=names(range(6)), method="fine_tune")
        assert every.not_applied == NOT_APPLIED["nothing stays"]
        verified(workspace, every.id)
        workspace.recover()
        verified(workspace, every.id)
        rows = range(10, 16)
        workspace.ingest(canaries(rows), labels(rows), record_ids=names(rows))
        early = workspace.forget(record_ids=names([10]), method="fine_tune")
        assert early.not_applied == NOT_APPLIED["nothing served"]
        late = workspace.submit(record_ids=names([11]), method="fine_tune")
        serve_pending(workspace._site)  # as whoever trains does
        assert workspace.status(late.id).not_applied == NOT_APPLIED["training"]


def test_of_all_that_an_approximate_model_was_made_of_nothing_stays_to_be_exact_about(tmp_path: Path) -> None:
    with closing(one(tmp_path / "run", 6)) as workspace:
        first = workspace.forget(record_ids=names([0]), method="fine_tune")
        rest = workspace.forget(record_ids=names(range(1, 6)), method="fine_tune")
        assert rest.not_applied == NOT_APPLIED["nothing stays"]
        assert workspace.status().approximate == ()
        workspace.recover()
        for request in (first, rest):
            verified(workspace, request.id)


def test_what_does_not_fit_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"classes": [0, 1], "method": "scrub"}
    for number, (learner, options, message) in enumerate(
        [
            (mlp(), {"n_shards": 2}, r"a workspace of one model \(n_shards=1, n_slices=1\), and this one has 2 shards"),
            (mlp(), {"n_shards": 1, "n_slices": 3}, "has 1 shards of 3 slices"),
            (sgd(), {"n_shards": 1}, "work on torch modules, and SklearnLearner trains none"),
            (mlp(), {"n_shards": 1, "method": "scrab"}, r"there is no method 'scrab'; did you mean 'scrub'\?"),
            (mlp(), {"n_shards": 1, "method": "retrain"}, "retrain is exact"),
            (mlp(), {"n_shards": 1, "method": "scrub_rewind"}, "needs the held-out set"),
            (mlp(), {"n_shards": 1, "method_options": {"epoch": 1}}, r"no option 'epoch'; did you mean 'epochs'\?"),
            (mlp(), {"n_shards": 1, "method_options": {"epochs": "many"}}, "must be a whole number, got 'many'"),
            (mlp(), {"n_shards": 1, "method_options": {"epochs": True}}, "must be a whole number, got True"),
            (mlp(), {"n_shards": 1, "method_options": {"optimizer": "lion"}}, "must be 'sgd' or 'adam'"),
            (mlp(), {"n_shards": 1, "method_options": {"epochs": -1}}, "epochs"),
            (mlp(), {"n_shards": 1, "escalate_within": timedelta(0)}, "escalate_within is a positive timedelta"),
            (mlp(), {"n_shards": 1, "escalate_within": timedelta.max}, "at most 36,525 days"),
            (mlp(), {"n_shards": 1, "method": None, "method_options": {}}, "belong to a method"),
        ]
    ):
        with pytest.raises(ConfigurationError, match=message):
            Workspace.create(tmp_path / str(number), learner, **{**settings, **options})
        assert not (tmp_path / str(number)).exists()
    with closing(one(tmp_path / "run", 6)) as workspace:
        before, digest = workspace._site.ledger.head(), workspace.state_digest()
        later = datetime.now(UTC) + timedelta(days=1)
        for options, kind, message in (
            ({"method": "scrub", "method_options": {"epochs": 1.5}}, ConfigurationError, "whole number"),
            ({"method_options": {"epochs": 1}}, InputError, "none is applied"),
            ({"method": "none", "method_options": {"epochs": 1}}, InputError, "none is applied"),
            ({"escalate_by": later}, InputError, "none is applied"),
            ({"method": "scrub", "escalate_by": datetime(2027, 1, 1)}, InputError, "time zone"),
        ):
            with pytest.raises(kind, match=message):
                workspace.forget(record_ids=names([3]), **options)  # type: ignore[arg-type]
        assert (workspace._site.ledger.head(), workspace.state_digest()) == (before, digest)


def test_the_same_key_is_the_same_method(tmp_path: Path) -> None:
    later = datetime.now(UTC) + timedelta(days=1)
    with closing(one(tmp_path / "run", 12, method="fine_tune", method_options={"epochs": 1})) as workspace:
        request = workspace.forget(record_ids=names([3]), idempotency_key="case", escalate_by=later)
        assert (request.method, request.method_config["epochs"]) == ("fine_tune", 1)  # type: ignore[index]
        again = workspace.forget(record_ids=names([3]), idempotency_key="case")
        assert again.id == request.id
        for options, message in (
            ({"method": "none"}, "another method"),
            ({"method": "fine_tune"}, "another method"),  # with its defaults, and not the declared options
            ({"escalate_by": later + timedelta(days=1)}, "another date of retraining"),
        ):
            for act in (workspace.forget, workspace.submit):
                with pytest.raises(IdempotencyError, match=message):
                    act(record_ids=names([3]), idempotency_key="case", **options)  # type: ignore[arg-type]


# --- when it has to be exact -------------------------------------------------------------------------------------


def test_a_deadline_makes_retraining_due(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    with closing(one(tmp_path / "run")) as workspace:
        later = workspace.forget(record_ids=names([3]), method="fine_tune", escalate_by=now + timedelta(days=1))
        assert workspace.status().due == ()
        assert workspace.recover(due=True).steps == 0
        assert len(workspace.status().approximate) == 1
        past = workspace.forget(record_ids=names([4]), method="fine_tune", escalate_by=now - timedelta(seconds=1))
        assert workspace.status().due == (past.id,)
        assert said(workspace, past.id)["predicate"]["approximation"]["escalate_by"] == past.escalate_by.isoformat()  # type: ignore[union-attr]
        assert workspace.recover(due=True).recovered == (later.id, past.id)
        assert workspace.status().due == ()
        assert workspace.status().approximate == ()
        verified(workspace, past.id)


def test_a_declared_policy_counts_from_the_request(tmp_path: Path) -> None:
    week = timedelta(days=7)
    with closing(one(tmp_path / "run", 12, method="fine_tune", escalate_within=week)) as workspace:
        request = workspace.forget(record_ids=names([3]))
        assert request.escalate_by is not None
        assert abs(request.escalate_by - request.submitted_at - week) < timedelta(seconds=1)
        assert not request.is_due(request.escalate_by - timedelta(seconds=1))
        assert request.is_due(request.escalate_by)
        verified(workspace, request.id)
    with closing(Workspace.open(tmp_path / "run")) as workspace:
        assert workspace.declaration.method["escalate_within"] == week.total_seconds()
        assert workspace.forget(record_ids=names([4])).method == "fine_tune"


def test_an_audit_that_refutes_makes_retraining_due(tmp_path: Path) -> None:
    with closing(one(tmp_path / "run")) as workspace:
        with pytest.raises(WorkspaceError, match="nothing that an approximate method made"):
            workspace.refute({"p": 0.01})
        request = workspace.forget(record_ids=names([3]), method="fine_tune")
        assert workspace.status().due == ()
        workspace.refute({"p": 0.01})
        workspace.refute({"p": 0.02})  # the first time counts
        (state,) = workspace.status().approximate
        assert state.refuted_at is not None
        assert workspace.status().due == (request.id,)
        verified(workspace, request.id)
        # What one audit refuted is not made good by forgetting somebody else.
        other = workspace.forget(record_ids=names([4]), method="fine_tune")
        assert workspace.status().due == (request.id, other.id)
        assert workspace.status().approximate[0].refuted_at == state.refuted_at
        verified(workspace, other.id)
        workspace.recover(due=True)
        assert workspace.status().due == ()
        verified(workspace, request.id)
