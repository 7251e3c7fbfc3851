"""Ray with several nodes, which come, go and differ; and Ray Client."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from executor_learners import Counting, Depending, Slow

from shards.errors import ClusterError, EnvironmentMismatchError, StorageError, UnlearnError
from shards.executors.local import LocalExecutor
from shards.executors.ray import RayExecutor
from tests.cases import contents
from tests.shards.executors.rays import CODE, ClusterHere, cluster_here, is_running, raylet, start, wait_for
from tests.shards.executors.test_ray import SOON, make
from unlearn import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.ray]

SHARDS = 8


@pytest.fixture(scope="module")
def nodes() -> Iterator[ClusterHere]:
    """One cluster for all tests of this file; every test brings its own nodes."""
    with cluster_here() as found:
        yield found


@pytest.fixture
def executor(nodes: ClusterHere) -> RayExecutor:
    return RayExecutor(nodes.home.address)


@pytest.fixture
def calm(tmp_path: Path) -> Workspace:
    """What training comes to where nothing happens."""
    ws = make(tmp_path / "calm", Counting(), LocalExecutor(2), SHARDS)
    ws.train()
    return ws


@contextlib.contextmanager
def some(nodes: ClusterHere, count: int) -> Iterator[list]:
    """Nodes of one core for the while; those that are left are removed."""
    there = [nodes.add() for _ in range(count)]
    try:
        yield there
    finally:
        for node in list(nodes.cluster.worker_nodes):
            nodes.remove(node)


class Training:
    """A training in a thread, so that something can happen meanwhile."""

    def __init__(self, ws: Workspace) -> None:
        self.errors: list[BaseException] = []
        self.thread = threading.Thread(target=self._run, args=(ws,))
        self.thread.start()

    def _run(self, ws: Workspace) -> None:
        try:
            ws.train(progress=False)
        except UnlearnError as error:
            self.errors.append(error)

    def end(self, seconds: float = 120) -> list[BaseException]:
        self.thread.join(seconds)
        assert not self.thread.is_alive()
        return self.errors


def test_chains_are_spread_over_the_nodes(
    nodes: ClusterHere, executor: RayExecutor, calm: Workspace, tmp_path: Path
) -> None:
    with some(nodes, 2) as there:
        ws = make(tmp_path / "ws", Slow(pause=0.4), executor, SHARDS)
        training = Training(ws)
        wait_for(lambda: nodes.at_work() == {raylet(node) for node in there})
        assert training.end() == []
        assert contents(ws) == contents(calm)


def test_a_node_that_goes_away_costs_nothing(
    nodes: ClusterHere, executor: RayExecutor, calm: Workspace, tmp_path: Path
) -> None:
    with some(nodes, 2) as there:
        ws = make(tmp_path / "ws", Slow(pause=0.4), executor, SHARDS)
        training = Training(ws)
        wait_for(lambda: len(nodes.at_work()) == 2)
        gone = nodes.home.pinned()
        nodes.remove(there[0])
        assert training.end() == []
        assert gone
        assert contents(ws) == contents(calm)
        assert ws.state_digest() == calm.state_digest()


def test_a_node_that_joins_is_used_and_may_replace_the_first(
    nodes: ClusterHere, executor: RayExecutor, calm: Workspace, tmp_path: Path
) -> None:
    with some(nodes, 1) as there:
        ws = make(tmp_path / "ws", Slow(pause=2.5), executor, SHARDS)
        training = Training(ws)
        wait_for(lambda: nodes.at_work() == {raylet(there[0])})
        second = nodes.add()
        wait_for(lambda: raylet(second) in nodes.at_work())
        # What waits for the first node alone must not wait for ever.
        nodes.remove(there[0])
        assert training.end() == []
        assert contents(ws) == contents(calm)


def test_when_no_node_is_left_that_is_said_and_what_was_built_is_kept(
    nodes: ClusterHere, executor: RayExecutor, calm: Workspace, tmp_path: Path
) -> None:
    with some(nodes, 1) as there:
        ws = make(tmp_path / "ws", Slow(pause=0.3), executor, SHARDS)
        training = Training(ws)
        wait_for(lambda: list((tmp_path / "ws").glob("shards/*/checkpoints/*")))
        nodes.remove(there[0])
        (error,) = training.end()
        assert isinstance(error, ClusterError)
        assert "no node is left" in str(error)
        assert ws._site.ledger.steps()
        nodes.add()
        ws.train(progress=False)
        assert contents(ws) == contents(calm)


def test_nodes_that_differ_are_refused_or_left_alone(nodes: ClusterHere, tmp_path: Path) -> None:
    """They have different versions of a library, each in a folder of its own."""
    for version in ("1.0", "2.0"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "some_numeric_library.py").write_text(f"__version__ = {version!r}\n")
    with some(nodes, 0):
        old = nodes.add(2, PYTHONPATH=os.pathsep.join([CODE, str(tmp_path / "1.0")]))
        new = nodes.add(1, PYTHONPATH=os.pathsep.join([CODE, str(tmp_path / "2.0")]))
        ws = make(tmp_path / "ws", Depending(), RayExecutor(nodes.home.address))
        with pytest.raises(EnvironmentMismatchError, match=r"some_numeric_library is '2\.0', not '1\.0'") as caught:
            ws.train()
        assert "nodes='largest'" in str(caught.value)
        assert new.node_id[:8] in str(caught.value)
        seen: set[int] = set()
        ws = Workspace.open(tmp_path / "ws", executor=RayExecutor(nodes.home.address, nodes="largest"))
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.02):
                seen.update(nodes.at_work())

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            assert ws.train(progress=False).steps == 9
        finally:
            over.set()
            watcher.join()
        assert seen <= {raylet(old)}


NODE = """
import sys
from ray._private.node import Node
from ray._private.parameter import RayParams
few = dict(num_cpus=1, object_store_memory=80_000_000, node_manager_port=0, min_worker_port=0, max_worker_port=0)
here = dict(gcs_address={address!r}, redis_address={address!r}, node_ip_address="127.0.0.1", include_log_monitor=False)
node = Node(RayParams(**few, **here), head=False, shutdown_at_exit=True, spawn_reaper=True)
sys.stdin.read()
"""
"""A node that is there until its input ends."""


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="a node with other mounts needs root")
def test_a_folder_that_a_node_does_not_see_is_one_clear_error(nodes: ClusterHere, tmp_path: Path) -> None:
    import ray as loaded

    from shards.executors.ray import connect

    def cores() -> float:
        return sum(n["Resources"].get("CPU", 0) for n in loaded.nodes() if n["Alive"])

    connect(nodes.home.address, {})
    # A node that another test took away counts as alive until it has missed its heartbeats.
    wait_for(lambda: cores() == 0)
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    mounted = f'mount -t tmpfs none {hidden} && exec "$0" -c "$1"'
    node = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", mounted, sys.executable, NODE.format(address=nodes.home.address)],
        env={**os.environ, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "PYTHONPATH": CODE},
        stdin=subprocess.PIPE,
    )
    try:
        ws = make(hidden / "ws", Counting(), RayExecutor(nodes.home.address))
        wait_for(lambda: cores() == 1)
        began = time.monotonic()
        with pytest.raises(StorageError, match=r"does not see .*mount there what the driver sees"):
            ws.train(progress=False)
        assert time.monotonic() - began < SOON
    finally:
        node.communicate(timeout=60)


# --- Ray Client ---------------------------------------------------------------------------------------------------

CLIENT = """
import json, ray
from executor_learners import Counting, Slow
from tests.shards.executors.test_ray import Stopping, make
from shards.executors.ray import RayExecutor, connect
from pathlib import Path
place = Path({place!r})
connect(None, {{}})
told = {{"is client": ray.util.client.ray.is_connected()}}
def train(name, learner, executor, shards=3):
    ws = make(place / name, learner, executor, shards)
    try:
        ws.train(progress=False)
        told[name] = ws.state_digest()
    except Exception as error:
        told[name] = f"{{type(error).__name__}} {{error}}"
    return ws
