"""Local workers: death is survived, errors are told, nobody is left at work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from executor_learners import Counting

from shards.errors import ConfigurationError, TrainingError, WorkerLostError
from shards.executors.local import LocalExecutor, close_workers
from shards.executors.work import ATTEMPTS
from unlearn import Workspace

X = np.arange(60, dtype=np.float64).reshape(30, 2)
Y = np.arange(30) % 2


def make(path: Path, learner: Counting, n_workers: int = 2) -> Workspace:
    made = Workspace.create(
        path, learner, n_shards=3, n_slices=3, random_state=1, classes=[0, 1], executor=LocalExecutor(n_workers)
    )
    made.ingest(X, Y)
    return made


def test_a_worker_that_dies_is_replaced_and_the_result_is_the_same(tmp_path: Path) -> None:
    calm = make(tmp_path / "calm", Counting())
    calm.train()
    rough = make(tmp_path / "rough", Counting("die once", str(tmp_path / "flag")))
    report = rough.train()
    assert (tmp_path / "flag").exists()
    assert report.steps == 9
    assert rough.state_digest() == calm.state_digest()


def test_a_step_that_kills_every_worker_is_given_up_and_the_rest_is_kept(tmp_path: Path) -> None:
    ws = make(tmp_path / "ws", Counting("die", str(tmp_path / "flag")), n_workers=1)
    with pytest.raises(WorkerLostError, match="shard 1, step 1: the worker process died"):
        ws.train()
    assert len((tmp_path / "flag").read_text()) == ATTEMPTS
    assert (1, 0) in ws._site.ledger.steps()
    assert (1, 1) not in ws._site.ledger.steps()


def test_an_error_of_the_learner_is_told_with_shard_step_and_traceback(tmp_path: Path) -> None:
    ws = make(tmp_path / "ws", Counting("raise"))
    with pytest.raises(TrainingError, match="shard 1, step 1 failed: RuntimeError: the learner's own words") as caught:
        ws.train()
    assert (caught.value.shard, caught.value.position) == (1, 1)
    assert "executor_learners.py" in caught.value.traceback


def test_what_the_learner_prints_is_no_answer(tmp_path: Path) -> None:
    ws = make(tmp_path / "ws", Counting("print"))
    assert ws.train().steps == 9


def test_workers_are_kept_warm(tmp_path: Path) -> None:
    close_workers()
    pids = []
    for name in ("one", "two"):
        ws = make(tmp_path / name, Counting(), n_workers=1)
        ws.train()
        from shards.executors.local import _warm

        pids.append(sorted(worker.pid for group in _warm._idle.values() for worker in group))
    assert len(pids[0]) == 1
    assert pids[0] == pids[1]


def test_a_number_of_workers_below_one_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="at least 1, got 0"):
        LocalExecutor(0)


DRIVER = """
import signal, sys
# Where the tests run in the background, they and their children ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
sys.path[:0] = {path!r}
import numpy as np
from executor_learners import Counting
from unlearn import Workspace
ws = Workspace.create({ws!r}, Counting("hang", {flag!r}), n_shards=3, n_slices=3, random_state=1, classes=[0, 1])
ws.ingest(np.arange(60.0).reshape(30, 2), np.arange(30) % 2)
try:
    ws.train()
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_survives_its_driver(tmp_path: Path, how: signal.Signals) -> None:
    flag = tmp_path / "flag"
    code = DRIVER.format(path=[p for p in sys.path if p], ws=str(tmp_path / "ws"), flag=str(flag))
    driver = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    worker = int(wait_for(lambda: flag.exists() and flag.read_text()))
    wait_for(lambda: (1, 0) in Workspace.open(tmp_path / "ws")._site.ledger.steps())
    driver.send_signal(how)
    said, _ = driver.communicate(timeout=30)
    assert ("interrupted" in said) == (how is signal.SIGINT)
    wait_for(lambda: not is_running(worker))
    # What was built is kept, nothing unfinished is, and the workspace goes on where it was.
    ws = Workspace.open(tmp_path / "ws")
    assert (1, 0) in ws._site.ledger.steps()
    with ws._writing():
        assert not any((tmp_path / "ws" / "shards").glob("*/staging/*"))


def wait_for(condition):
    for _ in range(600):
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("waited for 30 s")


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
