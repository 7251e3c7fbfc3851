"""What all tests share: one numeric thread, a Ray that keeps to itself, a path for user modules, no worker left.

And who runs what, where several processes share the tests (pytest-xdist): a file's tests stay together.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.crash import tally
from tests.loopback_s3 import S3, serving
from tests.ray_head import VARIABLES
from tests.temporary import keep_in_memory

# Before any numeric library loads: many small computations, where a second thread costs more than it gives.
for _family in ("OMP", "MKL", "OPENBLAS"):
    os.environ.setdefault(f"{_family}_NUM_THREADS", "1")

keep_in_memory()

# Before Ray loads: one that a test starts keeps to the loopback address, and writes nothing into the home directory.
os.environ.update(VARIABLES)
os.environ.pop("RAY_ADDRESS", None)

# Not in a fixture: workers inherit the path, and workspaces name `user_code:…` when test modules are collected.
sys.path.append(str(Path(__file__).parent))

from hypothesis import HealthCheck, settings  # noqa: E402 (libraries load after the threads are pinned)

# Examples train models, so their number and not their duration is what is limited.
settings.register_profile(
    "project",
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("project")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep what shares fixtures in one process; and all that starts a Ray: its tests look at the whole machine."""
    for item in items:
        if item.get_closest_marker("ray"):
            group = "ray"
        elif item.get_closest_marker("apart"):
            group = item.nodeid
        else:
            group = str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In one of several processes: hand over what was counted."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["faults"] = tally.counts()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """In the one that started them: take it."""
    tally.take(getattr(node, "workeroutput", {}).get("faults", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many faults were tried."""
    line = tally.summary()
    if line:
        terminalreporter.write_sep("-", "crash tests")
        terminalreporter.write_line(line)


@pytest.fixture(scope="session", autouse=True)
def _no_worker_outlives_the_tests() -> Iterator[None]:
    yield
    from shards.executors.local import close_workers

    close_workers()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3]:
    """One S3 for all tests that need one."""
    with serving() as server:
        yield server


@pytest.fixture
def s3(s3_server: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    """The S3, which this process and its workers use."""
    s3_server.enter(monkeypatch)
    return s3_server
