"""Train on a Ray cluster: one task a chain, the same bytes as on this machine.

A task starts the same pinned worker process that the local executor uses, on whichever node Ray places it, and relays
its answers: digests and small statistics. Records and checkpoints go between that process and the store, never through
Ray, whose object store, spill files and logs therefore hold nothing of them; what user code prints is relayed as well,
and printed by the driver alone.

Ray is to retry nothing by itself. What to do about a lost worker is decided by `work`, as on this machine.
"""

from __future__ import annotations

import math
import os
import queue
import socket
import sys
import sysconfig
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from shards.digest import Json
from shards.errors import ClusterError, ConfigurationError, WorkerLostError
from shards.executors.base import TURN_SECONDS, Environment, Executor, OnTurn, Program
from shards.executors.nodes import Failure, NodeReport, agreed, judge, own_digest
from shards.executors.process import path_for_workers, warm
from shards.executors.work import Loss, Work

if TYPE_CHECKING:
    from ray import ObjectRefGenerator

CONNECT_SECONDS = 5.0
"""How long to try an address before saying that nobody listens there."""

PROBE_SECONDS = 180.0
"""How long a node may take to start a first worker: libraries are large, and disks may be cold."""

STOP_SECONDS = 15.0
"""How long to wait for a task to be gone that was cancelled; on a node out of reach it may never be."""

NODES_SECONDS = 2.0
"""How often to look for nodes that joined."""

AHEAD = 2
"""Tasks handed to Ray beyond those it has room for, so that none of its workers waits for us."""

OBJECT_STORE_BYTES = 80_000_000
"""For a Ray of our own: what goes through it is small."""


