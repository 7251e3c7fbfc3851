"""Certified removal as a method of a workspace: what is served, what is promised, and what happens when it is spent."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import unlearn
from shards import slicefile
from shards.learners.base import Learner
from shards.learners.mapped import MappedLearner
from shards.noise import SystemSource
from tests.unlearn.helpers import canaries, filled, labels, mlp, names, raw, spellings
from tests.unlearn.test_approximating_crash import Here
from unlearn import Workspace, export
from unlearn.errors import (
    BudgetSpentError,
    ConfigurationError,
    NotServingError,
    StorageError,
    VerificationError,
)
from unlearn.issuing import current_signer
from unlearn.ledger import Ledger, now
from unlearn.methods.certified import settling
from unlearn.methods.certified_learner import CertifiedLearner
from unlearn.receipt import seal
from unlearn.receipt.offline import verify_offline
from unlearn.receipt.predicate import (
    ADAPTIVE_CERTIFIED,
    ADAPTIVE_EXCLUDED,
    CERTIFIED_GUARANTEE,
    CERTIFIED_TYPE,
    EMPIRICAL_GUARANTEE,
    NOT_PROVEN,
    NOT_PROVEN_CERTIFIED,
    RECEIPT_TYPE,
    RECOVERED_NOISY_GUARANTEE,
)
from unlearn.request import NOT_APPLIED, RequestState

N = 30
PROBE = canaries(range(10_000, 10_020))
SCANT = CertifiedLearner(0.01, scale=0.1, tolerance=9e-5)
"""A promise that lasts for three removals."""

LEFT = SCANT.promise.capacity(1)


def one(folder: Path, learner: Learner = SCANT, n: int = N, **options: Any) -> Workspace:
    """A trained workspace of one linear model that certifies."""
    return filled(folder, learner, n, **{"n_shards": 1, "n_slices": 1, "method": "certified_removal", **options})


def said(workspace: Workspace, request_id: str) -> Any:
    return workspace.receipt(request_id).statement


def verified(workspace: Workspace, request_id: str) -> dict[int, str]:
    """What the steps of the verification of all receipts of a request found, of the latest."""
    details = {}
    for receipt in workspace.receipts(request_id):
        found = unlearn.verify(receipt, workspace.public_key, workspace=workspace)
        details = {step.number: step.detail for step in found.steps}
    return details


def charges(workspace: Workspace) -> int:
    """How many removals the log tells of."""
    return sum(entry.event.kind == "approximated" for entry in workspace._site.ledger.entries())


def optimum(learner: CertifiedLearner, workspace: Workspace) -> np.ndarray:
    """What training from nothing finds on the records that are there, without noise."""
    site = workspace._site
    folder = workspace.path / "shards" / "0000" / "records"
    parts = [slicefile.read(folder / piece.file) for piece in site.ledger.slices().values()]
    features = {"x": np.concatenate([part.features["x"] for part in parts])}
    problem = learner.problem(features, np.concatenate([part.target for part in parts]), site.task())
    weights, _ = settling.settle(problem, torch.zeros(problem.shape, dtype=torch.float64), (), 1e-9)
    return weights.numpy()


def published(workspace: Workspace) -> np.ndarray:
    _, (step,) = workspace._site.ledger.served()
    return np.array(workspace._site.folder(0).load(step.key).state["weights"])


def test_a_request_takes_effect_at_once_and_says_what_is_promised(tmp_path: Path) -> None:
    """The three requests that are served are each a removal; the promise, what is spent and what is left add up."""
    assert LEFT == 3
    learner = CertifiedLearner(0.01, scale=1e-4)
    with closing(one(tmp_path / "run", learner)) as workspace:
        request = workspace.forget(record_ids=names([3, 5]))
        assert (request.state, request.n_records, request.guarantee) == (RequestState.FORGOTTEN, 2, "certified")
        assert np.abs(published(workspace) - optimum(learner, workspace)).max() < 8 * learner.scale
        (state,) = workspace.status().approximate
        promised = learner.promise.certificate(1, 1)
        assert (state.guarantee, state.certificate, state.applications) == ("certified", promised, 1)
        predicate = said(workspace, request.id)["predicate"]
        assert said(workspace, request.id)["predicateType"] == CERTIFIED_TYPE
        assert predicate["guarantee"]["kind"] == "certified"
        assert predicate["guarantee"]["statement"] == CERTIFIED_GUARANTEE
        assert predicate["guarantee"]["adaptive_requests"]["statement"] == ADAPTIVE_CERTIFIED
        assert set(predicate["not_proven"]) == {*NOT_PROVEN_CERTIFIED, *NOT_PROVEN} - {NOT_PROVEN[2]}
        assert "adaptive requests" in NOT_PROVEN[2]
        assert predicate["approximation"]["certificate"] == promised
        details = verified(workspace, request.id)
        assert "version 3, stage forgotten" in details[3]
        assert "promised to be (1, 0.0001)-indistinguishable" in details[8]
        assert "its guarantee is certified" in details[15]
        (row,) = export.rows(workspace.requests(), now())
        assert (row["guarantee"], row["method"], row["retraining_due"]) == ("certified", "certified_removal", False)
        assert workspace.recover().recovered == (request.id,)
        assert workspace.status(request.id).guarantee == "exact"
        assert workspace.status().approximate == ()
        details = verified(workspace, request.id)
        assert "version 3, stage recovered" in details[3]
        guarantee = said(workspace, request.id)["predicate"]["guarantee"]
        assert (guarantee["kind"], guarantee["statement"]) == ("exact", RECOVERED_NOISY_GUARANTEE)
        assert guarantee["adaptive_requests"]["statement"] == ADAPTIVE_EXCLUDED


def test_what_was_charged_stays_charged_when_an_older_state_is_served(tmp_path: Path) -> None:
    """The state of the first batch is exact, and was trained before the removals: it is no new beginning."""
    with closing(one(tmp_path / "run")) as workspace:
        rows = range(100, 110)
        workspace.ingest(canaries(rows), labels(rows), record_ids=names(rows))
        workspace.train()
        for row in rows[: LEFT - 1]:
            assert workspace.forget(record_ids=names([row])).guarantee == "certified"
        assert workspace.forget(record_ids=names([rows[LEFT]]), method="none").guarantee == "exact"
        assert workspace.status().approximate == ()
        last = workspace.forget(record_ids=names([3]))
        assert last.guarantee == "certified"
        (state,) = workspace.status().approximate
        assert (state.applications, state.certificate) == (LEFT, SCANT.promise.certificate(1, LEFT))
        verified(workspace, last.id)
        options = {"when_spent": "refuse"}
        with pytest.raises(BudgetSpentError, match=f"its {LEFT} removals were made"):
            workspace.forget(record_ids=names([5]), method="certified_removal", method_options=options)
        waiting = workspace.submit(record_ids=names([5]))
        workspace.process()
        assert workspace.status(waiting.id).not_applied == NOT_APPLIED["budget spent"]
        verified(workspace, waiting.id)
        workspace.recover()
        assert workspace.forget(record_ids=names([7])).guarantee == "certified"
        (state,) = workspace.status().approximate
        assert state.applications == 1


def test_records_of_several_batches(tmp_path: Path) -> None:
    learner = CertifiedLearner(0.01, scale=1e-4)
    with closing(one(tmp_path / "run", learner)) as workspace:
        rows = range(100, 110)
        workspace.ingest(canaries(rows), labels(rows), record_ids=names(rows))
        workspace.train()
        request = workspace.forget(record_ids=names([3, 104]))
        assert request.guarantee == "certified"
        assert np.abs(published(workspace) - optimum(learner, workspace)).max() < 8 * learner.scale
        verified(workspace, request.id)


def test_the_budget_is_spent_one_by_one_and_then_the_model_is_retrained(tmp_path: Path) -> None:
    with closing(one(tmp_path / "run")) as workspace:
        for number in range(LEFT):
            request = workspace.forget(record_ids=names([number]))
            (state,) = workspace.status().approximate
            assert state.certificate == SCANT.promise.certificate(1, number + 1)
            assert state.certificate["left"] == LEFT - number - 1
            workspace.close()
            workspace = Workspace.open(tmp_path / "run")
        before = published(workspace)
        last = workspace.forget(record_ids=names([20]))
        assert last.not_applied == NOT_APPLIED["budget spent"]
        assert (last.guarantee, last.state, last.is_approximate) == ("exact", RequestState.RECEIPTED, False)
        assert charges(workspace) == LEFT
        assert not np.array_equal(published(workspace), before)
        forgotten, recovered = workspace.receipts(last.id)
        for receipt in (forgotten, recovered):
            assert receipt.statement["predicateType"] == RECEIPT_TYPE
            assert receipt.statement["predicate"]["guarantee"]["kind"] == "exact"
        status = workspace.status()
        assert (status.approximate, status.due, status.serving) == ((), (), 1)
        for item in workspace.requests():
            verified(workspace, item.id)
        # Trained from nothing, it begins anew.
        again = workspace.forget(record_ids=names([21]))
        assert workspace.status().approximate[0].certificate == SCANT.promise.certificate(1, 1)
        assert request.id != again.id


def test_the_budget_is_spent_and_the_request_refused(tmp_path: Path) -> None:
    options = {"when_spent": "refuse"}
    with closing(one(tmp_path / "run", method_options=options)) as workspace:
        for number in range(LEFT):
            workspace.forget(record_ids=names([number]))
        before = raw(workspace.path)
        for ask in (workspace.forget, workspace.submit):
            with pytest.raises(BudgetSpentError, match="its 3 removals were made; run `unlearn recover`"):
                ask(record_ids=names([20]))
        assert raw(workspace.path).keys() == before.keys()
        assert len(workspace.requests()) == LEFT
        assert workspace.predict(PROBE).shape == (20,)
        done = workspace.forget(record_ids=names([20]), method_options={"when_spent": "retrain"})
        assert (done.not_applied, done.state) == (NOT_APPLIED["budget spent"], RequestState.RECEIPTED)
        assert workspace.forget(record_ids=names([21])).is_approximate


def test_requests_that_wait_are_one_removal(tmp_path: Path) -> None:
    with closing(one(tmp_path / "run")) as workspace:
        asked = [workspace.submit(record_ids=names([row])) for row in range(LEFT + 2)]
        workspace.process()
        (state,) = workspace.status().approximate
        assert (state.applications, charges(workspace)) == (1, 1)
        assert {workspace.status(request.id).guarantee for request in asked} == {"certified"}
        for request in asked:
            verified(workspace, request.id)


def test_what_waits_when_the_budget_ends_is_forgotten_exactly_and_due(tmp_path: Path) -> None:
    """Also if it would have been refused: what was accepted is carried out."""
    with closing(one(tmp_path / "run", method_options={"when_spent": "refuse"})) as workspace:
        for number in range(LEFT - 1):
            workspace.forget(record_ids=names([number]))
        late = workspace.submit(record_ids=names([20]))
        later = workspace.submit(record_ids=names([21]), method_options={"when_spent": "retrain"})
        workspace.process()
        assert workspace.status(late.id).guarantee == "certified"
        assert workspace.status(later.id).not_applied == NOT_APPLIED["budget spent"]
        assert workspace.status().due == (later.id,)
        with pytest.raises(NotServingError):
            workspace.predict(PROBE)
        assert workspace.recover(due=True).recovered[-1] == later.id
        verified(workspace, late.id)
        verified(workspace, later.id)


def test_the_noise_and_what_it_hides_are_never_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen where they are made: in this process, by an executor that calls here."""
    drawn: list[np.ndarray] = []
    hidden: list[np.ndarray] = []
    normal, settled = SystemSource.normal, settling.settle

    def spied(source: SystemSource, shape: tuple[int, ...]) -> np.ndarray:
        drawn.append(normal(source, shape))
        return drawn[-1]

    def watched(*given: Any) -> Any:
        found = settled(*given)
        hidden.append(found[0].numpy())
        return found

    monkeypatch.setattr(SystemSource, "normal", spied)
    monkeypatch.setattr(settling, "settle", watched)
    one(tmp_path / "run").close()
    with closing(Workspace.open(tmp_path / "run", executor=Here())) as workspace:
        request = workspace.forget(record_ids=names([3, 5]))
        assert request.guarantee == "certified"
        shown = published(workspace)
        receipts = b"".join(receipt.data for receipt in workspace.receipts(request.id))
    (noise,), (weights,) = drawn, hidden
    assert np.abs(shown - weights - SCANT.scale * noise).max() <= SCANT.scale / 4, "these are what was drawn"
    secret = [noise, SCANT.scale * noise, weights, np.asarray(shown - weights), weights.astype(np.float32)]
    texts = [repr(float(value)).encode() for array in secret for value in array.ravel()]
    together = b"\n\n".join([*raw(tmp_path / "run").values(), receipts])
    assert shown.tobytes() in together
    for spelled in (*spellings(*(array.tobytes() for array in secret)), *texts):
        assert spelled not in together


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_around_the_promise_neither_spends_twice_nor_loses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    class Crash(BaseException):
        pass

    withdraw = Ledger.withdraw

    def crashing(ledger: Ledger, *given: Any, **options: Any) -> None:
        if when == "after":
            withdraw(ledger, *given, **options)
        raise Crash

    with closing(one(tmp_path / "run")) as workspace:
        workspace.forget(record_ids=names([1]))
        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "withdraw", crashing)
            with pytest.raises(Crash):
                workspace.forget(record_ids=names([2]))
    with closing(Workspace.open(tmp_path / "run")) as workspace:
        assert charges(workspace) == (1 if when == "before" else 2)
        workspace.process()
        (state,) = workspace.status().approximate
        assert (state.applications, charges(workspace)) == (2, 2)
        assert state.certificate == SCANT.promise.certificate(1, 2)
        for request in workspace.requests():
            assert request.guarantee == "certified"
            verified(workspace, request.id)


