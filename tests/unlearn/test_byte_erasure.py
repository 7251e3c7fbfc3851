"""After thousands of operations no byte of what was forgotten is left: in no file, free page, journal or log.

Every record has an id, a subject and features that occur nowhere else, and the learner's states hold the records'
own bytes. Records come in, are forgotten at once or by requests that several calls submitted and one carried out,
and are trained on now and then. In the end every file is read byte by byte. What must not be found is: ids, subjects
and features of forgotten records, in any spelling; salts of their commitments; the keyed tokens of their order; digest,
stored digest and salt of every state that was destroyed; keys of past epochs. Everything of the records that stay must
be found, or the search would prove nothing.

With SQLite this is so of all files of the workspace, the ledger's free pages, its write-ahead log and its index
included, while it is open and after it is closed.

With PostgreSQL it is so of the workspace's folder, and of everything the server writes: heap files, indices,
write-ahead log, statistics, its own log. But for another reason. A server cannot promise to erase: a deleted row stays
in its page until VACUUM has freed it and another row has taken its place, in the write-ahead log until that segment is
recycled, and for good in archived segments, replicas, snapshots and backups, none of which this program can reach. So
nothing is ever sent there that would have to be erased. What it gets are keyed tokens and salted commitments, whose
keys and salts lie in the workspace's files; ids of waiting requests encrypted under a key of the workspace's, which is
destroyed once they are served; and what the caller writes as reason or idempotency key, which must name nobody. The
test below finds the ciphertext of requests that were served long ago still lying there, and that its key is gone.
"""

from __future__ import annotations

import base64
import json
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from tests.crash import tally
from tests.unlearn.helpers import (
    canaries,
    create,
    files,
    hoarding,
    labels,
    names,
    owner,
    raw,
    secrets_of,
    spellings,
)
from tests.unlearn.ledger.server import Server, running
from unlearn import Workspace
from unlearn.errors import DamageError
from unlearn.request import RequestState

NAMED = re.compile(rb"canary-(record|subject)-(\d+)")


def found_names(contents: Iterable[bytes]) -> set[tuple[str, int]]:
    """Kind and number of every record and subject whose id is somewhere, as it is, in base64, UTF-16 or hex."""
    seen = set()
    for data in contents:
        for spelled in (data, data.replace(b"\0", b""), *_hidden(data)):
            seen |= {(kind.decode(), int(number)) for kind, number in NAMED.findall(spelled)}
    return seen


