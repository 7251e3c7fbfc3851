"""Requests are accepted durably by anybody at any time, carried out together, once, and leave no id behind."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from shards.files import purge_files
from tests.unlearn.helpers import (
    ROOT,
    canaries,
    copied,
    digests_of_states,
    filled,
    flip,
    held,
    hoarding,
    labels,
    logical,
    names,
    owner,
    pseudonym,
    raw,
    secrets_of,
    served,
    sgd,
    shard_of,
    spellings,
)
from unlearn import Workspace, verify
from unlearn.errors import (
    DamageError,
    IdempotencyError,
    InputError,
    LockedError,
    StorageError,
    TombstoneError,
    UnknownIdError,
    UnlearnError,
)
from unlearn.ledger import Submission
from unlearn.receipt.predicate import request_digest
from unlearn.relay import Relay
from unlearn.request import Request, RequestState

PROBE = canaries(range(10_000, 10_010))
N = 30
SUBMITTED, FORGOTTEN, RECEIPTED, FAILED = (
    RequestState.SUBMITTED,
    RequestState.FORGOTTEN,
    RequestState.RECEIPTED,
    RequestState.FAILED,
)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Thirty records, trained on; only copies of it are used."""
    return filled(tmp_path_factory.mktemp("pristine") / "ws", hoarding(), n=N)


@pytest.fixture
def workspace(pristine: Workspace, tmp_path: Path) -> Workspace:
    """A copy of it."""
    return copied(pristine, tmp_path / "ws")


def together(workspace: Workspace) -> bytes:
    """Every byte of every file."""
    return b"\n\n".join(raw(workspace.path).values())


def keys_of_epochs(workspace: Workspace) -> dict[str, bytes]:
    """The keys that ids are encrypted under, by file name."""
    return {path.name: path.read_bytes() for path in (workspace.path / "inbox").glob("*.key")}


def states(workspace: Workspace) -> list[RequestState]:
    return [request.state for request in workspace.requests()]


def check_receipts(workspace: Workspace, public_key: str | None = None) -> None:
    """What every request is due is issued, and stands up alone and against the workspace."""
    for request in workspace.requests():
        receipts = workspace.receipts(request.id)
        assert [receipt.stage for receipt in receipts] == {
            FORGOTTEN: ["forgotten"],
            RECEIPTED: ["forgotten", "recovered"],
        }.get(request.state, [])
        if receipts:
            verify(receipts[-1], public_key or workspace.public_key, workspace=workspace, request_id=request.id)


@contextmanager
def refused(workspace: Workspace, error: type[UnlearnError], match: str) -> Iterator[None]:
    """An error, and nothing changed."""
    before = logical(workspace.path)
    with pytest.raises(error, match=match):
        yield
    assert logical(workspace.path) == before


def without(folder: Path, gone: Sequence[int]) -> Workspace:
    """A workspace that never held some records."""
    rows = [row for row in range(N) if row not in gone]
    fresh = Workspace.create(folder, hoarding(), n_shards=3, n_slices=2, classes=[0, 1], random_state=0)
    fresh.ingest(canaries(rows), labels(rows), record_ids=names(rows))
    fresh.train()
    return fresh


# Accepted


def test_an_accepted_request_is_there_and_nothing_else_has_changed(workspace: Workspace) -> None:
    before, prediction, generation = logical(workspace.path), served(workspace, PROBE), workspace.status().generation
    request = workspace.submit(record_ids=names([3, 4]), subjects=names([5]), reason="case 7")
    assert (request.state, request.reason) == (SUBMITTED, "case 7")
    assert (request.n_subjects, request.n_records, request.shards) == (1, 2, {})
    assert (request.withdrawn_at, request.forgotten_at, request.recovered_at, request.failure) == (None, None, None, "")
    found = workspace.status(request.id)
    assert found.opening is None
    assert {**vars(found), "opening": None} == {**vars(request), "opening": None}
    assert Workspace.open(workspace.path).requests() == [found]
    assert workspace.receipts(request.id) == []
    with pytest.raises(UnknownIdError, match="no receipt yet: it is issued when it is forgotten"):
        workspace.receipt(request.id)
    status = workspace.status()
    assert (status.requests["submitted"], status.records, status.generation) == (1, N, generation)
    assert served(workspace, PROBE) == prediction
    after = logical(workspace.path)
    changed = {name for name in before["ledger"] if before["ledger"][name] != after["ledger"][name]}
    assert changed == {"request", "request_salt", "pending", "event", "tree"}
    assert before | {"ledger": None} == after | {"ledger": None}


def test_the_opening_is_the_submitters_alone(workspace: Workspace) -> None:
    """It proves later which ids a receipt is about; kept here, it would let anybody try out ids."""
    submitted = workspace.submit(record_ids=names([4]), subjects=names([5]))
    done = workspace.forget(record_ids=names([6]))
    for request, subjects, ids in ((submitted, names([5]), names([4])), (done, [], names([6]))):
        assert request.opening is not None
        assert request.digest == request_digest(bytes.fromhex(request.opening), subjects, ids)
        receipt = workspace.receipt(request.id)
        verify(receipt, workspace.public_key, opening=request.opening, subjects=subjects, record_ids=ids)
        with pytest.raises(UnlearnError, match="did not name exactly these"):
            verify(receipt, workspace.public_key, opening=request.opening, subjects=subjects, record_ids=names([7]))
        for needle in spellings(bytes.fromhex(request.opening)):
            assert needle not in together(workspace)
    assert submitted.opening != done.opening