def test_a_crash_before_the_model_is_retrained_leaves_it_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with closing(one(tmp_path / "run")) as workspace:
        for number in range(LEFT):
            workspace.forget(record_ids=names([number]))
        with monkeypatch.context() as patch:
            patch.setattr(Workspace, "_build", interrupted)
            with pytest.raises(KeyboardInterrupt):
                workspace.forget(record_ids=names([20]))
    with closing(Workspace.open(tmp_path / "run")) as workspace:
        last = workspace.requests()[-1]
        assert (last.not_applied, last.state) == (NOT_APPLIED["budget spent"], RequestState.FORGOTTEN)
        assert workspace.status().due == (last.id,)
        assert last.id in workspace.recover(due=True).recovered
        assert workspace.status().due == ()


def test_a_retraining_that_fails_keeps_nobody_from_being_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise StorageError("no room")

    with closing(one(tmp_path / "run")) as workspace:
        for number in range(LEFT):
            workspace.forget(record_ids=names([number]))
        with monkeypatch.context() as patch:
            patch.setattr(Workspace, "_build", failing)
            last = workspace.forget(record_ids=names([20]))
        assert last.state is RequestState.FORGOTTEN
        assert last.opening is not None
        assert last.not_applied.endswith("the model could not be retrained (no room): run `unlearn recover`")
        assert last.is_due(now())
        assert workspace.status().due == (last.id,)
        assert last.id in workspace.recover(due=True).recovered


