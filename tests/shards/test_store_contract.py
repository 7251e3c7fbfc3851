"""Every store keeps the same promises: what is published is whole, what is purged is gone, orphans are shut out."""

from __future__ import annotations

import errno
import random
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shards.digest import digest_arrays
from shards.errors import ConfigurationError, DamageError, LockedError, StorageError
from shards.location import open_shard, open_store
from shards.remote import KINDS, Remote
from shards.retries import ATTEMPTS
from shards.slicefile import SliceRecords, commitments, to_bytes
from shards.store import CheckpointHeader, ShardStore, Store
from shards.store_objects import FENCE, ShardObjects, StoreObjects
from tests.loopback_s3 import S3

ID = "cd" * 16
STATE = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(3)}
DIGEST = digest_arrays(STATE)
KINDS_OF_STORES = ["path", "file", "memory", "s3"]


def header(key: str = "k" * 64) -> CheckpointHeader:
    return CheckpointHeader(key, None, 2, 0, 5, "env", DIGEST, DIGEST, "5a" * 32)


def records(n: int = 4) -> SliceRecords:
    rng = np.random.default_rng(n)
    tokens = np.sort(rng.integers(0, 256, (n, 16)).astype(np.uint8), axis=0)
    return SliceRecords(
        tuple(f"r{row}" for row in range(n)),
        tuple(f"s{row}" for row in range(n)),
        tokens,
        rng.integers(0, 256, (n, 32)).astype(np.uint8),
        {"x": rng.normal(size=(n, 3))},
        rng.integers(0, 2, n),
    )


@pytest.fixture(params=KINDS_OF_STORES)
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place of each kind, empty."""
    match request.param:
        case "path":
            return str(tmp_path)
        case "file":
            return f"file://{tmp_path}"
        case "memory":
            return f"memory://{secrets.token_hex(8)}"
        case _:
            s3: S3 = request.getfixturevalue("s3")
            return f"s3://{s3.bucket()}/some/prefix"


@pytest.fixture
def store(location: str) -> Store:
    made = open_store(location, ID)
    made.prepare()
    return made


@pytest.fixture
def shard(store: Store) -> ShardStore:
    made = store.shard(2)
    made.create()
    return made


def worker_of(shard: ShardStore) -> ShardStore:
    """The shard as a worker with the driver's order opens it."""
    return open_shard(shard.location, shard.fence())


# --- checkpoints -------------------------------------------------------------------------------------------------


def test_what_is_published_is_read_back(shard: ShardStore) -> None:
    worker = worker_of(shard)
    with worker.writing():
        staged = worker.stage(header(), STATE)
    assert shard.keys() == set()
    assert digest_arrays(dict(shard.load_staged(staged, header().key).state)) == DIGEST
    shard.publish(staged, header().key)
    assert shard.keys() == {header().key}
    found = open_shard(shard.location).load(header().key)
    assert found.header == header() == shard.header(header().key)
    assert digest_arrays(dict(found.state)) == DIGEST
    with pytest.raises(FileNotFoundError):
        shard.load_staged(staged, header().key)


def test_a_header_longer_than_one_read(shard: ShardStore) -> None:
    state = {f"part-{number:05d}": np.array([number]) for number in range(2000)}
    digest = digest_arrays(state)
    said = replace(header(), content=digest, payload=digest)
    shard.publish(shard.stage(said, state), said.key)
    assert shard.header(said.key) == said
    assert digest_arrays(dict(shard.load(said.key).state)) == digest


def test_purge_deletes_and_may_be_repeated(shard: ShardStore) -> None:
    other = header("x" * 64)
    for said in (header(), other):
        shard.publish(shard.stage(said, STATE), said.key)
    for _ in range(2):
        shard.purge([header().key])
    assert shard.keys() == {other.key}
    for read in (shard.load, shard.header):
        with pytest.raises(FileNotFoundError):
            read(header().key)


def test_a_staged_checkpoint_can_be_discarded(shard: ShardStore) -> None:
    staged = shard.stage(header(), STATE)
    for _ in range(2):
        shard.discard_staged(staged)
    with pytest.raises(FileNotFoundError):
        shard.publish(staged, header().key)
    assert shard.keys() == set()


