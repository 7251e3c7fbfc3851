"""Killed while records are removed with a certificate: the budget is spent once for each model that is served.

Run as a script, this file is the driver that is killed, as that of `test_approximating_crash`.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from tests.unlearn.helpers import ROOT, canaries, filled, names, raw
from tests.unlearn.test_approximating_crash import Here, check_nothing_is_left_over
from tests.unlearn.test_crash import Moments
from unlearn import Workspace
from unlearn.methods.certified_learner import CertifiedLearner
from unlearn.request import RequestState

N = 24
FORGOTTEN = ((3, 5), (7,))
"""Rows of the two requests."""

LEARNER = CertifiedLearner(0.01, scale=0.1, tolerance=9e-5)


def perform(path: Path, kill_at: int) -> None:
    """Forget the second request's records, and die on the way."""
    moments = Moments(path, kill_at)
    with closing(Workspace.open(path, executor=Here())) as workspace:
        workspace.forget(record_ids=names(FORGOTTEN[1]), idempotency_key="second")
    os.write(1, f"finished {moments.count}\n".encode())


def main() -> None:
    """Fork a process for every path on standard input."""
    import torch

    import unlearn.methods.certified  # noqa: F401 (loaded once, before the forks)

    torch.set_num_threads(1)
    for line in iter(sys.stdin.readline, ""):
        kill_at, _, path = line.strip().partition(" ")
        if (pid := os.fork()) == 0:
            perform(Path(path), int(kill_at))
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        os.write(1, f"ended {os.waitstatus_to_exitcode(status)}\n".encode())


class Driver:
    """The driver, to be told paths."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__],
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def run(self, path: Path, kill_at: int = -1) -> int | None:
        """The number of moments it passed, or None if it was killed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{kill_at} {path}\n")
        found = None
        while True:
            word, _, rest = self._process.stdout.readline().strip().partition(" ")
            if word == "finished":
                found = int(rest)
            else:
                assert (word, int(rest)) == ("ended", 0 if found is not None else -signal.SIGKILL)
                return found

    def close(self) -> None:
        """No more."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def check(path: Path) -> str:
    """Open what a killed process left, carry out what waits, and look at its account; says how far it had come."""
    with closing(Workspace.open(path, executor=Here())) as workspace:
        requests = {request.idempotency_key: request for request in workspace.requests()}
        came = "unheard of" if "second" not in requests else requests["second"].state.value
        check_nothing_is_left_over(workspace)
        workspace.process()
        check_nothing_is_left_over(workspace)
        number = len(workspace.requests())
        (state,) = workspace.status().approximate
        assert state.certificate == LEARNER.promise.certificate(1, number), "one charge for each model that is served"
        charged = sum(entry.event.kind == "approximated" for entry in workspace._site.ledger.entries())
        assert charged == number
        assert {request.state for request in workspace.requests()} == {RequestState.FORGOTTEN}
        assert {request.guarantee for request in workspace.requests()} == {"certified"}
        for request in workspace.requests():
            (receipt,) = workspace.receipts(request.id)
            assert receipt.statement["predicate"]["guarantee"]["kind"] == "certified"
        rows = {row for rows in FORGOTTEN[:number] for row in rows}
    together = b"\n\n".join(raw(path).values())
    for row in range(N):
        assert (canaries([row]).tobytes() in together) is (row not in rows)
    return came


def kill_again_and_again(tmp_path: Path, kills: int) -> Counter[str]:
    """Kill processes at moments spread over a whole request; how far the request had come each time."""
    made = filled(tmp_path / "run", LEARNER, N, n_shards=1, n_slices=1, method="certified_removal")
    with closing(made) as workspace:
        workspace.forget(record_ids=names(FORGOTTEN[0]), idempotency_key="first")
    chance, came = random.Random(kills), Counter[str]()
    with closing(Driver()) as driver:
        shutil.copytree(tmp_path / "run", tmp_path / "usual")
        moments = driver.run(tmp_path / "usual")
        assert moments is not None
        assert check(tmp_path / "usual") == "forgotten"
        for number in range(kills):
            path = shutil.copytree(tmp_path / "run", tmp_path / str(number))
            assert driver.run(path, int((number + chance.random()) * moments / kills)) is None
            came[check(path)] += 1
    return came


@pytest.mark.slow
def test_killed_at_any_moment_the_budget_is_spent_once(tmp_path: Path) -> None:
    came = kill_again_and_again(tmp_path, 16)
    assert came.keys() == {"unheard of", "submitted", "forgotten"}, "the kills have to hit every part"


if __name__ == "__main__":
    main()
