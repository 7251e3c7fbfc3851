"""One flipped bit anywhere in a workspace: verifying says what is damaged, or nothing of the content has changed."""

from __future__ import annotations

import base64
import json
import random
import re
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import unlearn
from shards import slicefile
from shards.digest import digest_arrays
from shards.store_local import ShardFolder
from tests.crash import tally
from tests.unlearn.helpers import files, flip
from tests.unlearn.victim import Victim, make_victim
from unlearn import Workspace
from unlearn.errors import UnlearnError
from unlearn.ledger.uncovered import UNCOVERED
from unlearn.receipt.envelope import parse_envelope

UNCHECKED = {table: set(columns) for item in UNCOVERED for table, columns in item.columns.items()}
"""Table to what the log does not hold, as verification says itself. All else is checked."""


@dataclass(frozen=True)
class Kind:
    """Files of one kind.

    Attributes:
        pattern: Which they are.
        flips: How many bits to flip, by default and with all the time there is.
        names: What a message must name, besides the file.
        content: What the file says, to compare.
    """

    pattern: str
    flips: tuple[int, int]
    names: str
    content: Callable[[Path], Any]


def slice_content(path: Path) -> Any:
    """Every value of every record, with its commitment."""
    data = slicefile.read(path)
    arrays = {**data.features, "target": data.target, "tokens": data.tokens, "salts": data.salts}
    return data.record_ids, data.subjects, digest_arrays(arrays), slicefile.commitments(data).tobytes()


def checkpoint_content(path: Path) -> Any:
    """Header and arrays."""
    checkpoint = ShardFolder(path.parents[1]).load(path.stem)
    return checkpoint.header, digest_arrays(dict(checkpoint.state))


def tables(path: Path) -> Any:
    """All rows but for what nothing vouches for, and that every page and index is sound."""
    found: dict[str, list[str]] = {}
    with closing(sqlite3.connect(path)) as c:
        assert c.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        schema = c.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
        for (table,) in c.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            columns = [row[1] for row in c.execute(f"PRAGMA table_info({table})")]
            kept = [name for name in columns if name not in UNCHECKED.get(table, set())]
            rows = c.execute(f'SELECT {", ".join(map(_quoted, kept))} FROM "{table}"').fetchall()
            if table == "meta":
                # Single values: what differs is compared under its name, and as text in whatever type it is kept.
                rows = [(name, _text(value)) for name, value in rows if name not in UNCHECKED["meta"]]
            found[table] = sorted(map(repr, rows))
    return found, schema


def _quoted(name: str) -> str:
    return f'"{name}"'


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def pem(path: Path) -> bytes:
    """What is encoded between the lines that frame it; the last digit of base64 may have bits that say nothing."""
    return base64.b64decode(b"".join(line for line in path.read_bytes().splitlines() if not line.startswith(b"-----")))


def secrets(path: Path) -> dict[str, bytes]:
    """The keys, of which either case of a hex digit is the same."""
    return {name: bytes.fromhex(text) for name, text in json.loads(path.read_text()).items()}


KINDS = {
    "ledger": Kind("ledger.db", (220, 4000), "log|ledger|record|receipt|withdrawal|environment|checkpoint", tables),
    "records": Kind("shards/*/records/*", (120, 2500), "record file|slice file", slice_content),
    "checkpoints": Kind("shards/*/checkpoints/*", (70, 1500), "checkpoint", checkpoint_content),
    "receipts": Kind("receipts/*", (60, 1500), "receipt", lambda path: parse_envelope(path.read_bytes()).to_dict()),
    "keys": Kind("keys/*", (40, 500), "key", pem),
    "description": Kind(
        "workspace.json", (30, 800), "description|workspace", lambda path: json.loads(path.read_text())
    ),
    "secrets": Kind("secrets.json", (30, 800), "secrets|description", secrets),
    "locks": Kind("**/*", (6, 40), "", lambda _: None),
}
"""Every kind of file. Locks hold the number of the process that had them last, only ever to name it in a message."""


def members(folder: Path, kind: str) -> list[Path]:
    """The files of a kind, relative to the workspace."""
    found = [path for path in folder.glob(KINDS[kind].pattern) if path.is_file() and path.stat().st_size]
    return sorted(
        path.relative_to(folder) for path in found if kind != "locks" or path.name in {"lock", "busy"}
    )  # fmt: skip


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Victim:
    return make_victim(tmp_path_factory.mktemp("victim"))


