"""Nothing that a workspace holds is unpickled, whatever it is called and whatever is around it."""

from __future__ import annotations

import base64
import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import unlearn
from shards import slicefile
from shards.digest import digest_arrays
from shards.store_local import ShardFolder
from tests.unlearn import attacks
from tests.unlearn.helpers import canaries, names
from tests.unlearn.victim import Victim, make_victim
from unlearn import Workspace
from unlearn.errors import DamageError, UnlearnError


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def bare(marker: Path) -> bytes:
    return pickle.dumps(Bomb(marker))


def as_torch_saves(marker: Path) -> bytes:
    import torch

    file = io.BytesIO()
    torch.save({"state": Bomb(marker)}, file)
    return file.getvalue()


def in_a_zip(marker: Path) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", bare(marker))
        archive.writestr("schema.json", "{}")
    return file.getvalue()


def in_skops(marker: Path) -> bytes:
    import skops.io

    return bytes(skops.io.dumps({"state": Bomb(marker)}))


def as_numpy_objects(marker: Path) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([Bomb(marker)], dtype=object), allow_pickle=True)
    return file.getvalue()


def in_arrow(marker: Path) -> bytes:
    """As a type of somebody's own, which older versions of Arrow's reader unpickled, and in the slice's metadata."""
    own = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": bare(marker)}
    schema = pa.schema(
        [pa.field("record_id", pa.string(), metadata=own)],
        metadata={b"shards.slice": bare(marker), b"pandas": bare(marker)},
    )
    file = io.BytesIO()
    with pa.ipc.new_file(file, schema) as writer:
        writer.write_batch(pa.record_batch([pa.array(["a"])], schema=schema))
    return file.getvalue()


def in_safetensors(marker: Path) -> bytes:
    from safetensors.numpy import save

    data = np.frombuffer(bare(marker), dtype=np.uint8)
    return bytes(save({"state": data}, metadata={"header": base64.b64encode(bare(marker)).decode(), "check": "x"}))


def after_a_header(marker: Path) -> bytes:
    """A length and a pickle, as a checkpoint begins."""
    return struct.pack("<Q", len(bare(marker))) + bare(marker)


BOMBS: dict[str, Callable[[Path], bytes]] = {
    item.__name__: item
    for item in (
        *(bare, as_torch_saves, in_a_zip, in_skops, as_numpy_objects),
        *(in_arrow, in_safetensors, after_a_header),
    )
}

PLACES = (
    *("workspace.json", "secrets.json", "ledger.db", "ledger.db-wal", "lock", "receipts/*-forgotten.json"),
    *("keys/*.pem", "keys/*.pub.pem", "inbox/*.key", "shards/0000/records/*", "shards/0000/checkpoints/*"),
    *(
        "shards/0000/busy",
        "shards/0000/staging/draft",
        "shards/0000/checkpoints/model.pkl",
        "shards/0000/records/x.npy",
    ),
)
"""Where to put it: in the place of what is there, and beside it."""


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Victim:
    return make_victim(tmp_path_factory.mktemp("victim"))


def live(victim: Victim, path: Path) -> int:
    """Do everything that can be done to a workspace; how much of it was refused."""
    refused = 0

    def attempt(act: Callable[[], object]) -> None:
        nonlocal refused
        try:
            act()
        except UnlearnError:
            refused += 1

    attempt(lambda: unlearn.verify(victim.latest, victim.key, workspace=path))
    attempt(lambda: unlearn.verify(next((path / "receipts").iterdir()), victim.key))
    with suppress(UnlearnError), closing(Workspace.open(path)) as workspace:
        for act in (
            lambda: workspace.predict(canaries([1])),
            workspace.state_digest,
            lambda: workspace.forget(record_ids=[names([7])[0]]),
            lambda: workspace.submit(record_ids=[names([8])[0]]),
            workspace.process,
            workspace.recover,
            workspace.train,
            lambda: workspace.ingest(canaries([90]), [0], record_ids=names([90])),
            lambda: workspace.receipts(victim.requests[0])[0].statement,
            lambda: workspace.public_key,
            workspace.rotate_key,
        ):
            attempt(act)
    return refused


@pytest.mark.parametrize("place", PLACES)
def test_a_pickle_in_a_workspace_stays_unopened(victim: Victim, tmp_path: Path, place: str) -> None:
    marker = tmp_path / "exploded"
    for name, bomb in BOMBS.items():
        path = victim.copy(tmp_path / name)
        found = sorted(path.glob(place)) or [path / place]
        for file in found:
            file.write_bytes(bomb(marker))
        live(victim, path)
        assert not marker.exists(), f"{name} in {place} was unpickled"


def test_a_pickle_under_right_digests_stays_unopened(victim: Victim, tmp_path: Path) -> None:
    """In a checkpoint whose header, digests, commitment and ledger all agree: where a state is read in earnest."""
    marker = tmp_path / "exploded"
    for name, bomb in BOMBS.items():
        path = victim.copy(tmp_path / name)
        folder = ShardFolder(path / "shards/0000")
        for key in sorted(folder.keys()):
            stored = folder.load(key)
            state = {part: np.frombuffer(bomb(marker), dtype=np.uint8) for part in stored.state}
            header = replace(stored.header, payload=digest_arrays(state))
            folder.publish(folder.stage(header, state), key)
            attacks.execute(path, "UPDATE step SET commitment = ? WHERE key = ?", header.commitment, key)
        with closing(Workspace.open(path)) as workspace, pytest.raises(DamageError):
            workspace.predict(canaries([1]))
        assert not marker.exists(), f"{name} was unpickled"
    live(victim, path)
    assert not marker.exists(), "it was unpickled by whoever builds the state again"


@pytest.mark.parametrize("name", BOMBS)
def test_a_pickle_given_as_a_receipt_or_a_key_stays_unopened(victim: Victim, tmp_path: Path, name: str) -> None:
    marker = tmp_path / "exploded"
    data = BOMBS[name](marker)
    with pytest.raises(UnlearnError):
        unlearn.verify(data, victim.key)
    with pytest.raises(UnlearnError):
        unlearn.verify(victim.latest, data)
    (tmp_path / "slice.arrow").write_bytes(data)
    with pytest.raises(DamageError):
        slicefile.read(tmp_path / "slice.arrow")
    assert not marker.exists()


def test_the_bombs_are_live(tmp_path: Path) -> None:
    """Whoever unpickles them notices."""
    marker = tmp_path / "exploded"
    pickle.loads(bare(marker))
    assert marker.is_dir()
    marker.rmdir()
    np.load(io.BytesIO(as_numpy_objects(marker)), allow_pickle=True)
    assert marker.is_dir()
    marker.rmdir()
    import torch

    torch.load(io.BytesIO(as_torch_saves(marker)), weights_only=False)
    assert marker.is_dir()