def test_what_names_nobody_or_nothing_that_could_be_named(workspace: Workspace) -> None:
    for arguments in ({}, {"subjects": []}, {"record_ids": ()}):
        with refused(workspace, InputError, "nothing to forget"):
            workspace.submit(**arguments)
    with refused(workspace, InputError, "subjects"):
        workspace.submit(subjects=[1.5])  # type: ignore[list-item]
    with refused(workspace, InputError, "reason must be text"):
        workspace.submit(record_ids=names([3]), reason="\ud800")
    with refused(workspace, InputError, "a datetime with a time zone"):
        workspace.submit(record_ids=names([3]), deadline=datetime(2030, 1, 1))


_KILLED = """
import os, signal, sys
from unlearn import Workspace
workspace = Workspace.open(sys.argv[1])
for name in sys.argv[2:]:
    request = workspace.submit(record_ids=[name], idempotency_key=name)
    os.write(1, (request.id + "\\n").encode())
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_acknowledged_survives_a_kill(workspace: Workspace, tmp_path: Path) -> None:
    """Killed right after the answer; nobody closes anything, and another process carries the request out."""
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(workspace.path), *names([3, 4])],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == -9
    acknowledged = done.stdout.split()
    assert len(acknowledged) == 2
    again = Workspace.open(workspace.path)
    assert [(request.id, request.state) for request in again.requests()] == [(name, SUBMITTED) for name in acknowledged]
    assert [(request.id, request.state) for request in again.process()] == [(name, FORGOTTEN) for name in acknowledged]
    again.recover()
    assert again.state_digest() == without(tmp_path / "fresh", [3, 4]).state_digest()
    check_receipts(again)


def test_an_answer_means_that_the_database_has_it_on_the_disk(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not committed is not acknowledged, and a commit waits for the disk."""
    with workspace._site.ledger._database.read() as c:
        assert c.execute(text("PRAGMA synchronous")).scalar_one() == 2
    refuse: Callable[..., Any] = lambda *_: (_ for _ in ()).throw(StorageError("the disk refused"))  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr("unlearn.ledger.Ledger.submit", refuse)
        with refused(workspace, StorageError, "the disk refused"):
            workspace.submit(record_ids=names([3]))
    assert workspace.submit(record_ids=names([3])).state is SUBMITTED


def test_while_another_process_holds_the_workspace(workspace: Workspace) -> None:
    with held(workspace) as pid:
        request = workspace.submit(record_ids=names([3]))
        assert workspace.status(request.id).state is SUBMITTED
        with refused(workspace, LockedError, rf"process id {pid}"):
            workspace.process()
    assert [done.id for done in workspace.process()] == [request.id]


# Exactly once


_MANY = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from unlearn import Workspace
path, threads, mine = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
workspace = Workspace.open(path)
print("ready", flush=True)
sys.stdin.readline()

def submit(thread):
    said = []
    for name in mine[thread::threads]:
        said.append([name, workspace.submit(record_ids=[name]).id])
        said.append(["shared", workspace.submit(subjects=["canary-record-0000-id"], idempotency_key="shared").id])
    return said

with ThreadPoolExecutor(threads) as pool:
    print(json.dumps([item for said in pool.map(submit, range(threads)) for item in said]))
