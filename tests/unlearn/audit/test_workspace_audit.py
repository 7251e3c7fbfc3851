"""The audit of a workspace: honest deletions pass, planted failures are found, and what cannot be tested is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.audit_planted.here import Here
from experiments.audit_planted.planting import plant
from shards.placement import Region, place_subjects
from unlearn import Workspace
from unlearn.audit.statement import read_audit
from unlearn.audit.workspace_audit import record_scores
from unlearn.errors import DamageError, InputError, UnknownIdError
from unlearn.receipt import ReceiptError, create_key, load_signer, public_key_from_pem

S, N = 4, 240
RNG = np.random.default_rng(0)
Y = RNG.integers(0, 3, N)
X = RNG.normal(size=(N, 6)).astype(np.float32)
PEOPLE = [f"subject-{i // 2:04d}" for i in range(N)]
IDS = [f"record-{i:04d}" for i in range(N)]
GONE = list(range(80))


def make(path: Path, rows: Sequence[int] = range(N), **options: Any) -> Workspace:
    settings: dict[str, Any] = {
        "n_shards": S,
        "n_slices": 2,
        "classes": [0, 1, 2],
        "random_state": 3,
        "executor": Here(),
        **options,
    }
    workspace = Workspace.create(path, memorising(), **settings)
    workspace.ingest(*data(rows), **names(rows))
    workspace.train()
    return workspace


def memorising() -> Any:
    from shards.learners.neighbours import NeighboursLearner

    return NeighboursLearner(1, {"map": "raw", "unit": 1 / 64, "limit": 8.0})


def data(rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    return X[list(rows)], Y[list(rows)]


def names(rows: Sequence[int]) -> dict[str, list[str]]:
    return {"subjects": [PEOPLE[i] for i in rows], "record_ids": [IDS[i] for i in rows]}


def people(rows: Sequence[int]) -> list[str]:
    return sorted({PEOPLE[i] for i in rows})


def audited(workspace: Workspace, rows: Sequence[int] = GONE, **options: Any) -> Any:
    return workspace.audit(*data(rows), **names(rows), permutations=999, **options)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    made = make(tmp_path / "w")
    yield made
    made.close()


def test_an_honest_deletion_is_not_refuted(workspace: Workspace) -> None:
    request = workspace.forget(people(GONE))
    workspace.recover()
    before = sorted(path for path in workspace.path.rglob("*") if path.is_file())
    found = audited(workspace)
    assert (found.verdict, found.test.n_subjects, found.facts.n_records) == ("not refuted", 40, 80)
    assert found.facts.requests == (request.id,)
    assert found.facts.receipts == {
        f"{request.id}/{receipt.stage}": receipt.digest for receipt in workspace.receipts(request.id)
    }
    assert found.facts.state_digest == workspace.state_digest()
    assert len(found.facts.receipts) == 2
    assert found.yardstick.advantage > 1
    assert found.yardstick.power_all_shards > 0.95
    assert audited(workspace).test == found.test
    # Nothing was stored.
    assert sorted(path for path in workspace.path.rglob("*") if path.is_file()) == before
    json.dumps(found.to_json(), allow_nan=False)


def test_labels_are_those_of_the_placement(workspace: Workspace) -> None:
    """Shards that still know everybody are found under their own numbers."""
    before = states(workspace)
    workspace.forget(people(GONE))
    workspace.recover()
    shard = 2
    plant(workspace, {shard: before[shard]})
    found = audited(workspace)
    assert found.verdict == "refuted"
    assert max(found.test.shards, key=found.test.shards.__getitem__) == shard
    shards, _ = place_subjects(workspace._site.keys.placement, people(GONE), S, 2)
    assert set(found.test.shards) == set(shards.tolist())


def test_no_unlearning_at_all_is_refuted(workspace: Workspace) -> None:
    before = states(workspace)
    request = workspace.forget(people(GONE))
    workspace.recover()
    plant(workspace, before)
    found = audited(workspace, request_id=request.id)
    assert (found.verdict, found.p_value) == ("refuted", 1 / 1000)
    assert found.test.advantage == pytest.approx(found.yardstick.advantage, rel=0.5)


def states(workspace: Workspace) -> dict[int, Any]:
    site = workspace._site
    return {step.shard: site.folder(step.shard).load(step.key).state for step in site.ledger.served()[1]}


def test_before_recovery_in_one_batch(workspace: Workspace) -> None:
    first = workspace.forget(people(GONE[:40]))
    workspace.recover()
    late = [PEOPLE[i] for i in GONE[40:]]
    slices = place_subjects(workspace._site.keys.placement, late, S, 2)[1]
    chosen = [name for name, piece in zip(late, slices, strict=True) if piece == 1]
    workspace.forget(sorted(set(chosen)))
    rows = [i for i in GONE if i in GONE[:40] or PEOPLE[i] in chosen]
    found = audited(workspace, rows)
    # Shards that lost records of the second slice serve their first; the first request's people are another group.
    assert (found.verdict, found.test.n_strata, found.n_shards) == ("not refuted", 2, S)
    assert first.id in found.facts.requests


def test_before_recovery_in_two_batches_is_refused(tmp_path: Path) -> None:
    workspace = make(tmp_path / "w", range(120))
    workspace.ingest(*data(range(120, N)), **names(range(120, N)))
    workspace.train()
    workspace.forget(people(range(100, 140)))
    with pytest.raises(InputError, match="not recovered"):
        audited(workspace, range(100, 140))
    workspace.recover()
    assert audited(workspace, range(100, 140)).verdict == "not refuted"


def test_without_states_there_is_nothing_to_compare(tmp_path: Path) -> None:
    workspace = make(tmp_path / "w", n_slices=1)
    workspace.forget(people(GONE))
    with pytest.raises(InputError, match="run `unlearn recover`"):
        audited(workspace)


def test_subjects_whose_shard_serves_nothing_are_set_aside(tmp_path: Path) -> None:
    workspace = make(tmp_path / "w", n_slices=1)
    workspace.forget(people(GONE))
    workspace.recover()
    late = [i for i in range(80, N) if place_subjects(workspace._site.keys.placement, [PEOPLE[i]], S, 1)[0] == 1][:4]
    workspace.forget(people(late))
    rows = [*GONE, *late]
    there = place_subjects(workspace._site.keys.placement, [PEOPLE[i] for i in rows], S, 1)[0]
    found = audited(workspace, rows)
    assert found.facts.set_aside == {"their shard serves no state": int((there == 1).sum())}
    assert (found.verdict, found.n_shards) == ("not refuted", S - 1)
    assert sorted(found.test.shards) == [0, 2, 3]


def test_who_is_still_here_is_set_aside(workspace: Workspace) -> None:
    workspace.forget(record_ids=[IDS[i] for i in GONE[1:]])  # subject 0 keeps a record, which tells its shard
    workspace.recover()
    found = audited(workspace, [*GONE, 100, 101])
    assert found.facts.set_aside == {
        "still in the workspace": 3,
        "their subject still has other records in the workspace": 1,
    }
    assert (found.facts.n_records, found.test.n_subjects) == (78, 39)


def test_other_requests_are_set_aside(workspace: Workspace) -> None:
    first, second = workspace.forget(people(GONE[:40])), workspace.forget(people(GONE[40:]))
    workspace.recover()
    found = audited(workspace, request_id=second.id)
    assert found.facts.requests == (second.id,)
    assert found.facts.set_aside == {"forgotten by another request": 40}
    assert audited(workspace).facts.requests == (first.id, second.id)


def test_subjects_alone_will_do(workspace: Workspace) -> None:
    workspace.forget(people(GONE))
    workspace.recover()
    found = workspace.audit(*data(GONE), subjects=names(GONE)["subjects"], permutations=999)
    assert found.test == audited(workspace).test


@pytest.mark.parametrize(
    ("rows", "changed", "message"),
    [
        ([0, 1], {"record_ids": ["x", "y"], "subjects": ["p", "q"]}, "2 of the 2 presented records match no deletion"),
        ([100, 101], {}, "2: still in the workspace"),
        ([0, 1], {"request_id": "later"}, "2: forgotten by another request"),
    ],
)
def test_what_matches_no_request_is_refused(
    workspace: Workspace, rows: list[int], changed: dict[str, Any], message: str
) -> None:
    workspace.forget(people(GONE))
    other = workspace.forget(people([90]))
    workspace.recover()
    given = {**names(rows), **{k: other.id if v == "later" else v for k, v in changed.items()}}
    with pytest.raises(UnknownIdError, match=message):
        workspace.audit(*data(rows), **given)


def test_subjects_that_cannot_be_theirs_are_refused(workspace: Workspace) -> None:
    """Labels of the wrong subjects would find nothing, and say so."""
    workspace.forget(people([0, 1]))
    workspace.recover()
    (shard,) = place_subjects(workspace._site.keys.placement, [PEOPLE[0]], S, 2)[0]
    other = next(
        n for n in map(str, range(99)) if place_subjects(workspace._site.keys.placement, [n], S, 2)[0] != shard
    )
    with pytest.raises(InputError, match="cannot be whose records were forgotten"):
        workspace.audit(*data([0]), record_ids=[IDS[0]], subjects=[other])


def test_one_subject_is_too_few(workspace: Workspace) -> None:
    workspace.forget(people([0, 1]))
    workspace.recover()
    with pytest.raises(InputError, match="present more forgotten records"):
        audited(workspace, [0, 1])


def test_an_exchanged_checkpoint_is_damage_not_a_verdict(workspace: Workspace) -> None:
    before = states(workspace)
    workspace.forget(people(GONE))
    workspace.recover()
    plant(workspace, {0: before[0]}, recorded=False)
    with pytest.raises(DamageError, match="is not the one that was recorded"):
        audited(workspace)


def test_a_signed_audit_is_about_the_receipts(workspace: Workspace, tmp_path: Path) -> None:
    request = workspace.forget(people(GONE))
    workspace.recover()
    found = audited(workspace)
    data = workspace.sign_audit(found)
    key = public_key_from_pem(workspace.public_key.encode())
    assert read_audit(data, [key]) == found.to_json()
    with pytest.raises(ReceiptError):
        read_audit(workspace.receipt(request.id).data, [key])
    stranger = load_signer(create_key(tmp_path / "keys")).public_key
    with pytest.raises(ReceiptError, match="no trusted key"):
        read_audit(data, [stranger])
    envelope = json.loads(data)
    envelope["signatures"][0]["sig"] = envelope["signatures"][0]["sig"][:-4] + "AAA="
    with pytest.raises(ReceiptError):
        read_audit(json.dumps(envelope).encode(), [key])
    assert PEOPLE[0].encode() not in data


def test_an_audit_of_another_workspace_is_not_signed(workspace: Workspace, tmp_path: Path) -> None:
    workspace.forget(people(GONE))
    workspace.recover()
    with pytest.raises(InputError, match="another workspace"):
        make(tmp_path / "other").sign_audit(audited(workspace))


def test_scores_are_logits_and_errors() -> None:
    probabilities = np.array([[0.2, 0.5, 0.3], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1 - 3e-9, 1e-9, 2e-9]])
    found = record_scores(probabilities, np.array([1, 0, 2, 0]), "classification")
    bound = np.log(1e9)
    np.testing.assert_allclose(found, [0.0, bound, -bound, np.log(1 / 3e-9)], atol=1e-8)
    errors = record_scores(np.array([[1.0, 2.0], [0.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 0.0]]), "regression")
    assert errors.tolist() == [-2.0, 0.0]


def test_regression_is_audited_too(tmp_path: Path) -> None:
    from shards.learners.mlp import MLPLearner

    targets = np.random.default_rng(1).normal(size=N)
    learner = MLPLearner((32,), epochs=60, learning_rate=0.05, batch_size=8)
    workspace = Workspace.create(
        tmp_path / "w", learner, n_shards=S, task="regression", random_state=0, executor=Here()
    )
    workspace.ingest(X, targets, **names(range(N)))
    workspace.train()
    before = states(workspace)
    workspace.forget(people(GONE))
    workspace.recover()
    given: dict[str, Any] = {**names(GONE), "permutations": 999}
    found = workspace.audit(X[GONE], targets[GONE], **given)
    assert (found.verdict, found.score) == ("not refuted", "minus the squared error")
    plant(workspace, before)
    assert workspace.audit(X[GONE], targets[GONE], **given).verdict == "refuted"


# --- risk classes ---------------------------------------------------------------------------------------------------

CLASSES = {"guest": Region(shards=range(2)), "member": Region(shards=range(2, 4))}
RISK = ["guest" if (i // 2) % 2 else "member" for i in range(N)]


def classed(path: Path) -> Workspace:
    made = Workspace.create(
        path,
        memorising(),
        n_shards=S,
        n_slices=2,
        classes=[0, 1, 2],
        random_state=3,
        executor=Here(),
        risk_classes=CLASSES,
    )
    made.ingest(*data(range(N)), **names(range(N)), risk=RISK)
    made.train()
    return made


def test_labels_are_rearranged_inside_risk_classes(tmp_path: Path) -> None:
    workspace = classed(tmp_path / "w")
    before = states(workspace)
    workspace.forget(people(GONE))
    workspace.recover()
    risk = [RISK[i] for i in GONE]
    found = audited(workspace, risk=risk)
    assert (found.verdict, found.test.n_subjects, found.test.n_strata) == ("not refuted", 40, 2)
    plant(workspace, {3: before[3]})
    kept = audited(workspace, risk=risk)
    assert kept.verdict == "refuted"
    assert max(kept.test.shards, key=kept.test.shards.__getitem__) == 3
    workspace.close()


def test_risk_classes_have_to_be_those_of_the_ingest(tmp_path: Path) -> None:
    workspace = classed(tmp_path / "w")
    workspace.forget(people(GONE))
    workspace.recover()
    risk = [RISK[i] for i in GONE]
    with pytest.raises(InputError, match=r"none is given: give risk, 'guest' or 'member'.*nothing was tested"):
        audited(workspace)
    with pytest.raises(InputError, match=r"1 of the presented subjects \('subject-0000'\) are given two risk classes"):
        audited(workspace, risk=["guest", *risk[1:]])
    with pytest.raises(InputError, match="'visitor': no risk class of this name was declared"):
        audited(workspace, risk=["visitor"] * len(risk))
    # Every shard was hit, so no other class can be told from the right one: labels are wrong, and nothing is found.
    assert audited(workspace, risk=["member" if name == "guest" else "guest" for name in risk]).verdict == "not refuted"
    workspace.close()


def test_a_workspace_without_risk_classes_takes_none(workspace: Workspace) -> None:
    workspace.forget(people(GONE))
    with pytest.raises(InputError, match="created without risk classes: leave risk out"):
        audited(workspace, risk="guest")


# --- heads ----------------------------------------------------------------------------------------------------------


def test_heads_on_a_feature_map_are_audited_on_what_the_map_gives(tmp_path: Path) -> None:
    from shards.learners.mapped import MappedLearner
    from shards.learners.mlp import MLPLearner

    head = MLPLearner((32,), epochs=60, batch_size=8, learning_rate=0.3)
    learner = MappedLearner(head, {"map": "fourier", "features": 64, "gamma": 0.2})
    workspace = Workspace.create(
        tmp_path / "w", learner, n_shards=S, n_slices=2, classes=[0, 1, 2], random_state=3, executor=Here()
    )
    workspace.ingest(*data(range(N)), **names(range(N)))
    workspace.train()
    before = states(workspace)
    workspace.forget(people(GONE))
    workspace.recover()
    assert audited(workspace).verdict == "not refuted"
    plant(workspace, before)
    assert audited(workspace).verdict == "refuted"
    workspace.close()
