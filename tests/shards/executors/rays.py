"""Rays for the tests: on this machine's own loopback address alone, each with a folder of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Before Ray loads: no statistics are sent, no token is left in the home directory.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_AUTH_MODE"] = "disabled"

LOOPBACK = "127.0.0.1"
STORE_BYTES = 80_000_000


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


@contextmanager
def ray_here(**options: Any) -> Iterator[Home]:
    """A Ray of this process's own, stopped afterwards."""
    import ray

    from shards.executors.ray import loopback

    assert not ray.is_initialized()
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as folder:
        with loopback():
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


def pinned() -> dict[int, int]:
    """Worker processes of this project on this machine, whoever started them: process id to that of the parent."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command = (path / "cmdline").read_bytes().split(b"\0")
            status = (path / "stat").read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if b"shards.executors.worker" in command and status[0] != "Z":
            found[int(path.name)] = int(status[1])
    return found


def is_ray_worker(pid: int) -> bool:
    """Whether a process is one of Ray's workers."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::")
    except (FileNotFoundError, ProcessLookupError):
        return False


def pinned_by_ray() -> dict[int, int]:
    """As `pinned`, those that a worker of Ray's started."""
    return {pid: parent for pid, parent in pinned().items() if is_ray_worker(parent)}


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


def start(code: str, home: Home) -> subprocess.Popen[str]:
    """Another driver, which uses a Ray."""
    head = (
        f"import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\nsys.path[:0] = {sys.path!r}\n"
    )
    command = [sys.executable, "-c", head + code]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, env=home.variables, **pipes)  # type: ignore[call-overload,no-any-return]


def kill(pid: int) -> None:
    """End a process at once."""
    os.kill(pid, signal.SIGKILL)
