"""Ray: the same bytes as on this machine, whatever happens to workers and drivers, and nothing left with Ray."""

from __future__ import annotations

import random
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import call_functions
import numpy as np
import pytest
from executor_learners import Counting, Slow
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shards.errors import (
    ClusterError,
    CodeError,
    ConfigurationError,
    DamageError,
    TrainingError,
    WorkerLostError,
)
from shards.executors.base import OnBuilt, OnProgress, OnTurn, Program, Stop, carry_on
from shards.executors.local import LocalExecutor
from shards.executors.ray import RayExecutor, connect
from shards.executors.work import ATTEMPTS
from shards.train import ChainOrder
from tests.cases import CASES, LIGHT, MLP_ADAM, SGD, Case, contents, record, trained
from tests.shards.executors.rays import Home, commands, is_running, kill, ray_here, shared_memory, start, wait_for
from tests.unlearn.helpers import create as create_canaries
from tests.unlearn.helpers import hoarding
from tests.unlearn.test_history import Operation, histories, live
from unlearn import Workspace, verify

pytestmark = pytest.mark.ray

X = np.arange(60, dtype=np.float64).reshape(30, 2)
Y = np.arange(30) % 2
SOON = 60.0
"""Seconds within which bad input is refused."""


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    """One Ray for all tests of this file."""
    with ray_here(num_cpus=2) as found:
        yield found


@pytest.fixture
def ray_executor(home: Home) -> RayExecutor:
    return RayExecutor()


def make(path: Path, learner: Counting, executor: Any, n_shards: int = 3, n_slices: int = 3) -> Workspace:
    made = Workspace.create(
        path, learner, n_shards=n_shards, n_slices=n_slices, random_state=1, classes=[0, 1], executor=executor
    )
    made.ingest(X, Y)
    return made


# --- the same bytes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case", [case if case in LIGHT else pytest.param(case, marks=pytest.mark.slow) for case in CASES], ids=str
)
def test_every_case_gives_the_bytes_it_gives_here(case: Case, ray_executor: RayExecutor, tmp_path: Path) -> None:
    batches = [[record(i, f"person {i % 31}") for i in range(70)], [record(i) for i in range(70, 110)]]
    here = trained(tmp_path / "here", case, batches, 3, 2)
    there = trained(tmp_path / "there", case, batches, 3, 2, executor=ray_executor)
    assert contents(there) == contents(here)
    assert there.state_digest() == here.state_digest()


@pytest.mark.slow
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(n_shards=st.integers(1, 4), n_slices=st.integers(1, 3), story=histories)
def test_any_history_ends_as_one_lived_here(
    ray_executor: RayExecutor, n_shards: int, n_slices: int, story: list[Operation]
) -> None:
    live(SGD, n_shards, n_slices, story, ray_executor)


@pytest.mark.slow
def test_histories_with_torch_end_as_ones_lived_here(ray_executor: RayExecutor) -> None:
    @settings(max_examples=2)
    @given(n_shards=st.integers(1, 3), n_slices=st.integers(1, 2), story=histories)
    def run(n_shards: int, n_slices: int, story: list[Operation]) -> None:
        live(MLP_ADAM, n_shards, n_slices, story, ray_executor)

    run()


def test_calls_give_the_bytes_they_give_here(ray_executor: RayExecutor, tmp_path: Path) -> None:
    items = [3, 1, 2]
    here = LocalExecutor(2).map(call_functions.square, items, tmp_path / "here")
    there = ray_executor.map(call_functions.square, items, tmp_path / "there")
    assert [value["solved"].tobytes() for value in there] == [value["solved"].tobytes() for value in here]
    files = [{p.name: p.read_bytes() for p in (tmp_path / place).iterdir()} for place in ("here", "there")]
    assert len(files[0]) == 3
    assert files[0] == files[1]
    # What returned here is not called again there.
    assert [v["square"] for v in ray_executor.map(call_functions.square, items, tmp_path / "here")] == [9, 1, 4]


# --- user code ----------------------------------------------------------------------------------------------------


def test_an_error_of_the_learner_is_told_and_not_tried_again(ray_executor: RayExecutor, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    ws = make(tmp_path / "ws", Counting("raise", str(flag)), ray_executor)
    with pytest.raises(TrainingError, match="shard 1, step 1 failed: RuntimeError: the learner's own words") as caught:
        ws.train()
    assert (caught.value.shard, caught.value.position) == (1, 1)
    assert "executor_learners.py" in caught.value.traceback
    assert flag.read_text() == "x"


def test_what_ends_by_itself_is_not_cancelled(
    ray_executor: RayExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray kills a driver that cancels a task in the moment in which that ends."""
    import ray

    cancel = ray.cancel
    ended: list[bool] = []

    def cancelled(task: Any, force: bool) -> None:
        if not force and len(ended) < 2:
            ended.append(bool(ray.wait([task.completed()], timeout=3)[0]))
        cancel(task, force=force)

    monkeypatch.setattr(ray, "cancel", cancelled)
    ws = make(tmp_path / "ws", Counting("raise together", str(tmp_path / "flag")), ray_executor, n_shards=2)
    with pytest.raises(DamageError, match="the learner's own words"):
        ws.train()
    assert ended == [False]  # the other one, which had failed as well


def test_what_the_learner_prints_reaches_the_driver_and_not_rays_logs(
    ray_executor: RayExecutor, home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ws = make(tmp_path / "ws", Counting("print"), ray_executor)
    assert ws.train(progress=False).steps == 9
    said = capsys.readouterr()
    assert "to standard output\n" in said.err
    assert "to standard error: é\n" in said.err
    assert said.out == ""
    assert found_in_files(home.folder, b"to standard") == []
    assert found_in_files(home.folder, b"raylet")  # the search sees Ray's logs


def test_the_last_words_of_a_worker_are_heard(
    ray_executor: RayExecutor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ws = make(tmp_path / "ws", Counting("last words"), ray_executor)
    with pytest.raises(WorkerLostError, match="It was ended by SIGKILL"):
        ws.train(progress=False)
    assert capsys.readouterr().err.count("the last words\n") == ATTEMPTS


def found_in_files(folder: Path, pattern: bytes) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return [path for path in files if pattern in path.read_bytes()]


def pinned_for_numpy(home: Home) -> set[int]:
    """Workers of ours that loaded numpy alone; other tests' are kept warm beside them."""
    return {pid for pid, command in commands().items() if command.strip().endswith("worker numpy")} & set(home.pinned())


def test_a_replay_is_done_by_workers_that_did_nothing_before(
    ray_executor: RayExecutor, home: Home, tmp_path: Path
) -> None:
    ws = make(tmp_path / "ws", Counting(), ray_executor)
    ws.train()
    request = ws.forget(record_ids=["0"])
    ws.recover()
    warm = pinned_for_numpy(home)
    assert warm
    receipt = ws.receipts(request.id)[-1]
    verify(receipt, ws.public_key, workspace=ws, replay=True)
    # Ray's workers that had nothing to replay still have theirs; those that had have another.
    assert pinned_for_numpy(home) - warm


# --- workers that are lost ----------------------------------------------------------------------------------------


def test_a_step_that_kills_every_worker_is_given_up_and_the_rest_is_kept(
    ray_executor: RayExecutor, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    ws = make(tmp_path / "ws", Counting("die", str(flag)), ray_executor)
    with pytest.raises(WorkerLostError, match="shard 1, step 1: the worker process died 3 times in a row"):
        ws.train()
    assert len(flag.read_text()) == ATTEMPTS == 3
    assert (1, 0) in ws._site.ledger.steps()
    assert (1, 1) not in ws._site.ledger.steps()


@pytest.mark.slow
def test_nothing_is_lost_when_workers_are_killed_at_random(
    ray_executor: RayExecutor, home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards, slices, wanted = 12, 3, 20
    expected = make(tmp_path / "calm", Counting(), LocalExecutor(2), shards, slices)
    expected.train()
    rng = random.Random(4)
    killed = {"pinned worker": 0, "Ray's worker": 0}
    given_up = lost = 0
    for attempt in range(10):
        ws = make(tmp_path / f"rough {attempt}", Slow(pause=0.05), ray_executor, shards, slices)
        over = threading.Event()
        killer = threading.Thread(target=kill_now_and_then, args=(home, rng, killed, wanted, over))
        killer.start()
        try:
            while True:
                try:
                    ws.train(progress=False)
                    break
                except WorkerLostError:
                    given_up += 1  # three in a row hit one step; what was built is kept
        finally:
            over.set()
            killer.join()
        lost += len(expected._site.ledger.steps().keys() - ws._site.ledger.steps().keys())
        assert contents(ws) == contents(expected)
        assert ws.state_digest() == expected.state_digest()
        if sum(killed.values()) == wanted:
            break
    with capsys.disabled():
        print(f"\nfaults tried: {sum(killed.values())}, lost: {lost} ({killed}, repeated by hand: {given_up})", end=" ")
    assert sum(killed.values()) == wanted
    assert min(killed.values()) > 0
    assert lost == 0


def kill_now_and_then(
    home: Home, rng: random.Random, killed: dict[str, int], wanted: int, over: threading.Event
) -> None:
    while not over.wait(rng.uniform(0.1, 0.9)) and sum(killed.values()) < wanted:
        # Only those at work: an idle one is nobody's loss.
        at_work = {pid: ray for pid, ray in home.pinned().items() if "ray::train" in home.processes().get(ray, "")}
        if at_work:
            pid = rng.choice(sorted(at_work))
            which = rng.choice(sorted(killed))
            kill(pid if which == "pinned worker" else at_work[pid])
            killed[which] += 1


# --- stopping -----------------------------------------------------------------------------------------------------


class Stopping(RayExecutor):
    """Stops shard 1 as soon as a file is there, and looks at once whether its processes are."""

    def __init__(self, flag: Path) -> None:
        super().__init__()
        self.flag = flag
        self.alive: list[int] | None = None
        self.told_afterwards: list[int] = []

    def run(
        self,
        program: Program,
        orders: Sequence[ChainOrder],
        on_built: OnBuilt,
        on_progress: OnProgress,
        on_turn: OnTurn = carry_on,
    ) -> None:
        def built(step: Any) -> None:
            if self.alive is not None:
                self.told_afterwards.append(step.header.shard)
            on_built(step)

        def turn(stop: Stop) -> None:
            if self.alive is None and self.flag.exists() and (pids := self.flag.read_text().split()):
                stop([1])
                self.alive = [int(pid) for pid in pids if is_running(int(pid))]

        super().run(program, orders, built, on_progress, turn)


def test_what_is_stopped_is_gone_when_stop_returns(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flag = tmp_path / "flag"
    forced: list[bool] = []
    import ray

    cancel = ray.cancel
    monkeypatch.setattr(ray, "cancel", lambda task, force: (forced.append(force), cancel(task, force=force)))
    executor = Stopping(flag)
    ws = make(tmp_path / "ws", Counting("hang with a child", str(flag)), executor)
    ws.train()
    assert len(flag.read_text().split()) == 2
    assert executor.alive == []
    assert not any(forced)  # a task that is asked to end hears it
    assert 1 not in executor.told_afterwards
    assert {place for place in ws._site.ledger.steps() if place[0] != 1} == {(s, p) for s in (0, 2) for p in range(3)}


DRIVER = """
from executor_learners import Counting, Slow
from tests.shards.executors.test_ray import make
from shards.executors.ray import RayExecutor
from pathlib import Path
ws = make(Path({ws!r}), {learner}, RayExecutor())
try:
    ws.train()
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_after_ctrl_c_no_worker_is_left(home: Home, tmp_path: Path) -> None:
    flag, place = tmp_path / "flag", tmp_path / "ws"
    before = home.pinned().keys()
    driver = start(DRIVER.format(ws=str(place), learner=f"Counting('hang with a child', {str(flag)!r})"), home)
    pids = [int(pid) for pid in wait_for(lambda: flag.exists() and flag.read_text().split())]
    wait_for(lambda: (1, 0) in Workspace.open(place)._site.ledger.steps())
    driver.send_signal(signal.SIGINT)
    said, errors = driver.communicate(timeout=60)
    assert said == "interrupted\n", errors
    assert not any(is_running(pid) for pid in pids)
    wait_for(lambda: not home.pinned().keys() - before)
    assert (1, 0) in Workspace.open(place)._site.ledger.steps()


def test_another_driver_finishes_what_a_killed_one_began(ray_executor: RayExecutor, home: Home, tmp_path: Path) -> None:
    calm = make(tmp_path / "calm", Counting(), LocalExecutor(2), 6)
    calm.train()
    before, place = home.pinned().keys(), tmp_path / "ws"
    driver = start(
        DRIVER.format(ws=str(place), learner="Slow(pause=0.3)").replace("RayExecutor())", "RayExecutor(), 6)"), home
    )
    wait_for(lambda: len(list(place.glob("shards/*/checkpoints/*"))) >= 3)
    of_driver = home.pinned().keys() - before
    driver.kill()
    driver.communicate(timeout=60)
    assert of_driver
    ws = Workspace.open(place, executor=ray_executor)
    built = len(ws._site.ledger.steps())
    assert 3 <= built < len(calm._site.ledger.steps())
    assert ws.train().steps <= len(calm._site.ledger.steps()) - built
    assert contents(ws) == contents(calm)
    assert ws.state_digest() == calm.state_digest()
    wait_for(lambda: not any(is_running(pid) for pid in of_driver))


def test_a_driver_that_ends_leaves_no_warm_worker(home: Home, tmp_path: Path) -> None:
    before = home.pinned().keys()
    driver = start(
        DRIVER.format(ws=str(tmp_path / "ws"), learner="Counting()") + "print(len(ws._site.ledger.steps()))", home
    )
    wait_for(lambda: home.pinned().keys() - before)
    said, errors = driver.communicate(timeout=60)
    assert said == "9\n", errors
    wait_for(lambda: not home.pinned().keys() - before)


GLUTTON = """
import os
from executor_learners import Counting
from tests.shards.executors.test_ray import make
from shards.executors.ray import RayExecutor
from pathlib import Path
try:
    make(Path({ws!r}), Counting("gluttony", {flag!r}), RayExecutor()).train()
except Exception as error:
    print(type(error).__name__, error, flush=True)
"""


@pytest.mark.slow
def test_a_step_that_takes_too_much_memory_is_tried_again_and_given_up(tmp_path: Path) -> None:
    """With a Ray of its own, whose monitor is to act a little above what is in use now."""
    total, free = (memory(name) for name in ("MemTotal", "MemAvailable"))
    if free < 8e9:
        pytest.skip("takes 3 GB for a moment, and less than 8 GB are free")
    flag = tmp_path / "flag"
    variables = {
        "RAY_memory_usage_threshold": f"{(total - free + 1.2e9) / total:.4f}",
        "RAY_memory_monitor_refresh_ms": "50",
    }
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as folder:
        code = GLUTTON.format(ws=str(tmp_path / "ws"), flag=str(flag))
        driver = start(code, Home(Path(folder), ""), variables)
        said, errors = driver.communicate(timeout=180)
    assert said.startswith("WorkerLostError shard 1, step 1: "), (said, errors)
    assert f"ended for lack of memory {ATTEMPTS} times in a row" in said
    # The monitor looks at the whole machine: an attempt may be ended before it gets as far as its flag.
    assert 1 <= len(flag.read_text()) <= ATTEMPTS


def memory(name: str) -> int:
    """Bytes of memory of the machine."""
    line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


# --- nothing is left with Ray -------------------------------------------------------------------------------------


def test_no_byte_of_a_record_is_with_ray(home: Home, tmp_path: Path) -> None:
    """Neither in its files, nor in shared memory, nor in the memory of any of its processes."""
    import ray

    canary = np.frombuffer(b"RAYLESS!", dtype=np.float64)[0]
    ws = create_canaries(tmp_path / "ws", hoarding(), executor=RayExecutor())
    data = np.full((30, 3), canary)
    data[:, 2] = np.arange(30)
    names = [f"canary-record-{i:02d}" for i in range(30)]
    ws.ingest(data, np.arange(30) % 2, record_ids=names)
    ws.train()
    assert found_in_files(tmp_path / "ws", b"RAYLESS!")  # it is in the workspace, so there was something to leave
    ws.forget(record_ids=names[:4])
    ws.recover()
    for pattern in (b"RAYLESS!", b"canary-record-"):
        assert found_in_files(home.folder, pattern) == []
        assert [path for path in shared_memory() if pattern in path.read_bytes()] == []
        assert found_in_memory(home, pattern) == []
    kept = ray.put(np.full(100_000, np.frombuffer(b"CONTROL!", dtype=np.float64)[0]))
    assert any("raylet" in command for command in found_in_memory(home, b"CONTROL!")), "the search sees the store"
    del kept


def found_in_memory(home: Home, pattern: bytes) -> list[str]:
    """Those of Ray's processes, its store among them, whose memory holds a pattern."""
    found = []
    for pid, command in home.processes().items():
        try:
            maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
            with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as file:
                if any(pattern in part for line in maps for part in memory_of(file, line)):
                    found.append(command)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def memory_of(file: Any, line: str) -> Iterator[bytes]:
    """The written pages of one mapping."""
    area, rights, *_ = line.split()
    first, last = (int(edge, 16) for edge in area.split("-"))
    if not rights.startswith("rw"):
        return
    step = 1 << 24
    for at in range(first, last, step):
        try:
            file.seek(at)
            yield file.read(min(step, last - at))
        except (OSError, ValueError):
            return


# --- bad input ----------------------------------------------------------------------------------------------------


def refused(code: str, home: Home, **variables: str) -> str:
    """What another driver says in its one error, soon."""
    head = "import time\nfrom shards.executors.ray import RayExecutor, connect\nbegan = time.monotonic()\ntry:\n"
    tail = "\nexcept BaseException as error:\n    print(type(error).__name__, time.monotonic() - began, error)\n"
    driver = start(head + "    " + code + tail, home, variables)
    said, errors = driver.communicate(timeout=120)
    name, seconds, message = (said or f"nothing 0 {errors}").split(" ", 2)
    assert name == "ClusterError", (said, errors)
    assert float(seconds) < SOON
    return message


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "ray://127.0.0.1:{port}", "localhost:{port}"])
def test_an_address_where_nobody_listens(home: Home, closed_port: int, address: str) -> None:
    said = refused(f"connect({address.format(port=closed_port)!r}, {{}})", home)
    assert "nobody answers at" in said
    assert str(closed_port) in said


def test_an_address_in_the_environment_where_nobody_listens(home: Home, closed_port: int) -> None:
    for address in ("None", "'auto'"):
        said = refused(f"connect({address}, {{}})", home, RAY_ADDRESS=f"127.0.0.1:{closed_port}")
        assert f"nobody answers at 127.0.0.1:{closed_port}" in said


def test_the_last_address_of_a_cluster_that_is_gone(tmp_path: Path, closed_port: int) -> None:
    """What `auto` finds is a file that a killed cluster left behind, where no other is at work."""
    for place in (tmp_path, tmp_path / "ray"):
        place.mkdir(exist_ok=True)
        (place / "ray_current_cluster").write_text(f"127.0.0.1:{closed_port}")
    alone = "import ray._private.services as s; s._cached_find_gcs_addresses.cache_clear(); "
    alone += "import psutil; psutil.process_iter = lambda *a, **k: []; connect('auto', {})"
    said = refused(alone, Home(tmp_path, ""))
    assert "nobody answers at" in said
    assert str(closed_port) in said


@pytest.mark.parametrize(
    "address", ["nonsense", "127.0.0.1", ":6379", "127.0.0.1:port", "ray://", "http://x", "127.0.0.1:99999"]
)
def test_a_malformed_address(home: Home, address: str) -> None:
    said = refused(f"connect({address!r}, {{}})", home)
    assert "no address of a Ray cluster" in said or "99999" in said


@pytest.mark.parametrize("scheme", ["", "ray://"])
@pytest.mark.parametrize("greeting", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_listener_that_is_no_ray(home: Home, scheme: str, greeting: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            connection.sendall(greeting)
            connection.recv(1000)
            time.sleep(8)

        threading.Thread(target=answer, daemon=True).start()
        said = refused(f"connect('{scheme}127.0.0.1:{server.getsockname()[1]}', {{}})", home)
    assert "is no Ray" in said


def test_a_cluster_of_another_version(home: Home) -> None:
    """The cluster says of itself that it is of another version, as one would."""
    import json

    from ray._private import ray_constants
    from ray.experimental import internal_kv as kv

    key, where = b"CLUSTER_METADATA", ray_constants.KV_NAMESPACE_CLUSTER
    said = kv._internal_kv_get(key, namespace=where)
    try:
        kv._internal_kv_put(key, json.dumps({**json.loads(said), "ray_version": "1.0.0"}), namespace=where)
        message = refused("connect(None, {})", home)
    finally:
        kv._internal_kv_put(key, said, namespace=where)
    assert "another version of Ray or Python" in message
    assert "1.0.0" in message


def test_more_cores_than_any_node_has(home: Home, tmp_path: Path) -> None:
    began = time.monotonic()
    ws = make(tmp_path / "ws", Counting(), RayExecutor(num_cpus=64))
    with pytest.raises(
        ClusterError, match=r"none of the 1 nodes has room for a task of 64 CPUs.*the largest has 2 CPUs"
    ):
        ws.train()
    assert time.monotonic() - began < SOON


def test_code_that_workers_do_not_have(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver has it where the nodes do not look: simulated by telling them no place of the driver's."""
    place = tmp_path / "code"
    place.mkdir()
    (place / "nowhere_else.py").write_text("def f(item):\n    return item\n")
    monkeypatch.syspath_prepend(place)
    monkeypatch.setattr("shards.executors.ray._own_path", lambda: [p for p in sys.path if p != str(place) and p])
    began = time.monotonic()
    with pytest.raises(CodeError, match=r"no module 'nowhere_else' on Python's path.*as a worker on .* found it"):
        RayExecutor().map("nowhere_else:f", [1], tmp_path / "calls")
    assert time.monotonic() - began < SOON


def test_options_that_make_no_sense() -> None:
    for options in ({"num_cpus": 0}, {"num_gpus": -1}, {"memory": 0}, {"in_flight": 0}, {"nodes": "any"}):
        with pytest.raises(ConfigurationError, match=next(iter(options))):
            RayExecutor(**options)  # type: ignore[arg-type]


def test_a_program_that_is_connected_already_is_left_as_it_is(home: Home) -> None:
    connect("127.0.0.1:1", {})  # would be refused, were it looked at


def test_a_ray_of_ours_listens_to_this_machine_alone(home: Home) -> None:
    handles = [
        handle
        for pid, command in home.processes().items()
        if not command.startswith("ray::")
        for handle in Path(f"/proc/{pid}/fd").iterdir()
    ]
    inodes = {str(handle.readlink())[8:-1] for handle in handles if str(handle.readlink()).startswith("socket:")}
    listening = [
        line.split()[1].split(":")[0]
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[9] in inodes
    ]
    assert listening
    assert set(listening) <= {"0100007F", "0000000000000000FFFF00000100007F"}
