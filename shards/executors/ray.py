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
import signal
import socket
import sys
import sysconfig
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from shards import interrupts
from shards.digest import Json
from shards.errors import ClusterError, ConfigurationError, WorkerLostError
from shards.executors.base import TURN_SECONDS, Environment, Executor, OnTurn, Program
from shards.executors.nodes import Failure, NodeReport, agreed, judge, own_digest, package_digest
from shards.executors.process import Worker, path_for_workers, warm
from shards.executors.work import Loss, Work

CONNECT_SECONDS = 5.0
"""How long to try an address before saying that nobody listens there."""

PROBE_SECONDS = 180.0
"""How long a node may take to start a first worker: libraries are large, and disks may be cold."""

ASKED, ASK_SECONDS = 2, 5.0
"""How often a task is asked to end, and how long it may take each time, before it is ended by force."""

STOP_SECONDS = 10.0
"""How long to wait for a task to be gone after that; on a node out of reach it may never be."""

NODES_SECONDS = 2.0
"""How often to look for nodes that joined."""

AHEAD = 2
"""Tasks handed to Ray beyond those it has room for, so that none of its workers waits for us."""

GOING_ON = ("said", "built", "progress", "returned")
"""Answers after which a worker goes on; any other leaves it free, an error as well."""

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
        self._brought: dict[str, Any] = {}
        _ray()

    def environment(self, program: Program) -> Environment:
        """See `Executor.environment`; asks every node that has room for a task."""
        if not connect(self.address, self.runtime_env) and self.runtime_env:
            # The connection is somebody else's, and brings other files: ours come with each task.
            self._brought = {"runtime_env": self.runtime_env}
        self._expect_room()
        self._probe(program)
        return agreed(self._known(program), self._cores(), self.nodes)[0]

    def perform(self, program: Program, work: Sequence[Work], on_turn: OnTurn) -> None:
        """See `Executor.perform`."""
        expected = self.environment(program)
        way = _StepByStep() if _ray().util.client.ray.is_connected() else _Streaming()
        run = _Run(self, program, expected, list(work), way, _own_path())
        run.look_at_nodes()
        turn = time.monotonic() + TURN_SECONDS
        # Ctrl-C comes once a turn: never between a task and the note of what it is at.
        with interrupts.held(), _cancelling(run):
            while run.waiting or run.busy:
                interrupts.check()
                run.dispatch()
                run.listen(max(turn - time.monotonic(), 0))
                if time.monotonic() >= turn:
                    on_turn(run.stop)
                    run.look_for_nodes()
                    turn = time.monotonic() + TURN_SECONDS

    def eligible(self) -> dict[str, Mapping[str, float]]:
        """The living nodes with room for a task, with what they have, by id."""
        return {name: has for name, has in _living().items() if self.slots(has)}

    def slots(self, has: Mapping[str, float]) -> int:
        """How many tasks a node has room for."""
        wanted = {"CPU": self.num_cpus, "GPU": self.num_gpus, "memory": self.memory or 0}
        return min(math.floor(has.get(name, 0) / much) for name, much in wanted.items() if much)

    def options(self, nodes: Collection[str]) -> dict[str, Any]:
        """Options of a task that trains on one of some nodes."""
        found: dict[str, Any] = {
            "num_cpus": self.num_cpus,
            "num_gpus": self.num_gpus,
            "max_retries": 0,
            "label_selector": {"ray.io/node-id": f"in({','.join(sorted(nodes))})"},
            "name": "train",
            **self._brought,
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
        return ray.remote(**options, **self._brought)(_look_around).remote(program, _own_path())

    def note(self, program: Program, node: str, report: NodeReport) -> None:
        """Remember what a node said."""
        self._reports[program, node] = report

    def unknown(self, program: Program) -> set[str]:
        """Nodes that were not asked yet."""
        return self.eligible().keys() - self._known(program).keys()

    def _expect_room(self) -> None:
        """Refuse a task for which no node is large enough: Ray would wait for one."""
        alive = _living()
        if not any(self.slots(has) for has in alive.values()):
            most = max((has.get("CPU", 0) for has in alive.values()), default=0)
            raise ClusterError(
                f"none of the {len(alive)} nodes has room for a task of {self.num_cpus:g} CPUs, {self.num_gpus:g} GPUs "
                f"and {self.memory or 0} bytes (the largest has {most:g} CPUs): ask for less, or add nodes"
            )

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


def connect(address: str | None, runtime_env: Mapping[str, Any]) -> bool:
    """Connect this process to a cluster, once.

    Args:
        address: See `RayExecutor`.
        runtime_env: See `RayExecutor`.

    Returns:
        Whether the connection brings `runtime_env`: not if it was there before, with another one.

    Raises:
        ClusterError: If nobody listens there, or another version of Ray does.
    """
    ray = _ray()
    if ray.is_initialized():
        return _CONNECTED.get(ray.get_runtime_context().get_job_id()) == dict(runtime_env)
    options: dict[str, Any] = {"log_to_driver": False, "runtime_env": dict(runtime_env)}
    named = address or os.environ.get("RAY_ADDRESS") or "local"
    if named == "local":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a Ray of ours tells nobody
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        options |= {"num_cpus": cores, "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
        options |= {"_node_ip_address": "127.0.0.1"}
    try:
        with loopback() if named == "local" else nullcontext():
            ray.init(named if named == "local" else _reachable(named), logging_level="ERROR", **options)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        said = str(error).strip()
        hint = (
            "the cluster runs another version of Ray or Python: install the cluster's version here"
            if "ersion mismatch" in said
            else "see that the cluster is up (`ray status`) and the address is right"
        )
        raise ClusterError(f"cannot use the Ray cluster at {named}: {hint}. Ray said: {said}") from error
    _CONNECTED[ray.get_runtime_context().get_job_id()] = dict(runtime_env)
    return True


_CONNECTED: dict[str, dict[str, Any]] = {}
"""What the connections that we made bring, by Ray's number of the job."""


@interrupts.guarded
def loopback() -> Iterator[None]:
    """Have a Ray that is started meanwhile listen to this machine alone: it replaces 127.0.0.1 by the outer address.

    Yields:
        Nothing.
    """
    constants = _ray()._private.ray_constants
    name, usual = constants.ENABLE_RAY_CLUSTERS_ENV_VAR, constants.ENABLE_RAY_CLUSTER
    before = os.environ.get(name)
    constants.ENABLE_RAY_CLUSTER = False
    os.environ[name] = "0"  # for the processes that are started
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = usual
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _reachable(address: str) -> str:
    """An address as Ray is to be given it, of somebody who answers: Ray itself tries for minutes.

    Args:
        address: See `RayExecutor`, without None.

    Returns:
        The address.

    Raises:
        ClusterError: If it is none, or nobody answers there, or somebody who is not Ray.
    """
    # Whom Ray would find: the file with the last address may outlive its cluster.
    found = address
    if address == "auto":
        found = os.environ.get("RAY_ADDRESS") or _ray()._private.services.canonicalize_bootstrap_address("auto")
    host, _, port = found.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise ClusterError(f"{address!r} is no address of a Ray cluster: give auto, host:port or ray://host:port")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS) as somebody:
            speaks = _speaks_http2(somebody)
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"nobody answers at {found} ({error}): see that the cluster is up (`ray status`), and that address and "
            "port are right (6379, or 10001 with ray://)"
        ) from error
    if not speaks:
        raise ClusterError(
            f"who answers at {found} is no Ray: see that address and port are right (6379, or 10001 with ray://)"
        )
    if host in ("127.0.0.1", "localhost") and not found.startswith("ray://"):
        # Ray would replace it by the machine's outer address, where a Ray that is for this machine alone is not.
        return f"[::ffff:127.0.0.1]:{port}"
    return found


