"""A workspace whose records and checkpoints lie in a store a cluster can share: the same results, the same promises."""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from shards.digest import digest_json
from shards.executors.local import LocalExecutor, close_workers
from shards.train import ChainOrder
from tests import flaky_s3
from tests.loopback_s3 import S3, forget_connections
from tests.unlearn.helpers import ROOT, canaries, create, filled, hoarding, labels, names, raw
from unlearn import Workspace, verify
from unlearn.cli.app import app
from unlearn.errors import ConfigurationError, DamageError, StorageError, VerificationError, WorkspaceError

FORGOTTEN = [3, 17]


@pytest.fixture
def bucket(s3: S3) -> Iterator[str]:
    yield s3.bucket()
    close_workers()  # their connections end with this test's server


def lived(folder: Path, **options: Any) -> Workspace:
    """A workspace after two batches, a deletion and a recovery."""
    workspace = filled(folder, hoarding(), **options)
    rows = range(30, 36)
    workspace.ingest(canaries(rows), labels(rows), record_ids=names(rows))
    workspace.train()
    workspace.forget(record_ids=names(FORGOTTEN))
    workspace.recover()
    return workspace


def needles(rows: list[int]) -> list[bytes]:
    """What must be nowhere once the rows are forgotten."""
    values = [piece.tobytes() for row in canaries(rows) for piece in np.split(row, len(row))]
    return [*(name.encode() for name in names(rows)), *values]


@pytest.fixture(scope="module")
def digest(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What `lived` comes to in a folder."""
    with closing(lived(tmp_path_factory.mktemp("local") / "ws")) as workspace:
        return workspace.state_digest()


# --- the same in every store -------------------------------------------------------------------------------------


def test_a_life_on_s3(bucket: str, s3: S3, tmp_path: Path, digest: str) -> None:
    workspace = filled(tmp_path / "ws", hoarding(), store=f"s3://{bucket}/some/prefix")
    before = b"\n".join(s3.objects(bucket).values())
    assert all(needle in before for needle in needles(FORGOTTEN)), "the search finds nothing even while it is there"
    rows = range(30, 36)
    workspace.ingest(canaries(rows), labels(rows), record_ids=names(rows))
    workspace.train()
    request = workspace.forget(record_ids=names(FORGOTTEN))
    for when in ("after forgetting", "after recovering"):
        objects = s3.objects(bucket)
        everything = [*objects.values(), *objects, *raw(workspace.path).values()]
        for needle in needles(FORGOTTEN):
            assert not any(needle in (item if isinstance(item, bytes) else item.encode()) for item in everything), when
        workspace.recover()
    assert workspace.state_digest() == digest
    receipts = workspace.receipts(request.id)
    assert [receipt.stage for receipt in receipts] == ["forgotten", "recovered"]
    found = verify(receipts[1], workspace.public_key, workspace=workspace, replay=True)
    assert [step.number for step in found.steps][-1] == 17
    prediction = workspace.predict(canaries(range(5)))
    workspace.close()
    with closing(Workspace.open(workspace.path)) as again:
        assert (again.state_digest(), again.predict(canaries(range(5))).tolist()) == (digest, prediction.tolist())
    assert {key.partition(f"{workspace.declaration.id}/")[0] for key in s3.objects(bucket)} == {"some/prefix/"}
    assert not (workspace.path / "shards").exists()


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_life_in_another_folder(tmp_path: Path, digest: str, scheme: str) -> None:
    (tmp_path / "shared").mkdir()
    workspace = lived(tmp_path / "ws", store=f"{scheme}{tmp_path}/shared")
    assert workspace.state_digest() == digest
    assert workspace.declaration.store == str(tmp_path / "shared")
    assert [path.name for path in (tmp_path / "shared").iterdir()] == [workspace.declaration.id]
    assert not (workspace.path / "shards").exists()
    request = workspace.requests()[0]
    verify(workspace.receipt(request.id), workspace.public_key, workspace=workspace)
    everything = b"\n".join(raw(tmp_path).values())
    assert not any(needle in everything for needle in needles(FORGOTTEN))


@pytest.mark.slow
def test_a_store_that_fails_now_and_then(
    bucket: str, s3: S3, tmp_path: Path, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec.registry  # noqa: F401 - what is patched

    log = tmp_path / "calls"
    (tmp_path / "path").mkdir()
    flaky_s3.install(tmp_path / "path")
    monkeypatch.syspath_prepend(str(tmp_path / "path"))
    monkeypatch.setenv(flaky_s3.SHARE, "0.1")
    monkeypatch.setenv(flaky_s3.LOG, str(log))
    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, "s3", flaky_s3.FlakyS3)
    forget_connections()
    flaky_s3.FlakyS3.clear_instance_cache()
    with closing(lived(tmp_path / "ws", store=f"s3://{bucket}")) as workspace:
        assert workspace.state_digest() == digest
        verify(workspace.receipts(workspace.requests()[0].id)[1], workspace.public_key, workspace=workspace)
    calls = [line.split() for line in log.read_text().splitlines()]
    failed = [call for call in calls if call[2] == "failed"]
    assert 0.05 < len(failed) / len(calls) < 0.2
    assert len({pid for pid, _, _ in failed}) > 1, "the workers' calls did not fail"
    everything = b"\n".join(s3.objects(bucket).values())
    assert not any(needle in everything for needle in needles(FORGOTTEN))
    assert len([key for key in s3.objects(bucket) if "/staging/" in key]) == 0


# --- a crash between files and rows ------------------------------------------------------------------------------

SCRIPT = """
import os, signal, sys
import shards.store_objects as objects
from tests.unlearn.helpers import canaries, labels, names
from unlearn import Workspace
from unlearn.ledger import Ledger

kind, name, after, act = sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5]
holder = {"ledger": Ledger, "shard": objects.ShardObjects}[kind]
real, seen = getattr(holder, name), []

