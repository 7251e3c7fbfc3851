"""A request that comes while shards are trained wins: at once, whatever step is under way, whoever dies in between."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shards.executors.base import Executor
from shards.executors.local import LocalExecutor
from tests.unlearn.gated import Gated
from tests.unlearn.helpers import ROOT, canaries, create, files, labels, names, sgd
from unlearn import Workspace
from unlearn.errors import AlreadyForgottenError, FencedError, LockedError, UnknownIdError
from unlearn.ledger import Ledger
from unlearn.request import RequestState

N = 24
S, R = 3, 2
ROWS = range(N)


def made(folder: Path, gates: Path, executor: Executor | str = "local", rows: range = ROWS) -> Workspace:
    workspace = create(folder, Gated(str(gates)), executor=executor)
    workspace.ingest(canaries(rows), labels(rows), record_ids=names(rows))
    return workspace


def without(folder: Path, gates: Path, *gone: str, rows: range = ROWS) -> str:
    """State digest of a fresh workspace that never saw some records."""
    workspace = create(folder, Gated(str(gates)))
    kept = [row for row in rows if names([row])[0] not in gone]
    workspace.ingest(canaries(kept), labels(kept), record_ids=names(kept))
    workspace.train()
    digest = workspace.state_digest()
    workspace.close()
    return digest


def somebody_in(workspace: Workspace, shard: int, position: int, rows: range = ROWS) -> int:
    """A row whose record lies in a slice."""
    for row in rows:
        (place,) = workspace._site.ledger.locations(workspace._site.tokens("record", names([row])))
        if (place.shard, place.position) == (shard, position):
            return row
    raise AssertionError(f"nobody lies in slice {position} of shard {shard}")


def eventually(found: Callable[[], Any], seconds: float = 60) -> Any:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if value := found():
            return value
        time.sleep(0.01)
    raise AssertionError(f"waited for {seconds} s")


@contextmanager
def training(workspace: Workspace, gates: Path) -> Iterator[list[BaseException]]:
    """Train in a thread, step by step as gates open; all open at the end."""
    gates.mkdir(exist_ok=True)
    raised: list[BaseException] = []

    def train() -> None:
        try:
            workspace.train()
        except BaseException as error:  # noqa: BLE001 - told to the test
            raised.append(error)

    thread = threading.Thread(target=train)
    thread.start()
    try:
        yield raised
    finally:
        (gates / "go").touch()
        thread.join(90)
        assert not thread.is_alive()
        for gate in gates.iterdir():
            gate.unlink()
        gates.rmdir()


def is_anywhere(folder: Path, row: int) -> list[Path]:
    """Files that hold a record's bytes or id."""
    needles = [row.tobytes() for row in canaries([row])[0]] + [names([row])[0].encode()]
    return [path for path in files(folder) if any(needle in path.read_bytes() for needle in needles)]


