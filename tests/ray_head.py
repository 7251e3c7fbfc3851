"""A Ray cluster of one node for tests: all of it on the loopback address, nothing of it in the home directory."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 120.0

VARIABLES = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    # Otherwise Ray takes the machine's own address in place of 127.0.0.1.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
"""What makes Ray keep to this machine, for whoever uses it."""


@dataclass(frozen=True)
class Head:
    """A running cluster.

    Attributes:
        address: For drivers, host:port.
        dashboard: For jobs, a URL.
        variables: The environment that its drivers need.
    """

    address: str
    dashboard: str
    variables: dict[str, str]

    def run(self, *command: object, folder: Path) -> subprocess.CompletedProcess[str]:
        """Run a program of this environment in some folder."""
        return subprocess.run(
            [str(item) for item in command],
            cwd=folder,
            env=self.variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )


def loopback_variables() -> dict[str, str]:
    """This process's environment, with this interpreter's programs first and this checkout's packages."""
    programs = str(Path(sys.executable).parent)
    return {
        **{name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        **VARIABLES,
        "PATH": os.pathsep.join([programs, os.environ.get("PATH", os.defpath)]),
        "PYTHONPATH": str(ROOT),
    }


@contextlib.contextmanager
def ray_head(num_cpus: int = 2) -> Iterator[Head]:
    """Start a cluster with `ray start`; afterwards none of its processes is left.

    Args:
        num_cpus: Cores it believes to have.

    Yields:
        The cluster.
    """
    # A short path: sockets lie below it.
    home = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
    port, dashboard, agent, client = _free_ports(4)
    variables = loopback_variables()
    command = [
        *("ray", "start", "--head", "--block", f"--temp-dir={home}", f"--num-cpus={num_cpus}"),
        *("--node-ip-address=127.0.0.1", f"--port={port}", f"--ray-client-server-port={client}"),
        *("--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"),
        *("--object-store-memory=80000000", "--disable-usage-stats"),
    ]
    with (home / "said").open("w+") as said:
        process = subprocess.Popen(
            command, env=variables, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            deadline = time.monotonic() + START_SECONDS
            while not all(map(_answers, (port, dashboard, agent))):
                if process.poll() is not None or time.monotonic() > deadline:
                    said.seek(0)
                    raise AssertionError(f"Ray did not start:\n{said.read()[-3000:]}")
                time.sleep(0.1)
            yield Head(f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}", variables)
        finally:
            process.terminate()  # which ends all that it started
            process.wait(timeout=60)
            _until_gone(str(home))
            shutil.rmtree(home)


def processes_below(folder: str) -> list[int]:
    """Processes that name a folder on their command line."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if folder.encode() + b"/" in entry.read_bytes():
                found.append(int(entry.parent.name))
    return found


def _until_gone(folder: str) -> None:
    deadline = time.monotonic() + 60
    while left := processes_below(folder):
        assert time.monotonic() < deadline, f"processes of Ray are left: {left}"
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as opened:
        sockets = [opened.enter_context(socket.socket()) for _ in range(count)]
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [item.getsockname()[1] for item in sockets]


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    return False