def deadly(self, *args, **kwargs):
    seen.append(1)
    if len(seen) > after:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, *args, **kwargs)

workspace = Workspace.open(sys.argv[1])
setattr(holder, name, deadly)
if act == "ingest":
    workspace.ingest(canaries(range(30, 36)), labels(range(30, 36)), record_ids=names(range(30, 36)))
elif act == "forget":
    workspace.forget(record_ids=names([3, 17]))
else:
    getattr(workspace, act)()
print("survived")
"""


def killed(workspace: Workspace, kind: str, name: str, after: int, act: str) -> None:
    """Do something in another process that is killed as it calls something for the so-manyth time."""
    workspace.close()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(workspace.path), kind, name, str(after), act],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr


@pytest.mark.slow
def test_kills_between_upload_and_record(bucket: str, s3: S3, tmp_path: Path, digest: str) -> None:
    workspace = create(tmp_path / "ws", hoarding(), store=f"s3://{bucket}")
    workspace.ingest(canaries(range(30)), labels(range(30)), record_ids=names(range(30)))
    killed(workspace, "ledger", "record_step", 1, "train")
    assert any("/checkpoints/" in key for key in s3.objects(bucket))
    workspace = Workspace.open(tmp_path / "ws")
    assert not workspace._site.ledger.operation()
    assert len(workspace._site.ledger.steps()) >= 2, "what was published and not recorded is adopted"
    workspace.train()

    killed(workspace, "ledger", "add_batch", 0, "ingest")
    assert any(key.endswith("p000002-v0.arrow") for key in s3.objects(bucket))
    workspace = Workspace.open(tmp_path / "ws")
    assert not any(key.endswith("p000002-v0.arrow") for key in s3.objects(bucket)), "no row names it"
    rows = range(30, 36)
    workspace.ingest(canaries(rows), labels(rows), record_ids=names(rows))

    killed(workspace, "shard", "publish", 2, "train")
    workspace = Workspace.open(tmp_path / "ws")
    assert not any("/staging/" in key for key in s3.objects(bucket))
    workspace.train()

    killed(workspace, "shard", "purge_records", 0, "forget")
    assert any(names([3])[0].encode() in data for data in s3.objects(bucket).values())
    workspace = Workspace.open(tmp_path / "ws")
    everything = b"\n".join(s3.objects(bucket).values())
    assert not any(needle in everything for needle in needles(FORGOTTEN))
    workspace.recover()
    assert workspace.state_digest() == digest
    assert workspace._site.store.strays(_named(workspace)) == []


def _named(workspace: Workspace) -> dict[int, set[str]]:
    named: dict[int, set[str]] = {shard: set() for shard in range(workspace.declaration.n_shards)}
    for (shard, _), item in workspace._site.ledger.slices().items():
        named[shard].add(item.file)
    return named


# --- orphans -----------------------------------------------------------------------------------------------------


def test_a_worker_whose_driver_is_gone_publishes_nothing(bucket: str, s3: S3, tmp_path: Path) -> None:
    """The order of a driver that died is given to a worker after somebody else took over."""
    orders: list[ChainOrder] = []

    class Recording(LocalExecutor):
        def run(self, program: Any, given: Any, *told: Any) -> None:
            orders.extend(given)
            programs.append(program)
            super().run(program, given, *told)

    programs: list[Any] = []
    workspace = filled(tmp_path / "ws", hoarding(), store=f"s3://{bucket}", executor=Recording())
    assert all(order.fence and order.folder.startswith(f"s3://{bucket}/") for order in orders)
    assert len({order.fence for order in orders}) == len(orders)
    before, built = s3.objects(bucket), []
    with pytest.raises(StorageError, match="has taken over"):
        LocalExecutor(1).run(programs[0], orders[:1], built.append, lambda *_: None)
    assert built == []
    assert s3.objects(bucket) == before
    workspace.close()


# --- refused, absent, unseen -------------------------------------------------------------------------------------


def test_a_bucket_that_keeps_what_is_deleted_is_refused(bucket: str, s3: S3, tmp_path: Path) -> None:
    workspace = filled(tmp_path / "ws", hoarding(), store=f"s3://{bucket}")
    workspace.close()
    s3.files().call_s3("put_bucket_versioning", Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    with pytest.raises(StorageError, match=r"cannot forget: its versioning is suspended.*never had it"):
        Workspace.open(tmp_path / "ws")
    with pytest.raises(StorageError, match="cannot forget"):
        create(tmp_path / "another", hoarding(), store=f"s3://{bucket}")
    assert not (tmp_path / "another").exists()


def test_the_wrong_place_is_no_empty_store(bucket: str, s3: S3, tmp_path: Path) -> None:
    """Of another endpoint with a bucket of the same name: nothing there must not be taken for destroyed."""
    workspace = filled(tmp_path / "ws", hoarding(), store=f"s3://{bucket}")
    workspace.close()
    s3.files().rm(f"{bucket}/{workspace.declaration.id}/workspace")
    with pytest.raises(StorageError, match="does not hold this workspace"):
        Workspace.open(tmp_path / "ws")


def test_a_folder_that_is_not_mounted_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="shared is not there: make the folder, or mount it"):
        create(tmp_path / "ws", hoarding(), store=str(tmp_path / "shared"))
    (tmp_path / "shared").mkdir()
    create(tmp_path / "ws", hoarding(), store=str(tmp_path / "shared")).close()
    (tmp_path / "shared").rename(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="is not there: mount it"):
        Workspace.open(tmp_path / "ws")


def test_a_worker_that_sees_another_store_gives_one_clear_error(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver is connected already; its workers start in an environment that names a place where nobody is."""
    workspace = create(tmp_path / "ws", hoarding(), store=f"s3://{bucket}", executor=LocalExecutor(1))
    workspace.ingest(canaries(range(30)), labels(range(30)), record_ids=names(range(30)))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    began = time.monotonic()
    with pytest.raises(StorageError, match=r"reading s3://.*fence .*EndpointConnectionError"):
        workspace.train()
    assert time.monotonic() - began < 20