def _speaks_http2(somebody: socket.socket) -> bool:
    """Whether a connection leads to a server of gRPC: it greets with its settings."""
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        return True  # would need the certificates to find out
    somebody.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
    try:
        greeting = somebody.recv(9)
    except (TimeoutError, ConnectionResetError):
        return False
    return len(greeting) > 3 and greeting[3] == 4


class _Way(ABC):
    """Abstract: how tasks are made, and how their answers come."""

    @abstractmethod
    def task(self, options: Mapping[str, Any]) -> Any:
        """The remote function."""

    @abstractmethod
    def message(self, work: Work) -> Json:
        """What one task is to do of a piece of work."""

    @abstractmethod
    def answers(self, task: Any) -> list[Any]:
        """Answers of a task that is ready, none if it is over; raises what Ray does."""

    @abstractmethod
    def end(self, task: Any) -> Any:
        """What is ready when a task is over, whatever it left unsaid."""


class _Streaming(_Way):
    """A task does all that is left of a piece, and its answers come one by one.

    It waits after each until that was taken. So a task whose last answer was not taken does not end by itself, and can
    be cancelled: Ray kills the driver where it cancels a task in the very moment in which that ends.
    """

    def task(self, options: Mapping[str, Any]) -> Any:
        """See `_Way.task`."""
        one = {"num_returns": "streaming", "_generator_backpressure_num_objects": 1}
        return _ray().remote(**one, **options)(_serve)

    def message(self, work: Work) -> Json:
        """See `_Way.message`."""
        return work.message()

    def answers(self, task: Any) -> list[Any]:
        """See `_Way.answers`."""
        with suppress(StopIteration):
            return [_ray().get(next(task))]
        return []

    def end(self, task: Any) -> Any:
        """See `_Way.end`."""
        return task.completed()