"""


def test_every_request_is_accepted_and_carried_out_exactly_once(tmp_path: Path) -> None:
    """Eight threads in each of four processes submit, while this one carries requests out all the time."""
    processes, threads, each = 4, 8, 4
    n = 1 + processes * threads * each
    workspace = filled(tmp_path / "ws", sgd(), n=n + 20)
    ids = names(range(1, n))
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _MANY, str(workspace.path), str(threads), *ids[number::processes]],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

    def go(some: list[subprocess.Popen[str]]) -> None:
        for process in some:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()

    first, later = running[: processes // 2], running[processes // 2 :]
    carried: list[str] = []
    go(first)
    while any(process.poll() is None for process in running) or workspace.status().requests["submitted"]:
        carried += [request.id for request in workspace.process()]
        if carried:  # what was submitted so far was carried out; the rest comes after it
            go(later)
            later = []
    said = [json.loads(process.communicate()[0]) for process in running]
    assert [process.returncode for process in running] == [0] * processes
    acknowledged = [(name, request) for group in said for name, request in group]
    shared = {request for name, request in acknowledged if name == "shared"}
    own = {name: request for name, request in acknowledged if name != "shared"}
    assert len(shared) == 1
    assert len(acknowledged) == 2 * (n - 1)
    assert sorted(own) == sorted(ids)
    requests = workspace.requests()
    assert len(requests) == n
    assert {request.id for request in requests} == {*own.values(), *shared}
    assert {(request.state, request.n_records) for request in requests} == {(FORGOTTEN, 1)}
    assert sorted(carried) == sorted(request.id for request in requests)
    assert workspace.status().records == 20
    kinds = [entry.event.kind for entry in workspace._site.ledger.entries()]
    assert [kinds.count(kind) for kind in ("submitted", "withdrawn", "forgotten", "receipted")] == [n] * 4
    assert len(keys_of_epochs(workspace)) == 1
    left = {path.suffix for path in (workspace.path / "inbox").iterdir()}
    assert left <= {".key", ""}  # the keys, and the lock


def test_an_interrupted_thread_takes_nobody_with_it(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """One commits for all; interrupted, it leaves the others to try for themselves."""
    commit = Relay.commit
    first = threading.Event()
    queued = threading.Event()

    def slow(self: Relay, own: Any) -> Any:
        if not first.is_set():
            first.set()
            assert queued.wait(10)
            raise KeyboardInterrupt
        return commit(self, own)

    monkeypatch.setattr(Relay, "commit", slow)
    acceptor = workspace._acceptor
    with ThreadPoolExecutor(5) as pool:
        leader = pool.submit(workspace.submit, record_ids=names([0]))
        assert first.wait(10)
        others = [pool.submit(workspace.submit, record_ids=names([row])) for row in range(1, 5)]
        while len(acceptor._queue) < len(others):
            threading.Event().wait(0.001)
        queued.set()
        with pytest.raises(KeyboardInterrupt):
            leader.result(10)
        answers = {other.result(10).id for other in others}
    assert {request.id for request in workspace.requests()} == answers
    assert len(answers) == len(others)
    assert workspace.submit(record_ids=names([0])).state is SUBMITTED


# Idempotency


def test_a_key_names_one_request_however_it_comes(workspace: Workspace) -> None:
    first = workspace.submit(record_ids=names([3, 4]), subjects=names([5]), idempotency_key="first")
    ids = {"record_ids": [*names([4, 3]), *names([4])], "subjects": names([5])[0]}
    before = logical(workspace.path)
    for again in (workspace, Workspace.open(workspace.path)):
        found = again.submit(**ids, idempotency_key="first")
        assert (found.id, found.state, found.reason) == (first.id, SUBMITTED, "")
        assert found.opening is None
    assert logical(workspace.path) == before
    others: list[dict[str, Any]] = [
        {"record_ids": names([3])},
        {"record_ids": names([3, 4])},
        {"record_ids": names([3, 4, 5])},
        {"subjects": names([3, 4, 5])},
    ]
    for other in others:
        with refused(workspace, IdempotencyError, rf"'first' was used for another request \({first.id}\)"):
            workspace.submit(**other, idempotency_key="first")
    # What waits is carried out first, so that it is forgotten by now.
    done = workspace.forget(**ids, idempotency_key="first")
    assert (done.id, done.state, done.n_records) == (first.id, FORGOTTEN, 3)
    for other in others:
        for act in (workspace.forget, workspace.submit):
            with refused(workspace, IdempotencyError, "used for another request"):
                act(**other, idempotency_key="first")
    workspace.recover()
    for act in (workspace.forget, workspace.submit):
        repeated = act(**ids, idempotency_key="first")
        assert (repeated.id, repeated.state) == (first.id, RECEIPTED)
    assert workspace.requests() == [workspace.status("first")] == [workspace.status(first.id)]


def test_a_key_stands_for_the_reason_and_the_deadline_too(workspace: Workspace) -> None:
    """A deadline that is not given says nothing else than the first time; one that is, must be the first one's."""
    day = datetime(2090, 1, 1, tzinfo=UTC)
    given: dict[str, Any] = {"record_ids": names([3]), "idempotency_key": "key"}
    first = workspace.submit(**given, reason="by letter", deadline=day)

    def check() -> None:
        for act in (workspace.submit, workspace.forget):
            for same in ({}, {"deadline": day}, {"deadline": day.astimezone(timezone(timedelta(hours=9)))}):
                assert act(**given, reason="by letter", **same).id == first.id
            for other, what in (
                ({"reason": ""}, "another reason"),
                ({"reason": "by telephone"}, "another reason"),
                ({"reason": "by letter", "deadline": day + timedelta(seconds=1)}, "another deadline"),
                ({"reason": "by letter", "deadline": day + timedelta(days=60)}, "another deadline"),
            ):
                with refused(workspace, IdempotencyError, rf"used for another request \({first.id}\), with {what}"):
                    act(**given, **other)

    assert workspace.submit(**given, reason="by letter").id == first.id
    workspace.extend(first.id, day + timedelta(days=60))
    assert workspace.submit(**given, reason="by letter", deadline=day).id == first.id
    workspace.process()
    check()
    assert len(workspace.requests()) == 1


def test_a_key_that_two_processes_use_for_different_deadlines(workspace: Workspace) -> None:
    """What is left to another process to commit says whether its deadline was given."""
    from unlearn import relay

    given = workspace._draft(None, names([3]), "", "key", datetime(2090, 1, 1, tzinfo=UTC))[1]
    usual = workspace._draft(None, names([3]), "", "key", None)[1]
    for item, dated in ((given, True), (usual, False)):
        sent = Submission(item.request, item.fingerprint, "e", b"", item.dated)
        (found,) = relay._decode(relay._encode([sent])) or []
        assert found.dated is dated


