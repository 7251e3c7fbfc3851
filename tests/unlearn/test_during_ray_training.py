"""On a cluster too, a request wins over the training under way, and nothing of the record is left on any node."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shards.executors.ray import RayExecutor
from tests.loopback_s3 import S3
from tests.shards.executors.rays import Home, ray_here, shared_memory, wait_for
from tests.unlearn.gated import Gated
from tests.unlearn.helpers import canaries, create, hoarding, labels, names
from tests.unlearn.test_during_training import (
    ROWS,
    is_anywhere,
    is_at_work,
    made,
    somebody_in,
    training,
    without,
)
from unlearn import Workspace
from unlearn.request import RequestState

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    with ray_here() as found:
        yield found


def needles(row: int) -> list[bytes]:
    return [value.tobytes() for value in canaries([row])[0]] + [names([row])[0].encode()]


def processes(home: Home) -> list[int]:
    """Every process of a Ray: those it started, and the workers these started."""
    commands: dict[int, bytes] = {}
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            commands[int(path.name)] = (path / "cmdline").read_bytes()
            parents[int(path.name)] = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    own = {pid for pid, command in commands.items() if str(home.folder).encode() in command} - {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in own} - own:
        own |= more
    return sorted(own)


def in_memory(pid: int, wanted: list[bytes]) -> int:
    """How often some bytes occur in a process's memory, shared memory included."""
    count = 0
    try:
        maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
        with Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
            for line in maps:
                found = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
                if found is None:
                    continue
                start, end = (int(part, 16) for part in found.groups())
                for at in range(start, min(end, start + (1 << 31)), 1 << 24):
                    try:
                        memory.seek(at)
                        block = memory.read(min(end - at, (1 << 24) + 64))
                    except (OSError, ValueError):
                        continue  # not all that is mapped can be read
                    count += sum(block.count(needle) for needle in wanted)
    except (FileNotFoundError, ProcessLookupError):
        return count
    return count


def on_the_node(home: Home, wanted: list[bytes]) -> list[str]:
    """Where on this node, outside of the workspace, some bytes are: Ray's files, shared memory, its processes."""
    paths = [path for path in sorted(home.folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    paths += shared_memory()
    found = [str(path) for path in paths if any(needle in path.read_bytes() for needle in wanted)]
    return found + [f"process {pid}" for pid in processes(home) if in_memory(pid, wanted)]


def test_what_looks_for_bytes_finds_them(home: Home) -> None:
    import ray

    pattern = canaries([999])[0].tobytes()
    kept = ray.put(pattern * 20_000)
    assert any(place.startswith("process") for place in on_the_node(home, [pattern])), "it is in shared memory"
    del kept
    note = home.folder / "note"
    note.write_bytes(b"before" + pattern)
    assert str(note) in on_the_node(home, [pattern])
    note.unlink()


@pytest.mark.parametrize("moment", [(0, 0), (0, 1)], ids=str)
@pytest.mark.parametrize("position", [0, 1])
def test_a_request_wins_over_the_step_under_way(
    tmp_path: Path, home: Home, moment: tuple[int, int], position: int
) -> None:
    gates = tmp_path / "gates"
    # Records of its own: workers are kept warm, and need not forget what another workspace still holds.
    first = 1000 + 100 * (2 * moment[1] + position)
    rows = range(first, first + 24)
    workspace = made(tmp_path / "ws", gates, RayExecutor(), rows)
    row = somebody_in(workspace, moment[0], position, rows)
    other = Workspace.open(tmp_path / "ws")
    with training(workspace, gates) as raised:
        at = gates / f"at-{moment[0]}-{moment[1]}"
        for shard in (1, 2):
            (gates / f"go-{shard}-0").touch()
            (gates / f"go-{shard}-1").touch()
        for before in range(moment[1]):
            wait_for((gates / f"at-{moment[0]}-{before}").exists)
            (gates / f"go-{moment[0]}-{before}").touch()
        worker = int(wait_for(lambda: at.exists() and at.read_text()))
        request = other.forget(record_ids=names([row]))
        assert request.state is RequestState.FORGOTTEN
        assert not is_at_work(worker)
        assert is_anywhere(tmp_path / "ws", row) == []
        assert on_the_node(home, needles(row)) == []
    assert raised == []
    assert workspace.status().steps_missing == 0
    assert workspace.state_digest() == without(tmp_path / "fresh", gates, *names([row]), rows=rows)
    assert on_the_node(home, needles(row)) == []


def test_forgotten_after_a_training_nothing_is_left_but_in_workers_that_are_kept_warm(
    tmp_path: Path, home: Home
) -> None:
    workspace = create(tmp_path / "ws", hoarding(), executor=RayExecutor())
    workspace.ingest(canaries(ROWS), labels(ROWS), record_ids=names(ROWS))
    workspace.train()
    workspace.forget(record_ids=names([4]))
    workspace.recover()
    assert is_anywhere(tmp_path / "ws", 4) == []
    files = [place for place in on_the_node(home, needles(4)) if not place.startswith("process")]
    assert files == []


@pytest.mark.slow
def test_a_store_that_the_nodes_are_told_how_to_reach(tmp_path: Path, home: Home, s3: S3) -> None:
    """Objects in S3, records and states going between it and the workers alone; credentials by the environment."""
    variables = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    gates = tmp_path / "gates"
    rows = range(2000, 2024)
    workspace = create(
        tmp_path / "ws",
        Gated(str(gates)),
        store=f"s3://{s3.bucket()}/runs",
        executor=RayExecutor(runtime_env={"env_vars": variables}),
    )
    workspace.ingest(canaries(rows), labels(rows), record_ids=names(rows))
    row = somebody_in(workspace, 0, 0, rows)
    other = Workspace.open(tmp_path / "ws")
    with training(workspace, gates) as raised:
        for shard in (1, 2):
            (gates / f"go-{shard}-0").touch()
            (gates / f"go-{shard}-1").touch()
        at = gates / "at-0-0"
        worker = int(wait_for(lambda: at.exists() and at.read_text()))
        assert other.forget(record_ids=names([row])).state is RequestState.FORGOTTEN
        assert not is_at_work(worker)
    assert raised == []
    assert workspace.state_digest() == without(tmp_path / "fresh", gates, *names([row]), rows=rows)
    assert on_the_node(home, needles(row)) == []