class _StepByStep(_Way):
    """A task does one step and answers when it is over: Ray Client, behind `ray://`, does not stream."""

    def task(self, options: Mapping[str, Any]) -> Any:
        """See `_Way.task`."""
        return _ray().remote(**options)(_serve_at_once)

    def message(self, work: Work) -> Json:
        """See `_Way.message`."""
        return work.next_message()

    def answers(self, task: Any) -> list[Any]:
        """See `_Way.answers`."""
        return list(_ray().get(task))

    def end(self, task: Any) -> Any:
        """See `_Way.end`."""
        return task


@dataclass
class _Task:
    """A piece of work on some node."""

    work: Work
    nodes: frozenset[str]
    """Where it may run."""
    node: str | None = None
    """Where it runs; None as long as that is unknown."""

    @property
    def places(self) -> frozenset[str]:
        """Where it may be."""
        return self.nodes if self.node is None else frozenset({self.node})


@dataclass
class _Run:
    """State of one call of `RayExecutor.perform`."""

    executor: RayExecutor
    program: Program
    expected: Environment
    waiting: list[Work]
    way: _Way
    path: list[str]
    busy: dict[Any, _Task] = field(default_factory=dict)
    asked: dict[Any, str] = field(default_factory=dict)
    nodes: frozenset[str] = frozenset()
    most: int = 0
    looked: float = 0.0

    def dispatch(self) -> None:
        """Hand the first pieces that wait to Ray, as many as it has room for and a few."""
        if not self.waiting or len(self.busy) >= self.most:
            return
        task = self.way.task(self.executor.options(self.nodes))
        while self.waiting and len(self.busy) < self.most:
            work = self.waiting.pop(0)
            self.busy[task.remote(self.program, self.path, self.way.message(work))] = _Task(work, self.nodes)

    def listen(self, timeout: float) -> None:
        """Act on what tasks said, waiting for the first."""
        ray = _ray()
        if not self.busy:
            return
        ready, _ = ray.wait(list(self.busy), num_returns=1, timeout=timeout)
        while ready:
            self._hear(ready[0])
            if self.waiting or not self.busy:
                return  # somebody may be free
            ready, _ = ray.wait(list(self.busy), num_returns=1, timeout=0)

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
        ray, executor = _ray(), self.executor
        for node in executor.unknown(self.program) - set(self.asked.values()):
            self.asked[executor.ask(self.program, node)] = node
        ready, _ = ray.wait(list(self.asked), num_returns=len(self.asked), timeout=0) if self.asked else ([], [])
        for ref in ready:
            node = self.asked.pop(ref)
            # One that is gone again, or has no worker for us, is not used; those that are there go on.
            with suppress(ray.exceptions.RayError):
                executor.note(self.program, node, ray.get(ref))
        self.look_at_nodes()

    def look_at_nodes(self) -> None:
        """Find out where tasks can run, and how many at a time.

        Raises:
            ClusterError: If there is no such node any more.
        """
        executor = self.executor
        self.looked = time.monotonic()
        self.nodes = frozenset(executor.allowed(self.program, self.expected))
        if not self.nodes:
            raise ClusterError(
                "no node is left with the numeric environment that training began in: add such nodes, then repeat; "
                "what was built is kept"
            )
        room = sum(executor.slots(has) for node, has in executor.eligible().items() if node in self.nodes)
        self.most = executor.in_flight or room + AHEAD
        # Ray would keep what has nowhere to run any more until one of those nodes came back.
        stranded = [task for task, at in self.busy.items() if at.node is None and not at.nodes & self.nodes]
        self.waiting = [*(self.busy[task].work for task in stranded), *self.waiting]
        self._cancel(stranded)

    def _hear(self, task: Any) -> None:
        ray, at = _ray(), self.busy[task]
        try:
            answers = self.way.answers(task)
        except ray.exceptions.RayError as error:
            del self.busy[task]
            loss = judge(failure_of(error), is_node_alive=at.places <= _living().keys())
            if loss is None:
                raise ClusterError(explain(error)) from error
            self._lose(at.work, loss)
            return
        if not answers:
            del self.busy[task]
            self._lose(at.work, Loss.WORKER)
        for answer in answers:
            self._act(task, at, answer)

    def _act(self, task: Any, at: _Task, answer: Any) -> None:
        kind = answer["type"]
        if kind == "at":
            at.node = answer["node"]
        elif kind == "said":
            sys.stderr.write(answer["text"])
        elif kind == "gone":
            del self.busy[task]
            self._lose(at.work, Loss.WORKER, answer["how"])
        else:
            if kind not in GOING_ON:
                del self.busy[task]  # before anything is raised: what ends by itself is not to be cancelled as well
            if at.work.hear(answer) and not at.work.is_done:
                self.waiting.insert(0, at.work)

    def _lose(self, work: Work, loss: Loss, said: str = "") -> None:
        if not work.is_done:
            work.lost(loss, said)
            self.waiting.insert(0, work)
            self.look_at_nodes()

    def _cancel(self, tasks: Sequence[Any]) -> None:
        """End tasks, their worker processes first, and wait until they are gone."""
        for task in tasks:
            del self.busy[task]
        left = list(tasks)
        # A task that is asked kills its worker and waits until that is gone; now and then it does not hear it the
        # first time. By force, it dies before its worker does.
        for force, patience in (*[(False, ASK_SECONDS)] * ASKED, (True, STOP_SECONDS)):
            for task in left:
                _ray().cancel(task, force=force)
            left = self._still_there(left, patience)

    def _still_there(self, tasks: Sequence[Any], seconds: float) -> list[Any]:
        """Those of the tasks that have not ended after some time."""
        ends = {self.way.end(task): task for task in tasks}
        _, left = _ray().wait(list(ends), num_returns=len(ends), timeout=seconds) if ends else ([], [])
        return [ends[end] for end in left]