def test_a_key_of_a_request_made_at_once_is_known_to_those_submitted(workspace: Workspace) -> None:
    done = workspace.forget(record_ids=names([3]), idempotency_key="key")
    assert workspace.submit(record_ids=names([3]), idempotency_key="key").id == done.id
    with refused(workspace, IdempotencyError, "used for another request"):
        workspace.submit(record_ids=names([4]), idempotency_key="key")
    assert workspace.process() == []


def test_a_key_used_by_many_at_once(workspace: Workspace) -> None:
    """Of those that come together, one decides what the key names."""
    with ThreadPoolExecutor(8) as pool:
        tries = [pool.submit(workspace.submit, record_ids=names([row % 2]), idempotency_key="key") for row in range(16)]
    found = [error if (error := item.exception()) else item.result() for item in tries]
    (request,) = workspace.requests()
    assert {item.id for item in found if isinstance(item, Request)} == {request.id}
    for row in (0, 1):
        same = [isinstance(item, Request) for item in found[row::2]]
        assert same in ([True] * 8, [False] * 8)
    assert {type(item) for item in found} == {Request, IdempotencyError}


# Carried out


def test_requests_are_carried_out_together(workspace: Workspace, tmp_path: Path) -> None:
    first = workspace.submit(record_ids=names([3, 4]))
    second = workspace.submit(subjects=names([9]))
    generation = workspace.status().generation
    done = workspace.process()
    assert [(request.id, request.state, request.n_records) for request in done] == [
        (first.id, FORGOTTEN, 2),
        (second.id, FORGOTTEN, 1),
    ]
    assert workspace.status().generation == generation + 1
    assert workspace.process() == []
    for request in done:
        assert request.submitted_at <= request.withdrawn_at <= request.forgotten_at  # type: ignore[operator]
    check_receipts(workspace)
    workspace.recover()
    assert workspace.state_digest() == without(tmp_path / "fresh", [3, 4, 9]).state_digest()
    check_receipts(workspace)


@pytest.mark.parametrize("group", [1, 2, 200])
def test_requests_that_overlap(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: int
) -> None:
    """Each is carried out, and each record removed once, whether they are withdrawn together or one after another."""
    monkeypatch.setattr("unlearn.forgetting.GROUP", group)
    asked: list[dict[str, Any]] = [
        {"record_ids": names([3])},
        {"record_ids": names([3, 4])},
        {"subjects": names([5])},
        {"subjects": names([5]), "record_ids": names([3, 4, 6])},
        {"record_ids": names([3])},
    ]
    submitted = [workspace.submit(**ids) for ids in asked]
    done = workspace.process()
    assert [request.id for request in done] == [request.id for request in submitted]
    assert [(request.state, request.n_records) for request in done] == [(FORGOTTEN, count) for count in (1, 1, 1, 1, 0)]
    assert workspace.status().records == N - 4
    check_receipts(workspace)
    workspace.recover()
    assert {request.state for request in workspace.requests()} == {RECEIPTED}
    check_receipts(workspace)
    assert workspace.state_digest() == without(tmp_path / "fresh", [3, 4, 5, 6]).state_digest()


def test_what_was_forgotten_before_is_forgotten_already(workspace: Workspace) -> None:
    """Whoever submits cannot know; the answer is a receipt that names no further record."""
    workspace.forget(record_ids=names([3]))
    digest = workspace.state_digest()
    request = workspace.submit(record_ids=names([3]))
    assert [(done.state, done.n_records, done.shards) for done in workspace.process()] == [(FORGOTTEN, 0, {})]
    assert workspace.state_digest() == digest
    verify(workspace.receipt(request.id), workspace.public_key, workspace=workspace)


def test_an_unknown_id_fails_for_all_to_see_and_changes_nothing(workspace: Workspace) -> None:
    before, prediction = logical(workspace.path), served(workspace, PROBE)
    bad = workspace.submit(record_ids=[*names([3]), "canary-of-nobody"], deadline=datetime(2020, 1, 1, tzinfo=UTC))
    worse = workspace.submit(subjects="canary-of-nobody")
    (first, second) = workspace.process()
    assert [(first.id, first.state), (second.id, second.state)] == [(bad.id, FAILED), (worse.id, FAILED)]
    for request in (first, second):
        assert request.failure == "names a subject or record that is not here"
        assert (request.withdrawn_at, request.forgotten_at) == (None, None)
        assert workspace.receipts(request.id) == []
    status = workspace.status()
    assert (status.requests["failed"], status.records) == (2, N)
    assert status.overdue == (bad.id,)  # somebody has to act
    after = logical(workspace.path)
    changed = {name for name in before["ledger"] if before["ledger"][name] != after["ledger"][name]}
    assert changed == {"request", "request_salt", "event", "tree", "meta"}  # the last for the new key
    assert served(workspace, PROBE) == prediction
    assert b"canary-of-nobody" not in together(workspace)
    kinds = [entry.event for entry in workspace._site.ledger.entries() if entry.event.kind == "failed"]
    assert [(event.request, event.fields["why"]) for event in kinds] == [
        (first.id, "unknown id"),
        (second.id, "unknown id"),
    ]
    assert workspace.process() == []