def _hidden(data: bytes) -> Iterable[bytes]:
    for text in re.findall(rb"[0-9A-Za-z+/_-]{24,}", data):
        for shift in range(4):
            part = text[shift:]
            yield base64.b64decode(part[: len(part) // 4 * 4], altchars=b"-_" if b"_" in part or b"-" in part else None)
    for text in re.findall(rb"[0-9a-f]{24,}|[0-9A-F]{24,}", data):
        for shift in range(2):
            part = text[shift:]
            yield bytes.fromhex(part[: len(part) // 2 * 2].decode())


def found_needles(contents: Iterable[bytes], needles: Sequence[bytes]) -> set[bytes]:
    """Those of many byte strings of at least eight bytes that are somewhere in the contents.

    Every window of eight bytes is compared with the first eight of each at once; few are left to look at closely.
    """
    starts: dict[int, list[bytes]] = {}
    for needle in needles:
        starts.setdefault(int.from_bytes(needle[:8], "little"), []).append(needle)
    wanted = np.array(sorted(starts), dtype=np.uint64)
    seen: set[bytes] = set()
    for data in contents:
        for shift in range(min(8, max(len(data) - 7, 0))):
            windows = np.frombuffer(data, np.dtype("<u8"), count=(len(data) - shift) // 8, offset=shift)
            at = np.minimum(np.searchsorted(wanted, windows), len(wanted) - 1)
            for position in np.flatnonzero(wanted[at] == windows):
                here = shift + 8 * int(position)
                seen |= {item for item in starts[int(windows[position])] if data.startswith(item, here)}
    return seen


def test_the_search_finds_what_is_there() -> None:
    rng = np.random.default_rng(0)
    needles = [rng.bytes(size) for size in (8, 9, 12, 16, 32, 64)] * 2
    noise = rng.bytes(1000)
    for shift in range(9):
        data = noise[:shift] + noise.join(needles) + noise[: 8 - shift]
        assert found_needles([noise, data], needles) == set(needles)
    assert found_needles([noise, b"", b"short"], needles) == set()
    assert found_needles([needles[-1][:-1]], needles[-1:]) == set()
    text = b"xyz " + names([7])[0].encode() + b" " + owner(8).encode()
    for spelled in (
        text,
        text.decode().encode("utf-16-le"),
        base64.b64encode(text),
        base64.urlsafe_b64encode(b"?" + text),
        text.hex().encode(),
        b"0" + text.hex().upper().encode(),
    ):
        assert found_names([b"", b"..." + spelled]) == {("record", 7), ("subject", 8)}


@dataclass
class Life:
    """A workspace, and what was put into it as it is known outside."""

    workspace: Workspace
    rng: random.Random
    subjects: dict[int, int] = field(default_factory=dict)
    dead: set[int] = field(default_factory=set)
    secrets: dict[int, list[bytes]] = field(default_factory=dict)
    states: dict[tuple[int, int, str], list[bytes]] = field(default_factory=dict)
    keys: dict[str, bytes] = field(default_factory=dict)
    sealed: list[tuple[str, str, bytes]] = field(default_factory=list)
    operations: int = 0

    def alive(self) -> list[int]:
        return sorted(self.subjects.keys() - self.dead)

    def ingest(self, count: int) -> None:
        start = len(self.subjects)
        rows = range(start, start + count)
        known = sorted({self.subjects[row] for row in self.alive()})
        gone = {self.subjects[row] for row in self.dead}
        known = [number for number in known if number not in gone]
        for row in rows:
            # Some of people who are here already, else two or three of each new one.
            self.subjects[row] = self.rng.choice(known) if known and self.rng.random() < 0.2 else row - row % 3
            if self.subjects[row] in gone:
                self.subjects[row] = row
        chosen = [owner(self.subjects[row]) for row in rows]
        self.workspace.ingest(canaries(rows), labels(rows), record_ids=names(rows), subjects=chosen)
        found = secrets_of(self.workspace, names(rows))
        self.secrets |= {row: found[name] for row, name in zip(rows, names(rows), strict=True)}
        self.operations += count

    def targets(self, count: int) -> tuple[list[str], list[str]]:
        """Some subjects and records that are there; they count as forgotten from here on."""
        subjects, ids = [], []
        for _ in range(count):
            alive = self.alive()
            row = self.rng.choice(alive)
            if self.rng.random() < 0.3:
                subjects.append(owner(self.subjects[row]))
                self.dead |= {other for other in alive if self.subjects[other] == self.subjects[row]}
            else:
                ids += names([row])
                self.dead.add(row)
        self.operations += count
        return subjects, ids

    def forget(self, count: int) -> None:
        subjects, ids = self.targets(count)
        assert self.workspace.forget(subjects=subjects, record_ids=ids).state is RequestState.FORGOTTEN

    def submit(self, count: int) -> None:
        for _ in range(count):
            subjects, ids = self.targets(1)
            self.workspace.submit(subjects=subjects, record_ids=ids, reason="asked")
        self.keys |= {path.stem: path.read_bytes() for path in (self.workspace.path / "inbox").glob("*.key")}
        self.sealed += [(item.epoch, item.request.id, item.sealed) for item in self.workspace._site.ledger.pending()]

    def process(self) -> None:
        assert {item.state for item in self.workspace.process()} <= {RequestState.FORGOTTEN}

    def train(self) -> None:
        self.workspace.train()
        site = self.workspace._site
        for (shard, position), step in site.ledger.steps().items():
            head = site.folder(shard).header(step.key)
            told = (bytes.fromhex(text) for text in (head.content, head.payload, head.salt))
            self.states[shard, position, step.key] = spellings(*told)

    def step(self, number: int) -> None:
        """A few dozen operations."""
        self.ingest(self.rng.randint(25, 55))
        if number % 30 == 2:
            self.train()
        self.forget(self.rng.randint(1, 8))
        self.submit(self.rng.randint(8, 16))
        if self.rng.random() < 0.3:
            self.forget(self.rng.randint(1, 4))  # serves what was submitted first
        else:
            self.process()

    def live(self, operations: int) -> None:
        number = 0
        while self.operations < operations:
            self.step(number)
            number += 1
        self.train()
        self.forget(5)
        self.submit(3)
        self.process()

    # What may be found and what must

    def split(self) -> tuple[dict[str, list[bytes]], dict[str, list[bytes]]]:
        """Bytes that must be gone and bytes that must be there, by what they are."""
        gone: dict[str, list[bytes]] = {"features": [], "features as float32": [], "secrets": [], "states": []}
        there: dict[str, list[bytes]] = {"features": [], "secrets": [], "states": []}
        for row in self.subjects:
            features = canaries([row])[0]
            into = gone if row in self.dead else there
            into["features"] += [value.tobytes() for value in features]
            into["secrets"] += self.secrets[row][:1] if into is there else self.secrets[row]
            if row in self.dead:
                gone["features as float32"].append(features.astype(np.float32).tobytes())
        served = {(*place, step.key) for place, step in self.workspace._site.ledger.steps().items()}
        for place, told in self.states.items():
            # The header of a checkpoint spells its digests in hex.
            there["states"] += told[1::3] if place in served else []
            gone["states"] += [] if place in served else told
        current = {path.stem for path in (self.workspace.path / "inbox").glob("*.key")}
        gone["keys"] = spellings(*(data for name, data in self.keys.items() if name not in current))
        assert all(gone.values())
        assert all(there.values())
        return gone, there

    def names_alive(self) -> set[tuple[str, int]]:
        alive = self.alive()
        return {("record", row) for row in alive} | {("subject", self.subjects[row]) for row in alive}

    def check(self, contents: Sequence[bytes]) -> None:
        """All files of the workspace together hold the living and nothing of the dead."""
        gone, there = self.split()
        assert found_names(contents) == self.names_alive()
        for what, needles in gone.items():
            assert not found_needles(contents, needles), what
        for what, needles in there.items():
            assert found_needles(contents, needles) == set(needles), what


def begin(folder: Path, seed: int, **options: str) -> Life:
    return Life(create(folder / "ws", hoarding(), n_shards=2, n_slices=1, **options), random.Random(seed))


def opened_receipts(folder: Path) -> list[bytes]:
    """What receipts say, out of its envelope."""
    envelopes = [json.loads(path.read_bytes()) for path in (folder / "receipts").glob("*.json")]
    assert envelopes
    return [base64.b64decode(item["payload"]) for item in envelopes]


@pytest.mark.parametrize(
    "operations", [500, pytest.param(10_000, marks=[pytest.mark.exhaustive, pytest.mark.timeout(1800)])]
)
def test_no_byte_of_the_forgotten_is_left(tmp_path: Path, operations: int) -> None:
    life = begin(tmp_path, seed=operations)
    life.live(operations)
    workspace = life.workspace
    assert life.operations >= operations
    assert len(life.dead) > operations / 6
    assert workspace.status().records == len(life.alive())
    contents = raw(workspace.path)
    assert {"ledger.db", "ledger.db-wal", "ledger.db-shm"} <= contents.keys()
    assert len(contents["ledger.db-wal"]) > 4096
    life.check([*contents.values(), *opened_receipts(workspace.path)])
    workspace.close()
    life.check([*raw(workspace.path).values(), *opened_receipts(workspace.path)])
    Workspace.open(workspace.path).close()
    life.check(list(raw(workspace.path).values()))
    tally.add("ingest or forget, bytes of SQLite searched afterwards", life.operations, 0)


@pytest.mark.postgresql
@pytest.mark.parametrize(
    "operations", [800, pytest.param(10_000, marks=[pytest.mark.exhaustive, pytest.mark.timeout(7200)])]
)
def test_nothing_that_would_have_to_be_erased_ever_reaches_the_server(tmp_path: Path, operations: int) -> None:
    with running() as server:
        life = begin(tmp_path, seed=1, ledger=server.url)
        life.live(operations)
        life.check([*raw(life.workspace.path).values(), *opened_receipts(life.workspace.path)])
        _check_server(life, server)
        server.execute("CHECKPOINT")  # the pages themselves, not their changes in the write-ahead log alone
        _check_server(life, server)
        life.workspace.close()
    tally.add("ingest or forget, bytes of PostgreSQL searched afterwards", life.operations, 0)


def _check_server(life: Life, server: Server) -> None:
    contents = [path.read_bytes() for path in server.files()]
    gone, there = life.split()
    # Not even what is still present: it is not the server's.
    assert found_names(contents) == set()
    for what, needles in (gone | {f"living {what}": needles for what, needles in there.items()}).items():
        assert not found_needles(contents, needles), what
    # What is there stays there: ciphertext of requests that are long served. Its keys are gone.
    site = life.workspace._site
    served = [item for item in life.sealed if not (site.path / "inbox" / f"{item[0]}.key").exists()]
    left = found_needles(contents, [sealed for _, _, sealed in served])
    assert len(left) > len(served) / 2
    for epoch, request, sealed in served:
        with pytest.raises(DamageError, match="cannot be decrypted"):
            site.inbox.open(epoch, request, sealed)
    assert not [path for path in files(site.path) if path.stem in {item[0] for item in served}]
