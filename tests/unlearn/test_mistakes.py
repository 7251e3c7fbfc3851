"""One plain test for each mistake that sharded unlearning invites and that no other test would notice at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from shards.errors import DamageError
from shards.executors.base import Program
from shards.executors.local import LocalExecutor, close_workers
from shards.learners.base import epoch_visits
from shards.learners.visits import windows
from shards.slicefile import commitments, keep, read, slice_digest
from shards.store import CheckpointHeader, new_salt
from shards.store_local import ShardFolder
from tests.cases import contents
from tests.negative.learner import Means
from unlearn import Workspace
from unlearn.errors import StorageError, TombstoneError
from unlearn.ledger import Ledger, radix
from unlearn.request import RequestState
from unlearn.serving import served_contents

N, S, R = 60, 2, 3
RNG = np.random.default_rng(0)
Y = np.arange(N) % 3
X = (RNG.normal(size=(N, 5)) + 2 * Y[:, None]).astype(np.float32)
IDS = [f"record-{i:04d}-by-name" for i in range(N)]
PEOPLE = [f"subject-{i:04d}-in-person" for i in range(N)]


def make(path: Path, rows: Sequence[int] = range(N)) -> Workspace:
    """A workspace that holds some of the records and has trained them."""
    workspace = Workspace.create(path, Means(), n_shards=S, n_slices=R, classes=[0, 1, 2], random_state=0)
    ingest(workspace, rows)
    workspace.train()
    return workspace


def ingest(workspace: Workspace, rows: Sequence[int]) -> None:
    take = list(rows)
    workspace.ingest(X[take], Y[take], record_ids=[IDS[i] for i in take], subjects=[PEOPLE[i] for i in take])


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    made = make(tmp_path / "w")
    yield made
    made.close()


def without(*gone: int) -> list[int]:
    return [i for i in range(N) if i not in gone]


def place(workspace: Workspace, row: int) -> tuple[int, int]:
    """Shard and position of a record."""
    site = workspace._site
    (found,) = site.ledger.locations(site.tokens("record", [IDS[row]]))
    return found.shard, found.position


def row_at(workspace: Workspace, shard: int, position: int) -> int:
    """Some record of a slice."""
    return next(row for row in range(N) if place(workspace, row) == (shard, position))


def files_with(folder: Path, needle: bytes) -> list[str]:
    """Files below a folder that hold some bytes."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    assert files
    return [str(path.relative_to(folder)) for path in files if needle in path.read_bytes()]


# --- what is gone ------------------------------------------------------------------------------------------------


def test_no_page_of_the_database_or_its_log_remembers(workspace: Workspace) -> None:
    """Neither whose the records were, nor what was trained on them: not even before it is destroyed."""
    site = workspace._site
    rows = [row_at(workspace, 0, 1), row_at(workspace, 1, 2), row_at(workspace, 0, 0)]
    needles = []
    for row in rows:
        shard, position = place(workspace, row)
        later = [step for (s, p), step in site.ledger.steps().items() if s == shard and p >= position]
        assert not files_with(workspace.path, *site.tokens("subject", [PEOPLE[row]]))  # never there at all
        headers = [site.folder(shard).header(step.key) for step in later]
        needles += [text.encode() for item in headers for text in (item.content, item.payload, item.salt)]
    for needle in needles:
        assert [path for path in files_with(workspace.path, needle) if "/checkpoints/" not in path] == []
        assert len(files_with(workspace.path, needle)) == 1
    for row in rows:
        workspace.forget(record_ids=[IDS[row]])
    assert [files_with(workspace.path, needle) for needle in needles] == [[]] * len(needles)


def test_what_a_slice_is_known_by_says_nothing_once_it_is_rewritten(workspace: Workspace) -> None:
    """Its old digest is over salted commitments, and the salts of those that go are in no byte any more."""
    row = row_at(workspace, 0, 0)
    data = read(workspace._site.folder(0).records / workspace._site.ledger.slices()[0, 0].file)
    at = data.record_ids.index(IDS[row])
    salt, others = data.salts[at].tobytes(), [data.salts[k].tobytes() for k in range(len(data)) if k != at]
    assert len(files_with(workspace.path, salt)) == 1
    assert "/records/" in files_with(workspace.path, salt)[0]
    assert files_with(workspace.path, salt.hex().encode()) == []
    workspace.forget(record_ids=[IDS[row]])
    assert files_with(workspace.path, salt) == files_with(workspace.path, salt.hex().encode()) == []
    assert all(files_with(workspace.path, other) for other in others)


