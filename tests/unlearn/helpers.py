"""What the tests of forgetting, bad input, damage, ledger and serving share: data with canaries, looks at the disk."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from shards.learners.base import Learner
from shards.placement import keyed_tokens
from shards.slicefile import commitments, read
from shards.store import CheckpointHeader
from unlearn import Workspace
from unlearn.errors import UnlearnError

ROOT = Path(__file__).parents[2]
"""The checkout."""

VOLATILE = ("ledger.db", "ledger.db-wal", "ledger.db-shm", "lock", "busy")
"""Files whose bytes may differ although they say the same."""

WIDTH = 3
"""Features of a record."""


def sgd(**options: Any) -> Learner:
    """The lightest learner whose steps continue from their parents."""
    from sklearn.linear_model import SGDClassifier

    from shards.learners.sklearn import SklearnLearner

    return SklearnLearner(SGDClassifier(loss="log_loss"), epochs=2, batch_size=8, **options)


def hoarding() -> Learner:
    """A learner whose checkpoints hold the records' own bytes."""
    from tests.unlearn.hoarding import Hoarding

    return Hoarding()


def mlp() -> Learner:
    """The smallest torch module."""
    from shards.learners.torch import TorchLearner

    return TorchLearner("mlp", {"hidden": [4]}, optimizer_args={"lr": 0.1}, epochs=2, batch_size=8)


def create(folder: Path, learner: Learner | None = None, **options: Any) -> Workspace:
    """A workspace of three shards and two slices for the labels 0 and 1, repeatable."""
    settings: dict[str, Any] = {"n_shards": 3, "n_slices": 2, "classes": [0, 1], "random_state": 0}
    return Workspace.create(folder, learner or sgd(), **{**settings, **options})


def canaries(rows: Sequence[int], variant: int = 0) -> np.ndarray:
    """`[n, 3]` float64 whose every eight bytes occur nowhere else, a function of row and variant alone."""
    return np.array([np.random.default_rng([variant, row]).normal(size=WIDTH) for row in rows]).reshape(-1, WIDTH)


def labels(rows: Sequence[int]) -> np.ndarray:
    """`[n]` labels 0 and 1, learnable from the canaries of variant 0."""
    return (canaries(rows)[:, 0] > 0).astype(np.int64)


def names(rows: Sequence[int]) -> list[str]:
    """Record ids that occur nowhere else."""
    return [f"canary-record-{row:04d}-id" for row in rows]


def owner(number: int) -> str:
    """A subject's id that occurs nowhere else."""
    return f"canary-subject-{number:04d}-name"


def filled(folder: Path, learner: Learner | None = None, n: int = 30, **options: Any) -> Workspace:
    """A workspace with one batch of n records, ids `names`, each its own subject, trained."""
    workspace = create(folder, learner, **options)
    rows = range(n)
    workspace.ingest(canaries(rows), labels(rows), record_ids=names(rows))
    workspace.train()
    return workspace


def copied(workspace: Workspace, folder: Path) -> Workspace:
    """An independent copy of a workspace, open."""
    workspace.close()  # so that the database is one file
    shutil.copytree(workspace.path, folder)
    return Workspace.open(folder)


# Looks at the disk


def files(folder: Path) -> Iterator[Path]:
    """Every file below a folder."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def raw(folder: Path) -> dict[str, bytes]:
    """Raw bytes of every file below a folder, by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in files(folder)}


