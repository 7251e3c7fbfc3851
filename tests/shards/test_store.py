"""A checkpoint is there whole or not at all, and is never used when a byte of it changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shards.digest import digest_arrays
from shards.errors import DamageError
from shards.files import purge_files
from shards.store import CheckpointHeader, new_salt
from shards.store_local import ShardFolder

STATE = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(3), "half": np.ones(2, np.float16)}


def header(key: str = "k" * 64) -> CheckpointHeader:
    digest = digest_arrays(STATE)
    return CheckpointHeader(key, None, 2, 0, 5, "env", digest, digest, "5a" * 32)


@pytest.fixture
def folder(tmp_path: Path) -> ShardFolder:
    made = ShardFolder(tmp_path / "0002")
    made.create()
    return made


def test_what_is_published_is_read_back(folder: ShardFolder) -> None:
    staged = folder.stage(header(), STATE)
    assert folder.keys() == set()
    folder.publish(staged, header().key)
    assert folder.keys() == {header().key}
    assert list(folder.staging.iterdir()) == []
    found = folder.load(header().key)
    assert found.header == header()
    assert digest_arrays(found.state) == digest_arrays(STATE)


def test_every_flipped_byte_is_noticed(folder: ShardFolder) -> None:
    folder.publish(folder.stage(header(), STATE), header().key)
    path = folder.checkpoint(header().key)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        with pytest.raises(DamageError, match="is damaged"):
            folder.load(header().key)


def test_every_truncation_is_noticed(folder: ShardFolder) -> None:
    folder.publish(folder.stage(header(), STATE), header().key)
    path = folder.checkpoint(header().key)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DamageError, match="is damaged"):
            folder.load(header().key)


def test_a_checkpoint_under_another_name_is_refused(folder: ShardFolder) -> None:
    folder.publish(folder.stage(header(), STATE), header().key)
    path = folder.checkpoint(header().key)
    path.rename(folder.checkpoint("x" * 64))
    with pytest.raises(DamageError, match="another step"):
        folder.load("x" * 64)


def test_a_header_that_lies_about_the_payload_is_refused(folder: ShardFolder) -> None:
    lying = replace(header(), payload="0" * 64)
    folder.publish(folder.stage(lying, STATE), lying.key)
    with pytest.raises(DamageError, match="content does not match"):
        folder.load(lying.key)


def _header_or_refusal(folder: ShardFolder) -> CheckpointHeader | str:
    try:
        return folder.header(header().key)
    except DamageError as error:
        return str(error)


def test_the_header_is_read_without_the_arrays(folder: ShardFolder) -> None:
    folder.publish(folder.stage(header(), STATE), header().key)
    path = folder.checkpoint(header().key)
    assert folder.header(header().key) == header()
    whole = path.read_bytes()
    end = 8 + int.from_bytes(whole[:8], "little")
    path.write_bytes(whole[:end])
    assert folder.header(header().key) == header()
    refusals = 0
    for place in range(end):
        for damaged in (whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :], whole[:place]):
            path.write_bytes(damaged)
            said = _header_or_refusal(folder)
            # What describes the arrays, and space at the end, is no part of what the checkpoint says of itself.
            assert said == header() or "is damaged" in str(said)
            refusals += isinstance(said, str)
    assert refusals > 1.5 * end
    path.unlink()
    with pytest.raises(FileNotFoundError):
        folder.header(header().key)


@pytest.mark.parametrize("salt", ["xy" * 32, 5, None, "5a" * 31 + "5"])
def test_a_salt_that_is_none_is_damage(folder: ShardFolder, salt: object) -> None:
    odd = replace(header(), salt=salt)  # type: ignore[arg-type]
    folder.publish(folder.stage(odd, STATE), odd.key)
    for read in (folder.load, folder.header):
        with pytest.raises(DamageError, match="is damaged"):
            read(odd.key)


def test_a_commitment_is_of_the_state_and_says_nothing_without_its_salt() -> None:
    assert len({new_salt() for _ in range(100)}) == 100
    assert all(len(bytes.fromhex(new_salt())) == 32 for _ in range(10))
    same = replace(header(), key="x" * 64, environment="another")
    assert same.commitment == header().commitment
    others = [replace(header(), **{name: "0" * 64}) for name in ("content", "payload", "salt")]
    assert len({item.commitment for item in (header(), *others)}) == 4
    swapped = replace(header(), content="1" * 64, payload="2" * 64)
    assert swapped.commitment != replace(header(), content="2" * 64, payload="1" * 64).commitment


def test_purge_deletes_and_may_be_repeated(folder: ShardFolder) -> None:
    folder.publish(folder.stage(header(), STATE), header().key)
    folder.purge([header().key])
    folder.purge([header().key])
    assert folder.keys() == set()
    with pytest.raises(FileNotFoundError):
        folder.load(header().key)


def test_purge_notices_what_will_not_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "stubborn"
    path.touch()
    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
    with pytest.raises(DamageError, match="still there"):
        purge_files([path])
