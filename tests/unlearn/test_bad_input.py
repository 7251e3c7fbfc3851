"""What cannot be accepted is refused with the right error, and nothing on the disk changes by it."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event

from shards.learners.base import Learner
from shards.learners.sklearn import SklearnLearner
from shards.learners.torch import TorchLearner
from tests.unlearn.helpers import (
    canaries,
    copied,
    create,
    digests_of_states,
    filled,
    held,
    hoarding,
    labels,
    logical,
    mlp,
    names,
    raw,
    secrets_of,
    served,
    sgd,
    shard_of,
)
from unlearn import Workspace
from unlearn.declaration import FORMAT
from unlearn.errors import (
    AlreadyForgottenError,
    CodeError,
    ConfigurationError,
    IdempotencyError,
    InputError,
    LockedError,
    NotServingError,
    StorageError,
    TombstoneError,
    UnknownIdError,
    UnlearnError,
    WorkspaceError,
)
from unlearn.ledger import Ledger
from unlearn.request import RequestState

PROBE = canaries(range(10_000, 10_010))
NEW = range(100, 106)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Thirty records trained on, of which record 3 and subject 4 were forgotten; only copies of it are used."""
    workspace = filled(tmp_path_factory.mktemp("lived") / "ws", hoarding())
    workspace.forget(record_ids=names([3]), idempotency_key="first")
    workspace.forget(subjects=names([4]))
    return workspace


@pytest.fixture
def lived(pristine: Workspace, tmp_path: Path) -> Workspace:
    """A copy of it."""
    return copied(pristine, tmp_path / "lived")


@contextmanager
def refused(workspace: Workspace, kind: type[UnlearnError], message: str) -> Iterator[None]:
    """The block is refused with exactly this class and message, and changes nothing."""
    before, prediction = logical(workspace.path), served(workspace, PROBE)
    with pytest.raises(kind, match=message) as caught:
        yield
    assert caught.type is kind
    assert logical(workspace.path) == before
    assert served(workspace, PROBE) == prediction


def batch(**changes: Any) -> dict[str, Any]:
    """Arguments of an ingest that would be accepted, with changes."""
    return {"X": canaries(NEW), "y": labels(NEW), "record_ids": names(NEW), **changes}


def with_value(value: float, row: int = 2) -> np.ndarray:
    X = canaries(NEW)
    X[row, 1] = value
    return X


# Records


BAD_BATCHES: dict[str, tuple[dict[str, Any], type[UnlearnError], str]] = {
    "an id twice in the batch": ({"record_ids": [*names(NEW)[:-1], names(NEW)[0]]}, InputError, "more than once"),
    "1 and '1'": ({"record_ids": [1, "1", 2, 3, 4, 5]}, InputError, "more than once"),
    "an id of an earlier batch": ({"record_ids": [*names(NEW)[:-1], names([7])[0]]}, InputError, "already in"),
    "NaN": ({"X": with_value(np.nan)}, InputError, r"holds nan in row 2, position \[1\]"),
    "infinity": ({"X": with_value(-np.inf)}, InputError, "holds -inf in row 2"),
    "y too short": ({"y": labels(NEW)[:-1]}, InputError, "lengths differ"),
    "ids too few": ({"record_ids": names(NEW)[1:]}, InputError, "lengths differ"),
    "subjects too many": ({"subjects": names(range(7))}, InputError, "lengths differ"),
    "no y": ({"y": None}, InputError, "y is missing"),
    "an undeclared class": ({"y": [0, 1, 0, 1, 0, 7]}, InputError, r"not declared classes: 7.*declared are 0, 1"),
    "labels as text": ({"y": list("010101")}, InputError, "not declared classes: '0', '1'"),
    "a wider record": ({"X": np.zeros((6, 4))}, InputError, r"expected shape \[n, 3\], got \[n, 4\]"),
    "text": ({"X": np.array(list("abcdef"))}, InputError, "expected shape"),
    "bool features": ({"X": np.ones((6, 3), dtype=bool)}, InputError, "expected dtype <f8, got |b1"),
    "complex features": ({"X": np.ones((6, 3), dtype=complex)}, InputError, "complex"),
    "another feature": ({"X": {"z": canaries(NEW)}}, InputError, r"missing \['x'\], not declared \['z'\]"),
    "one row": ({"X": canaries(NEW)[0]}, InputError, "lengths differ"),
    "a number": ({"X": 1.0}, InputError, "single value"),
    "y of two columns": ({"y": np.zeros((6, 2))}, InputError, "one label per record"),
    "ids as floats": ({"record_ids": [0.5, 1.0, 2.0, 3.0, 4.0, 5.0]}, InputError, "ids are text or integers"),
    "an empty id": ({"record_ids": ["", *names(NEW)[1:]]}, InputError, "empty text"),
    "a forgotten record": ({"record_ids": [names([3])[0], *names(NEW)[1:]]}, TombstoneError, "'canary-record-0003-id'"),
    "a forgotten subject": ({"subjects": [names([4])[0], *names(NEW)[1:]]}, TombstoneError, "'canary-record-0004-id'"),
}