def test_a_request_that_fails_takes_no_other_with_it(workspace: Workspace) -> None:
    ids = [["canary-of-nobody"], names([3]), [*names([4]), "canary-of-nobody"], names([4])]
    for group in ids:
        workspace.submit(record_ids=group)
    assert [request.state for request in workspace.process()] == [FAILED, FORGOTTEN, FAILED, FORGOTTEN]
    assert workspace.status().records == N - 2
    check_receipts(workspace)


@pytest.mark.parametrize("what", ["ingest", "train", "recover", "forget", "rotate_key"])
def test_what_waits_comes_first(workspace: Workspace, tmp_path: Path, what: str) -> None:
    """Whatever is done to the workspace next serves it, in any process; reading does not."""
    request = workspace.submit(record_ids=names([3]))
    first_key = workspace.public_key
    other = Workspace.open(workspace.path)
    for look in (other.status, other.requests, other.state_digest, lambda: other.predict(PROBE)):
        look()
    assert states(other) == [SUBMITTED]
    rows = range(100, 106)
    acts: dict[str, Callable[[], object]] = {
        "ingest": lambda: other.ingest(canaries(rows), labels(rows), record_ids=names(rows)),
        "train": other.train,
        "recover": other.recover,
        "forget": lambda: other.forget(record_ids=names([4])),
        "rotate_key": other.rotate_key,
    }
    acts[what]()
    assert workspace.status(request.id).state is (RECEIPTED if what in {"train", "recover"} else FORGOTTEN)
    gone = [row for row in (3, 4) if row == 3 or what == "forget"]
    assert not [name for name in names(gone) if name.encode() in together(workspace)]
    if what in {"train", "recover", "forget"}:
        workspace.recover()
        assert workspace.state_digest() == without(tmp_path / "fresh", gone).state_digest()
    check_receipts(workspace, first_key)


def test_no_training_uses_what_was_asked_to_be_forgotten(tmp_path: Path) -> None:
    """The request comes before the first training: nothing is ever trained on its record."""
    fresh = Workspace.create(tmp_path / "ws", hoarding(), n_shards=2, classes=[0, 1], random_state=0)
    fresh.ingest(canaries(range(8)), labels(range(8)), record_ids=names(range(8)))
    request = fresh.submit(record_ids=names([3]))
    fresh.train()
    found = fresh.status(request.id)
    assert found.state is RECEIPTED
    events = [entry.event for entry in fresh._site.ledger.entries()]
    order = [event.kind for event in events if event.kind == "built" or event.request == request.id]
    assert order == ["submitted", "withdrawn", "forgotten", "receipted", "built", "built", "recovered", "receipted"]


@pytest.mark.parametrize("by", ["subjects", "record_ids"])
def test_an_id_that_is_asked_to_be_forgotten_does_not_return(workspace: Workspace, by: str) -> None:
    workspace.submit(**{by: names([3])})
    rows = [3, 100]
    with pytest.raises(TombstoneError, match=r"canary-record-0003-id"):
        workspace.ingest(canaries(rows), labels(rows), record_ids=names(rows))
    assert (workspace.status().batches, workspace.status().records) == (1, N - 1)
    workspace.ingest(canaries(rows), labels(rows), record_ids=names(rows), reconsent=names([3]))
    assert workspace.status().records == N + 1


def test_a_new_record_of_a_subject_that_is_asked_to_be_forgotten(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "ws", hoarding(), n_shards=2, classes=[0, 1], random_state=0)
    workspace.ingest(canaries(range(8)), labels(range(8)), subjects=[owner(row % 2) for row in range(8)])
    workspace.submit(subjects=owner(1))
    with pytest.raises(TombstoneError, match=owner(1)):
        workspace.ingest(canaries([9]), labels([9]), subjects=[owner(1)], record_ids=["new"])
    assert workspace.status().records == 4


# No id is left


def test_no_id_can_be_read_before_or_after(workspace: Workspace) -> None:
    """Before, they are in the record files that hold them anyway; after, in none. One of nobody is nowhere, ever."""
    gone, nobody = names([3, 4]), "canary-of-nobody"
    tokens = [pseudonym(workspace, kind, name) for kind in ("record", "subject") for name in (nobody, *gone)]
    unknown = workspace.submit(subjects=nobody)
    known = workspace.submit(record_ids=gone[:1], subjects=gone[1:])
    for name in gone:
        holding = {path for path, data in raw(workspace.path).items() if name.encode() in data}
        assert holding
        assert all("/records/" in path for path in holding)
    assert nobody.encode() not in together(workspace)
    new = [token for token in tokens if token in together(workspace)]
    assert len(new) == 2  # of the records, where they lie; a pending request adds no pseudonym
    secrets = [needle for found in secrets_of(workspace, gone).values() for needle in found]
    places = {shard_of(workspace, name) for name in gone}
    hit = [step for step in workspace._site.ledger.steps() if any(step[0] == k and step[1] >= p for k, p in places)]
    needles = [*secrets, *digests_of_states(workspace, hit), *(name.encode() for name in (nobody, *gone))]
    workspace.process()
    assert [workspace.status(request.id).state for request in (unknown, known)] == [FAILED, FORGOTTEN]
    for act in (lambda: None, workspace.recover, lambda: Workspace.open(workspace.path)):
        act()
        whole = together(workspace)
        assert not [needle for needle in needles if needle in whole]