def test_regression_and_several_classes(tmp_path: Path) -> None:
    targets = canaries(range(N), variant=3)[:, :2]
    learner = CertifiedLearner(0.01, scale=1e-4)
    for name, y, options in (
        ("numbers", targets, {"task": "regression"}),
        ("classes", np.arange(N) % 3, {"classes": [0, 1, 2]}),
    ):
        with closing(Workspace.create(tmp_path / name, learner, n_shards=1, **options)) as workspace:
            workspace.ingest(canaries(range(N)), y, record_ids=names(range(N)))
            workspace.train()
            request = workspace.forget(record_ids=names([3]), method="certified_removal")
            assert request.guarantee == "certified"
            assert np.abs(published(workspace) - optimum(learner, workspace)).max() < 8 * learner.scale
            heads = workspace.status().approximate[0].certificate["heads"]
            assert heads == (2 if name == "numbers" else 3)
            verified(workspace, request.id)


def test_heads_on_a_public_map(tmp_path: Path) -> None:
    head = CertifiedLearner(0.01, scale=1e-4)
    learner = MappedLearner(head, {"map": "fourier", "features": 8})
    with closing(one(tmp_path / "run", learner)) as workspace:
        request = workspace.forget(record_ids=names([3, 5]))
        assert request.guarantee == "certified"
        site = workspace._site
        (piece,) = site.ledger.slices().values()
        data = slicefile.read(workspace.path / "shards" / "0000" / "records" / piece.file)
        problem = head.problem(learner.prepare(data.features, site.task()), data.target, site.task())
        assert problem.shape == (9, 1)
        best, _ = settling.settle(problem, torch.zeros(problem.shape, dtype=torch.float64), (), 1e-9)
        assert np.abs(published(workspace) - best.numpy()).max() < 8 * head.scale
        verified(workspace, request.id)


