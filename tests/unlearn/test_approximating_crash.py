"""Killed while an approximate method is applied: the request is carried out once, or was never heard of.

Run as a script, this file is the driver that is killed: it loads torch once and forks a process for every workspace it
is told, which forgets with a method, in its own process and not in a worker, and kills itself between two things it
does to files.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from shards.calls import CallOrder, make_call, small_value
from shards.environment import describe, environment_digest
from shards.executors.base import Environment, Executor, OnTurn, Program
from shards.executors.work import Work
from tests.unlearn.helpers import ROOT, canaries, filled, labels, mlp, names, raw
from tests.unlearn.test_crash import Moments
from unlearn import Workspace
from unlearn.request import RequestState

N = 24
FORGOTTEN = ((3, 5), (7,))
"""Rows of the two requests."""

METHOD = {"method": "fine_tune", "method_options": {"epochs": 1}}


class Here(Executor):
    """Calls functions in this very process, which is killed with them."""

    def environment(self, program: Program) -> Environment:
        found = describe(program.libraries)
        return Environment(environment_digest(found), found)

    def perform(self, program: Program, work: Sequence[Work], on_turn: OnTurn) -> None:
        numeric = self.environment(program).digest
        for item in work:
            order = CallOrder.from_json(item.message())
            item.hear({"type": "returned", "value": small_value(make_call(order, numeric))})


def perform(path: Path, kill_at: int) -> None:
    """Forget the second request's records, and die on the way."""
    moments = Moments(path, kill_at)
    workspace = Workspace.open(path, executor=Here())
    workspace.forget(record_ids=names(FORGOTTEN[1]), idempotency_key="second", **METHOD)  # type: ignore[arg-type]
    workspace.close()
    os.write(1, f"finished {moments.count}\n".encode())


def main() -> None:
    """Fork a process for every path on standard input."""
    import torch

    import unlearn.methods.papers.fine_tuning  # noqa: F401 (loaded once, before the forks)

    torch.set_num_threads(1)
    for line in iter(sys.stdin.readline, ""):
        kill_at, _, path = line.strip().partition(" ")
        if (pid := os.fork()) == 0:
            perform(Path(path), int(kill_at))
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        os.write(1, f"ended {os.waitstatus_to_exitcode(status)}\n".encode())


@contextmanager
def driving() -> Iterator[Callable[[Path, int], int | None]]:
    """Gives what runs the driver: the number of moments it passed, or None if it was killed."""
    process = subprocess.Popen(
        [sys.executable, "-P", __file__],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def run(path: Path, kill_at: int = -1) -> int | None:
        stdin.write(f"{kill_at} {path}\n")
        found = None
        while True:
            word, _, rest = stdout.readline().strip().partition(" ")
            if word == "finished":
                found = int(rest)
            else:
                assert (word, int(rest)) == ("ended", 0 if found is not None else -signal.SIGKILL)
                return found

    try:
        yield run
    finally:
        stdin.close()
        process.wait()


def check_nothing_is_left_over(workspace: Workspace) -> None:
    ledger, path = workspace._site.ledger, workspace.path
    assert ledger.operation() == ""
    assert {file.stem for file in path.glob("shards/*/checkpoints/*")} == ledger.named(0)
    assert list(path.glob("shards/*/staging/*")) == []


def check(path: Path) -> str:
    """Open what a killed process left, carry out what waits, and look at all of it; says how far it had come."""
    with closing(Workspace.open(path, executor=Here())) as workspace:
        requests = {request.idempotency_key: request for request in workspace.requests()}
        came = "unheard of" if "second" not in requests else requests["second"].state.value
        check_nothing_is_left_over(workspace)  # already now: whatever waits may wait for long
        workspace.process()
        check_nothing_is_left_over(workspace)
        rows = {row for rows in FORGOTTEN[: len(workspace.requests())] for row in rows}
        (state,) = workspace.status().approximate
        assert state.applications == len(workspace.requests())
        assert {request.state for request in workspace.requests()} == {RequestState.FORGOTTEN}
        assert all(request.is_approximate for request in workspace.requests())
        workspace.predict(canaries([1]))
        for request in workspace.requests():
            assert [receipt.stage for receipt in workspace.receipts(request.id)] == ["forgotten"]
    together = b"\n\n".join(raw(path).values())
    for row in range(N):
        assert (names([row])[0].encode() in together) is (row not in rows)
        assert (canaries([row]).tobytes() in together) is (row not in rows)
    return came


def exact(path: Path, folder: Path) -> None:
    """Retrained, it is what it would have been without the records."""
    with closing(Workspace.open(path)) as workspace:
        workspace.recover()
        digest = workspace.state_digest()
        gone = {row for rows in FORGOTTEN[: len(workspace.requests())] for row in rows}
    stay = [row for row in range(N) if row not in gone]
    with closing(Workspace.create(folder, mlp(), n_shards=1, classes=[0, 1], random_state=0)) as fresh:
        fresh.ingest(canaries(stay), labels(stay), record_ids=names(stay))
        fresh.train()
        assert fresh.state_digest() == digest


def kill_again_and_again(tmp_path: Path, kills: int) -> Counter[str]:
    """Kill processes at moments spread over a whole request; how far the request had come each time."""
    with closing(filled(tmp_path / "run", mlp(), N, n_shards=1, n_slices=1)) as workspace:
        workspace.forget(record_ids=names(FORGOTTEN[0]), idempotency_key="first", **METHOD)  # type: ignore[arg-type]
    chance, came = random.Random(kills), Counter[str]()
    with driving() as run:
        shutil.copytree(tmp_path / "run", tmp_path / "usual")
        moments = run(tmp_path / "usual")
        assert moments is not None
        assert check(tmp_path / "usual") == "forgotten"
        for number in range(kills):
            path = shutil.copytree(tmp_path / "run", tmp_path / str(number))
            assert run(path, int((number + chance.random()) * moments / kills)) is None
            came[check(path)] += 1
    exact(tmp_path / "0", tmp_path / "fresh")
    exact(tmp_path / str(kills - 1), tmp_path / "fresh too")
    return came


@pytest.mark.slow
def test_killed_at_any_moment_a_request_is_carried_out_once(tmp_path: Path) -> None:
    came = kill_again_and_again(tmp_path, 8)
    assert came.keys() == {"unheard of", "submitted", "forgotten"}, "the kills have to hit every part"


@pytest.mark.slow
def test_killed_many_more_times(tmp_path: Path) -> None:
    assert kill_again_and_again(tmp_path, 60).total() == 60


if __name__ == "__main__":
    main()