@pytest.mark.parametrize("fault", BAD_BATCHES)
def test_a_bad_batch_is_refused_whole(lived: Workspace, fault: str) -> None:
    changes, kind, message = BAD_BATCHES[fault]
    with refused(lived, kind, message):
        lived.ingest(**batch(**changes))
    assert lived.ingest(**batch()) == 1  # the same batch without its fault


def test_records_come_with_their_own_y(lived: Workspace) -> None:
    from shards.records import make_records

    with refused(lived, InputError, "give them alone"):
        lived.ingest(make_records(canaries(NEW), labels(NEW)), labels(NEW))


def test_integers_and_narrower_floats_fit_declared_floats(lived: Workspace) -> None:
    lived.ingest(np.arange(9).reshape(3, 3), [0, 1, 0], record_ids=["a", "b", "c"])
    lived.ingest(canaries(NEW).astype(np.float32), labels(NEW), record_ids=names(NEW))
    lived.train()


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((2, 4)), "expected shape"),
        (np.zeros(3), "expected shape"),
        (np.full((2, 3), np.nan), "holds nan"),
        (np.zeros((2, 3), dtype=bool), "expected dtype"),
        ({"z": np.zeros((2, 3))}, "not declared"),
        ([["a", "b", "c"]], "text"),
        (5, "single value"),
    ],
)
def test_predict_refuses_other_features(lived: Workspace, X: Any, message: str) -> None:
    with refused(lived, InputError, message):
        lived.predict(X)
    with refused(lived, InputError, message):
        lived.predict_proba(X)


def test_predict_before_anything_was_trained(tmp_path: Path) -> None:
    workspace = create(tmp_path / "ws")
    with refused(workspace, NotServingError, "holds no records and no trained state: ingest and train first"):
        workspace.predict(PROBE)
    with refused(workspace, WorkspaceError, "holds no records yet"):
        workspace.train()
    workspace.ingest(canaries(range(5)), labels(range(5)))
    with refused(workspace, NotServingError, "no shard has a trained state"):
        workspace.predict(PROBE)


def test_text_for_a_torch_learner(tmp_path: Path) -> None:
    workspace = create(tmp_path / "ws", mlp())
    with refused(workspace, ConfigurationError, "feature 'x' is text"):
        workspace.ingest(np.array(["a", "b"]), [0, 1])


def test_numbers_only_for_regression(tmp_path: Path) -> None:
    workspace = create(tmp_path / "ws", hoarding(), task="regression", classes=None)
    with refused(workspace, InputError, "regression needs numbers"):
        workspace.ingest(canaries(range(2)), ["a", "b"])
    with refused(workspace, InputError, "y holds nan"):
        workspace.ingest(canaries(range(2)), [1.0, np.nan])
    workspace.ingest(canaries(range(4)), np.zeros((4, 2)))
    with refused(workspace, InputError, r"y has shape \[3\] per record, but the first batch declared \[2\]"):
        workspace.ingest(canaries(range(4)), np.zeros((4, 3)), record_ids=list("abcd"))
    workspace.train()
    with refused(workspace, ConfigurationError, "this workspace predicts numbers"):
        workspace.predict_proba(PROBE)


# Requests


