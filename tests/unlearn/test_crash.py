"""Killed at any moment, a workspace opened again goes on to the state it would have had, and nothing is left over.

Run as a script, this file is the driver that is killed: it forks a process for every workspace path it is told,
which does the steps of `script` there and says when each begins. A process is killed from outside after some time,
or kills itself between two things it does to files: time alone would rarely hit the short spells in which much
happens.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import Engine, event

from shards.code import code_digest
from shards.executors import local
from shards.executors.base import Program
from tests.cases import LIGHT, MLP_ADAM, ROOT, SGD, Case, Record, create, digits, ingest, record, trained
from unlearn import Workspace

S, R = 3, 2
FIRST = [record(i, f"person-{i % 23}-of-the-first-town") for i in range(60)]
SECOND = [record(i, f"person-{i % 29}-of-the-first-town") for i in range(60, 90)]

FORGOTTEN_PEOPLE = ("person-3-of-the-first-town", "person-11-of-the-first-town")
FORGOTTEN_ROWS = ((1, 20), (70, 71, 72))


def remaining(batch: list[Record]) -> list[Record]:
    ids = {record(row).id for rows in FORGOTTEN_ROWS for row in rows}
    return [item for item in batch if item.subject not in FORGOTTEN_PEOPLE and item.id not in ids]


# --- the driver --------------------------------------------------------------------------------------------------

Step = tuple[str, Callable[[Workspace], object]]


def script(case: Case) -> list[Step]:
    """What is done to a workspace; every step may be repeated."""

    def take(number: int, batch: list[Record]) -> Callable[[Workspace], object]:
        return lambda w: None if w.status().batches > number else ingest(w, case, batch)

    def forget_person(number: int) -> Callable[[Workspace], object]:
        return lambda w: w.forget(subjects=FORGOTTEN_PEOPLE[number], idempotency_key=f"person {number}")

    def forget_rows(number: int) -> Callable[[Workspace], object]:
        ids = [record(row).id for row in FORGOTTEN_ROWS[number]]
        return lambda w: w.forget(record_ids=ids, idempotency_key=f"rows {number}")

    return [
        ("ingest 0", take(0, FIRST)),
        ("train 0", lambda w: w.train()),
        ("forget person 0", forget_person(0)),
        ("recover 0", lambda w: w.recover()),
        ("ingest 1", take(1, [item for item in SECOND if item.subject != FORGOTTEN_PEOPLE[0]])),
        ("forget rows 0", forget_rows(0)),
        ("train 1", lambda w: w.train()),
        ("forget person 1", forget_person(1)),
        ("forget rows 1", forget_rows(1)),
        ("recover 1", lambda w: w.recover()),
    ]


class Moments:
    """Counts the moments right before and after something durable is done, and kills the process at one of them."""

    def __init__(self, folder: Path, kill_at: int) -> None:
        self.count = 0
        self._folder, self._kill_at = str(folder), kill_at
        self._sync = os.fsync
        os.fsync = self._counted_sync  # type: ignore[assignment]
        sys.addaudithook(self._audit)
        event.listen(Engine, "commit", self._pass)

    def _pass(self, *_: object) -> None:
        if self.count == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1

    def _counted_sync(self, handle: int) -> None:
        self._pass()
        self._sync(handle)
        self._pass()

    def _audit(self, name: str, arguments: tuple[object, ...]) -> None:
        if name not in {"open", "os.rename", "os.remove", "os.mkdir"} or self._folder not in str(arguments[0]):
            return
        # The third argument of `open` are its flags; 0 opens for reading.
        if name != "open" or cast(int, arguments[2]) & (os.O_WRONLY | os.O_RDWR):
            self._pass()


def perform(case: Case, n_workers: int, path: Path, kill_at: int) -> None:
    """Create or reopen a workspace and do the script there, saying on standard output what is under way."""

    def say(*words: str) -> None:
        os.write(1, (" ".join(words) + "\n").encode())

    learner = case.make()
    program = Program(learner.libraries, code_digest(learner.code()).digest)
    # Workers start before anything is timed, so that kills hit work and not the loading of libraries.
    for worker in [local._warm.take(program) for _ in range(n_workers)]:
        local._warm.give_back(program, worker)
    executor = local.LocalExecutor(n_workers)
    moments = Moments(path.parent, kill_at)
    say("begin", "open")
    workspace = (
        Workspace.open(path, executor=executor) if path.exists() else create(path, case, S, R, executor=executor)
    )
    for name, act in script(case):
        say("begin", name)
        act(workspace)
    say("begin", "close")
    digest = workspace.state_digest()
    workspace.close()
    say("finished", digest, str(moments.count))


def main(name: str, n_workers: int) -> None:
    """Fork a process for every path on standard input: libraries load once, state is always fresh."""
    case = {case.name: case for case in LIGHT}[name]
    import pyarrow  # noqa: F401 (libraries are loaded once, before the forks)
    import sklearn.linear_model  # noqa: F401
    import skops.io  # noqa: F401

    if case.torch:
        import torch  # noqa: F401

    for line in iter(sys.stdin.readline, ""):
        kill_at, _, path = line.strip().partition(" ")
        pid = os.fork()
        if pid == 0:
            sys.stdin.close()
            perform(case, n_workers, Path(path), int(kill_at))
            sys.stdout.flush()
            os._exit(0)
        os.write(1, f"process {pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        os.write(1, f"ended {os.waitstatus_to_exitcode(status)}\n".encode())


# --- the killer --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What a driven process came to.

    Attributes:
        digest: State digest, if it finished.
        during: What was under way when it ended otherwise.
        seconds: How long each operation took.
        moments: How many moments it passed, if it finished.
    """

    digest: str | None
    during: str
    seconds: dict[str, float]
    moments: int


