"""What is measured of the machine itself: time, memory, the disk, the start of the interpreter."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from experiments.bench.bare import ROOT
from shards.environment import has_avx512, pinned_variables

_RSS = "import psutil; print(psutil.Process().memory_info().rss)"


def seconds(action: Callable[[], Any]) -> float:
    """Wall time of an action, in seconds."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def durable_write(path: Path) -> None:
    """Create a file of 4 KiB and wait until the disk has it."""
    with path.open("xb") as file:
        file.write(os.urandom(4096))
        file.flush()
        os.fsync(file.fileno())


def python(*arguments: str) -> str:
    """Run the interpreter from the repository's root, with a worker's environment; gives its standard output."""
    variables = pinned_variables(os.environ, avx512=has_avx512())
    run = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=variables, check=True, capture_output=True, text=True
    )
    return run.stdout


def memory_after(code: str) -> int:
    """Resident memory of a fresh interpreter once it has run some code, in bytes."""
    return int(python("-c", f"{code}\n{_RSS}"))


def worker_peaks() -> list[int]:
    """Peak resident memory of each of our worker processes, in bytes; where the system tells no peak, the present."""
    return [peak(worker) for worker in _workers()]


def cpu() -> float:
    """Processor time that this process and its workers have used so far, in seconds."""
    used = [worker.cpu_times() for worker in _workers()]
    return time.process_time() + float(sum(times.user + times.system for times in used))


def _workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "shards.executors.worker" in child.cmdline()]


def peak(process: psutil.Process) -> int:
    """Peak resident memory of a process since its program began, in bytes; else the present."""
    status = Path(f"/proc/{process.pid}/status")
    if not status.exists():
        return int(process.memory_info().rss)
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


def describe() -> dict[str, Any]:
    """The machine and the versions of what was measured on it."""
    model = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in model.read_text().splitlines() if line.startswith("model name")]
    packages = ("numpy", "torch", "pyarrow", "safetensors", "sqlalchemy")
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "platform": platform.platform(),
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }
