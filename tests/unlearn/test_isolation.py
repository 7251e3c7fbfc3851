"""A worker needs its own shard's files and opens no other."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from shards.executors.base import Program
from shards.executors.local import LocalExecutor
from shards.store import CheckpointHeader
from shards.train import ChainOrder, StepBuilt
from tests.cases import CASES, LIGHT, ROOT, Case, Recording, contents, create, ingest, record

S, R = 3, 2
BATCHES = ([record(i, f"person {i % 31}") for i in range(60)], [record(i) for i in range(60, 90)])


@dataclass(frozen=True)
class Before:
    """A workspace as it was before its second training, and what that training did.

    Attributes:
        folder: Copy of the workspace from before the training.
        program: What workers had to load.
        orders: What they were told, by shard, in terms of the copy.
        contents: Content of every step afterwards.
    """

    folder: Path
    program: Program
    orders: dict[int, ChainOrder]
    contents: dict[tuple[int, int], str]


# Module scope, so that a learner's tests run together and its workers stay warm.
@pytest.fixture(scope="module", params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    assert isinstance(request.param, Case)
    return request.param


@pytest.fixture
def before(case: Case, tmp_path: Path) -> Before:
    return _before(case, tmp_path)


def _before(case: Case, folder: Path) -> Before:
    """The first batch is trained and the second is not, so that orders have parents."""
    recording = Recording()
    workspace = create(folder / "original", case, S, R, executor=recording)
    ingest(workspace, case, BATCHES[0])
    workspace.train()
    ingest(workspace, case, BATCHES[1])
    copy = folder / "copy"
    shutil.copytree(folder / "original", copy)
    workspace.train()
    orders = {
        order.shard: dataclasses.replace(order, folder=str(copy / "shards" / Path(order.folder).name))
        for order in recording.orders
    }
    assert sorted(orders) == list(range(S))
    assert all(order.parent is not None for order in orders.values())
    assert recording.program is not None
    found = Before(copy, recording.program, orders, dict(contents(workspace)))
    workspace.close()
    return found


def _run(before: Before, shard: int) -> dict[tuple[int, int], str]:
    """Train one shard's chain in a worker; contents of the steps built, which stay staged."""
    built: list[StepBuilt] = []
    LocalExecutor(1).run(before.program, [before.orders[shard]], built.append, lambda *_: None)
    return {(step.header.shard, step.header.position): step.header.content for step in built}


def _expected(before: Before, shard: int) -> dict[tuple[int, int], str]:
    steps = {step.position for step in before.orders[shard].steps}
    assert steps == set(range(R, 2 * R))
    return {place: content for place, content in before.contents.items() if place[0] == shard and place[1] in steps}


# --- without the others ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shard", range(S))
def test_a_shard_trains_alike_when_nothing_else_is_there(before: Before, shard: int) -> None:
    own = Path(before.orders[shard].folder)
    for path in (*before.folder.iterdir(), *own.parent.iterdir()):
        if path not in {own, own.parent}:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert [path for path in before.folder.rglob("*") if path.is_file() and own not in path.parents] == []
    assert _run(before, shard) == _expected(before, shard)


# --- nothing else is opened --------------------------------------------------------------------------------------

IN_OPEN, IN_ACCESS, IN_MODIFY, IN_CREATE, IN_DELETE = 0x20, 0x1, 0x2, 0x100, 0x200
EVENT = struct.Struct("iIII")


class Watch:
    """The kernel's own account of who touches files: sees what compiled libraries open, too."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._handle = self._libc.inotify_init1(os.O_NONBLOCK)
        assert self._handle >= 0, os.strerror(ctypes.get_errno())
        self._names: dict[int, Path] = {}
        for folder in folders:
            for path in (folder, *folder.rglob("*")):
                self._add(path)

    def _add(self, path: Path) -> None:
        mask = IN_OPEN | IN_ACCESS | IN_MODIFY | IN_CREATE | IN_DELETE
        number = self._libc.inotify_add_watch(self._handle, os.fsencode(path), mask)
        assert number >= 0, os.strerror(ctypes.get_errno())
        self._names[number] = path

    def touched(self) -> set[Path]:
        """Files and folders touched since the last call."""
        found: set[Path] = set()
        while True:
            try:
                data = os.read(self._handle, 1 << 16)
            except BlockingIOError:
                return found
            while data:
                number, _, _, length = EVENT.unpack_from(data)
                name = data[EVENT.size : EVENT.size + length].rstrip(b"\0").decode()
                found.add(self._names[number] / name if name else self._names[number])
                data = data[EVENT.size + length :]

    def close(self) -> None:
        os.close(self._handle)


@pytest.fixture
def watch(before: Before) -> Iterator[Watch]:
    watching = Watch([before.folder])
    yield watching
    watching.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's watches are Linux's")
def test_a_worker_touches_its_own_folder_only(before: Before, watch: Watch) -> None:
    own = Path(before.orders[1].folder)
    assert _run(before, 1) == _expected(before, 1)
    touched = watch.touched()
    # It reads all its slices and the parent, so the watches do see what is opened.
    pieces = {own / "records" / piece.name for piece in before.orders[1].slices if piece.name is not None}
    assert len(pieces) == 2 * R
    assert pieces | {own / "checkpoints" / f"{before.orders[1].parent}.safetensors"} <= touched
    assert {path for path in touched if own not in (path, *path.parents)} == set()

    (Path(before.orders[2].folder) / "records").joinpath(before.orders[2].slices[0].name or "").read_bytes()
    assert watch.touched() != set()


SCRIPT = """
import json, sys
opened = []
names = {"open", "os.listdir", "os.scandir", "os.remove", "os.rename", "os.mkdir", "os.truncate", "sqlite3.connect"}
sys.addaudithook(lambda name, args: opened.append([name, str(args[0])]) if name in names else None)
from dataclasses import asdict
from shards.train import ChainOrder, build_chain
order = ChainOrder.from_json(json.loads(sys.stdin.read()))
headers = []
build_chain(order, lambda built: headers.append(asdict(built.header)), lambda visits: None)
print(json.dumps([headers, opened]))
"""


@pytest.mark.parametrize("light", LIGHT, ids=str)
def test_training_asks_python_for_no_file_of_another_shard(light: Case, tmp_path: Path) -> None:
    before = _before(light, tmp_path)
    order = before.orders[0]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps(order.to_json()),
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    headers, opened = json.loads(done.stdout)
    assert [CheckpointHeader(**header).position for header in headers] == [step.position for step in order.steps]
    # Digests are not compared: this process is no worker, its numeric switches are not pinned.
    inside = {Path(path) for _, path in opened if str(tmp_path) in path}
    assert {path for path in inside if Path(order.folder) not in (path, *path.parents)} == set()
    assert {path.parent.name for path in inside} >= {"records", "checkpoints", "staging"}