def test_the_key_that_ids_were_encrypted_under_is_gone(workspace: Workspace) -> None:
    """So the ciphertext, wherever a database may keep a copy of it, says nothing any more."""
    ((name, key),) = keys_of_epochs(workspace).items()
    request = workspace.submit(record_ids=names([3]))
    (pending,) = workspace._site.ledger.pending()
    assert f"{pending.epoch}.key" == name
    assert pending.sealed in together(workspace)
    assert workspace._site.inbox.open(pending.epoch, request.id, pending.sealed) == ((), tuple(names([3])))
    with pytest.raises(DamageError, match="cannot be decrypted"):  # bound to its request
        workspace._site.inbox.open(pending.epoch, "req-0", pending.sealed)
    workspace.process()
    assert workspace._site.ledger.pending() == []
    assert name not in keys_of_epochs(workspace)
    assert len(keys_of_epochs(workspace)) == 1
    whole = together(workspace)
    assert not [spelling for spelling in spellings(key) if spelling in whole]
    # Even who kept the ciphertext has nothing.
    with pytest.raises(DamageError, match="cannot be decrypted"):
        workspace._site.inbox.open(pending.epoch, request.id, pending.sealed)


def test_nobody_but_its_owner_may_read_a_key(workspace: Workspace) -> None:
    workspace.submit(record_ids=names([3]))
    workspace.process()
    inbox = workspace.path / "inbox"
    assert inbox.stat().st_mode & 0o077 == 0
    assert {path.stat().st_mode & 0o077 for path in inbox.iterdir()} == {0}