# --- what does not fit -------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="trains none: create a workspace with the learner"):
        one(tmp_path / "mlp", mlp())
    with pytest.raises(ConfigurationError, match="forgets by certified_removal"):
        one(tmp_path / "scrub", method="scrub")
    with pytest.raises(ConfigurationError, match="n_shards=1"):
        one(tmp_path / "sharded", n_shards=2)
    for wrong in ({"epsilon": 9.0}, {"when_spent": "never"}):
        with pytest.raises(ConfigurationError, match="when_spent"):
            one(tmp_path / "option", method_options=wrong)
    with closing(one(tmp_path / "run", method=None)) as workspace:
        assert workspace.forget(record_ids=names([1])).guarantee == "exact"


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, str]]:
    """A workspace that serves what was removed with a certificate, and the request; nobody changes it."""
    workspace = one(tmp_path_factory.mktemp("certified") / "run")
    yield workspace, workspace.forget(record_ids=names([3, 5])).id
    workspace.close()


def as_empirical(statement: Any) -> None:
    statement["predicate"]["guarantee"]["kind"] = "empirical"
    statement["predicate"]["guarantee"]["statement"] = EMPIRICAL_GUARANTEE


def smaller_promise(statement: Any) -> None:
    account = statement["predicate"]["approximation"]
    account["certificate"]["epsilon"] = account["config"]["epsilon"] = 0.9


