"""Rays for the tests: on this machine's own loopback address alone, each with a folder of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.temporary import MEMORY, ROOT

# Before Ray loads: no statistics are sent, no token is left in the home directory.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_AUTH_MODE"] = "disabled"

LOOPBACK = "127.0.0.1"
STORE_BYTES = 80_000_000
BEGAN = time.time()
CODE = os.pathsep.join(str(Path(__file__).parents[up]) for up in (3, 2))
"""Where this checkout is, and what its tests import."""


@dataclass(frozen=True)
class Home:
    """Where a Ray keeps its files, and how other processes find it.

    Attributes:
        folder: Its folder; short, since names of sockets are.
        address: `host:port`.
    """

    folder: Path
    address: str

    @property
    def variables(self) -> dict[str, str]:
        """Variables of a process that is to use it."""
        return {**os.environ, "RAY_ADDRESS": self.address, "RAY_TMPDIR": str(self.folder)}

    def processes(self) -> dict[int, str]:
        """Ray's own processes, its workers among them: process id to command."""
        found = {pid: command for pid, command in commands().items() if str(self.folder) in command}
        return found | {pid: command for pid, command in commands().items() if parent(pid) in found}

    def pinned(self) -> dict[int, int]:
        """Workers of ours that live in it: process id to that of Ray's worker."""
        of_ray = self.processes().keys()
        ours = {pid: parent(pid) for pid, command in commands().items() if "-m shards.executors.worker" in command}
        return {pid: above for pid, above in ours.items() if above in of_ray}


@contextmanager
def ray_here(**options: Any) -> Iterator[Home]:
    """A Ray of this process's own, stopped afterwards; begun where SIGINT is ignored, as in a script's background."""
    import ray

    from shards.executors.ray import loopback

    assert not ray.is_initialized()
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as folder:
        with loopback(), interrupts_ignored():
            ray.init(
                address="local",
                include_dashboard=False,
                object_store_memory=STORE_BYTES,
                log_to_driver=False,
                logging_level="ERROR",
                _node_ip_address=LOOPBACK,
                _temp_dir=folder,
                **{"num_cpus": 2, **options},
            )
        try:
            yield Home(Path(folder), ray.get_runtime_context().gcs_address)
        finally:
            ray.shutdown()


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """SIGINT is ignored by what is started meanwhile."""
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


def shared_memory() -> list[Path]:
    """The files in shared memory that were changed since these tests began; others leave some there as well.

    Those of the tests themselves, who may have their workspaces there, are on what is the disk to them.
    """
    found = []
    for path in (path for top in MEMORY.iterdir() if top != ROOT for path in (top, *top.rglob("*"))):
        with suppress(FileNotFoundError):
            if path.is_file() and not path.is_symlink() and path.stat().st_mtime >= BEGAN:
                found.append(path)
    return sorted(found)


def commands() -> dict[int, str]:
    """The processes of this machine that are more than an entry: process id to command."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            found[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
    return {pid: command for pid, command in found.items() if command}


def parent(pid: int) -> int:
    """The process that started a process; 0 if that is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def is_running(pid: int) -> bool:
    """Whether a process is there, and no mere entry."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """What a condition becomes once it is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited for {seconds:g} s")


def start(code: str, home: Home, more: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Another driver, which uses a Ray."""
    head = (
        f"import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\nsys.path[:0] = {sys.path!r}\n"
    )
    command = [sys.executable, "-c", head + code]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, env=home.variables | dict(more or {}), **pipes)  # type: ignore[call-overload,no-any-return]


def kill(pid: int) -> None:
    """End a process at once."""
    os.kill(pid, signal.SIGKILL)


@dataclass(frozen=True)
class ClusterHere:
    """A cluster of several nodes, all on this machine.

    Attributes:
        cluster: Ray's own simulation.
        home: Its folder and address.
        client: Port for `ray://`.
    """

    cluster: Any
    home: Home
    client: int

    def add(self, cpus: int = 1, **variables: str) -> Any:
        """Add a node, with other environment variables."""
        from shards.executors.ray import loopback

        with loopback():
            return self.cluster.add_node(
                num_cpus=cpus,
                object_store_memory=STORE_BYTES,
                node_ip_address=LOOPBACK,
                env_vars={"PYTHONPATH": CODE, **variables},
            )

    def remove(self, node: Any) -> None:
        """Take a node away as a power failure would."""
        self.cluster.remove_node(node, allow_graceful=False)

    def at_work(self) -> set[int]:
        """The nodes on which a task of ours trains, by the process ids of their raylets."""
        commands = self.home.processes()
        return {parent(ray) for ray in self.home.pinned().values() if "ray::train" in commands.get(ray, "")}


def raylet(node: Any) -> int:
    """Process id of a node's raylet."""
    return int(node.all_processes["raylet"][0].process.pid)


@contextmanager
def cluster_here() -> Iterator[ClusterHere]:
    """A head without cores, to which nodes can be added; stopped afterwards."""
    import ray
    from ray.cluster_utils import Cluster

    from shards.executors.ray import loopback

    assert not ray.is_initialized()
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        client = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as folder:
        head = {
            "num_cpus": 0,
            "object_store_memory": STORE_BYTES,
            "include_dashboard": False,
            "node_ip_address": LOOPBACK,
            "ray_client_server_port": client,
            "temp_dir": folder,
            "env_vars": {"PYTHONPATH": CODE},
            "_system_config": {
                # A node that starts on a busy machine does not answer at once, and is not dead for that.
                "health_check_initial_delay_ms": 15_000,
                "health_check_period_ms": 1000,
                "health_check_failure_threshold": 15,
            },
        }
        with loopback():
            cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            yield ClusterHere(cluster, Home(Path(folder), cluster.address), client)
        finally:
            ray.shutdown()
            cluster.shutdown()
