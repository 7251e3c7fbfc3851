"""Damaged files are noticed, never used, and built again where that is possible."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from shards.learners.base import Learner
from shards.store_local import ShardFolder
from tests.unlearn.helpers import (
    Reader,
    canaries,
    checkpoint,
    copied,
    create,
    dump,
    filled,
    flip,
    header,
    hoarding,
    labels,
    latest_first,
    logical,
    members,
    mlp,
    names,
    raw,
    served,
    sgd,
    shard_of,
)
from unlearn import Workspace
from unlearn.errors import DamageError
from unlearn.request import RequestState

PROBE = canaries(range(10_000, 10_010))
N = 24


@pytest.fixture(scope="module", params=[hoarding, sgd], ids=["hoarding", "sgd"])
def pristine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A trained workspace; only copies of it are damaged."""
    return filled(tmp_path_factory.mktemp("whole") / "ws", request.param(), n=N)


@pytest.fixture
def whole(pristine: Workspace, tmp_path: Path) -> Workspace:
    """A copy of it."""
    return copied(pristine, tmp_path / "whole")


@pytest.fixture
def hoard(tmp_path: Path) -> Workspace:
    """A workspace whose checkpoints hold plain records."""
    return filled(tmp_path / "hoard", hoarding(), n=N)


def states(workspace: Workspace) -> dict[int, Path]:
    """Shard to the file of the state it serves."""
    return {shard: checkpoint(workspace, shard) for shard in members(workspace)}


def record_file(workspace: Workspace, record_id: str) -> Path:
    """The file that holds a record."""
    shard, position = shard_of(workspace, record_id)
    return workspace._site.folder(shard).records / workspace._site.ledger.slices()[shard, position].file


def is_refused(said: bytes | str) -> bool:
    return isinstance(said, str) and said.startswith("DamageError") and "checkpoint" in said


def refusal(work: Callable[[], object]) -> str | None:
    """What a damage error said, or None if there was none."""
    try:
        work()
    except DamageError as error:
        return str(error)
    return None


def look_at(path: Path) -> None:
    """Open a workspace and read all that it says."""
    with closing(Workspace.open(path)) as workspace:
        workspace.predict(PROBE)
        workspace.status()
        workspace.requests()


def check_repair(workspace: Workspace, digest: str, prediction: bytes | str, steps: int | None = None) -> None:
    """After a recovery everything is as it was, on the disk too."""
    report = workspace.recover()
    assert steps is None or report.steps == steps
    assert workspace.state_digest() == digest
    assert served(Workspace.open(workspace.path), PROBE) == prediction
    assert workspace.recover().steps == 0


# Checkpoints


def test_a_flipped_byte_anywhere_in_a_checkpoint(pristine: Workspace, tmp_path: Path) -> None:
    """Forty offsets, header and content, each in a copy that another process opens; it must outlive all of them."""
    digest, prediction = pristine.state_digest(), served(pristine, PROBE)
    size = checkpoint(pristine, 1).stat().st_size
    header = 8 + int.from_bytes(checkpoint(pristine, 1).read_bytes()[:8], "little")
    rng = np.random.default_rng(0)
    inside = [*rng.choice(np.arange(8, header), 12, replace=False), *rng.choice(np.arange(header, size), 18)]
    offsets = sorted({*range(8), *map(int, inside), size - 1})
    refusals = 0
    with Reader(tmp_path, PROBE) as reader:
        for offset in offsets:
            # Another mask each time: 0xFF alone would always give bytes that are no text.
            mask = (0xFF, 0x01, 0x20, 0x80)[offset % 4]
            workspace = copied(pristine, tmp_path / f"copy{offset}")
            flip(checkpoint(workspace, 1), offset, mask)
            said = reader.predict(workspace.path)
            refusals += is_refused(said)
            assert is_refused(said) or said == prediction, f"byte {offset} of {size}"
            assert is_refused(said) or offset < header, "content was changed and used"
            if offset % 4 == 0:
                check_repair(workspace, digest, prediction)
                assert reader.predict(workspace.path) == prediction
            workspace.close()
            shutil.rmtree(workspace.path)
    assert refusals > 0.8 * len(offsets)  # what stands between two values of JSON may change its white space