class Driver:
    """A running driver."""

    def __init__(self, case: Case, n_workers: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, case.name, str(n_workers)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )

    def run(self, path: Path, *, kill_at: int = -1, kill_in: str = "", after: float = 0.0) -> Outcome:
        """Have the script done; kill it at a moment, or `after` seconds into an operation, if one is named."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{kill_at} {path}\n".encode())
        pid, digest, moments, begun = 0, None, 0, [("start", time.perf_counter())]
        while True:
            word, _, rest = self._line().partition(" ")
            if word == "process":
                pid = int(rest)
            elif word == "begin":
                begun.append((rest, time.perf_counter()))
                if rest == kill_in:
                    time.sleep(after)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            elif word == "finished":
                digest, moments = rest.split()[0], int(rest.split()[1])
                begun.append(("end", time.perf_counter()))
            else:
                assert word == "ended"
                assert int(rest) == -signal.SIGKILL or (int(rest) == 0 and digest is not None)
                seconds = {name: later - at for (name, at), (_, later) in pairwise(begun)}
                return Outcome(digest, begun[-1][0], seconds, moments)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.endswith(b"\n"), "the driver itself ended: its message is above"
        return line.decode().strip()


@contextlib.contextmanager
def driving(case: Case, n_workers: int) -> Iterator[Driver]:
    driver = Driver(case, n_workers)
    try:
        yield driver
    finally:
        driver.close()


# --- what must hold afterwards -----------------------------------------------------------------------------------


def check_nothing_is_left_over(path: Path) -> None:
    """Open the workspace and look at every file below it."""
    workspace = Workspace.open(path)
    ledger = workspace._site.ledger
    assert ledger.operation() == ""
    assert ledger.erasures() == []
    assert list(path.glob("shards/*/staging/*")) == []
    named = {f"{shard:04d}/checkpoints/{step.key}.safetensors" for (shard, _), step in ledger.steps().items()}
    assert {str(file.relative_to(path / "shards")) for file in path.glob("shards/*/checkpoints/*")} == named
    held = {f"{shard:04d}/records/{piece.file}" for (shard, _), piece in ledger.slices().items()}
    assert {str(file.relative_to(path / "shards")) for file in path.glob("shards/*/records/*")} == held
    requests = Counter(request.idempotency_key for request in workspace.requests())
    assert requests == {"person 0": 1, "person 1": 1, "rows 0": 1, "rows 1": 1}
    assert {request.state.value for request in workspace.requests()} == {"receipted"}
    workspace.close()
    check_nothing_forgotten_is_in_any_file(path)


def check_nothing_forgotten_is_in_any_file(path: Path) -> None:
    everything = b"\n".join(file.read_bytes() for file in path.rglob("*") if file.is_file())
    for batch in (FIRST, SECOND):
        for item in batch:
            # What stays is found by the same search, which shows that the search can find.
            stays = item in remaining(batch)
            assert (item.id.encode() in everything) is stays, item
            assert (digits()[0][item.row].tobytes() in everything) is stays, item
    for subject in FORGOTTEN_PEOPLE:
        assert subject.encode() not in everything


# --- the tests ---------------------------------------------------------------------------------------------------


def crash_again_and_again(case: Case, folder: Path, n_workers: int, kills: int, seed: int) -> Counter[str]:
    """Kill drivers `kills` times, let each workspace finish after one to three kills, and check it.

    Returns:
        How many kills hit each operation.
    """
    chance = random.Random(seed)
    hit: Counter[str] = Counter()
    with driving(case, n_workers) as driver:
        usual = driver.run(folder / "usual")
        check_nothing_is_left_over(folder / "usual")
        fresh = trained(folder / "fresh", case, [remaining(FIRST), remaining(SECOND)], S, R)
        assert usual.digest == fresh.state_digest()
        fresh.close()
        operations = [name for name, _ in script(case)]
        for number in count():
            path = folder / f"killed {number}"
            for again in range(min(chance.choice((1, 1, 2, 3)), kills - hit.total())):
                if again:
                    # The first thing a process does is to clear away what the one before it left behind.
                    outcome = driver.run(path, kill_at=chance.randrange(80))
                elif chance.random() < 0.7:
                    spread = (hit.total() + chance.random()) / kills
                    outcome = driver.run(path, kill_at=int(spread * usual.moments))
                else:
                    # Every operation in turn, so that short ones are hit as often as long ones.
                    target = operations[number % len(operations)]
                    outcome = driver.run(path, kill_in=target, after=chance.random() * usual.seconds[target])
                hit[outcome.during] += 1
            assert driver.run(path).digest == usual.digest
            check_nothing_is_left_over(path)
            if hit.total() == kills:
                break
    return hit


def report(capsys: pytest.CaptureFixture[str], case: Case, hit: Counter[str]) -> None:
    middle = sum(count for name, count in hit.items() if name.split()[0] in {"ingest", "train", "forget", "recover"})
    with capsys.disabled():
        print(f"\n{case}: {hit.total()} kills, {middle} in the middle of an operation: {dict(sorted(hit.items()))}")
    # All but those that hit opening, closing or a process that had just finished.
    assert middle > hit.total() / 2


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_in_the_same_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # The seed is one whose few kills fall between the writes of an ingest, a training and a forgetting.
    report(capsys, SGD, crash_again_and_again(SGD, tmp_path, 1, 12, seed=984))


@pytest.mark.slow
@pytest.mark.parametrize(("case", "n_workers", "kills"), [(SGD, 1, 40), (MLP_ADAM, 2, 8)], ids=str)
def test_killed_many_more_times(
    case: Case, n_workers: int, kills: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report(capsys, case, crash_again_and_again(case, tmp_path, n_workers, kills, seed=kills))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