def test_a_worker_that_does_not_see_the_folder_gives_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()

    class Elsewhere(LocalExecutor):
        """Workers on a machine where something else is mounted."""

        def run(self, program: Any, orders: Any, *told: Any) -> None:
            started.append(1)
            (tmp_path / "shared").rename(tmp_path / "unmounted")
            try:
                super().run(program, orders, *told)
            finally:
                (tmp_path / "unmounted").rename(tmp_path / "shared")

    started: list[int] = []
    workspace = create(tmp_path / "ws", hoarding(), store=str(tmp_path / "shared"), executor=Elsewhere())
    workspace.ingest(canaries(range(30)), labels(range(30)), record_ids=names(range(30)))
    with pytest.raises(StorageError, match=r"does not see .*mount there what the driver sees"):
        workspace.train()
    assert started == [1]


@pytest.mark.parametrize("store", ["s3://key:hush@bucket/prefix", "http://somewhere", "s3://"])
def test_what_is_no_store_is_refused_before_anything_is_made(tmp_path: Path, store: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        create(tmp_path / "ws", hoarding(), store=store)
    assert "hush" not in str(caught.value)
    assert not (tmp_path / "ws").exists()


# --- damage, tampering -------------------------------------------------------------------------------------------


def test_verification_finds_what_nothing_names(bucket: str, s3: S3, tmp_path: Path) -> None:
    workspace = filled(tmp_path / "ws", hoarding(), store=f"s3://{bucket}")
    request = workspace.forget(record_ids=names(FORGOTTEN))
    receipt, key = workspace.receipt(request.id), workspace.public_key
    verify(receipt, key, workspace=workspace)
    stray = f"{bucket}/{workspace.declaration.id}/0001/staging/{secrets.token_hex(8)}"
    s3.files().pipe_file(stray, b"a forgotten record")
    with pytest.raises(VerificationError, match=f"step 14 .*s3://{stray} is a file the ledger does not know"):
        verify(receipt, key, workspace=workspace)


def test_damaged_and_missing_objects_are_noticed(bucket: str, s3: S3, tmp_path: Path) -> None:
    workspace = filled(tmp_path / "ws", hoarding(), store=f"s3://{bucket}")
    before = workspace.state_digest()
    first, second, _ = (step.key for step in workspace._site.ledger.served()[1])
    paths = {PurePosixPath(key).stem: f"{bucket}/{key}" for key in s3.objects(bucket)}
    s3.files().pipe_file(paths[first], s3.files().cat_file(paths[first])[:-1])
    with closing(Workspace.open(tmp_path / "ws")) as reader, pytest.raises(DamageError, match=f"{first}.* is damaged"):
        reader.predict(canaries([1]))
    s3.files().rm_file(paths[first])
    s3.files().pipe_file(paths[second], b"")
    with closing(Workspace.open(tmp_path / "ws")) as reader, pytest.raises(DamageError, match="is missing"):
        reader.state_digest()
    workspace.recover()
    assert workspace.state_digest() == before
    (record,) = [key for key in s3.objects(bucket) if key.endswith("0001/records/p000000-v0.arrow")]
    s3.files().rm_file(f"{bucket}/{record}")
    workspace._site.ledger.drop_steps(list(workspace._site.ledger.steps(1).values()))
    with pytest.raises(DamageError, match=f"the record file s3://{bucket}/{record} is missing"):
        workspace.train()


# --- the description ---------------------------------------------------------------------------------------------


def test_a_description_without_a_store_is_what_it_was(tmp_path: Path) -> None:
    """Its digest is in receipts that were issued before there were stores."""
    with closing(create(tmp_path / "ws", hoarding())) as workspace:
        written = json.loads((workspace.path / "workspace.json").read_text())
        assert (written.pop("format"), "store" in written) == (2, False)
        assert workspace.declaration.digest == digest_json("description", written)
        assert list(written)[-1] == "root_seed"


def test_a_description_with_a_store_names_it(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    with closing(create(tmp_path / "ws", hoarding(), store=str(tmp_path / "shared"))) as workspace:
        written = json.loads((workspace.path / "workspace.json").read_text())
        assert (written.pop("format"), written["store"]) == (3, str(tmp_path / "shared"))
        assert workspace.declaration.digest == digest_json("description", written)
    description = json.loads((tmp_path / "ws/workspace.json").read_text())
    (tmp_path / "ws/workspace.json").write_text(json.dumps(description | {"store": 5}))
    with pytest.raises(WorkspaceError, match="damaged"):
        Workspace.open(tmp_path / "ws")


def test_the_command_line_names_a_store(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    arguments = [
        "create",
        str(tmp_path / "ws"),
        "--learner",
        "logistic",
        "--json",
        "--store",
        f"file://{tmp_path}/shared",
    ]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["store"] == str(tmp_path / "shared")
    assert len(list((tmp_path / "shared").iterdir())) == 1