def is_at_work(pid: int) -> bool:
    """Whether a process is there, and not merely waiting for somebody to note that it is gone."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.parametrize("position", range(R))
@pytest.mark.parametrize("moment", [(0, 0), (0, 1), (1, 0), (2, 1)], ids=str)
def test_a_request_wins_over_the_step_under_way(tmp_path: Path, moment: tuple[int, int], position: int) -> None:
    gates = tmp_path / "gates"
    workspace = made(tmp_path / "ws", gates, LocalExecutor(S))
    row = somebody_in(workspace, moment[0], position)
    other = Workspace.open(tmp_path / "ws")
    with training(workspace, gates) as raised:
        at = gates / f"at-{moment[0]}-{moment[1]}"
        for before in range(moment[1]):
            eventually((gates / f"at-{moment[0]}-{before}").exists)
            (gates / f"go-{moment[0]}-{before}").touch()
        worker = int(eventually(lambda: at.exists() and at.read_text()))
        request = other.forget(record_ids=names([row]))
        # It is done, although a worker was training on the record and nobody let it go on.
        assert request.state is RequestState.FORGOTTEN
        assert request.shards == {moment[0]: position}
        assert is_anywhere(tmp_path / "ws", row) == []
        assert not is_at_work(worker)
        assert len(other.receipts(request.id)) == 1
    assert raised == []
    assert workspace.status().steps_missing == 0
    assert workspace.status(request.id).state is RequestState.RECEIPTED
    assert workspace.state_digest() == without(tmp_path / "fresh", gates, *names([row]))


def test_other_shards_are_left_at_work(tmp_path: Path) -> None:
    gates = tmp_path / "gates"
    workspace = made(tmp_path / "ws", gates, LocalExecutor(S))
    row = somebody_in(workspace, 0, 0)
    with training(workspace, gates):
        pids = {s: int(eventually(lambda s=s: (gates / f"at-{s}-0").exists() and (gates / f"at-{s}-0").read_text()))
                for s in range(S)}  # fmt: skip
        Workspace.open(tmp_path / "ws").forget(record_ids=names([row]))
        assert [is_at_work(pids[s]) for s in range(S)] == [False, True, True]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", range(S * R))
def test_a_request_between_publishing_and_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, after: bool
) -> None:
    gates = tmp_path / "no gates"
    workspace = made(tmp_path / "ws", gates, LocalExecutor(2))
    row = 5
    record_step, calls = Ledger.record_step, []

    def recorded(ledger: Ledger, built: Any) -> None:
        calls.append(built)
        if after:
            record_step(ledger, built)
        if len(calls) == step + 1:
            Workspace.open(tmp_path / "ws").submit(record_ids=names([row]))
        if not after:
            record_step(ledger, built)

    monkeypatch.setattr(Ledger, "record_step", recorded)
    workspace.train()
    monkeypatch.undo()
    workspace.process()
    workspace.recover()
    assert is_anywhere(tmp_path / "ws", row) == []
    assert workspace.state_digest() == without(tmp_path / "fresh", gates, *names([row]))


DRIVER = """
import sys
from pathlib import Path
from unlearn import Workspace
Workspace.open(sys.argv[1]).train()
"""


@pytest.mark.parametrize("submitted", [False, True], ids=["before the request", "after it was accepted"])
def test_the_driver_dies_and_another_takes_over(tmp_path: Path, submitted: bool) -> None:
    gates = tmp_path / "gates"
    workspace = made(tmp_path / "ws", gates)
    row = somebody_in(workspace, 0, 1)
    gates.mkdir()
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path / "ws")], cwd=ROOT)
    worker = int(eventually(lambda: (gates / "at-0-0").exists() and (gates / "at-0-0").read_text()))
    if submitted:
        # Stopped, it cannot look up; then it dies.
        driver.send_signal(signal.SIGSTOP)
        accepted = workspace.submit(record_ids=names([row]), idempotency_key="once")
        assert accepted.state is RequestState.SUBMITTED
    driver.kill()
    driver.wait()
    (gates / "go").touch()
    request = workspace.forget(record_ids=names([row]), idempotency_key="once")
    assert request.state is RequestState.FORGOTTEN
    assert not is_at_work(worker)
    assert is_anywhere(tmp_path / "ws", row) == []
    workspace.recover()
    workspace.train()
    for gate in gates.iterdir():
        gate.unlink()
    gates.rmdir()
    assert workspace.state_digest() == without(tmp_path / "fresh", gates, *names([row]))


def test_the_same_request_repeated_and_one_that_cannot_be_carried_out(tmp_path: Path) -> None:
    gates = tmp_path / "gates"
    workspace = made(tmp_path / "ws", gates)
    other = Workspace.open(tmp_path / "ws")
    with training(workspace, gates) as raised:
        eventually((gates / "at-0-0").exists)
        first = other.forget(record_ids=names([1]), idempotency_key="one")
        assert other.forget(record_ids=names([1]), idempotency_key="one").id == first.id
        with pytest.raises(AlreadyForgottenError):
            other.forget(record_ids=names([1]))
        with pytest.raises(UnknownIdError, match="check the ids"):
            other.forget(record_ids=["nobody"])
        assert [request.state for request in other.requests()] == [RequestState.FORGOTTEN, RequestState.FAILED]
    assert raised == []
    assert workspace.state_digest() == without(tmp_path / "fresh", gates, *names([1]))


def test_many_requests_while_it_trains(tmp_path: Path) -> None:
    gates = tmp_path / "gates"
    workspace = made(tmp_path / "ws", gates)
    other = Workspace.open(tmp_path / "ws")
    with training(workspace, gates) as raised:
        eventually((gates / "at-0-0").exists)
        for row in range(0, N, 5):
            other.forget(record_ids=names([row]))
    assert raised == []
    gone = [names([row])[0] for row in range(0, N, 5)]
    assert workspace.state_digest() == without(tmp_path / "fresh", gates, *gone)


def test_a_process_that_lost_the_workspace_to_another_stops(tmp_path: Path) -> None:
    """A lock that does not reach the other machine is imitated by a lock file that is taken away."""
    gates = tmp_path / "gates"
    workspace = made(tmp_path / "ws", gates)
    with training(workspace, gates) as raised:
        eventually((gates / "at-0-0").exists)
        (tmp_path / "ws" / "lock").unlink()
        other = Workspace.open(tmp_path / "ws")
        request = other.forget(record_ids=names([2]))
        assert request.state is RequestState.FORGOTTEN
        eventually(lambda: raised)
        (error,) = raised
        assert isinstance(error, FencedError)
        assert "another process took over" in str(error)
        assert is_anywhere(tmp_path / "ws", 2) == []
    other.train()
    assert other.state_digest() == without(tmp_path / "fresh", gates, *names([2]))
    # And the first may come back, once it is asked again.
    workspace.forget(record_ids=names([3]))
    workspace.recover()
    assert workspace.state_digest() == without(tmp_path / "fresh 2", gates, *names([2, 3]))


def test_whoever_lost_the_workspace_between_two_looks_records_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gates = tmp_path / "no gates"
    workspace = made(tmp_path / "ws", gates)
    record_step, taken = Ledger.record_step, []

    def recorded(ledger: Ledger, built: Any) -> None:
        if not taken:
            taken.append(built)

            def take() -> None:
                with Ledger.open(tmp_path / "ws" / "ledger.db").writing_as("somebody else", 0):
                    pass

            thread = threading.Thread(target=take)
            thread.start()
            thread.join()
        record_step(ledger, built)

    monkeypatch.setattr(Ledger, "record_step", recorded)
    with pytest.raises(FencedError):
        workspace.train()
    monkeypatch.undo()
    assert workspace._site.ledger.steps() == {}
    # What it had published already is gone with it.
    assert workspace._site.folder(taken[0].shard).keys() == set()
    workspace.train()
    assert workspace.state_digest() == without(tmp_path / "fresh", gates)


def test_a_workspace_that_is_written_to_otherwise_refuses(tmp_path: Path) -> None:
    workspace = create(tmp_path / "ws", sgd())
    workspace.ingest(canaries(ROWS), labels(ROWS), record_ids=names(ROWS))
    with workspace._writing():
        workspace._site.ledger.begin_operation("ingest")
        with pytest.raises(LockedError, match="nothing was changed"):
            Workspace.open(tmp_path / "ws").forget(record_ids=names([1]))
        workspace._site.ledger.end_operation()
    assert workspace.requests() == []