train("calm", Slow(pause=0.1), RayExecutor(), {shards})
train("raise", Counting("raise"), RayExecutor())
train("print", Counting("print"), RayExecutor())
train("once", Counting("die once", str(place / "once flag")), RayExecutor())
train("die", Counting("die", str(place / "die flag")), RayExecutor())
stopping = Stopping(place / "flag")
told["stopped"] = len(train("stop", Counting("hang with a child", str(place / "flag")), stopping)._site.ledger.steps())
told["alive"] = stopping.alive
print(json.dumps(told))
"""


def with_client(nodes: ClusterHere, place: Path) -> tuple[dict, str]:
    """What one driver behind `ray://` is told, and what it prints.

    Ray Client's own server does not always start: it starts a process for each client from one with many threads.
    That is Ray's, happens before anything of ours, and is tried again.
    """
    errors = ""
    for attempt in range(4):
        (place / str(attempt)).mkdir()
        code = CLIENT.format(place=str(place / str(attempt)), shards=SHARDS)
        driver = start(code, nodes.home, {"RAY_ADDRESS": f"ray://127.0.0.1:{nodes.client}"})
        said, errors = driver.communicate(timeout=250)
        if said or "Starting Ray client server failed" not in errors:
            assert said, errors
            return json.loads(said), errors
    raise AssertionError(errors)


def test_ray_client_gives_the_same_bytes_errors_prints_losses_and_stops(
    nodes: ClusterHere, calm: Workspace, tmp_path: Path
) -> None:
    small = make(tmp_path / "small", Counting(), LocalExecutor(2))
    small.train()
    with some(nodes, 2):
        place = tmp_path / "client"
        place.mkdir()
        told, errors = with_client(nodes, place)
    assert told["is client"]
    assert told["calm"] == calm.state_digest()
    said = "TrainingError training shard 1, step 1 failed: RuntimeError: the learner's own words"
    assert told["raise"].startswith(said), told
    assert told["print"] == told["once"] == small.state_digest()
    assert "to standard output\n" in errors
    assert told["die"].startswith("WorkerLostError shard 1, step 1: the worker process died 3 times in a row"), told
    (flag,) = place.glob("*/flag")
    assert (told["stopped"], told["alive"]) == (7, [])
    assert not any(is_running(int(pid)) for pid in flag.read_text().split())