def _delete(path: Path) -> None:
    path.unlink()


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def _claim_a_huge_header(path: Path) -> None:
    path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])


def _replace_by_json(path: Path) -> None:
    path.write_bytes((2).to_bytes(8, "little") + b"{}")


DAMAGES = (_delete, _empty, _halve, _shorten, _lengthen, _claim_a_huge_header, _replace_by_json)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_served_checkpoint_that_is_gone_or_cut(whole: Workspace, damage: Callable[[Path], None]) -> None:
    digest, prediction = whole.state_digest(), served(whole, PROBE)
    damage(checkpoint(whole, 2))
    assert is_refused(served(Workspace.open(whole.path), PROBE))
    check_repair(whole, digest, prediction, steps=1)


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_earlier_checkpoint_that_is_gone_or_cut(hoard: Workspace, damage: Callable[[Path], None]) -> None:
    """It is not served, so predictions go on; what was built on it stays, since its content is known."""
    digest, prediction = hoard.state_digest(), served(hoard, PROBE)
    step, before = hoard._site.ledger.steps()[0, 0], header(hoard, (0, 0))
    damage(hoard._site.folder(0).checkpoint(step.key))
    assert served(Workspace.open(hoard.path), PROBE) == prediction
    check_repair(hoard, digest, prediction)
    after = hoard._site.folder(0).load(step.key).header
    assert (after.content, after.payload) == (before.content, before.payload)
    assert after.salt != before.salt  # it is another file, which the ledger has committed to anew
    assert hoard._site.ledger.steps()[0, 0].commitment == after.commitment


def test_training_repairs_as_well(whole: Workspace) -> None:
    digest, prediction = whole.state_digest(), served(whole, PROBE)
    for path in states(whole).values():
        flip(path, path.stat().st_size - 1)
    assert is_refused(served(Workspace.open(whole.path), PROBE))
    assert whole.train().steps == 3
    assert whole.state_digest() == digest
    assert served(Workspace.open(whole.path), PROBE) == prediction


def test_two_shards_swapped(whole: Workspace) -> None:
    digest, prediction = whole.state_digest(), served(whole, PROBE)
    first, second = states(whole)[0], states(whole)[1]
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)
    assert "it holds another step than its name says" in str(served(Workspace.open(whole.path), PROBE))
    check_repair(whole, digest, prediction, steps=2)


def test_an_older_checkpoint_under_the_newer_name(whole: Workspace) -> None:
    digest, prediction = whole.state_digest(), served(whole, PROBE)
    older = whole._site.folder(0).checkpoint(whole._site.ledger.steps()[0, 0].key)
    shutil.copy(older, checkpoint(whole, 0))
    assert is_refused(served(Workspace.open(whole.path), PROBE))
    check_repair(whole, digest, prediction, steps=1)


def test_a_sound_file_that_was_never_recorded(whole: Workspace) -> None:
    """Every digest in it is right and its name too; only the ledger knows better."""
    from dataclasses import replace

    from shards.digest import digest_arrays

    digest, prediction = whole.state_digest(), served(whole, PROBE)
    folder, path = whole._site.folder(0), checkpoint(whole, 0)
    forged = whole._site.folder(1).load(checkpoint(whole, 1).stem)
    header = replace(folder.load(path.stem).header, payload=digest_arrays(forged.state))
    (folder.staging / folder.stage(header, forged.state)).replace(path)
    said = served(Workspace.open(whole.path), PROBE)
    assert isinstance(said, str)
    assert "is not the one that was recorded" in said
    check_repair(whole, digest, prediction, steps=1)


def test_an_open_workspace_goes_on_serving_from_memory(whole: Workspace) -> None:
    prediction = served(whole, PROBE)
    for path in states(whole).values():
        path.unlink()
    assert served(whole, PROBE) == prediction


def test_forgetting_beside_a_damaged_checkpoint(whole: Workspace) -> None:
    """Damage elsewhere is no reason to keep what was to be forgotten."""
    (row,) = latest_first(whole, range(N))[:1]
    shard, _ = shard_of(whole, names([row])[0])
    for path in states(whole).values():
        flip(path, path.stat().st_size - 1)
    assert whole.forget(record_ids=names([row])).state is RequestState.FORGOTTEN
    assert names([row])[0].encode() not in b"".join(raw(whole.path).values())
    whole.recover()
    fresh = create(whole.path.parent / "fresh", whole._site.learner)
    rows = [other for other in range(N) if other != row]
    fresh.ingest(canaries(rows), labels(rows), record_ids=names(rows))
    fresh.train()
    assert whole.state_digest() == fresh.state_digest()
    assert shard in members(whole)