def test_requests_that_come_while_others_are_carried_out(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """They come under the new key, which stays; the old one goes although somebody still had it in mind."""
    late = Workspace.open(workspace.path)
    late.submit(record_ids=names([3]))
    (old,) = keys_of_epochs(workspace)
    withdraw = workspace._site.ledger.withdraw
    came: list[Request] = []

    def slow(withdrawals: Any) -> None:
        came.append(late.submit(record_ids=names([4])))
        withdraw(withdrawals)

    monkeypatch.setattr(workspace._site.ledger, "withdraw", slow)
    (first,) = workspace.process()
    assert (first.state, first.n_records) == (FORGOTTEN, 1)
    (waiting,) = workspace._site.ledger.pending()
    assert waiting.request.id == came[0].id
    assert list(keys_of_epochs(workspace)) == [f"{waiting.epoch}.key"] != [old]
    monkeypatch.undo()
    assert [(done.id, done.state) for done in workspace.process()] == [(came[0].id, FORGOTTEN)]


@pytest.mark.parametrize("when", ["before encrypting", "before committing"])
def test_a_key_that_goes_while_a_request_is_on_its_way(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """It is encrypted anew: nothing is accepted under a key that is over."""
    other = Workspace.open(workspace.path)
    workspace.submit(record_ids=names([3]))
    owner_of, name = {
        "before encrypting": (type(workspace._acceptor), "_seal"),
        "before committing": (type(workspace._acceptor), "_commit"),
    }[when]
    real, calls = getattr(owner_of, name), 0

    def late(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            other.process()
        return real(*arguments)

    monkeypatch.setattr(owner_of, name, late)
    request = workspace.submit(record_ids=names([4]))
    assert calls == 2
    (pending,) = workspace._site.ledger.pending()
    assert (pending.request.id, f"{pending.epoch}.key") == (request.id, *keys_of_epochs(workspace))
    assert [done.id for done in other.process()] == [request.id]
    assert states(workspace) == [FORGOTTEN, FORGOTTEN]


def test_a_key_that_is_missing(workspace: Workspace) -> None:
    """What was encrypted under it waits, and says so; everybody else goes on."""
    lost = workspace.submit(record_ids=names([3]))
    purge_files((workspace.path / "inbox").glob("*.key"))
    with pytest.raises(DamageError, match=r"the key .*\.key .* is missing.*nothing was accepted"):
        workspace.submit(record_ids=names([4]))
    with pytest.raises(DamageError, match=rf"request {lost.id} cannot be decrypted.*submit the request again"):
        workspace.process()
    again = workspace.submit(record_ids=names([3]))  # a new key has begun
    with pytest.raises(DamageError, match="cannot be decrypted"):
        workspace.process()
    assert [workspace.status(request.id).state for request in (lost, again)] == [SUBMITTED, FORGOTTEN]
    assert workspace.recover().recovered == (again.id,)


# Crashes


@pytest.mark.parametrize(
    "where",
    [
        "Inbox.begin_epoch",
        "Ledger.change_epoch",
        "Ledger.withdraw",
        "Ledger.fail",
        "Ledger.replace_slices",
        "Ledger.finish_forget",
        "Inbox.end_epochs_but",
        "Ledger.record_receipts",
    ],
)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_crash_while_requests_are_carried_out(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, where: str, moment: str
) -> None:
    """Whoever comes next finishes it: no request is lost, none is carried out twice, no old key stays."""
    name, method = where.split(".")
    module = {"Inbox": "unlearn.inbox", "Ledger": "unlearn.ledger.ledger"}[name]
    real = getattr(sys.modules[module].__dict__[name], method)
    requests = [workspace.submit(record_ids=names([row])) for row in (3, 4)]
    failing = workspace.submit(record_ids=["canary-of-nobody"])
    ((old, key),) = keys_of_epochs(workspace).items()

    def crash(*arguments: Any) -> None:
        if moment == "after":
            real(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"{module}.{name}.{method}", crash)
        with pytest.raises(KeyboardInterrupt):
            workspace.process()
    for request in workspace.requests():
        # Never a receipt while the ids could still be read.
        assert not workspace.receipts(request.id) or old not in keys_of_epochs(workspace)
    workspace.close()
    again = Workspace.open(workspace.path)
    for request in again.requests():
        assert not again.receipts(request.id) or old not in keys_of_epochs(again)
    again.process()
    assert [again.status(request.id).state for request in requests] == [FORGOTTEN, FORGOTTEN]
    assert again.status(failing.id).state is FAILED
    assert again.status().records == N - 2
    kinds = [entry.event.kind for entry in again._site.ledger.entries()]
    assert [kinds.count(kind) for kind in ("submitted", "withdrawn", "forgotten", "receipted")] == [3, 2, 2, 2]
    check_receipts(again)
    assert len(keys_of_epochs(again)) == 1
    whole = together(again)
    for needle in (*spellings(key), *(item.encode() for item in (*names([3, 4]), "canary-of-nobody"))):
        assert needle not in whole


def test_opening_alone_destroys_a_key_that_a_crash_left(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nothing else is left to be done, since the request failed."""

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    workspace.submit(record_ids=["canary-of-nobody"])
    (old,) = keys_of_epochs(workspace)
    with monkeypatch.context() as patch:
        patch.setattr("unlearn.inbox.Inbox.end_epochs_but", crash)
        with pytest.raises(KeyboardInterrupt):
            workspace.process()
    assert old in keys_of_epochs(workspace)
    workspace.close()
    assert states(Workspace.open(workspace.path)) == [FAILED]
    assert old not in keys_of_epochs(workspace)
    assert len(keys_of_epochs(workspace)) == 1


# Damage


def record_file(workspace: Workspace, record_id: str) -> Path:
    """The file that holds a record."""
    shard, position = shard_of(workspace, record_id)
    return workspace._site.folder(shard).records / workspace._site.ledger.slices()[shard, position].file


def _unreadable(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _changed(path: Path) -> None:
    """The lowest bit of one record's number: the file is as well-formed as before."""
    data = path.read_bytes()
    flip(path, next(at for at in (data.find(canaries([row])[0][2].tobytes()) for row in range(N)) if at >= 0), 0x01)


@pytest.mark.parametrize("damage", [_unreadable, _changed])
@pytest.mark.parametrize("by", ["subjects", "record_ids"])
def test_damage_keeps_its_own_request_waiting_and_no_other(
    workspace: Workspace, tmp_path: Path, damage: Callable[[Path], None], by: str
) -> None:
    """Neither those that come with it, nor those that come later, nor trainings; and its ids stay unreadable."""
    target = names([7])[0]
    shard, _ = shard_of(workspace, target)
    elsewhere = [row for row in range(N) if shard_of(workspace, names([row])[0])[0] != shard][:4]
    path = record_file(workspace, target)
    contents = path.read_bytes()
    damage(path)
    stuck = workspace.submit(**{by: [target]})
    other = workspace.submit(record_ids=names(elsewhere[:1]))
    (old,) = keys_of_epochs(workspace)
    with pytest.raises(DamageError, match=path.name):
        workspace.process()
    assert [workspace.status(request.id).state for request in (stuck, other)] == [SUBMITTED, FORGOTTEN]
    assert old not in keys_of_epochs(workspace)
    # Asked for again while the first waits: it is not forgotten either, and holds nobody up.
    again = workspace.submit(**{by: [target]})
    later = workspace.submit(record_ids=names(elsewhere[1:2]))
    both = [workspace.submit(record_ids=names(elsewhere[2:3])), workspace.submit(record_ids=names(elsewhere[3:]))]
    with pytest.raises(DamageError, match=path.name):
        workspace.process()
    assert [workspace.status(request.id).state for request in (stuck, again, later, *both)] == [
        *[SUBMITTED] * 2,
        *[FORGOTTEN] * 3,
    ]
    for request in (stuck, again):
        assert workspace.receipts(request.id) == []
    # Where not even the rows can be read, it is not known what to withdraw; elsewhere the shard is not built.
    with nullcontext() if (by, damage) == ("subjects", _unreadable) else pytest.raises(DamageError, match=path.name):
        workspace.recover()
    assert [workspace.status(request.id).state for request in (stuck, again)] == [SUBMITTED] * 2
    assert {request.id for request in workspace.requests() if request.state is SUBMITTED} == {stuck.id, again.id}
    assert served(workspace, PROBE) == served(Workspace.open(workspace.path), PROBE)
    assert len(keys_of_epochs(workspace)) == 1
    assert {name for name, data in raw(workspace.path).items() if target.encode() in data} <= {
        str(path.relative_to(workspace.path)),
    }
    path.write_bytes(contents)
    workspace.process()
    assert [workspace.status(request.id).state for request in (stuck, again)] == [FORGOTTEN] * 2
    check_receipts(workspace)
    workspace.recover()
    assert {request.state for request in workspace.requests()} == {RECEIPTED}
    check_receipts(workspace)
    assert workspace.state_digest() == without(tmp_path / "fresh", [7, *elsewhere]).state_digest()


# Deadlines


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    """Sets the time that the workspace sees."""

    def put(at: datetime) -> None:
        for module in ("unlearn.ledger.ledger", "unlearn.workspace", "unlearn.issuing"):
            monkeypatch.setattr(f"{module}.now", lambda: at)

    return put


START = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_a_month_to_answer(workspace: Workspace, clock: Callable[[datetime], None]) -> None:
    clock(START)
    request = workspace.submit(record_ids=names([3]))
    assert (request.submitted_at, request.deadline) == (START, datetime(2026, 2, 28, 12, tzinfo=UTC))
    own = workspace.submit(record_ids=names([4]), deadline=START + timedelta(days=3))
    assert workspace.status().overdue == ()
    clock(START + timedelta(days=3))
    assert workspace.status().overdue == ()  # until then, it says
    clock(START + timedelta(days=3, seconds=1))
    assert workspace.status().overdue == (own.id,)
    clock(START + timedelta(days=29))
    assert workspace.status().overdue == (request.id, own.id)
    workspace.process()
    assert workspace.status().overdue == ()
    done = workspace.status(own.id)
    assert (done.withdrawn_at, done.forgotten_at) == (START + timedelta(days=29),) * 2
    steps = verify(workspace.receipt(own.id), workspace.public_key, workspace=workspace).steps
    assert any("AFTER the deadline" in step.detail for step in steps)


def test_a_deadline_is_moved_and_only_later(workspace: Workspace, clock: Callable[[datetime], None]) -> None:
    clock(START)
    request = workspace.submit(record_ids=names([3]))
    assert request.deadline is not None
    later = request.deadline + timedelta(days=60)
    with refused(workspace, InputError, r"the deadline of req-.* is 2026-02-28T12:00:00\+00:00: give a later one"):
        workspace.extend(request.id, request.deadline)
    with refused(workspace, InputError, "a datetime with a time zone"):
        workspace.extend(request.id, datetime(2027, 1, 1))
    with refused(workspace, UnknownIdError, "knows no request"):
        workspace.extend("req-0", later)
    clock(later)
    assert workspace.status().overdue == (request.id,)
    moved = workspace.extend(request.id, later.astimezone(timezone(timedelta(hours=5))))
    assert (moved.id, moved.state, moved.deadline) == (request.id, SUBMITTED, later)
    assert workspace.status().overdue == ()
    clock(later + timedelta(seconds=1))
    assert Workspace.open(workspace.path).status().overdue == (request.id,)
    clock(later - timedelta(days=1))
    workspace.process()
    with refused(workspace, InputError, "is forgotten already"):
        workspace.extend(request.id, later + timedelta(days=1))
    kinds = [entry.event.kind for entry in workspace._site.ledger.entries() if entry.event.request == request.id]
    assert kinds == ["submitted", "extended", "withdrawn", "forgotten", "receipted"]
    check_receipts(workspace)
    workspace.recover()
    check_receipts(workspace)


def test_a_deadline_of_another_time_zone(workspace: Workspace) -> None:
    there = timezone(timedelta(hours=-8))
    request = workspace.submit(record_ids=names([3]), deadline=datetime(2090, 1, 1, tzinfo=there))
    assert request.deadline == datetime(2090, 1, 1, 8, tzinfo=UTC)
    workspace.process()
    check_receipts(workspace)


# What was derived


def test_what_is_derived_is_tainted_by_submitted_requests_alike(workspace: Workspace) -> None:
    """Noted before: tainted if the model had seen the record. Noted after, or retired before: not."""
    early = workspace.register("student", "distilled model", "s3://elsewhere/student")
    retired = workspace.register("old", "export", "s3://elsewhere/old")
    workspace.retire(retired.id)
    first, second = workspace.submit(record_ids=names([3])), workspace.submit(record_ids=names([3, 4]))
    nobody = workspace.submit(record_ids=["canary-of-nobody"])
    assert [item.tainted_by for item in workspace.artefacts()] == [(), ()]
    workspace.process()
    workspace.recover()
    late = workspace.register("student again", "distilled model", "s3://elsewhere/again")
    found = {item.id: item for item in workspace.artefacts()}
    assert sorted(found[early.id].tainted_by) == sorted([first.id, second.id])
    assert found[retired.id].tainted_by == found[late.id].tainted_by == ()
    for request in (first, second):
        for receipt in workspace.receipts(request.id):
            assert [item["name"] for item in receipt.statement["predicate"]["artefacts"]] == ["student"]
    assert workspace.receipts(nobody.id) == []
    with pytest.raises(UnknownIdError, match="knows no artefact"):
        workspace.retire(retired.id)
    assert np.all([item.retired_at is None for item in (found[early.id], late)])
