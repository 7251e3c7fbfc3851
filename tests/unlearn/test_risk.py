"""Risk classes: where their subjects go, what is refused, and that what is gone leaves nothing of its class."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from shards.errors import DamageError
from shards.placement import Region
from shards.private_votes import PrivateVotes
from shards.records import make_records
from tests.cases import CLASSES, RIDGE, SGD, Record, create, digits, features, ingest, record, test_rows
from unlearn import SISAClassifier, Workspace, verify
from unlearn.declaration import _WITHOUT_METHOD
from unlearn.errors import ConfigurationError, InputError, TombstoneError, VerificationError, WorkspaceError

SHARDS, SLICES = 4, 3
CLASSED = {"often": Region(range(1)), "seldom": Region(range(1, SHARDS))}
LATE = {"often": Region(None, range(2, 3)), "seldom": Region(None, range(2))}


def risk(subject: str) -> str:
    return "often" if subject.startswith("guest") else "seldom"


def people(first: int, n: int) -> list[Record]:
    """Records in turn of two guests and four members."""
    owners = ["guest 1", "guest 2", *(f"member {i}" for i in range(4))]
    return [record(first + i, owners[i % 6]) for i in range(n)]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """With one batch."""
    made = create(tmp_path / "run", RIDGE, SHARDS, SLICES, risk_classes=CLASSED)
    ingest(made, RIDGE, people(0, 24), risk=risk)
    return made


def places(workspace: Workspace) -> dict[str, set[tuple[int, int]]]:
    """Shards and slices within a batch of every subject, read from the record files."""
    found: dict[str, set[tuple[int, int]]] = {}
    for (shard, position), item in workspace._site.ledger.slices().items():
        for subject in workspace._site.folder(shard).read_records(item.file).subjects:
            found.setdefault(subject, set()).add((shard, position % SLICES))
    return found


@pytest.mark.parametrize("risk_classes", [CLASSED, LATE], ids=["shards", "slices"])
def test_a_subject_keeps_its_one_place_within_its_region(risk_classes: dict[str, Region], tmp_path: Path) -> None:
    workspace = create(tmp_path / "run", RIDGE, SHARDS, SLICES, risk_classes=risk_classes)
    for first in (0, 24, 48):
        ingest(workspace, RIDGE, people(first, 24), risk=risk)
    found = places(workspace)
    assert len(found) == 6
    for subject, where in found.items():
        ((shard, piece),) = where
        region = risk_classes[risk(subject)].within(SHARDS, SLICES)
        assert shard in region.shards
        assert piece in region.slices


def test_requests_of_a_class_hit_its_shards_alone(workspace: Workspace) -> None:
    ingest(workspace, RIDGE, people(24, 24), risk=risk)
    workspace.train()
    request = workspace.forget(subjects=["guest 1", "guest 2"])
    assert (request.n_subjects, request.n_records) == (2, 16)
    hit = workspace.receipt(request.id).statement["predicate"]["withdrawal"]["shards"]
    assert hit.keys() == {"0"}
    member = workspace.forget(subjects=["member 3"])
    assert member.n_records == 8
    workspace.recover()
    for done in (request, member):
        for receipt in workspace.receipts(done.id):
            verify(receipt, workspace.public_key, workspace=workspace, replay=True)
    assert places(workspace).keys() == {"member 0", "member 1", "member 2"}


def test_a_subject_is_forgotten_without_its_class_and_nothing_tells_it(workspace: Workspace) -> None:
    """The folder of a workspace in which guests were, and of one in which they never were, name the same classes."""
    workspace.train()
    workspace.forget(subjects=["guest 1", "guest 2"])
    workspace.recover()
    workspace.close()
    said = {path.name for path in workspace.path.rglob("*") if path.is_file() and b"guest" in path.read_bytes()}
    assert said == set()
    named = {path.name for path in workspace.path.rglob("*") if path.is_file() and b"often" in path.read_bytes()}
    assert named == {"workspace.json"}


@pytest.mark.parametrize(
    "given",
    [
        lambda owners: [risk(name) for name in owners],
        lambda owners: np.array([risk(name) for name in owners]),
        lambda owners: {name: risk(name) for name in [*owners, "somebody else"]},
    ],
    ids=["list", "array", "mapping"],
)
def test_classes_are_given_in_several_ways(given: Callable[[list[str]], object], tmp_path: Path) -> None:
    records = people(0, 24)
    owners = [item.subject for item in records]
    one, other = (create(tmp_path / name, RIDGE, SHARDS, SLICES, risk_classes=CLASSED) for name in "ab")
    ingest(one, RIDGE, records, risk=risk)
    X, y = features(RIDGE, range(24)), digits()[1][:24]
    ids = [item.id for item in records]
    other.ingest(make_records(X, y, subjects=owners, record_ids=ids, risk=given(owners)))
    assert places(one) == places(other)
    for made in (one, other):
        made.train()
    assert one.state_digest() == other.state_digest()


def test_one_class_for_a_whole_batch(tmp_path: Path) -> None:
    workspace = create(tmp_path / "run", RIDGE, SHARDS, SLICES, risk_classes=CLASSED)
    workspace.ingest(features(RIDGE, range(9)), digits()[1][:9], risk="often")
    assert {shard for where in places(workspace).values() for shard, _ in where} == {0}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "none is given: give risk, 'often' or 'seldom' for each record"),
        (["often"] * 5 + ["rare"], "'rare'.*no risk class of this name was declared; give 'often' or 'seldom'"),
        (["often"] * 5, "lengths differ"),
        ({"a": "often"}, "no class for 1 of the subjects .'b'."),
        (["often", "seldom"] * 3, None),
        (["often", "often", "seldom"] * 2, "rows 0 and 2 are of one subject, and of the risk classes 'often' and 'sel"),
        ([True] * 6, "risk: row 0 is True"),
        ("everybody", "'everybody'"),
    ],
)
def test_classes_that_are_missing_unknown_or_contradictory(given: object, message: str | None, tmp_path: Path) -> None:
    workspace = create(tmp_path / "run", RIDGE, SHARDS, SLICES, risk_classes=CLASSED)
    X, y = features(RIDGE, range(6)), digits()[1][:6]
    if message is None:
        workspace.ingest(X, y, subjects=list("ababab"), risk=given)  # type: ignore[arg-type]
        return
    with pytest.raises(InputError, match=message):
        workspace.ingest(X, y, subjects=list("ababab"), risk=given)  # type: ignore[arg-type]
    assert (workspace.status().records, workspace.status().batches) == (0, 0)


def test_a_class_nobody_asked_for(tmp_path: Path) -> None:
    workspace = create(tmp_path / "run", RIDGE, SHARDS, SLICES)
    with pytest.raises(InputError, match="created without risk classes: leave risk out"):
        ingest(workspace, RIDGE, people(0, 6), risk=risk)
    records = make_records(features(RIDGE, range(6)), digits()[1][:6], risk="often")
    with pytest.raises(InputError, match="give them alone"):
        workspace.ingest(records, risk="often")
    workspace.ingest(replace(records, risks=()))


def test_a_subject_keeps_its_class_while_it_has_records(workspace: Workspace) -> None:
    back = [record(100, "guest 1"), record(101, "member 9")]
    with pytest.raises(InputError, match=r"1 of the subjects \('guest 1'\) have records of another risk class"):
        ingest(workspace, RIDGE, back, risk=lambda _: "seldom")
    assert workspace.status().batches == 1
    ingest(workspace, RIDGE, back, risk=risk)
    workspace.forget(subjects=["guest 1"])
    with pytest.raises(TombstoneError):
        ingest(workspace, RIDGE, [record(102, "guest 1")], risk=lambda _: "seldom")
    # All its records are gone, and with them what its class was.
    ingest(workspace, RIDGE, [record(102, "guest 1")], ["guest 1"], lambda _: "seldom")
    ((shard, _),) = places(workspace)["guest 1"]
    assert shard > 0
    assert workspace.forget(subjects=["guest 1"]).n_records == 1


def test_single_records_may_go_and_the_class_stays(workspace: Workspace) -> None:
    owned = [item.id for item in people(0, 24) if item.subject == "guest 1"]
    workspace.forget(record_ids=owned[:-1])
    with pytest.raises(InputError, match="another risk class"):
        ingest(workspace, RIDGE, [record(100, "guest 1")], risk=lambda _: "seldom")
    workspace.forget(record_ids=owned[-1:])
    ingest(workspace, RIDGE, [record(100, "guest 1")], risk=lambda _: "seldom")


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({}, "a mapping of one name at least"),
        ({"a": (0, 1)}, "'a' needs a shards.placement.Region"),
        ({"a": Region(range(4, 5))}, "risk class 'a': .*shards 4 to 4, but they are 0 to 3"),
        ({"a": Region(), "b": Region(None, range(0))}, "risk class 'b'"),
        ({"a": Region(range(2)), "b": Region(range(3, 4))}, "shard 2, so it would stay empty"),
        ({"": Region()}, "risk classes: row 0 is an empty text"),
    ],
)
def test_declarations_that_make_no_sense(declared: dict[str, Region], message: str, tmp_path: Path) -> None:
    with pytest.raises((ConfigurationError, InputError), match=message):
        create(tmp_path / "run", RIDGE, SHARDS, SLICES, risk_classes=declared)
    assert not (tmp_path / "run").exists()


def test_noisy_votes_take_no_classes(tmp_path: Path) -> None:
    votes = PrivateVotes(sigma=40.0, max_epsilon=1.0, delta=1e-5)
    with pytest.raises(ConfigurationError, match="leave the risk classes out"):
        Workspace.create(
            tmp_path / "run", SGD.make(), n_shards=4, classes=CLASSES, aggregation=votes, risk_classes=CLASSED
        )


def test_the_description_says_it_and_older_programs_refuse_it(workspace: Workspace, tmp_path: Path) -> None:
    path = workspace.path / "workspace.json"
    written = json.loads(path.read_text())
    assert written["format"] == _WITHOUT_METHOD
    assert written["risk_classes"] == {
        "often": {"shards": [0, 0], "slices": [0, 2]},
        "seldom": {"shards": [1, 3], "slices": [0, 2]},
    }
    workspace.close()
    again = Workspace.open(workspace.path)
    assert again.declaration.regions == {name: item.within(SHARDS, SLICES) for name, item in CLASSED.items()}
    assert again.declaration.digest == workspace.declaration.digest
    assert again.declaration.digest != replace(again.declaration, risk_classes=None).digest
    again.close()
    plain = create(tmp_path / "plain", RIDGE, SHARDS, SLICES)
    described = json.loads((plain.path / "workspace.json").read_text())
    assert (described["format"], "risk_classes" in described) == (2, False)
    for damaged in ([], {"a": 1}, {"a": {"shards": [0, 9], "slices": [0, 0]}}, {"a": {"shards": [0], "slices": [0]}}):
        path.write_text(json.dumps({**written, "risk_classes": damaged}))
        with pytest.raises(WorkspaceError, match="is damaged"):
            Workspace.open(workspace.path)


def test_a_record_moved_to_another_classs_place_is_found(workspace: Workspace) -> None:
    """Both places are allowed for its subject, but not both at once: nothing may be left of it in one."""
    workspace.train()
    request = workspace.forget(subjects=["member 0"])
    workspace.recover()
    # A later batch under a class that the program would have refused.
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("unlearn.intake.refuse_two_classes", lambda *_: None)
        ingest(workspace, RIDGE, [record(100, "guest 1")], risk=lambda _: "seldom")
    workspace.train()
    with pytest.raises((VerificationError, DamageError), match="where two risk classes would put them"):
        verify(workspace.receipt(request.id), workspace.public_key, workspace=workspace)
    # Whatever put them there, all of them are found.
    assert workspace.forget(subjects=["guest 1"]).n_records == 5


def table(rows: range, **changed: list[str]) -> pa.Table:
    X, y = digits()[0][list(rows)].astype(np.float64), digits()[1][list(rows)]
    owners = [people(rows.start, len(rows))[i].subject for i in range(len(rows))]
    columns = {f"p{i}": X[:, i] for i in range(8, 16)}
    return pa.table(
        {**columns, "y": y, "id": [f"r{i}" for i in rows], "who": owners, "risk": [risk(name) for name in owners]}
        | changed
    )


ROLES = {"target": "y", "subject": "who", "record_id": "id", "risk": "risk"}


def test_files_end_as_memory_does(tmp_path: Path) -> None:
    from shards.sources import from_file, from_table

    whole = table(range(60))
    folder = tmp_path / "parts"
    folder.mkdir()
    for number in range(2):
        parquet.write_table(whole.slice(30 * number, 30), folder / f"{number}.parquet")
    made = [create(tmp_path / name, RIDGE, SHARDS, SLICES, risk_classes=CLASSED) for name in "abc"]
    made[0].ingest(from_table(whole, **ROLES))
    made[1].ingest_parquet(folder, **ROLES)
    parquet.write_table(whole, tmp_path / "one.parquet")
    made[2].ingest(from_file(tmp_path / "one.parquet", **ROLES))
    for workspace in made:
        workspace.train()
    assert len({workspace.state_digest() for workspace in made}) == 1
    assert places(made[0]) == places(made[1])

    wrong = tmp_path / "wrong"
    wrong.mkdir()
    for changed, message in (
        ({"risk": ["seldom"] * 12}, r"2 of the subjects \('guest 1', 'guest 2'\) have records of another"),
        ({"risk": ["often", "seldom"] * 6, "who": ["new"] * 12}, "rows 0 and 1 are of one subject"),
        ({"risk": ["rare"] * 12}, "'rare'"),
    ):
        parquet.write_table(table(range(60, 72), **changed), wrong / "part.parquet")
        with pytest.raises(InputError, match=message):
            made[1].ingest_parquet(wrong, **ROLES)
    with pytest.raises(InputError, match="none is given"):
        made[1].ingest_parquet(wrong, target="y", subject="who", record_id="id", features=["p8"])
    assert made[1].status().batches == 1


def test_npz_files_may_hold_classes(tmp_path: Path) -> None:
    from shards.sources import from_file

    np.savez(tmp_path / "a.npz", X=np.eye(2), y=[0, 1], risk=["often", "seldom"])
    assert from_file(tmp_path / "a.npz").risks == ("often", "seldom")
    with pytest.raises(InputError, match="leave out"):
        from_file(tmp_path / "a.npz", risk="risk")


def test_an_estimator_passes_classes_on(tmp_path: Path) -> None:
    from sklearn.base import clone

    classifier = SISAClassifier(
        RIDGE.make(), SHARDS, SLICES, tmp_path / "run", classes=CLASSES, random_state=0, risk_classes=CLASSED
    )
    assert clone(classifier).get_params()["risk_classes"] == CLASSED
    X, y = features(RIDGE, range(30)), digits()[1][:30]
    owners = [item.subject for item in people(0, 30)]
    classifier.fit(X, y, subjects=owners, risk={name: risk(name) for name in owners})
    classifier.extend(X, y, subjects=owners, risk=[risk(name) for name in owners])
    assert places(classifier.workspace_)["guest 1"].issubset({(0, piece) for piece in range(SLICES)})
    with pytest.raises(InputError, match="none is given"):
        classifier.extend(X, y, subjects=owners)
    assert classifier.forget(subjects=["guest 2"]).n_records == 10
    assert len(classifier.predict(test_rows(RIDGE))) == 50