@pytest.mark.parametrize("name", ["../escape", "a/b", "", ".hidden"])
def test_no_name_leads_out_of_the_shard(shard: ShardStore, name: str) -> None:
    for act in (shard.discard_staged, shard.has_records, shard.read_records, shard.discard_records):
        with pytest.raises(DamageError, match="is no name"):
            act(name)
    with pytest.raises(DamageError, match="is no name"):
        shard.purge_records([name])
    with pytest.raises(DamageError, match="is no key"):
        shard.purge([name])


# --- records -----------------------------------------------------------------------------------------------------


def test_records_are_read_back(shard: ShardStore) -> None:
    assert shard.record_files() == set()
    assert not shard.has_records("p000000-v0.arrow")
    shard.write_records("p000000-v0.arrow", records())
    shard.sync_records()
    assert shard.has_records("p000000-v0.arrow")
    assert shard.record_files() == {"p000000-v0.arrow"}
    found = open_shard(shard.location).read_records("p000000-v0.arrow")
    assert commitments(found).tobytes() == commitments(records()).tobytes()
    assert "p000000-v0.arrow" in shard.record_location("p000000-v0.arrow")


def test_records_are_purged(shard: ShardStore) -> None:
    for version in range(3):
        shard.write_records(f"p000000-v{version}.arrow", records())
    for _ in range(2):
        shard.purge_records(["p000000-v0.arrow", "p000000-v1.arrow"])
        shard.discard_records("p000000-v1.arrow")
    assert shard.record_files() == {"p000000-v2.arrow"}
    with pytest.raises(DamageError, match=r"p000000-v0\.arrow is missing"):
        shard.read_records("p000000-v0.arrow")


def test_staged_records_are_published_whole(shard: ShardStore) -> None:
    worker = worker_of(shard)
    with worker.writing():
        staged = worker.stage_records(records())
    assert shard.record_files() == set()
    assert commitments(shard.staged_records(staged)).tobytes() == commitments(records()).tobytes()
    shard.publish_records(staged, "p000000-v0.arrow")
    shard.sync_records()
    assert shard.record_files() == {"p000000-v0.arrow"}
    found = open_shard(shard.location).read_records("p000000-v0.arrow")
    assert commitments(found).tobytes() == commitments(records()).tobytes()
    with pytest.raises(DamageError, match="is missing"):
        shard.staged_records(staged)


def test_staged_bytes_are_read_back_until_staging_is_cleared(shard: ShardStore) -> None:
    worker = worker_of(shard)
    with worker.writing():
        kept = {worker.stage_bytes(data): data for data in (b"", b"some", to_bytes("a part", records()))}
    assert {name: shard.staged_bytes(name) for name in kept} == kept
    part = next(name for name, data in kept.items() if len(data) > 4)
    assert commitments(shard.staged_records(part)).tobytes() == commitments(records()).tobytes()
    del part
    shard.clear_staging(0.1)
    for name in kept:
        with pytest.raises(DamageError, match="is missing"):
            shard.staged_bytes(name)
        with pytest.raises(DamageError, match=r"no name of a file|is missing"):
            shard.staged_bytes(f"../{name}")


# --- who may write -----------------------------------------------------------------------------------------------


def test_clearing_destroys_what_is_staged(shard: ShardStore) -> None:
    staged = [shard.stage(header(), STATE) for _ in range(3)]
    shard.clear_staging(0.1)
    for name in staged:
        with pytest.raises(FileNotFoundError):
            shard.load_staged(name, header().key)
    shard.clear_staging(0.1)
    with worker_of(shard).writing():
        pass


def test_an_orphan_stages_nothing_that_stays(shard: ShardStore) -> None:
    """The driver is gone and its worker goes on: it is waited for, or shut out, and nothing of it stays."""
    orphan = worker_of(shard)
    with orphan.writing():
        orphan.stage(header(), STATE)
        try:
            shard.clear_staging(0.05)
        except LockedError:
            return  # a folder: whoever clears up has to wait for the lock, and says so
        with pytest.raises(StorageError, match="has taken over"):
            orphan.stage(header(), STATE)
    with pytest.raises(StorageError, match="has taken over"), orphan.writing():
        pass
    assert isinstance(shard, ShardObjects)
    assert shard.remote.names(f"{shard.path}/staging") == set()


def test_a_worker_that_does_not_see_the_store_says_so_at_once(store: Store) -> None:
    """As a worker does on a machine where nothing is mounted, or whose environment names another store."""
    began = time.monotonic()
    with pytest.raises(StorageError, match=f"does not see .*{ID}/0007"), store.shard(7).writing():
        pass
    assert time.monotonic() - began < 5