def test_what_is_served_after_forgetting_never_saw_the_records(workspace: Workspace, tmp_path: Path) -> None:
    row = row_at(workspace, 0, 1)
    steps = workspace._site.ledger.steps()
    workspace.forget(record_ids=[IDS[row]])
    served = {step.shard: step for step in workspace._site.ledger.served()[1]}
    assert served == {0: steps[0, 0], 1: steps[1, 2]}
    # A model that only ever saw the records it is now exact for.
    kept = [i for i in without(row) if place(workspace, i)[0] == 1 or place(workspace, i)[1] == 0]
    fresh = make(tmp_path / "fresh", kept)
    alone = contents(fresh)
    assert served_contents(workspace._site) == [
        [0, alone[0, 0], served[0].records],
        [1, alone[1, 2], served[1].records],
    ]


# --- requests add up ---------------------------------------------------------------------------------------------


def test_requests_add_up(workspace: Workspace, tmp_path: Path) -> None:
    first = row_at(workspace, 0, 1)
    second = next(row for row in range(N) if row != first and place(workspace, row) == (0, 1))
    for row in (first, second):
        workspace.forget(subjects=[PEOPLE[row]])
    assert [files_with(workspace.path, IDS[row].encode()) for row in (first, second)] == [[], []]
    for row in (first, second):
        with pytest.raises(TombstoneError):
            ingest(workspace, [row])
    workspace.recover()
    fresh = make(tmp_path / "fresh", without(first, second))
    assert workspace.state_digest() == fresh.state_digest()


# --- crashes, simulated by a step that fails ---------------------------------------------------------------------


def fail(*_: object, **__: object) -> None:
    raise StorageError("the power failed")


def test_nothing_is_destroyed_before_the_request_is_durable(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def files() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in workspace.path.glob("shards/**/*") if path.is_file()}

    before, digest, answer = files(), workspace.state_digest(), workspace.predict_proba(X).tobytes()
    monkeypatch.setattr(Ledger, "withdraw", fail)
    with pytest.raises(StorageError, match="the power failed"):
        workspace.forget(record_ids=[IDS[0]])
    assert files() == before
    workspace.close()
    again = Workspace.open(workspace.path)
    assert again.requests() == []
    assert again.state_digest() == digest
    assert again.predict_proba(X).tobytes() == answer


