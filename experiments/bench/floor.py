"""The floor under `forget`: what it cannot do without, each alone, with as little around it as there can be.

    python -m experiments.bench.floor

runs this part of the benchmark by itself, with the requests, and what the ledger costs a fit, and writes `floor.json`.
It trains for few passes, since none of it depends on how long a checkpoint was trained. Everything is processor time,
which a busy machine changes least.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from experiments.bench.figures import Figure
from experiments.bench.rig import Rig
from shards import slicefile
from shards.files import sync_path

TIMES = 100
"""The median of so many."""

COMMITS = 4
"""Transactions of one request: withdrawn; slice replaced; forgotten; receipted."""

PAYLOAD_BYTES = 8_000
"""Of what a receipt of one record signs, about."""


def measure_floor(rig: Rig, forget: Figure) -> list[Figure]:
    """Measure what one request cannot do without.

    Args:
        rig: Where; its trained workspace stays as it is.
        forget: `b.forget_cpu`, which is compared with the sum.

    Returns:
        The figures.
    """
    parts = {
        "commit": ("one row committed to SQLite, write-ahead log, synced", _commits(rig.folder / "floor.db")),
        "signature": (f"Ed25519 over {PAYLOAD_BYTES:,} bytes", _signatures()),
        "rewrite": ("one slice read, digested, written without a record, synced, the old one unlinked", _rewrites(rig)),
    }
    middle = {name: median(found) for name, (_, found) in parts.items()}
    floor = COMMITS * middle["commit"] + middle["signature"] + middle["rewrite"]
    what = "floor of forget, processor time: "
    return [
        *(
            Figure(f"b.floor_{name}", what + words, middle[name], "s", ours=middle[name], samples={"ours": found})
            for name, (words, found) in parts.items()
        ),
        Figure("b.floor", f"{what}{COMMITS} commits, a signature, a slice rewritten", floor, "s", ours=floor),
        Figure("b.forget_in_floors", "forget one subject, processor time, in floors", forget.value / floor, "x"),
    ]


def _commits(path: Path) -> list[float]:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE row (number INTEGER PRIMARY KEY, body BLOB)")

    def commit(number: int) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO row VALUES (?, ?)", (number, bytes(500)))
        connection.execute("COMMIT")

    found = _timed(commit)
    connection.close()
    return found


def _signatures() -> list[float]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key, payload = Ed25519PrivateKey.generate(), os.urandom(PAYLOAD_BYTES)
    return _timed(lambda _: key.sign(payload))


def _rewrites(rig: Rig) -> list[float]:
    with rig.site(rig.trained) as site:
        (shard, _), item = min(site.ledger.slices().items())
        data = site.folder(shard).read_records(item.file)
    folder = rig.folder / "floor"
    folder.mkdir()
    slicefile.write(folder / "0", data)

    def rewrite(number: int) -> None:
        old = folder / f"{number}"
        read = slicefile.read(old)
        slicefile.slice_digest(slicefile.commitments(read))
        # The last record, and so the same work each time but for one record.
        slicefile.write(folder / f"{number + 1}", slicefile.keep(read, np.arange(len(read)) < len(read) - 1))
        sync_path(folder)
        old.unlink()
        sync_path(folder)

    return _timed(rewrite)


def _timed(action: Callable[[int], object]) -> list[float]:
    found = []
    for number in range(TIMES):
        started = time.process_time()
        action(number)
        found.append(time.process_time() - started)
    return found


def main() -> None:
    """Run this part alone."""
    from experiments.bench.forget import measure_forget
    from experiments.bench.shares import stopwatch
    from experiments.bench.workload import purchase, read_setting
    from experiments.benchmark import Benchmark
    from experiments.benchmark import Figure as Row

    setting = replace(read_setting(quick=False), epochs=3)

    def measure(_: object, folder: Path, say: Callable[[str], None]) -> list[Row]:
        rig = Rig(setting, purchase(setting), folder, say)
        with stopwatch(time.process_time) as busy:
            workspace = rig.create(rig.trained)
            workspace.ingest(rig.data.X, rig.data.y)
            ingested = busy["ledger"]
            workspace.train(progress=False)
            workspace.close()
        figures = measure_forget(rig, set())
        forget = next(figure for figure in figures if figure.name == "b.forget_cpu")
        rows = [Row(item.name, item.what, item.value, item.unit) for item in [forget, *measure_floor(rig, forget)]]
        what = "driver: ledger, processor time, of "
        return [
            *rows,
            Row("f.ledger_cpu.ingest", f"{what}create and ingest", ingested, "s"),
            Row("f.ledger_cpu.train", f"{what}train, as many steps as in a whole fit", busy["ledger"] - ingested, "s"),
        ]

    bench = Benchmark("bench.floor", "The floor of forget", measure)
    bench.run({"epochs": setting.epochs, "records": setting.records}, Path(__file__).with_name("floor.json"))


if __name__ == "__main__":
    main()