def complaint(victim: Victim, folder: Path) -> str | None:
    """What verifying says of a workspace, None if it stands up."""
    try:
        unlearn.verify(victim.latest, victim.key, workspace=folder)
    except UnlearnError as error:
        return str(error)
    return None


def flipped(
    victim: Victim, folder: Path, kind: str, count: int, seed: int
) -> tuple[Counter[str], list[tuple[Path, int]]]:
    """Flip bits, one at a time; how many were found, how many change nothing, and those."""
    rng = random.Random(f"{seed}/{kind}")
    known = {path: KINDS[kind].content(victim.path / path) for path in members(victim.path, kind)}
    seen: Counter[str] = Counter()
    unused = []
    for number in range(count):
        path = rng.choice(list(known))
        place, bit = rng.randrange((victim.path / path).stat().st_size), rng.randrange(8)
        copy = victim.copy(folder / str(number))
        flip(copy / path, place, 1 << bit)
        started = time.monotonic()
        what = f"bit {bit} of byte {place} of {path}"
        said = complaint(victim, copy)
        if said is None:
            assert KINDS[kind].content(copy / path) == known[path], f"{what} was changed, and nobody noticed"
            unused.append((path, place))
        else:
            assert re.search(f"{re.escape(path.name)}|{KINDS[kind].names}", said), f"{what}: {said}"
        seen["unused" if said is None else "found"] += 1
        assert time.monotonic() - started < 20, f"{what}: it took too long"
        shutil.rmtree(folder / str(number))
    return seen, unused


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_found_or_changes_nothing(victim: Victim, tmp_path: Path, kind: str) -> None:
    seen, _ = flipped(victim, tmp_path, kind, KINDS[kind].flips[0], 0)
    print(f"\n{kind}: {seen['found']} of {seen.total()} flipped bits found, {seen['unused']} in bytes nobody uses")
    assert seen["found"] or kind == "locks"


@pytest.mark.exhaustive
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", KINDS)
def test_many_flipped_bits_are_found_or_change_nothing(victim: Victim, tmp_path: Path, kind: str) -> None:
    seen, _ = flipped(victim, tmp_path, kind, KINDS[kind].flips[1], 1)
    tally.add(f"a flipped bit, found or in a byte that nobody uses: {kind}", seen.total(), 0)
    print(f"\n{kind}: {seen['found']} of {seen.total()} flipped bits found, {seen['unused']} in bytes nobody uses")
    assert seen["found"] or kind == "locks"


def test_every_file_of_a_workspace_is_of_a_kind(victim: Victim) -> None:
    known = {path for kind in KINDS for path in members(victim.path, kind)}
    others = {path.relative_to(victim.path) for path in files(victim.path)} - known
    assert {path.parts[0] for path in others} <= {"inbox"}  # of which the next test is


def test_a_flipped_bit_in_the_key_of_waiting_ids_is_found_when_they_are_served(victim: Victim, tmp_path: Path) -> None:
    """Until then any key is as good as another: nothing is encrypted under it."""
    origin = victim.copy(tmp_path)
    with closing(Workspace.open(origin)) as workspace:
        workspace.submit(record_ids=["canary-record-0003-id"])
    (key,) = [path.relative_to(origin) for path in (origin / "inbox").glob("*.key")]
    rng = random.Random(0)
    for number in range(5):
        copy = Path(shutil.copytree(origin, tmp_path / str(number)))
        flip(copy / key, rng.randrange(32), 1 << rng.randrange(8))
        with (
            closing(Workspace.open(copy)) as workspace,
            pytest.raises(UnlearnError, match=rf"{key.name} is missing or"),
        ):
            workspace.process()


def test_what_nobody_uses_changes_nothing_that_is_trained(victim: Victim, tmp_path: Path) -> None:
    copy = victim.copy(tmp_path)
    for kind in ("records", "ledger"):
        _, unused = flipped(victim, tmp_path, kind, 40, 2)
        assert unused
        for path, place in unused[:10]:
            flip(copy / path, place, 0x10)
    unlearn.verify(victim.latest, victim.key, workspace=copy, replay=True)