def test_nothing_to_forget(lived: Workspace) -> None:
    for arguments in (
        {},
        {"subjects": []},
        {"record_ids": np.array([], dtype=int)},
        {"subjects": (), "record_ids": ()},
    ):
        with refused(lived, InputError, "nothing to forget"):
            lived.forget(**arguments)


@pytest.mark.parametrize("what", ["subjects", "record_ids"])
def test_unknown_ids_spoil_the_whole_request(lived: Workspace, what: str) -> None:
    with refused(lived, UnknownIdError, r"1 of the subjects or records are not in .* \('nobody'\)"):
        lived.forget(**{what: [*names([8]), "nobody"]})
    with refused(lived, UnknownIdError, "'nobody'"):
        lived.forget(**{what: "nobody"})
    with refused(lived, UnknownIdError, "'nobody'"):  # the unknown one is named, not the forgotten one
        lived.forget(**{what: [*names([4]), "nobody"]})


def test_ids_of_another_kind(lived: Workspace) -> None:
    for ids in (True, [1.5], [None], b"canary", [b"canary"], 3.5, {"a": 1}, [""]):
        with refused(lived, InputError, "subjects"):
            lived.forget(subjects=ids)  # type: ignore[arg-type]
    with refused(lived, InputError, "reconsent"):
        lived.ingest(**batch(), reconsent=b"canary")


def test_already_forgotten(lived: Workspace) -> None:
    with refused(lived, AlreadyForgottenError, r"forgotten before \('canary-record-0003-id'\)"):
        lived.forget(record_ids=names([3]))
    with refused(lived, AlreadyForgottenError, "canary-record-0004-id"):
        lived.forget(subjects=names([4]))
    with refused(lived, AlreadyForgottenError, "leave them out"):
        lived.forget(record_ids=names([8, 3]))


def test_an_idempotency_key_names_one_request(lived: Workspace) -> None:
    first = lived.requests()[0]
    before = logical(lived.path)
    assert lived.forget(record_ids=names([3]), idempotency_key="first") == first
    assert lived.forget(record_ids=[*names([3]), *names([3])], idempotency_key="first") == first
    assert logical(lived.path) == before
    for other in ({"record_ids": names([8])}, {"subjects": names([3])}, {"record_ids": names([3, 8])}):
        with refused(lived, IdempotencyError, rf"'first' was used for another request \({first.id}\)"):
            lived.forget(**other, idempotency_key="first")
    deadline = first.submitted_at + timedelta(days=3)
    for more, what in (({"reason": "other"}, "another reason"), ({"deadline": deadline}, "another deadline")):
        with refused(lived, IdempotencyError, rf"'first' was used for another request \({first.id}\), with {what}"):
            lived.forget(record_ids=names([3]), idempotency_key="first", **more)
    assert lived.forget(record_ids=names([3]), idempotency_key="first", deadline=first.deadline) == first
    recovered = lived.recover().recovered
    assert first.id in recovered
    again = lived.forget(record_ids=names([3]), idempotency_key="first")
    assert (again.id, again.state) == (first.id, RequestState.RECEIPTED)


def test_an_unknown_request(lived: Workspace) -> None:
    with refused(lived, UnknownIdError, "knows no request 'req-0'"):
        lived.status("req-0")