@pytest.mark.parametrize("step", ["purge_checkpoints", "rewrite"])
def test_a_durable_request_is_finished_by_whoever_opens_the_workspace(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    row = row_at(workspace, 0, 1)
    with monkeypatch.context() as patched:
        patched.setattr(f"unlearn.forgetting.{step}", fail)
        with pytest.raises(StorageError, match="the power failed"):
            workspace.forget(record_ids=[IDS[row]])
    assert files_with(workspace.path, IDS[row].encode()) != []
    workspace.close()
    again = Workspace.open(workspace.path)
    assert [request.state for request in again.requests()] == [RequestState.FORGOTTEN]
    assert files_with(workspace.path, IDS[row].encode()) == []
    assert {path.stem for path in again.path.rglob("*.safetensors")} == {
        built.key for built in again._site.ledger.steps().values()
    }


@pytest.mark.parametrize("step", ["purge_checkpoints", "rewrite"])
def test_no_receipt_is_issued_before_the_destruction_it_states(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    row = row_at(workspace, 0, 1)
    with monkeypatch.context() as patched:
        patched.setattr(f"unlearn.forgetting.{step}", fail)
        with pytest.raises(StorageError, match="the power failed"):
            workspace.forget(record_ids=[IDS[row]])
    assert list(workspace.path.glob("receipts/*")) == []
    (request,) = workspace.requests()
    assert (request.state, request.forgotten_at) == (RequestState.SUBMITTED, None)
    workspace.close()
    again = Workspace.open(workspace.path)
    assert [receipt.stage for receipt in again.receipts(request.id)] == ["forgotten"]


def test_a_published_file_that_no_recipe_asks_for_is_not_adopted(workspace: Workspace) -> None:
    """What a worker of a crashed training left behind, of a slice that has since lost a record."""
    row = row_at(workspace, 0, 2)
    orphan = workspace._site.folder(0).checkpoint(workspace._site.ledger.steps()[0, 2].key)
    data = orphan.read_bytes()
    workspace.forget(record_ids=[IDS[row]])
    digest = workspace.state_digest()
    orphan.write_bytes(data)
    workspace._site.ledger.begin_operation("train")
    workspace.close()
    again = Workspace.open(workspace.path)
    assert not orphan.exists()
    assert again.state_digest() == digest
    assert (0, 2) not in again._site.ledger.steps()


def test_a_published_file_that_the_recipe_asks_for_is_adopted(workspace: Workspace) -> None:
    """The other half of the test before: otherwise refusing everything would pass it."""
    digest = workspace.state_digest()
    workspace._site.ledger.drop_steps([workspace._site.ledger.steps()[0, 2]])
    assert workspace.state_digest() != digest
    workspace._site.ledger.begin_operation("train")
    workspace.close()
    assert Workspace.open(workspace.path).state_digest() == digest


def test_staged_files_do_not_outlive_a_training_that_failed(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.forget(record_ids=[IDS[row_at(workspace, 0, 0)]])
    monkeypatch.setattr(ShardFolder, "publish", fail)
    with pytest.raises(StorageError, match="the power failed"):
        workspace.recover()
    assert list(workspace.path.glob("shards/*/staging/*")) == []


def test_staged_files_of_a_worker_still_at_work_do_not_survive(workspace: Workspace) -> None:
    """The driver is gone, its worker stages one more file before it notices."""
    folder = workspace._site.folder(1)
    late = folder.staging / "late"
    code = (
        "import fcntl, sys, time\n"
        f"lock = open({str(folder.path / 'busy')!r}, 'ab')\n"
        "fcntl.flock(lock, fcntl.LOCK_SH)\n"
        "print('locked', flush=True)\n"
        "time.sleep(0.5)\n"
        f"open({str(late)!r}, 'wb').write(b'trained on what was forgotten')\n"
        "print('staged', flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as orphan:
        assert orphan.stdout is not None
        assert orphan.stdout.readline() == "locked\n"
        workspace._site.clear_staging(1)
        assert orphan.stdout.readline() == "staged\n"
    assert list(folder.staging.iterdir()) == []


# --- what is proven ----------------------------------------------------------------------------------------------


def test_the_tree_over_the_records_follows_every_change(workspace: Workspace) -> None:
    """Its root is that of a tree made at once over what the record files hold."""

    def check(count: int) -> None:
        pieces = [read(path) for path in workspace.path.glob("shards/*/records/*.arrow")]
        held = sorted(row.tobytes() for piece in pieces for row in commitments(piece))
        assert len(held) == count
        expected = radix.root(held)
        assert workspace._site.ledger.record_root() == (expected.hash, expected.count)

    check(N)
    workspace.forget(record_ids=[IDS[3], IDS[4]])
    check(N - 2)
    workspace.ingest(X[:7], Y[:7], record_ids=[f"new-{row}" for row in range(7)])
    check(N + 5)
    workspace.submit(subjects=[PEOPLE[9]])
    workspace.process()
    check(N + 4)
    workspace.recover()
    check(N + 4)


# --- one writer, and readers that notice -------------------------------------------------------------------------


def test_a_process_that_serves_notices_what_another_forgot(workspace: Workspace) -> None:
    other = Workspace.open(workspace.path)
    before = other.predict_proba(X).tobytes()
    workspace.forget(record_ids=[IDS[row_at(workspace, 0, 0)]])
    expected = workspace.predict_proba(X).tobytes()
    assert expected != before
    assert other.predict_proba(X).tobytes() == expected


def test_a_prediction_under_way_is_not_given_out_after_forgetting(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unlearn import serving

    other, combine = Workspace.open(workspace.path), serving.combine
    row = row_at(workspace, 0, 0)
    forgotten = []

    def slow(*arguments: object) -> np.ndarray:
        result = combine(*arguments)  # type: ignore[arg-type]
        if not forgotten:
            forgotten.append(True)
            other.forget(record_ids=[IDS[row]])
        return result

    monkeypatch.setattr(serving, "combine", slow)
    found = workspace.predict_proba(X).tobytes()
    assert forgotten
    assert found == other.predict_proba(X).tobytes()


# --- what is trained ---------------------------------------------------------------------------------------------


def test_the_order_in_which_records_came_changes_nothing(workspace: Workspace, tmp_path: Path) -> None:
    other = make(tmp_path / "other", list(reversed(range(N))))
    assert other.state_digest() == workspace.state_digest()


@pytest.mark.parametrize("epochs", ["1/100", "1/3", "1"])
def test_the_smallest_step_makes_a_visit(epochs: str) -> None:
    for n_slices in (1, 2, 16):
        assert epoch_visits(Fraction(epochs), 1, n_slices) >= 1


def test_no_minibatch_is_empty() -> None:
    for n, visits, batch_size in product((1, 2, 7), (1, 7, 8, 9, 14), (1, 2, 7, 8)):
        assert all(len(window) for window in windows(n, visits, batch_size, None))


# --- what is written ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 7])
def test_every_record_of_a_slice_is_in_its_digest(n: int) -> None:
    rows = RNG.integers(0, 256, (n, 32), dtype=np.uint8)
    whole = slice_digest(rows)
    for row in range(n):
        changed = rows.copy()
        changed[row, -1] ^= 1
        assert slice_digest(changed) != whole
        assert slice_digest(np.delete(rows, row, axis=0)) != whole


def test_a_slice_that_lost_any_record_has_another_key(workspace: Workspace) -> None:
    """First, last, and those between; no size of a slice here is a multiple of anything."""
    site = workspace._site
    folder, (shard, position) = site.folder(0).records, (0, 2)
    data = read(folder / site.ledger.slices()[shard, position].file)
    found = {slice_digest(commitments(data))}
    for row in range(len(data)):
        stays = np.arange(len(data)) != row
        found.add(slice_digest(commitments(keep(data, stays))))
    assert len(found) == 1 + len(data)


def test_keys_and_commitments_cannot_be_computed_from_a_guessed_record(tmp_path: Path) -> None:
    """The same records under the same placement: whoever guesses them finds neither commitment nor key."""
    one, two = make(tmp_path / "one"), make(tmp_path / "two")
    assert one.state_digest() == two.state_digest()
    first, second = ({item.digest for item in made._site.ledger.slices().values()} for made in (one, two))
    assert len(first) == S * R
    assert first.isdisjoint(second)
    keys = [{step.key for step in made._site.ledger.steps().values()} for made in (one, two)]
    assert keys[0].isdisjoint(keys[1])


def test_a_record_that_was_changed_on_disk_is_not_trained_on(workspace: Workspace) -> None:
    """A changed feature leaves the file well-formed: only the digest tells."""
    row = row_at(workspace, 1, 1)
    path = workspace._site.folder(1).records / workspace._site.ledger.slices()[1, 1].file
    data = path.read_bytes()
    assert data.count(X[row].tobytes()) == 1
    path.write_bytes(data.replace(X[row].tobytes(), (X[row] + 1).tobytes()))
    steps = workspace._site.ledger.steps()
    workspace._site.ledger.drop_steps([steps[1, 1], steps[1, 2]])
    with pytest.raises(DamageError, match="does not match its digest"):
        workspace.recover()


def test_a_checkpoint_is_on_disk_before_it_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from shards.digest import digest_arrays

    synced: list[int] = []
    fsync = os.fsync

    def watched(handle: int) -> None:
        fsync(handle)
        synced.append(os.fstat(handle).st_ino)

    folder = ShardFolder(tmp_path / "0000")
    folder.create()
    monkeypatch.setattr(os, "fsync", watched)
    state = {"w": np.arange(3.0)}
    digest = digest_arrays(state)
    staged = folder.stage(CheckpointHeader("k" * 64, None, 0, 0, 1, "env", digest, digest, new_salt()), state)
    file = (folder.staging / staged).stat().st_ino
    assert synced == [file]
    folder.publish(staged, "k" * 64)
    assert folder.checkpoint("k" * 64).stat().st_ino == file
    assert synced == [file, folder.checkpoints.stat().st_ino]


# --- workers -----------------------------------------------------------------------------------------------------


def test_workers_compute_on_one_thread_whatever_the_user_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for family in ("OMP", "MKL", "OPENBLAS"):
        monkeypatch.setenv(f"{family}_NUM_THREADS", "2")
    close_workers()
    found = LocalExecutor(1).environment(Program(("numpy", "torch"), "no code")).description
    close_workers()
    assert found["torch"]["threads"] == [1, 1]
    assert found["torch"]["deterministic"] is True
    assert {v for k, v in found["switches"].items() if k.endswith("_NUM_THREADS")} == {"1"}


STALE = """
from dataclasses import dataclass
from tests.negative.learner import Means
import {name}_constants


@dataclass(frozen=True)
class Edited(Means):
    def code(self):
        return ("{name}:Edited",)

    def train_step(self, parent, data, context):
        return {{"means": super().train_step(parent, data, context)["means"] + {name}_constants.SHIFT}}
"""


def test_edited_code_runs_in_workers_that_were_warm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "edited_between_trainings"
    source = tmp_path / "source"
    source.mkdir()
    monkeypatch.syspath_prepend(str(source))
    (source / f"{name}.py").write_text(STALE.format(name=name))
    constants = source / f"{name}_constants.py"

    def train(folder: str, shift: str) -> str:
        constants.write_text(f"SHIFT = {shift}\n")
        shutil.rmtree(source / "__pycache__", ignore_errors=True)
        made = Workspace.create(
            tmp_path / folder,
            __import__(name).Edited(),
            n_shards=1,
            classes=[0, 1, 2],
            random_state=0,
            executor=LocalExecutor(1),
        )
        ingest(made, range(N))
        made.train()
        return made.state_digest()

    close_workers()
    before = train("before", "0.0")
    after = train("after", "100.0")
    close_workers()
    assert after == train("cold", "100.0")
    assert after != before