@interrupts.guarded
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
        return NodeReport(socket.gethostname(), package_digest(), None, str(error))
    warm.give_back(program, worker, found)
    return NodeReport(socket.gethostname(), package_digest(), environment)


def _serve_at_once(program: Program, path: Sequence[str], message: Json) -> list[Json]:
    """As `_serve`, with the answers in one list when all is over."""
    return list(_serve(program, path, message))


def _serve(program: Program, path: Sequence[str], message: Json) -> Iterator[Json]:
    """Have a worker of this node do a piece of work, and relay what it says."""
    _hear_interrupts()
    yield {"type": "at", "node": _ray().get_runtime_context().get_node_id()}
    found = _path_here(path)
    worker = warm.take(program, found, overheard=True)
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    worker.answer_to(answers)
    is_free = False
    try:
        worker.send(message)
        while True:
            answer = _next(answers)
            if answer is None:
                worker.kill()  # what user code started in it may be left
                yield {"type": "gone", "how": worker.how_it_ended()}
                return
            is_free = answer["type"] not in GOING_ON
            yield answer
            if is_free:
                return
    finally:
        if is_free:
            warm.give_back(program, worker, found)
        else:
            _kill(worker)


def _hear_interrupts() -> None:
    """Let Ray cancel this task, by SIGINT as it does, where that is ignored: under nohup, or in the background."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _kill(worker: Worker) -> None:
    """End a worker, and wait until it is gone, however often this task is asked to end meanwhile."""
    while True:
        with suppress(KeyboardInterrupt):
            worker.kill()
            return


def _next(answers: queue.SimpleQueue[Any]) -> Any:
    """The next answer. Ray interrupts a task that it cancels between instructions alone, not in a wait without end."""
    while True:
        with suppress(queue.Empty):
            return answers.get(timeout=TURN_SECONDS)[1]


def _living() -> dict[str, Mapping[str, float]]:
    """The living nodes, with what they have, by id."""
    return {node["NodeID"]: node["Resources"] for node in _ray().nodes() if node["Alive"]}


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