def dump(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables of a workspace's ledger, by table; who wrote last says nothing about what is there."""
    found = tables(folder / "ledger.db")
    return {**found, "meta": [row for row in found["meta"] if row[0] != "writer"]}


def tables(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables of a database, by table."""
    with closing(sqlite3.connect(path)) as database:
        found = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        return {name: sorted(database.execute(f"SELECT * FROM {name}"), key=repr) for name in sorted(found)}


def logical(folder: Path) -> dict[str, Any]:
    """All that a workspace says, for comparison before and after."""
    contents: dict[str, Any] = {"ledger": dump(folder)}
    for path in files(folder):
        if path.name not in VOLATILE:
            contents[str(path.relative_to(folder))] = path.read_bytes()
    return contents


def secrets_of(workspace: Workspace, ids: Sequence[str]) -> dict[str, list[bytes]]:
    """What only a record's existence put on the disk and must go with it: salt, token of its order; by record id."""
    wanted = set(ids)
    found: dict[str, list[bytes]] = {}
    for path in workspace.path.glob("shards/*/records/*.arrow"):
        data = read(path)
        for row, name in enumerate(data.record_ids):
            if name in wanted:
                found[name] = spellings(data.salts[row].tobytes(), data.tokens[row].tobytes())
    return found


def commitments_of(workspace: Workspace, ids: Sequence[str]) -> dict[str, bytes]:
    """Salted commitments of records, by record id; once the salt is gone they say nothing."""
    wanted = set(ids)
    found: dict[str, bytes] = {}
    for path in workspace.path.glob("shards/*/records/*.arrow"):
        data = read(path)
        found |= {
            name: row.tobytes() for name, row in zip(data.record_ids, commitments(data), strict=True) if name in wanted
        }
    return found


def spellings(*secrets: bytes) -> list[bytes]:
    """Bytes as they are, and as hex digits."""
    return [
        spelling for secret in secrets for spelling in (secret, secret.hex().encode(), secret.hex().upper().encode())
    ]


def header(workspace: Workspace, place: tuple[int, int]) -> CheckpointHeader:
    """What the checkpoint of a built step says of itself."""
    step = workspace._site.ledger.steps()[place]
    return workspace._site.folder(place[0]).header(step.key)


def digests_of_states(workspace: Workspace, places: Iterable[tuple[int, int]]) -> list[bytes]:
    """What would let somebody recognise the states of steps: their digests, and the salts of their commitments."""
    headers = [header(workspace, place) for place in places]
    return spellings(*(bytes.fromhex(text) for item in headers for text in (item.content, item.payload, item.salt)))


def pseudonym(workspace: Workspace, kind: str, name: str) -> bytes:
    """The ledger's keyed token of an id, computed here."""
    return keyed_tokens(workspace._site.keys.pseudonyms, kind, [name])[0].tobytes()


def checkpoint(workspace: Workspace, shard: int) -> Path:
    """File of the state a shard serves."""
    _, steps = workspace._site.ledger.served()
    key = next(step.key for step in steps if step.shard == shard)
    return workspace._site.folder(shard).checkpoint(key)


def shard_of(workspace: Workspace, record_id: str) -> tuple[int, int]:
    """Shard and position of a present record."""
    found = workspace._site.ledger.locations([pseudonym(workspace, "record", record_id)])
    return found[0].shard, found[0].position


def latest_first(workspace: Workspace, rows: Sequence[int]) -> list[int]:
    """Rows from the last slices to the first: forgetting them one by one moves the served state every time."""
    places = {row: shard_of(workspace, name) for row, name in zip(rows, names(rows), strict=True)}
    return sorted(rows, key=lambda row: (-places[row][1], places[row][0], row))


def flip(path: Path, offset: int, mask: int = 0xFF) -> None:
    """Change one byte of a file."""
    data = bytearray(path.read_bytes())
    data[offset] ^= mask
    path.write_bytes(data)


# Other processes

_READER = """
import sys
import numpy as np
from unlearn import Workspace
from unlearn.errors import UnlearnError
X = np.load(sys.argv[1])
opened = {}
for line in sys.stdin:
    path = line.rstrip("\\n")
    try:
        if path not in opened:
            opened[path] = Workspace.open(path)
        said = opened[path].predict_proba(X).tobytes().hex()
    except UnlearnError as error:
        said = type(error).__name__ + ": " + str(error)
    print(said.replace("\\n", " "), flush=True)
"""


class Reader:
    """Another process, which opens a workspace once and predicts from memory whenever it is asked.

    Args:
        folder: Where to put the features.
        X: Features to predict for.
    """

    def __init__(self, folder: Path, X: np.ndarray) -> None:
        np.save(folder / "features.npy", X)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _READER, str(folder / "features.npy")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def predict(self, workspace: Path) -> bytes | str:
        """Bytes of its prediction, or the name and message of its error."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{workspace}\n")
        self._process.stdin.flush()
        said = self._process.stdout.readline().rstrip("\n")
        assert said, f"the reading process ended with status {self._process.wait()}"
        return said if ":" in said else bytes.fromhex(said)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *ended: object) -> None:
        self._process.kill()
        self._process.communicate()


_HOLDER = """
import sys
from pathlib import Path
from shards.lock import exclusive
with exclusive(Path(sys.argv[1]), 5):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held(workspace: Workspace) -> Iterator[int]:
    """Another process writes to the workspace; gives its process id."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(workspace.path / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    try:
        yield process.pid
    finally:
        process.kill()
        process.communicate()


def served(workspace: Workspace, X: np.ndarray) -> bytes | str:
    """Bytes of a prediction, or the name and message of the error instead of one."""
    try:
        return workspace.predict_proba(X).tobytes()
    except UnlearnError as error:
        return f"{type(error).__name__}: {error}".replace("\n", " ")


def members(workspace: Workspace) -> dict[int, Any]:
    """Shard to the predictor of the state it serves, each loaded here from its file."""
    site = workspace._site
    _, steps = site.ledger.served()
    return {
        step.shard: site.learner.predictor(site.folder(step.shard).load(step.key).state, site.task()) for step in steps
    }