def test_an_orphan_overtaken_while_it_writes_deletes_what_it_wrote(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fence was still the same before the upload, and is another after it."""
    store = open_store(f"s3://{s3.bucket()}", ID)
    store.prepare()
    shard = store.shard(0)
    shard.create()
    assert isinstance(shard, ShardObjects)
    orphan, write = worker_of(shard), Remote.write

    def overtaken(self: Remote, path: str, data: bytes) -> None:
        write(self, path, data)
        if "/staging/" in path:
            monkeypatch.undo()
            s3.enter(monkeypatch)
            # The listing of whoever takes over came before the object was there.
            shard._raise_fence()

    monkeypatch.setattr(Remote, "write", overtaken)
    with pytest.raises(StorageError, match="has taken over"):
        orphan.stage(header(), STATE)
    assert shard.remote.names(f"{shard.path}/staging") == set()


# --- the whole store ---------------------------------------------------------------------------------------------


def test_two_workspaces_never_mix(location: str) -> None:
    shards = []
    for name in (ID, "ef" * 16):
        store = open_store(location, name)
        store.prepare()
        shards.append(store.shard(0))
        shards[-1].create()
    shards[0].publish(shards[0].stage(header(), STATE), header().key)
    shards[0].write_records("p000000-v0.arrow", records())
    assert (shards[1].keys(), shards[1].record_files()) == (set(), set())
    shards[1].clear_staging(0.1)
    shards[1].purge([header().key])
    shards[1].purge_records(["p000000-v0.arrow"])
    assert (shards[0].keys(), shards[0].record_files()) == ({header().key}, {"p000000-v0.arrow"})


def test_strays_are_found(store: Store, shard: ShardStore) -> None:
    shard.publish(shard.stage(header(), STATE), header().key)
    shard.write_records("p000000-v0.arrow", records())
    named = {2: {"p000000-v0.arrow"}}
    with worker_of(shard).writing():
        assert store.strays(named) == []
    (stray,) = store.strays({2: set()})
    assert stray.endswith("/0002/records/p000000-v0.arrow")
    staged = shard.stage(header(), STATE)
    assert [path.rpartition("/")[2] for path in store.strays(named)] == [staged]
    shard.discard_staged(staged)
    elsewhere = store.shard(9)
    elsewhere.create()
    elsewhere.write_records("p000000-v0.arrow", records())
    assert any("/0009/" in path for path in store.strays(named))


def test_a_store_that_is_gone_is_noticed(location: str, store: Store) -> None:
    store.check()
    with pytest.raises(StorageError, match=r"is not there|does not hold this workspace"):
        open_store(location, "ef" * 16).check()


# --- failures ----------------------------------------------------------------------------------------------------


@dataclass
class Flaky:
    """A file system some of whose calls fail, before or after they took effect."""

    files: Any
    fails: Callable[[], bool]
    late: bool = False
    calls: int = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.files, name)
        if not callable(found) or name == "invalidate_cache":
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            broken = self.fails()
            if broken and not self.late:
                raise OSError(errno.EBUSY, "slow down")
            result = found(*args, **kwargs)
            if broken:
                raise ConnectionResetError("the answer was lost")
            return result

        return call


def over(files: Any) -> StoreObjects:
    """A store of this process's memory, by way of another file system."""
    return StoreObjects(Remote("memory", KINDS["memory"], files, (OSError,), lambda _: None), secrets.token_hex(8), ID)


def memory() -> Any:
    import fsspec

    return fsspec.filesystem("memory", use_listings_cache=False)


def life(store: StoreObjects) -> Iterator[str]:
    """All that is ever done to a shard, and what it comes to."""
    store.prepare()
    store.check()
    shard = store.shard(2)
    shard.create()
    for number in range(6):
        key = str(number) * 64
        worker = ShardObjects(store.remote, shard.path, shard.fence())
        with worker.writing():
            shard.publish(worker.stage(header(key), STATE), key)
        shard.write_records(f"p00000{number}-v0.arrow", records(number + 1))
        yield shard.load(key).header.key
        yield shard.header(key).commitment
        if number % 2:
            shard.purge([key])
            shard.purge_records([f"p00000{number}-v0.arrow"])
        worker.stage(header(key), STATE)
        shard.clear_staging(0)
    yield from sorted(shard.keys())
    yield from sorted(shard.record_files())
    yield from (commitments(shard.read_records(name)).tobytes().hex() for name in sorted(shard.record_files()))
    fence = f"{store.remote.url(shard.path)}/{FENCE}"
    yield str([path for path in store.strays({2: shard.record_files()}) if path != fence])


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_store_that_fails_now_and_then_gives_the_right_result(late: bool, share: float) -> None:
    rng = random.Random(0)
    # Never so often in a row that anybody gives up.
    row = 0

    def fails() -> bool:
        nonlocal row
        row = row + 1 if row < ATTEMPTS - 1 and rng.random() < share else 0
        return row > 0

    files = Flaky(memory(), fails, late)
    assert list(life(over(files))) == list(life(over(memory())))
    assert files.calls > 100


def test_a_store_that_always_fails_is_named_once() -> None:
    files = Flaky(memory(), lambda: True)
    store = over(files)
    with pytest.raises(StorageError, match=r"failed 7 times in a row writing memory://.*repeat the command"):
        store.remote.write("bucket/key", b"")
    assert files.calls == ATTEMPTS


def test_what_is_refused_is_not_asked_again() -> None:
    class Refusing(Flaky):
        def __getattr__(self, name: str) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                self.calls += 1
                raise PermissionError("Access Denied")

            return call

    files = Refusing(memory(), lambda: True)
    with pytest.raises(StorageError, match=r"failed reading memory://bucket/key \(PermissionError: Access Denied\)"):
        over(files).remote.read("bucket/key")
    assert files.calls == 1


def test_a_store_that_may_not_be_deleted_from_is_refused_before_it_holds_anything() -> None:
    class ReadAndWrite(Flaky):
        def __getattr__(self, name: str) -> Any:
            if name == "rm_file":
                raise PermissionError("Access Denied")
            return getattr(self.files, name)

    with pytest.raises(StorageError, match=r"failed deleting memory://.*Access Denied"):
        over(ReadAndWrite(memory(), lambda: False)).prepare()


def test_purge_notices_what_will_not_go() -> None:
    files = memory()
    store = over(files)
    shard = store.shard(0)
    shard.write_records("p000000-v0.arrow", records())

    class Stubborn(Flaky):
        def __getattr__(self, name: str) -> Any:
            return (lambda path: None) if name == "rm_file" else getattr(self.files, name)

    stubborn = ShardObjects(replace(store.remote, files=Stubborn(files, lambda: False)), shard.path)
    with pytest.raises(DamageError, match="still there"):
        stubborn.purge_records(["p000000-v0.arrow"])


def test_an_unfinished_upload_does_not_outlive_a_purge(s3: S3) -> None:
    bucket = s3.bucket()
    store = open_store(f"s3://{bucket}/some", ID)
    store.prepare()
    shard, files = store.shard(0), s3.files()
    shard.create()
    for part, clear in (
        ("staging", lambda: shard.clear_staging(0)),
        ("checkpoints", lambda: shard.purge([])),
        ("records", lambda: shard.purge_records([])),
    ):
        key = f"some/{ID}/0000/{part}/unfinished"
        upload = files.call_s3("create_multipart_upload", Bucket=bucket, Key=key)["UploadId"]
        files.call_s3("upload_part", Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"a forgotten record")
        assert len(files.call_s3("list_multipart_uploads", Bucket=bucket)["Uploads"]) == 1
        clear()
        assert not files.call_s3("list_multipart_uploads", Bucket=bucket).get("Uploads")


def test_a_bucket_that_vanished_is_an_error_of_the_store(s3: S3) -> None:
    bucket = s3.bucket()
    store = open_store(f"s3://{bucket}", ID)
    store.prepare()
    s3.files().rm(f"{bucket}/{ID}/workspace")
    s3.files().rmdir(bucket)
    with pytest.raises(StorageError, match=f"failed writing s3://{bucket}/{ID}/0000/fence"):
        store.shard(0).create()


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ConfigurationError, match=r"s3:// needs a library that is missing .*sisa-unlearn\[stores\]"):
        open_store("s3://bucket", ID)


def test_many_shards_at_once(s3: S3) -> None:
    """Threads share one connection."""
    store = open_store(f"s3://{s3.bucket()}", ID)
    store.prepare()
    failures: list[BaseException] = []

    def fill(number: int) -> None:
        try:
            shard = store.shard(number)
            shard.create()
            shard.publish(shard.stage(header(), STATE), header().key)
            assert shard.load(header().key).header == header()
        except BaseException as error:  # noqa: BLE001 (whatever it is, the test is told)
            failures.append(error)

    threads = [threading.Thread(target=fill, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