def test_a_damaged_torch_checkpoint(tmp_path: Path) -> None:
    workspace = filled(tmp_path / "ws", mlp(), n=N)
    digest, prediction = workspace.state_digest(), served(workspace, PROBE)
    path = checkpoint(workspace, 0)
    flip(path, path.stat().st_size - 9)
    assert is_refused(served(Workspace.open(workspace.path), PROBE))
    check_repair(workspace, digest, prediction, steps=1)


# Record files


def _flip_middle(path: Path) -> None:
    flip(path, path.stat().st_size // 2)


def _flip_feature(path: Path) -> None:
    """The lowest bit of one record's number: the file is as well-formed as before."""
    data = path.read_bytes()
    flip(path, next(at for at in (data.find(canaries([row])[0][2].tobytes()) for row in range(N)) if at >= 0), 0x01)


@pytest.mark.parametrize("damage", [_flip_middle, _flip_feature, _delete, _empty, _halve])
def test_training_on_a_damaged_record_file(hoard: Workspace, damage: Callable[[Path], None]) -> None:
    rows = range(100, 124)
    hoard.ingest(canaries(rows), labels(rows), record_ids=names(rows))
    prediction, before = served(hoard, PROBE), hoard.state_digest()
    path = record_file(hoard, names([5])[0])
    shard = int(path.parents[1].name)
    contents = path.read_bytes()
    damage(path)
    with pytest.raises(DamageError, match=path.name):
        hoard.train()
    # Nothing of this shard was published, and nothing is left lying about; the others may be done.
    steps = [step for place, step in hoard._site.ledger.steps().items() if place[0] == shard]
    assert len(steps) == 2
    for number in range(3):
        folder = hoard._site.folder(number)
        assert folder.keys() == {step.key for step in hoard._site.ledger.steps(number).values()}
        assert list(folder.staging.iterdir()) == []
    assert isinstance(served(Workspace.open(hoard.path), PROBE), bytes)
    path.write_bytes(contents)
    hoard.train()
    assert hoard.state_digest() != before
    assert served(hoard, PROBE) != prediction


def test_a_flipped_byte_anywhere_in_a_record_file(tmp_path: Path) -> None:
    """Whether training refuses or not, it never publishes another state than the records themselves give."""
    workspace = create(tmp_path / "ws", hoarding(), n_shards=1, n_slices=1)
    workspace.ingest(canaries(range(6)), labels(range(6)), record_ids=names(range(6)))
    twin = copied(workspace, tmp_path / "twin")
    twin.train()
    digest = twin.state_digest()
    size = record_file(workspace, names([0])[0]).stat().st_size
    refusals = 0
    offsets = sorted({0, size - 1, *np.random.default_rng(0).choice(size, 28, replace=False).tolist()})
    for offset in offsets:
        copy = copied(workspace, tmp_path / f"copy{offset}")
        flip(record_file(copy, names([0])[0]), offset)
        said = refusal(copy.train)
        if said is None:
            assert copy.state_digest() == digest
        else:
            refusals += 1
            assert record_file(copy, names([0])[0]).name in said
            assert copy._site.ledger.steps() == {}
            assert copy._site.folder(0).keys() == set()
        copy.close()
        shutil.rmtree(copy.path)
    assert refusals > len(offsets) // 3  # the rest is padding


def test_recovery_from_a_damaged_record_file(hoard: Workspace) -> None:
    last = latest_first(hoard, range(N))[0]
    shard, position = shard_of(hoard, names([last])[0])
    assert position == 1
    first = next(name for name in names(range(N)) if shard_of(hoard, name) == (shard, 0))
    request = hoard.forget(record_ids=names([last]))
    path = record_file(hoard, first)
    contents = path.read_bytes()
    _flip_middle(path)
    state = logical(hoard.path)
    with pytest.raises(DamageError, match=path.name):
        hoard.recover()
    after = logical(hoard.path)
    after["ledger"]["environment"] = state["ledger"]["environment"]  # a note on how it would have been built
    assert after == state
    assert hoard.status(request.id).state is RequestState.FORGOTTEN
    path.write_bytes(contents)
    assert hoard.recover().recovered == (request.id,)


@pytest.mark.parametrize("damage", [_flip_middle, _flip_feature, _delete, _halve])
def test_forgetting_from_a_damaged_record_file(hoard: Workspace, damage: Callable[[Path], None]) -> None:
    """It cannot be told which bytes were whose; but the records are out of use at once, and for good."""
    target = names([7])[0]
    shard, position = shard_of(hoard, target)
    others = {k: member({"x": PROBE}) for k, member in members(hoard).items() if k != shard}
    saw = [step.key for place, step in hoard._site.ledger.steps().items() if place[0] == shard and place[1] >= position]
    twin = copied(hoard, hoard.path.parent / "twin")
    twin.forget(record_ids=[target])
    path = record_file(hoard, target)
    contents = path.read_bytes()
    damage(path)
    with pytest.raises(DamageError, match=rf"{path.name}.*restore it from a copy"):
        hoard.forget(record_ids=[target])
    (request,) = hoard.requests()
    assert request.state is RequestState.SUBMITTED
    assert not hoard._site.folder(shard).keys() & set(saw)
    assert served(hoard, PROBE) == served(twin, PROBE)
    assert set(members(hoard)) >= set(others)
    # The copy is brought back: whatever is done next completes the request.
    path.write_bytes(contents)
    hoard.recover()
    twin.recover()
    assert hoard.status(request.id).state is RequestState.RECEIPTED
    assert hoard.state_digest() == twin.state_digest()
    assert target.encode() not in b"".join(raw(hoard.path).values())


@pytest.mark.parametrize("damage", [_flip_middle, _flip_feature, _delete, _empty])
def test_forgetting_all_of_a_damaged_record_file(hoard: Workspace, damage: Callable[[Path], None]) -> None:
    """Nothing of it stays, so nothing needs to be told apart: the way out where there is no copy."""
    path = record_file(hoard, names([7])[0])
    place = shard_of(hoard, names([7])[0])
    gone = [name for name in names(range(N)) if shard_of(hoard, name) == place]
    damage(path)
    assert hoard.forget(record_ids=gone).state is RequestState.FORGOTTEN
    assert not path.exists()
    hoard.recover()
    rows = [row for row in range(N) if names([row])[0] not in gone]
    fresh = create(hoard.path.parent / "fresh", hoarding())
    fresh.ingest(canaries(rows), labels(rows), record_ids=names(rows))
    fresh.train()
    assert hoard.state_digest() == fresh.state_digest()


def test_a_request_that_waits_for_a_damaged_file_holds_nobody_up(hoard: Workspace) -> None:
    """Other requests, other shards and a reopened workspace go on; forgetting the rest of the file ends the wait."""
    target = names([7])[0]
    place = shard_of(hoard, target)
    rest = [name for name in names(range(N)) if shard_of(hoard, name) == place and name != target]
    (other,) = [name for name in names(range(N)) if shard_of(hoard, name)[0] != place[0]][:1]
    path = record_file(hoard, target)
    _flip_feature(path)
    with pytest.raises(DamageError, match=path.name):
        hoard.forget(record_ids=[target])
    workspace = Workspace.open(hoard.path)
    assert workspace.forget(record_ids=[other]).state is RequestState.FORGOTTEN
    with pytest.raises(DamageError, match=rf"{path.name} of shard {place[0]}.*forget the other records it held"):
        workspace.recover()
    first, second = workspace.requests()
    assert (first.state, second.state) == (RequestState.SUBMITTED, RequestState.RECEIPTED)
    assert workspace.status().behind == (place[0],)
    assert workspace.forget(record_ids=rest).state is RequestState.FORGOTTEN
    assert workspace.status(first.id).state is RequestState.FORGOTTEN
    workspace.recover()
    gone = {target, other, *rest}
    fresh = create(hoard.path.parent / "fresh", hoarding())
    rows = [row for row in range(N) if names([row])[0] not in gone]
    fresh.ingest(canaries(rows), labels(rows), record_ids=names(rows))
    fresh.train()
    assert workspace.state_digest() == fresh.state_digest()


def test_a_crash_between_rewriting_and_saying_so(hoard: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new file is taken over if it holds exactly the records that stay, and refused otherwise."""
    target = names([7])[0]
    path = record_file(hoard, target)
    with monkeypatch.context() as patch:
        patch.setattr("unlearn.ledger.Ledger.replace_slices", _crash)
        with pytest.raises(KeyboardInterrupt):
            hoard.forget(record_ids=[target])
    assert not path.exists()
    rewritten = path.with_name(path.name.replace("-v0", "-v1"))
    contents = rewritten.read_bytes()
    other = next(p for p in hoard.path.glob("shards/*/records/*.arrow") if p != rewritten)
    shutil.copy(other, rewritten)
    with pytest.raises(DamageError, match="restore it from a copy"):
        hoard.train()
    assert hoard.requests()[0].state is RequestState.SUBMITTED
    rewritten.write_bytes(contents)
    hoard.train()
    assert hoard.requests()[0].state is RequestState.RECEIPTED
    assert hoard.status().records == N - 1


def test_a_subject_that_damage_hides(hoard: Workspace) -> None:
    """A subject's records are found by reading files: one that was changed must not pass for one without them."""
    rows = range(100, 112)
    hoard.ingest(canaries(rows), labels(rows), record_ids=names(rows), subjects=[*names([7]), *names(rows)[1:]])
    hoard.train()
    path = record_file(hoard, names([100])[0])
    data = path.read_bytes()
    subject = names([7])[0].encode()
    assert data.count(subject) == 1
    path.write_bytes(data.replace(subject, names([8])[0].encode()))
    with refused_as_damaged(path):
        hoard.forget(subjects=names([7]))
    path.write_bytes(data)
    assert hoard.forget(subjects=names([7])).n_records == 2


def test_training_never_uses_what_could_not_be_destroyed(hoard: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old record file cannot be deleted, and is whole: it still must not be trained on."""
    target = names([7])[0]
    shard, position = shard_of(hoard, target)

    def refuse(self: ShardFolder, names: list[str]) -> None:
        raise DamageError(f"{names[0]} was deleted but is still there")

    with monkeypatch.context() as patch:
        patch.setattr(ShardFolder, "purge_records", refuse)
        with pytest.raises(DamageError, match="still there"):
            hoard.forget(record_ids=[target])
        for work in (hoard.train, hoard.recover):
            with suppress(DamageError):
                work()
            assert not [at for (k, at) in hoard._site.ledger.steps() if k == shard and at >= position]
            for path in hoard._site.folder(shard).checkpoints.iterdir():
                assert canaries([7])[0][0].tobytes() not in path.read_bytes()
    assert hoard.recover().recovered == (hoard.requests()[0].id,)


@contextmanager
def refused_as_damaged(path: Path) -> Iterator[None]:
    with pytest.raises(DamageError, match=path.name):
        yield


def _crash(*_: object) -> None:
    raise KeyboardInterrupt


# The ledger


def test_a_damaged_database_is_named(hoard: Workspace) -> None:
    hoard.close()
    path = hoard.path / "ledger.db"
    whole = path.read_bytes()
    tables = dump(hoard.path)
    refusals = 0
    for offset in (0, 16, 100, 4096, 4096 * 3, len(whole) - 4096):
        damaged = bytearray(whole)
        damaged[offset : offset + 64] = b"\xff" * 64
        path.write_bytes(bytes(damaged))
        said = refusal(lambda: look_at(hoard.path))
        if said is not None:
            refusals += 1
            assert "ledger.db is damaged" in said or "checkpoint" in said
    assert refusals >= 3
    path.write_bytes(whole)
    assert dump(hoard.path) == tables


def _learners() -> list[Callable[[], Learner]]:
    return [hoarding, sgd]


@pytest.mark.parametrize("make", _learners())
def test_other_files_in_the_folders_are_none_of_its_business(tmp_path: Path, make: Callable[[], Learner]) -> None:
    workspace = filled(tmp_path / "ws", make(), n=N)
    prediction = served(workspace, PROBE)
    (workspace.path / "notes.txt").write_text("mine")
    (workspace._site.folder(0).checkpoints / "README").write_text("mine")
    assert served(Workspace.open(workspace.path), PROBE) == prediction
    assert workspace.train().steps == 0
