"""One long log: the time of appends at its beginning and its end, of proofs on the way, of verifying it."""

from __future__ import annotations

import hashlib
import itertools
import random
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import numpy as np
from sklearn.linear_model import SGDClassifier

from experiments.benchmark import Figure
from unlearn import Workspace, verify
from unlearn.ledger import Database, Ledger, Submission, chain, merkle
from unlearn.request import Request, RequestState

BATCH = 1_000
"""Requests committed together where nobody looks at the time."""

SLOWDOWN = 1.5
"""By how much the last appends may be slower than the first; a linear cost would make it tenfold at least."""


def measure_log(folder: Path, events: int, appends: int, proofs: int, say: Callable[[str], None]) -> list[Figure]:
    """Fill a log and measure on the way.

    Args:
        folder: An empty folder on the disk to be measured.
        events: How many in the end.
        appends: Timed one by one, each in a transaction of its own, the first and the last.
        proofs: Of each kind, at every power of ten on the way and in the end.
        say: Told what is under way.

    Returns:
        The figures.
    """
    ledger = Ledger.create(Database.sqlite(folder / "log.db"), "0" * 32, "0" * 64)
    stream = _submissions()
    say(f"appending {appends:,} events one by one")
    first = _timed_appends(ledger, stream, appends)
    figures = []
    sizes = [10**power for power in range(3, 10) if appends < 10**power < events]
    for size in [*sizes, events - appends]:
        say(f"filling up to {size:,} events")
        for _ in range(0, size - ledger.head().size, BATCH):
            ledger.submit(list(itertools.islice(stream, min(BATCH, size - ledger.head().size))))
        if size in sizes:
            figures += _proofs(ledger, proofs)
    say(f"appending {appends:,} events one by one")
    last = _timed_appends(ledger, stream, appends)
    figures += _proofs(ledger, proofs)
    say("verifying")
    since = time.perf_counter()
    root = merkle.root([merkle.leaf_hash(entry.body) for entry in ledger.entries()])
    seconds = time.perf_counter() - since
    head = ledger.head()
    assert head.root == root, "the log does not verify"
    assert head.size == events
    ledger.close()
    return [
        Figure("log.append_first", f"one event in a transaction, median of the first {appends:,}", median(first), "ms"),
        Figure("log.append_last", f"the same, of the last {appends:,} of {events:,}", median(last), "ms"),
        Figure("log.slowdown", "last over first", median(last) / median(first), "x", at_most=SLOWDOWN),
        Figure("log.verify", f"{events:,} events hashed, and the root", seconds, "s", at_most=60),
        *figures,
    ]


def measure_verification(folder: Path, requests: int, say: Callable[[str], None]) -> list[Figure]:
    """Verify a receipt against a small workspace with a large ledger.

    Args:
        folder: An empty folder on the disk to be measured.
        requests: How many requests the ledger holds, which all wait.
        say: Told what is under way.

    Returns:
        The figure.
    """
    workspace = Workspace.create(folder / "verified", SGDClassifier(loss="log_loss"), n_shards=2, classes=[0, 1])
    rng = np.random.default_rng(0)
    workspace.ingest(rng.normal(size=(100, 4)), rng.integers(0, 2, 100))
    workspace.train()
    receipt = workspace.receipt(workspace.forget(record_ids=["0"]).id)
    ledger = workspace._site.ledger
    say(f"submitting {requests:,} requests")
    stream = _submissions(ledger.epoch())
    for _ in range(0, requests, BATCH):
        ledger.submit(list(itertools.islice(stream, BATCH)))
    size = ledger.head().size
    say(f"verifying a workspace of {size:,} events")
    since = time.perf_counter()
    verify(receipt, workspace.public_key, workspace=workspace)
    seconds = time.perf_counter() - since
    workspace.close()
    what = f"a receipt held against its workspace, whose ledger holds {size:,} events: steps 1 to 16"
    return [Figure("log.verify_workspace", what, seconds, "s")]


def _submissions(epoch: str = "") -> Iterator[Submission]:
    at = datetime.now(UTC)
    for number in itertools.count():
        digest = hashlib.sha256(b"%d" % number).hexdigest()
        request = Request(f"req-{secrets.token_hex(8)}", RequestState.SUBMITTED, "", None, digest, 1, 0, {}, at, at)
        yield Submission(request, digest, epoch, secrets.token_bytes(60))


def _timed_appends(ledger: Ledger, stream: Iterator[Submission], count: int) -> list[float]:
    """Milliseconds of each."""
    taken = []
    for submission in itertools.islice(stream, count):
        since = time.perf_counter()
        ledger.submit([submission])
        taken.append(1e3 * (time.perf_counter() - since))
    return taken


def _proofs(ledger: Ledger, count: int) -> list[Figure]:
    """Time and rows of both kinds of proof, each for random places."""
    head = ledger.head()
    rng = random.Random(head.size)  # noqa: S311 - which places are tried, nothing secret
    leaves = dict.fromkeys(rng.sample(range(head.size), count))
    figures = []
    for kind, prove in (("inclusion", ledger.inclusion), ("consistency", ledger.consistency)):
        taken, rows = [], []
        with _counting(rows):
            for number in leaves:
                since = time.perf_counter()
                prove(number, head.size)
                taken.append(1e3 * (time.perf_counter() - since))
        name = f"proof.{kind}.{head.size}"
        figures += [
            Figure(f"{name}.ms", f"{kind} proof among {head.size:,} events, median", median(taken), "ms"),
            Figure(
                f"{name}.rows",
                f"rows read for the {kind} proof that takes most; bound 2 log2 n",
                max(rows),
                "rows",
                at_most=2 * (head.size - 1).bit_length(),
            ),
        ]
    return figures


class _counting:  # noqa: N801 (used like a function)
    """Notes how many rows of the tree each query gives."""

    def __init__(self, rows: list[int]) -> None:
        self._rows = rows
        self._inner = chain.subtrees

    def __enter__(self) -> None:
        def count(c: object, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
            found = self._inner(c, places)
            self._rows.append(len(found))
            return found

        chain.subtrees = count

    def __exit__(self, *_: object) -> None:
        chain.subtrees = self._inner