class RayExecutor(Executor):
    """Train on a Ray cluster.

    Workspace and code must be where all nodes can see them: a shared file system, or a store; and the same paths, or
    `runtime_env`.

    Args:
        address: `"auto"`, `"host:port"` or `"ray://host:port"` of a running cluster; None: the one that RAY_ADDRESS
            names, or one started on this machine for the while. Where the program is connected already, that is used.
        num_cpus: Cores a task reserves; training itself uses one.
        num_gpus: Accelerators a task reserves.
        memory: Bytes of memory a task reserves; None: none.
        runtime_env: What Ray is to bring to the nodes, such as `{"working_dir": "."}` for code that they do not have.
        in_flight: Tasks handed to Ray at most; None: as many as there is room for, and a few.
        nodes: What to do where nodes differ in numeric environment: `"same"` refuses to begin, `"largest"` uses the
            group with the most cores, and leaves the others alone.

    Raises:
        ConfigurationError: If an option does not make sense, or Ray is not installed.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        num_cpus: float = 1.0,
        num_gpus: float = 0.0,
        memory: int | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        in_flight: int | None = None,
        nodes: Literal["same", "largest"] = "same",
    ) -> None:
        if not num_cpus > 0 or num_gpus < 0 or (memory is not None and memory <= 0):
            raise ConfigurationError(
                f"num_cpus must be above 0, num_gpus not below, memory above 0 bytes; got {num_cpus}, {num_gpus}, "
                f"{memory}"
            )
        if in_flight is not None and in_flight < 1:
            raise ConfigurationError(f"in_flight must be at least 1, got {in_flight}")
        if nodes not in ("same", "largest"):
            raise ConfigurationError(f"nodes must be 'same' or 'largest', got {nodes!r}")
        self.address = address
        self.num_cpus = num_cpus
        self.num_gpus = num_gpus
        self.memory = memory
        self.runtime_env = dict(runtime_env or {})
        self.in_flight = in_flight
        self.nodes = nodes
        self._reports: dict[tuple[Program, str], NodeReport] = {}
        _ray()

    def environment(self, program: Program) -> Environment:
        """See `Executor.environment`; asks every node that has room for a task."""
        connect(self.address, self.runtime_env)
        self._probe(program)
        return agreed(self._known(program), self._cores(), self.nodes)[0]

    def perform(self, program: Program, work: Sequence[Work], on_turn: OnTurn) -> None:
        """See `Executor.perform`."""
        expected = self.environment(program)
        run = _Run(self, program, expected, list(work))
        turn = time.monotonic() + TURN_SECONDS
        with _cancelling(run):
            while run.waiting or run.busy:
                run.dispatch()
                run.listen(max(turn - time.monotonic(), 0))
                if time.monotonic() >= turn:
                    on_turn(run.stop)
                    run.look_for_nodes()
                    turn = time.monotonic() + TURN_SECONDS

    def eligible(self) -> dict[str, Mapping[str, float]]:
        """The living nodes with room for a task, with what they have, by id.

        Returns:
            Node id to resources.

        Raises:
            ClusterError: If there is none.
        """
        alive = {node["NodeID"]: node["Resources"] for node in _ray().nodes() if node["Alive"]}
        found = {name: has for name, has in alive.items() if self.slots(has)}
        if not found:
            most = max((has.get("CPU", 0) for has in alive.values()), default=0)
            raise ClusterError(
                f"none of the {len(alive)} nodes has room for a task of {self.num_cpus:g} CPUs, {self.num_gpus:g} GPUs "
                f"and {self.memory or 0} bytes (the largest has {most:g} CPUs): ask for less, or add nodes"
            )
        return found

    def slots(self, has: Mapping[str, float]) -> int:
        """How many tasks a node has room for."""
        wanted = {"CPU": self.num_cpus, "GPU": self.num_gpus, "memory": self.memory or 0}
        return min(math.floor(has.get(name, 0) / much) for name, much in wanted.items() if much)

    def options(self, nodes: Collection[str]) -> dict[str, Any]:
        """Options of a task that trains."""
        found: dict[str, Any] = {
            "num_cpus": self.num_cpus,
            "num_gpus": self.num_gpus,
            "max_retries": 0,
            "num_returns": "streaming",
            "label_selector": {"ray.io/node-id": f"in({','.join(sorted(nodes))})"},
            "name": "train",
        }
        return found if self.memory is None else {**found, "memory": self.memory}

    def allowed(self, program: Program, expected: Environment) -> set[str]:
        """The nodes known to have an environment."""
        return {
            node
            for node, report in self._known(program).items()
            if report.environment is not None
            and report.environment.digest == expected.digest
            and report.package == own_digest()
        }

    def ask(self, program: Program, node: str) -> Any:
        """Ask a node what it is like; returns what to wait for."""
        ray = _ray()
        strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
        options = {"num_cpus": 0, "max_retries": 2, "scheduling_strategy": strategy, "name": "look around"}
        return ray.remote(**options)(_look_around).remote(program, _own_path())

    def note(self, program: Program, node: str, report: NodeReport) -> None:
        """Remember what a node said."""
        self._reports[program, node] = report

    def unknown(self, program: Program) -> set[str]:
        """Nodes that were not asked yet."""
        return self.eligible().keys() - self._known(program).keys()

    def _known(self, program: Program) -> dict[str, NodeReport]:
        here = self.eligible()
        return {node: report for (asked, node), report in self._reports.items() if asked == program and node in here}

    def _cores(self) -> dict[str, float]:
        return {node: has.get("CPU", 0) for node, has in self.eligible().items()}

    def _probe(self, program: Program) -> None:
        """Ask the nodes that were not asked yet, all at once; one that goes away meanwhile is left out."""
        ray = _ray()
        asked = {self.ask(program, node): node for node in sorted(self.unknown(program))}
        ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=PROBE_SECONDS) if asked else ([], [])
        if late:
            hosts = ", ".join(sorted(asked[ref][:8] for ref in late))
            raise ClusterError(
                f"{len(late)} nodes did not start a worker within {PROBE_SECONDS:g} seconds ({hosts}): look at "
                "`ray status` and the nodes' logs"
            )
        for ref in ready:
            node = asked[ref]
            try:
                self.note(program, node, ray.get(ref))
            except ray.exceptions.RayError as error:
                if node in self.eligible():
                    raise ClusterError(explain(error)) from error


def failure_of(error: BaseException) -> Failure:
    """The kind of an error that Ray raised instead of an answer.

    Args:
        error: The error.

    Returns:
        Its kind.
    """
    x = _ray().exceptions
    kinds: tuple[tuple[tuple[type[BaseException], ...], Failure], ...] = (
        ((x.OutOfMemoryError,), "memory"),
        ((x.NodeDiedError, x.LocalRayletDiedError), "node"),
        ((x.WorkerCrashedError, x.TaskCancelledError), "worker"),
        # The last answers of a task are lost with the node, or the store, they were on.
        ((x.ObjectLostError, x.ObjectFetchTimedOutError), "node"),
        ((x.RuntimeEnvSetupError,), "setup"),
        ((x.TaskUnschedulableError,), "unschedulable"),
    )
    return next((kind for types, kind in kinds if isinstance(error, types)), "relay")


def explain(error: BaseException) -> str:
    """An error of Ray's in a sentence, with what to do.

    Args:
        error: The error.

    Returns:
        The sentence.
    """
    kind, said = failure_of(error), str(error).strip()
    if kind == "relay" and "ModuleNotFoundError" in said:
        return (
            "a node cannot load this package, or a part it needs: install the same version, with its `ray` extra, on "
            f"all nodes. The node said: {said[-1000:]}"
        )
    advice = {
        "setup": "Ray could not bring the program's files to a node: look at `runtime_env`",
        "unschedulable": "Ray found no node for a task: look at `ray status`",
    }.get(kind, "Ray could not carry out a task")
    return f"{advice}. It said: {said[-2000:]}"


def connect(address: str | None, runtime_env: Mapping[str, Any]) -> None:
    """Connect this process to a cluster, once.

    Args:
        address: See `RayExecutor`.
        runtime_env: See `RayExecutor`.

    Raises:
        ClusterError: If nobody listens there, or another version of Ray does.
    """
    ray = _ray()
    if ray.is_initialized():
        return
    options: dict[str, Any] = {"log_to_driver": False, "runtime_env": dict(runtime_env)}
    if address is None and not os.environ.get("RAY_ADDRESS"):
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a Ray of ours tells nobody
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        options |= {"num_cpus": cores, "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
        options |= {"_node_ip_address": "127.0.0.1", "address": "local"}
    elif address is not None:
        _expect_somebody(address)
        options["address"] = address
    try:
        ray.init(logging_level="ERROR", **options)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        said = str(error).strip()
        hint = (
            "the cluster runs another version of Ray or Python: install the cluster's version here"
            if "ersion mismatch" in said
            else "see that the cluster is up (`ray status`) and the address is right"
        )
        raise ClusterError(
            f"cannot use the Ray cluster at {address or 'RAY_ADDRESS'}: {hint}. Ray said: {said}"
        ) from error


def _expect_somebody(address: str) -> None:
    """Find out within seconds that nobody listens; Ray itself takes a minute."""
    if address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise ClusterError(f"{address!r} is no address of a Ray cluster: give auto, host:port or ray://host:port")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"nobody answers at {address} ({error}): see that the cluster is up (`ray status`), and that address and "
            "port are right (6379, or 10001 with ray://)"
        ) from error


@dataclass
class _Task:
    """A piece of work on some node."""

    work: Work
    node: str | None = None


@dataclass
class _Run:
    """State of one call of `RayExecutor.perform`."""

    executor: RayExecutor
    program: Program
    expected: Environment
    waiting: list[Work]
    busy: dict[ObjectRefGenerator, _Task] = field(default_factory=dict)
    asked: dict[Any, str] = field(default_factory=dict)
    looked: float = field(default_factory=time.monotonic)

    def dispatch(self) -> None:
        """Hand the first pieces that wait to Ray, as many as it has room for and a few."""
        if not self.waiting or len(self.busy) >= self._most():
            return
        nodes = self.executor.allowed(self.program, self.expected)
        if not nodes:
            raise ClusterError(
                "no node is left with the numeric environment that training began in: add such nodes, then repeat; "
                "what was built is kept"
            )
        task = _ray().remote(**self.executor.options(nodes))(_serve)
        path, most = _own_path(), self._most()
        while self.waiting and len(self.busy) < most:
            work = self.waiting.pop(0)
            self.busy[task.remote(self.program, path, work.message())] = _Task(work)

    def listen(self, timeout: float) -> None:
        """Act on what tasks said, waiting for the first."""
        ray = _ray()
        ready, _ = ray.wait(list(self.busy), num_returns=1, timeout=timeout)
        while ready:
            self._hear(ready[0])
            ready, _ = ray.wait(list(self.busy), num_returns=1, timeout=0) if self.busy else ([], [])
            if self.waiting:
                return  # somebody may be free

    def stop(self, numbers: Collection[int]) -> None:
        """Give up some of the work; nobody is at it any more afterwards."""
        self.waiting = [work for work in self.waiting if work.number not in numbers]
        self._cancel([task for task, at in self.busy.items() if at.work.number in numbers])

    def stop_all(self) -> None:
        """Give up everything."""
        self.waiting = []
        self._cancel(list(self.busy))

    def look_for_nodes(self) -> None:
        """Ask nodes that joined, and use them when they have answered as expected."""
        if time.monotonic() - self.looked < NODES_SECONDS:
            return
        self.looked = time.monotonic()
        ray, executor = _ray(), self.executor
        for node in executor.unknown(self.program) - set(self.asked.values()):
            self.asked[executor.ask(self.program, node)] = node
        ready, _ = ray.wait(list(self.asked), num_returns=len(self.asked), timeout=0) if self.asked else ([], [])
        for ref in ready:
            node = self.asked.pop(ref)
            # One that is gone again, or has no worker for us, is not used; those that are there go on.
            with suppress(ray.exceptions.RayError):
                executor.note(self.program, node, ray.get(ref))

    def _most(self) -> int:
        executor = self.executor
        if executor.in_flight is not None:
            return executor.in_flight
        allowed = executor.allowed(self.program, self.expected)
        return sum(executor.slots(has) for node, has in executor.eligible().items() if node in allowed) + AHEAD

    def _hear(self, task: ObjectRefGenerator) -> None:
        ray, at = _ray(), self.busy[task]
        try:
            answer = ray.get(next(task))
        except StopIteration:
            del self.busy[task]
            self._lose(at.work, Loss.WORKER)
            return
        except ray.exceptions.RayError as error:
            del self.busy[task]
            alive = at.node is None or any(n["NodeID"] == at.node and n["Alive"] for n in ray.nodes())
            loss = judge(failure_of(error), is_node_alive=alive)
            if loss is None:
                raise ClusterError(explain(error)) from error
            self._lose(at.work, loss)
            return
        kind = answer["type"]
        if kind == "at":
            at.node = answer["node"]
        elif kind == "said":
            sys.stderr.write(answer["text"])
        elif kind == "gone":
            del self.busy[task]
            self._lose(at.work, Loss.WORKER, answer["how"])
        elif at.work.hear(answer):
            del self.busy[task]

    def _lose(self, work: Work, loss: Loss, said: str = "") -> None:
        if not work.is_done:
            work.lost(loss, said)
            self.waiting.insert(0, work)

    def _cancel(self, tasks: Sequence[ObjectRefGenerator]) -> None:
        """Kill tasks, their worker processes with them, and wait until they are gone."""
        ray = _ray()
        for task in tasks:
            del self.busy[task]
            # By force: the task waits for its worker, and would not notice anything else.
            ray.cancel(task, force=True)
        deadline = time.monotonic() + STOP_SECONDS
        for task in tasks:
            _until_gone(task, deadline)


def _until_gone(task: ObjectRefGenerator, deadline: float) -> None:
    """Wait for a cancelled task; its process ends with it, and so does the worker that listens to it."""
    ray = _ray()
    while time.monotonic() < deadline:
        ready, _ = ray.wait([task], timeout=max(deadline - time.monotonic(), 0))
        try:
            if ready:
                ray.get(next(task))
        except (StopIteration, ray.exceptions.RayError):
            return


@contextmanager
def _cancelling(run: _Run) -> Iterator[None]:
    """Whatever ends the run, Ctrl-C included: afterwards nobody is at work for it."""
    try:
        yield
    finally:
        if _ray().is_initialized():
            run.stop_all()


# What runs on the nodes


def _look_around(program: Program, path: Sequence[str]) -> NodeReport:
    """Start a worker on this node, and say what it found."""
    found = _path_here(path)
    worker = warm.take(program, found, overheard=True)
    try:
        environment = worker.environment
    except WorkerLostError as error:
        return NodeReport(socket.gethostname(), own_digest(), None, str(error))
    warm.give_back(program, worker, found)
    return NodeReport(socket.gethostname(), own_digest(), environment)


def _serve(program: Program, path: Sequence[str], message: Json) -> Iterator[Json]:
    """Have a worker of this node do a piece of work, and relay what it says."""
    yield {"type": "at", "node": _ray().get_runtime_context().get_node_id()}
    found = _path_here(path)
    worker = warm.take(program, found, overheard=True)
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    worker.answer_to(answers)
    is_free = False
    try:
        worker.send(message)
        while True:
            _, answer = answers.get()
            if answer is None:
                yield {"type": "gone", "how": worker.how_it_ended()}
                return
            # An error leaves the worker free as well.
            is_free = answer["type"] not in ("said", "built", "progress", "returned")
            yield answer
            if is_free:
                return
    finally:
        if is_free:
            warm.give_back(program, worker, found)
        else:
            worker.kill()


def _own_path() -> list[str]:
    """Where the driver has code of the user's: places that no installation owns."""
    installed = {Path(place).resolve() for place in sysconfig.get_paths().values()}
    return [
        entry
        for entry in path_for_workers()
        if not any(Path(entry) == place or Path(entry).is_relative_to(place) for place in installed)
        and not {"site-packages", "dist-packages"} & set(Path(entry).parts)
        and not entry.endswith(".zip")
    ]


def _path_here(path: Sequence[str]) -> list[str]:
    """Where to look for code on this node: where the driver does, as far as that is here, then Ray's places."""
    own = [entry for entry in path_for_workers() if f"{os.sep}ray{os.sep}" not in entry or "_ray_pkg_" in entry]
    return list(dict.fromkeys([*(entry for entry in path if Path(entry).exists()), *own]))


def _ray() -> Any:
    """Ray, loaded where it is used."""
    try:
        import ray
        import ray.exceptions  # noqa: F401 - used as ray.exceptions
        import ray.util.scheduling_strategies  # noqa: F401 - likewise
    except ImportError as error:
        raise ConfigurationError('this needs Ray: pip install "sisa-unlearn[ray]"') from error
    return ray