def less_spent(statement: Any) -> None:
    statement["predicate"]["approximation"]["certificate"]["spent"] = 0.0


def broken_promise(statement: Any) -> None:
    statement["predicate"]["approximation"]["certificate"]["spent"] = 2.0


def two_promises(statement: Any) -> None:
    statement["predicate"]["approximation"]["certificate"]["delta"] = 1e-9


def no_promise(statement: Any) -> None:
    del statement["predicate"]["approximation"]["certificate"]


@pytest.mark.parametrize(
    ("edit", "step", "message"),
    [
        (as_empirical, 3, "kind must be 'certified'"),
        (smaller_promise, 6, "approximation"),
        (less_spent, 6, "approximation"),
        (broken_promise, 3, "more of epsilon is spent"),
        (two_promises, 3, "that of the method's configuration"),
        (no_promise, 3, "certificate"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_certified_receipt_that_is_edited_is_refused(
    certified: tuple[Workspace, str], edit: Any, step: int, message: str
) -> None:
    """Also if whoever edits it has the key."""
    workspace, request = certified
    signer = current_signer(workspace._site)
    statement = copy.deepcopy(said(workspace, request))
    verify_offline(seal(statement, [signer]), [signer.public_key])
    edit(statement)
    with pytest.raises(VerificationError, match=message) as caught:
        verify_offline(seal(statement, [signer]), [signer.public_key])
    assert caught.value.step == step


def test_a_workspace_that_lied_about_its_budget_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs another program with the key: the receipt fits its log, and not the constants."""
    from unlearn import approximating

    def generous(site: Any, made: Any) -> Any:
        return {**SCANT.promise.certificate(1, made.applications), "left": 1000}

    with closing(one(tmp_path / "run")) as workspace:
        with monkeypatch.context() as patch:
            patch.setattr(approximating, "certificate_of", generous)
            request = workspace.forget(record_ids=names([3]))
        receipt = workspace.receipt(request.id)
        unlearn.verify(receipt, workspace.public_key)
        with pytest.raises(VerificationError, match="not issued by this workspace") as caught:
            unlearn.verify(receipt, workspace.public_key, workspace=workspace)
        assert caught.value.step == 11