# Constants


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_shards": 0}, "n_shards must be a whole number of at least 1, got 0"),
        ({"n_shards": True}, "n_shards must be .* got True"),
        ({"n_shards": 2.0}, "n_shards must be .* got 2.0"),
        ({"n_slices": -1}, "n_slices must be .* got -1"),
        ({"n_slices": True}, "n_slices must be .* got True"),
        ({"aggregation": "median"}, "aggregation must be one of mean, vote, weighted, sum, got 'median'"),
        ({"task": "clustering"}, "task must be 'classification' here, got 'clustering'"),
        ({"task": "regression"}, "here, got 'regression': that is what the learner does; give another"),
        ({"classes": [0, 1, 1]}, "classes repeat a label"),
        ({"classes": [0, None]}, "not text or a number"),
        ({"executor": "cloud"}, "executor must be 'local', 'ray' or an Executor, got 'cloud'"),
    ],
)
def test_constants_that_make_no_sense(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        create(tmp_path / "ws", **options)
    assert list(tmp_path.iterdir()) == []


def test_votes_are_for_classes(tmp_path: Path) -> None:
    from sklearn.linear_model import SGDRegressor

    with pytest.raises(ConfigurationError, match="'vote' is for classification"):
        create(tmp_path / "ws", SklearnLearner(SGDRegressor()), classes=None, aggregation="vote")
    assert list(tmp_path.iterdir()) == []


def test_another_learner(lived: Workspace, tmp_path: Path) -> None:
    from sklearn.linear_model import SGDClassifier

    with refused(lived, ConfigurationError, r"created with another learner .*Hoarding then, .*SklearnLearner now"):
        Workspace.open(lived.path, learner=sgd())
    own = create(tmp_path / "own")
    own.close()
    Workspace.open(own.path, learner=sgd())
    with pytest.raises(ConfigurationError, match="epochs: 2 then, 5 now"):
        Workspace.open(own.path, learner=SklearnLearner(SGDClassifier(loss="log_loss"), batch_size=8))


# User code


def _closure() -> Callable[[], Any]:
    bound = 3

    def factory() -> Any:
        return bound

    return factory


def _main() -> Callable[[], Any]:
    def factory() -> Any:
        return None

    factory.__module__, factory.__qualname__ = "__main__", "factory"
    return factory


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (lambda: None, "a lambda of module .* has no name"),
        (_closure(), "defined inside a function"),
        (_main(), "running script or a notebook cell: put it into a file"),
        ("os:system", "standard library"),
        ("no_such_module:factory", "no module 'no_such_module'"),
    ],
)
def test_code_that_no_worker_could_find(tmp_path: Path, factory: Any, message: str) -> None:
    with pytest.raises(CodeError, match=message):
        create(tmp_path / "ws", TorchLearner(factory))
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_its_module_does_not_hold(tmp_path: Path) -> None:
    with pytest.raises(CodeError, match="has no 'no_such_function'"):
        create(tmp_path / "ws", TorchLearner("tests.unlearn.helpers:no_such_function")).ingest(**batch())


OWN_LEARNER = """
import numpy as np
from tests.unlearn.hoarding import Hoarding

class Own(Hoarding):
    def code(self):
        return (f"{__name__}:Own",)
"""


def test_code_that_changed_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module = tmp_path / "own_learner_of_a_test.py"
    module.write_text(OWN_LEARNER)
    import own_learner_of_a_test  # type: ignore[import-not-found]

    workspace = filled(tmp_path / "ws", own_learner_of_a_test.Own())
    module.write_text(OWN_LEARNER + "\n# edited\n")
    assert workspace.train().steps == 0  # nothing to do needs no code
    request = workspace.forget(record_ids=names([0]))
    assert request.state is RequestState.FORGOTTEN
    prediction = served(workspace, PROBE)
    for work in (workspace.train, workspace.recover):
        with refused(workspace, ConfigurationError, r"module own_learner_of_a_test was edited\).*forgetting works"):
            work()
    assert served(Workspace.open(workspace.path), PROBE) == prediction
    module.write_text(OWN_LEARNER)
    assert workspace.recover().recovered == (request.id,)


# Folders


def test_a_folder_that_is_no_workspace(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("full", "file", "absent"):
        with pytest.raises(WorkspaceError, match="is not a workspace: create one there"):
            Workspace.open(tmp_path / name)
    for name in ("full", "file"):
        with pytest.raises(WorkspaceError, match="already exists and is not empty"):
            create(tmp_path / name)
    assert raw(tmp_path) == {"full/note.txt": b"mine", "file": b"mine"}
    (tmp_path / "empty").mkdir()
    create(tmp_path / "empty")


def test_a_workspace_is_not_created_over(lived: Workspace) -> None:
    with refused(lived, WorkspaceError, "already exists and is not empty"):
        create(lived.path)


def test_a_newer_format(lived: Workspace) -> None:
    path = lived.path / "workspace.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": FORMAT + 1, "unheard_of": True}))
    with refused(lived, WorkspaceError, "written by a newer version of this program.*upgrade"):
        Workspace.open(lived.path)


