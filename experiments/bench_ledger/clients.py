"""Many clients that submit at the same time, in threads and processes."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from experiments.bench.bare import ROOT
from unlearn import Workspace


def rate(workspace: Workspace, processes: int, threads: int, requests: int) -> float:
    """Have clients submit, each request under a key of its own, and count what arrived.

    Args:
        workspace: Where to.
        processes: How many processes.
        threads: Clients in each.
        requests: Requests of each client.

    Returns:
        Acknowledged requests a second, from the start of the first to the end of the last.

    Raises:
        AssertionError: If a request is missing, or there twice.
    """
    before = len(workspace.requests())
    started = [_start(workspace.path, number, threads, requests) for number in range(processes)]
    for process in started:
        _expect(process, "ready")
    since = time.perf_counter()
    for process in started:
        _tell(process)
    for process in started:
        _expect(process, "done")
    seconds = time.perf_counter() - since
    for process in started:
        process.wait()
    _count(
        workspace, before, {_key(p, t, n) for p in range(processes) for t in range(threads) for n in range(requests)}
    )
    return processes * threads * requests / seconds


def _count(workspace: Workspace, before: int, keys: set[str]) -> None:
    rows = workspace.requests()[before:]
    assert Counter(row.idempotency_key for row in rows) == Counter([*keys, *[None] * (len(rows) - len(keys))])
    told = [entry.event.request for entry in workspace._site.ledger.entries() if entry.event.kind == "submitted"]
    assert told[-len(rows) :] == [row.id for row in rows], "a request and its event are not one to one"


def _key(process: int, thread: int, number: int) -> str:
    return f"case {process}-{thread}-{number}"


def _start(path: Path, number: int, threads: int, requests: int) -> subprocess.Popen[str]:
    arguments = [str(path), str(number), str(threads), str(requests)]
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.bench_ledger.clients", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _expect(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    said = process.stdout.readline().strip()
    assert said == word, f"a client said {said!r}, not {word!r}"


def _tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def _run(path: str, number: int, threads: int, requests: int) -> None:
    """One process."""
    workspace = Workspace.open(path)
    # Imports, connections and compiled statements are not what is measured.
    workspace.submit(subjects=["to warm up"])

    def submit(thread: int) -> None:
        for request in range(requests):
            key = _key(number, thread, request)
            workspace.submit(subjects=[key], idempotency_key=key)

    clients = [threading.Thread(target=submit, args=(thread,)) for thread in range(threads)]
    print("ready", flush=True)
    sys.stdin.readline()
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    print("done", flush=True)
    workspace.close()


def main(arguments: Sequence[str]) -> None:
    """What a client process runs."""
    path, *numbers = arguments
    _run(path, *map(int, numbers))


if __name__ == "__main__":
    main(sys.argv[1:])