def test_a_format_from_before_there_was_a_log(lived: Workspace) -> None:
    path = lived.path / "workspace.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 1}))
    with refused(lived, WorkspaceError, "is of format 1.*create a new workspace"):
        Workspace.open(lived.path)


@pytest.mark.parametrize("name", ["workspace.json", "secrets.json"])
@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", f'{{"format": {FORMAT}}}', '{"format": true}', f'{{"format": "{FORMAT}"}}']
)
def test_damaged_constants(lived: Workspace, name: str, text: str) -> None:
    (lived.path / name).write_text(text)
    with refused(lived, WorkspaceError, "restore it from a copy"):
        Workspace.open(lived.path)


def test_a_database_that_is_none(lived: Workspace) -> None:
    lived.close()
    (lived.path / "ledger.db").write_bytes(b"no database, but long enough to be looked at" * 100)
    before = raw(lived.path)
    with pytest.raises(UnlearnError, match=r"ledger\.db is damaged: file is not a database"):
        Workspace.open(lived.path)
    assert raw(lived.path) == before


# Another writer


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let writers wait for each other for a moment only."""
    monkeypatch.setattr(Workspace._writing.__wrapped__, "__defaults__", (0.05,))  # type: ignore[attr-defined]


def test_a_second_writer(lived: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    with held(lived) as pid:
        writes: list[Callable[[], object]] = [
            lambda: lived.ingest(**batch()),
            lived.train,
            lived.recover,
            lambda: lived.forget(record_ids=names([8])),
            lived.process,
            lived.rotate_key,
        ]
        for write in writes:
            with refused(lived, LockedError, rf"process id {pid}\).*nothing was changed"):
                write()
        # Reading needs no lock.
        reader = Workspace.open(lived.path)
        assert served(reader, PROBE) == served(lived, PROBE)
        assert reader.status().records == 28
    lived.forget(record_ids=names([8]))  # the kernel has released the dead one's lock


def test_reading_beside_a_writer_that_has_work_under_way(lived: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    with held(lived):
        lived._site.ledger.begin_operation("train")
        reader = Workspace.open(lived.path)
        assert served(reader, PROBE) == served(lived, PROBE)
        assert lived._site.ledger.operation() == "train"  # which is the writer's to end
        lived._site.ledger.end_operation()


# A full disk


class Disk:
    """Makes one kind of write fail, from the k-th on or at the k-th only."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
        self.calls = 0
        self.fail_at: int | None = None
        self.stays_full = True
        owner, name = {"sync": (os, "fsync"), "open": (Path, "open"), "mkdir": (Path, "mkdir")}[place]
        real = getattr(owner, name)

        def write(*args: Any, **kwargs: Any) -> Any:
            mode = str(kwargs.get("mode", args[1] if len(args) > 1 else "r"))
            reading = place == "open" and not set(mode) & set("wxa+")
            if not reading:
                self.calls += 1
                if self.fail_at is not None and self._fails():
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, write)

    def _fails(self) -> bool:
        assert self.fail_at is not None
        return self.calls == self.fail_at or (self.stays_full and self.calls > self.fail_at)

    def fill(self, at: int, *, stays_full: bool) -> None:
        self.calls, self.fail_at, self.stays_full = 0, at, stays_full

    def clear(self) -> None:
        self.calls, self.fail_at = 0, None


@pytest.mark.parametrize("stays_full", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("place", ["sync", "open"])
def test_the_disk_is_full_during_an_ingest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, stays_full: bool
) -> None:
    workspace = filled(tmp_path / "ws", hoarding(), n=12)
    disk = Disk(monkeypatch, place)
    twin = copied(workspace, tmp_path / "twin")
    with twin._writing():  # whoever has written before need not say again that it is the writer
        disk.clear()
    twin.ingest(**batch())
    writes = disk.calls
    assert writes > 3
    before = logical(workspace.path)
    for k in range(1, writes + 1):
        disk.fill(k, stays_full=stays_full)
        with pytest.raises(StorageError, match=r"refused.*No space left on device"):
            workspace.ingest(**batch())
        disk.clear()
        workspace = Workspace.open(workspace.path)
        assert logical(workspace.path) == before
    assert workspace.ingest(**batch()) == 1
    for ready in (workspace, twin):
        ready.train()
    assert workspace.state_digest() == twin.state_digest()


@pytest.mark.parametrize(
    ("place", "stays_full", "then"),
    [
        ("sync", False, "open"),
        ("sync", True, "forget"),
        ("sync", True, "train"),
        ("open", True, "open"),
        ("open", False, "forget"),
    ],
)
def test_the_disk_is_full_during_a_forget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, stays_full: bool, then: str
) -> None:
    """The intent is in the database already, so the request stands and the next operation completes it."""
    original = filled(tmp_path / "ws", hoarding(), n=24)
    gone = names(range(0, 24, 3))
    disk = Disk(monkeypatch, place)
    twin = copied(original, tmp_path / "twin")
    old = served(twin, PROBE)
    disk.clear()
    twin.forget(record_ids=gone)
    writes, forgotten = disk.calls, served(twin, PROBE)
    assert writes > 3
    twin.recover()
    stages = set()
    for k in range(1, writes + 1):
        workspace = copied(original, tmp_path / f"copy{k}")
        assert served(workspace, PROBE) == old
        disk.fill(k, stays_full=stays_full)
        with pytest.raises(StorageError, match=r"is durable and its records|refused.*No space left") as refusal:
            workspace.forget(record_ids=gone, idempotency_key="key")
        if "is durable" not in str(refusal.value):
            disk.clear()
            assert workspace.requests() == []
            assert served(workspace, PROBE) == old
            assert workspace.forget(record_ids=gone, idempotency_key="key").state is RequestState.FORGOTTEN
            stages.add(None)
            workspace.close()
            shutil.rmtree(workspace.path)
            continue
        if not stays_full:
            assert served(workspace, PROBE) == forgotten  # already now
        elif place == "sync":
            said = served(workspace, PROBE)  # never what was forgotten
            assert said == forgotten or "refused: No space left on device" in str(said)
        disk.clear()
        assert served(workspace, PROBE) == forgotten
        (request,) = workspace.requests()
        # Destroyed or not, as far as the disk took it; but no receipt before that, and none that was not written.
        together = b"\n\n".join(raw(workspace.path).values())
        left = [name for name in gone if name.encode() in together]
        assert request.state is RequestState.SUBMITTED or not left
        issued = workspace.receipts(request.id)
        assert not issued or (not left and all(receipt.path.exists() for receipt in issued))
        stages.add(request.state)
        if then == "open":
            workspace = Workspace.open(workspace.path)
        elif then == "forget":
            assert workspace.forget(record_ids=gone, idempotency_key="key").id == request.id
        else:
            workspace.train()
        assert workspace.status(request.id).state in {RequestState.FORGOTTEN, RequestState.RECEIPTED}
        assert [receipt.stage for receipt in workspace.receipts(request.id)][:1] == ["forgotten"]
        together = b"\n\n".join(raw(workspace.path).values())
        assert not [name for name in gone if name.encode() in together]
        assert not [row for row in range(0, 24, 3) if canaries([row])[0][0].tobytes() in together]
        workspace.recover()
        assert workspace.state_digest() == twin.state_digest()
        assert [receipt.stage for receipt in workspace.receipts(request.id)] == ["forgotten", "recovered"]
        workspace.close()
        shutil.rmtree(workspace.path)
    assert stages - {None} == {RequestState.SUBMITTED, RequestState.FORGOTTEN}
    assert (None in stages) == (place == "sync")  # SQLite opens its files itself


@contextmanager
def full_database(workspace: Workspace) -> Iterator[None]:
    """The database must not grow by a page."""
    engine = workspace._site.ledger._database._engine

    def limit(connection: Any, _: Any) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages}")

    engine.dispose()
    event.listen(engine, "connect", limit)
    try:
        yield
    finally:
        event.remove(engine, "connect", limit)
        engine.dispose()


def test_the_database_is_full_during_an_ingest(lived: Workspace) -> None:
    n = 500
    X, y = canaries(range(200, 200 + n)), labels(range(200, 200 + n))
    with full_database(lived), refused(lived, StorageError, "refused: database or disk is full.*make room"):
        lived.ingest(X, y)
    assert lived.ingest(X, y) == 1


def test_the_database_is_full_before_a_request_is_durable(lived: Workspace) -> None:
    with full_database(lived), refused(lived, StorageError, "database or disk is full"):
        lived.forget(record_ids=names([8]), reason="long " * 5000)
    assert lived.forget(record_ids=names([8])).state is RequestState.FORGOTTEN


def knowledge_of(workspace: Workspace, record_id: str) -> list[bytes]:
    """All by which somebody could tell that a record was there or what was trained on it."""
    shard, position = shard_of(workspace, record_id)
    later = [place for place in workspace._site.ledger.steps() if place[0] == shard and place[1] >= position]
    return [
        record_id.encode(),
        *secrets_of(workspace, [record_id])[record_id],
        *digests_of_states(workspace, later),
    ]


@pytest.mark.parametrize("step", ["replace_slices", "finish_forget", "record_receipts"])
def test_the_database_refuses_while_a_request_is_finished(
    lived: Workspace, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The last notes cannot be made: the request stands and is completed later."""

    def refuse(*_: object) -> None:
        raise StorageError("the database refused")

    needles = knowledge_of(lived, names([8])[0])
    together = b"\n\n".join(raw(lived.path).values())
    assert sum(needle in together for needle in needles) == len(needles) // 3 + 1  # each secret in one spelling
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, step, refuse)
        with pytest.raises(StorageError, match=r"is durable.*the database refused"):
            lived.forget(record_ids=names([8]))
    request = lived.requests()[-1]
    assert request.state is (RequestState.FORGOTTEN if step == "record_receipts" else RequestState.SUBMITTED)
    assert lived.receipts(request.id) == []
    lived.train()
    assert lived.requests()[-1].state is RequestState.RECEIPTED
    assert [receipt.stage for receipt in lived.receipts(request.id)] == ["forgotten", "recovered"]
    together = b"\n\n".join(raw(lived.path).values())
    assert not [needle for needle in needles if needle in together]


def test_a_reader_that_never_ends(lived: Workspace) -> None:
    """It pins the database's log, old pages and all: nothing in them tells anything, so nobody need wait for it."""
    needles = knowledge_of(lived, names([8])[0])
    with closing(sqlite3.connect(lived.path / "ledger.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        before = reader.execute("SELECT count(*) FROM record").fetchone()
        request = lived.forget(record_ids=names([8]))
        assert request.state is RequestState.FORGOTTEN
        assert reader.execute("SELECT count(*) FROM record").fetchone() == before  # it sees the old pages still
        contents = raw(lived.path)
        assert contents["ledger.db-wal"]
        assert not [name for name, data in contents.items() for needle in needles if needle in data]
    assert not [name for name, data in raw(lived.path).items() for needle in needles if needle in data]


def test_the_disk_is_full_during_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = create(tmp_path / "ws", hoarding())
    workspace.ingest(canaries(range(20)), labels(range(20)))
    with monkeypatch.context() as patch:
        disk = Disk(patch, "sync")
        disk.fill(3, stays_full=True)
        with pytest.raises(StorageError, match=r"refused.*No space left on device"):
            workspace.train()
    workspace.train()
    twin = create(tmp_path / "twin", hoarding())
    twin.ingest(canaries(range(20)), labels(range(20)))
    twin.train()
    assert workspace.state_digest() == twin.state_digest()
    assert not list(workspace.path.glob("shards/*/staging/*"))


def _learners() -> list[Learner]:
    return [sgd(), hoarding()]


@pytest.mark.parametrize("learner", _learners(), ids=["sgd", "hoarding"])
def test_a_batch_of_no_records_is_a_batch(tmp_path: Path, learner: Learner) -> None:
    workspace = create(tmp_path / "ws", learner)
    assert workspace.ingest(np.empty((0, 3)), np.empty(0, dtype=int)) == 0
    assert workspace.train().steps == 0
    assert workspace.ingest(**batch()) == 1
    workspace.train()
    assert workspace.status().records == len(NEW)
