"""Forgotten means forgotten: no byte on the disk and no prediction from any process knows the records any more."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.learners.base import Learner
from tests.unlearn.helpers import (
    Reader,
    canaries,
    commitments_of,
    create,
    digests_of_states,
    dump,
    filled,
    hoarding,
    labels,
    latest_first,
    members,
    mlp,
    names,
    owner,
    pseudonym,
    raw,
    secrets_of,
    served,
    sgd,
    shard_of,
    spellings,
)
from unlearn import Workspace
from unlearn.errors import NotServingError, TombstoneError
from unlearn.request import RequestState

PROBE = canaries(range(10_000, 10_020))
"""Features nobody trains on."""


@dataclass
class Life:
    """A workspace and what is known of its records outside of it."""

    workspace: Workspace
    subjects: dict[int, str] = field(default_factory=dict)
    secrets: dict[int, list[bytes]] = field(default_factory=dict)
    commitments: dict[int, bytes] = field(default_factory=dict)
    dead: set[int] = field(default_factory=set)

    def ingest(self, rows: Sequence[int], subjects: Sequence[str]) -> None:
        ids = names(rows)
        self.workspace.ingest(canaries(rows), labels(rows), record_ids=ids, subjects=list(subjects))
        self.subjects |= dict(zip(rows, subjects, strict=True))
        secrets, commitments = secrets_of(self.workspace, ids), commitments_of(self.workspace, ids)
        self.secrets |= {row: secrets[name] for row, name in zip(rows, ids, strict=True)}
        self.commitments |= {row: commitments[name] for row, name in zip(rows, ids, strict=True)}

    def alive(self) -> list[int]:
        return sorted(self.subjects.keys() - self.dead)

    def forget(self, rows: Sequence[int] = (), subjects: Sequence[str] = ()) -> None:
        hit = {row for row in self.alive() if row in rows or self.subjects[row] in subjects}
        self.check()  # a look at the disk that finds nothing before would show nothing after
        request = self.workspace.forget(subjects=list(subjects), record_ids=names(rows))
        assert request.state is RequestState.FORGOTTEN
        assert request.n_records == len(hit)
        self.dead |= hit
        self.check()

    def check(self) -> None:
        """No trace of the dead, every trace of the living, and tokens as tombstones only."""
        contents = raw(self.workspace.path)
        together = b"\n\n".join(contents.values())
        columns = tokens_by_column(self.workspace)
        owners = {self.subjects[row] for row in self.alive()}
        for row, subject in self.subjects.items():
            found = traces(self, row, contents, together)
            if row not in self.dead:
                assert {"id", "subject", "features", "secrets", "commitment"} <= found.keys()
                continue
            # The commitment is what a receipt proves things about; its salt is among the secrets.
            assert {path.partition("/")[0].partition("-")[0] for path in found.pop("commitment", ())} <= {
                "ledger.db",
                "receipts",
            }
            assert found.keys() <= ({"subject"} if subject in owners else set())
            assert columns.get(pseudonym(self.workspace, "record", names([row])[0])) == {"tombstone"}
            token = pseudonym(self.workspace, "subject", subject)
            assert columns.get(token, set()) <= {"tombstone"}
            assert (token in together) == (token in columns)


def traces(life: Life, row: int, contents: dict[str, bytes], together: bytes | None = None) -> dict[str, set[str]]:
    """What of a record is to be found in the raw bytes of which files."""
    needles = {
        "id": [names([row])[0].encode()],
        "subject": [life.subjects[row].encode()],
        "features": [value.tobytes() for value in canaries([row])[0]],
        "features as float32": [canaries([row])[0].astype(np.float32).tobytes()],
        "secrets": life.secrets[row],
        "commitment": spellings(life.commitments[row]),
    }
    return {
        what: {path for needle in parts for path, data in contents.items() if needle in data}
        for what, parts in needles.items()
        if together is None or any(needle in together for needle in parts)
    }


def tokens_by_column(workspace: Workspace) -> dict[bytes, set[str]]:
    """Every byte string in the ledger, with the tables it is in."""
    found: dict[bytes, set[str]] = {}
    for table, rows in dump(workspace.path).items():
        for value in (value for row in rows for value in row if isinstance(value, bytes)):
            found.setdefault(value, set()).add(table)
    return found


# No byte


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("ingest"), st.integers(1, 12)),
        st.tuples(st.just("forget records"), st.integers(0, 10_000)),
        st.tuples(st.just("forget subject"), st.integers(0, 10_000)),
        st.tuples(st.just("forget slice"), st.integers(0, 10_000)),
        st.tuples(st.sampled_from(["train", "recover", "forget batch", "forget everything"]), st.just(0)),
    ),
    min_size=3,
    max_size=7,
)


@settings(max_examples=8)
@given(first=st.integers(4, 15), actions=ACTIONS, learner=st.sampled_from([sgd, hoarding]))
def test_after_any_history_no_byte_of_the_forgotten_is_left(
    first: int, actions: list[tuple[str, int]], learner: Callable[[], Learner]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        life = Life(create(Path(folder) / "ws", learner()))
        batches: list[list[int]] = []

        def ingest(count: int) -> None:
            start = len(life.subjects)
            rows = list(range(start, start + count))
            gone = {life.subjects[row] for row in life.dead}
            shared = [owner(row % 4) if owner(row % 4) not in gone else owner(1000 + row) for row in rows]
            life.ingest(rows, shared)
            batches.append(rows)

        ingest(first)
        life.workspace.train()
        for action, number in actions:
            alive = life.alive()
            if action == "ingest":
                ingest(number)
            elif action == "train":
                life.workspace.train()
            elif action == "recover":
                life.workspace.recover()
            elif alive:
                _forget(life, action, number, batches)
            life.check()
        life.workspace.recover()
        life.check()


def _forget(life: Life, action: str, number: int, batches: list[list[int]]) -> None:
    alive = life.alive()
    if action == "forget records":
        life.forget(rows=sorted({alive[number % len(alive)], alive[number * 7 % len(alive)]}))
    elif action == "forget subject":
        life.forget(subjects=[life.subjects[alive[number % len(alive)]]])
    elif action == "forget slice":
        place = shard_of(life.workspace, names([alive[number % len(alive)]])[0])
        life.forget(rows=[row for row in alive if shard_of(life.workspace, names([row])[0]) == place])
    elif action == "forget batch":
        batch = next(rows for rows in batches if set(rows) & set(alive))
        life.forget(rows=[row for row in batch if row in alive])
    else:
        life.forget(rows=alive)
        with pytest.raises(NotServingError):
            life.workspace.predict(PROBE)


@pytest.mark.parametrize("learner", [sgd, hoarding])
def test_a_subject_in_several_batches_goes_from_all_of_them(tmp_path: Path, learner: Callable[[], Learner]) -> None:
    life = Life(create(tmp_path / "ws", learner()))
    for batch in range(3):
        rows = range(batch * 12, batch * 12 + 12)
        life.ingest(rows, [owner(row % 4) for row in rows])
        if batch != 1:
            life.workspace.train()
    hit = [row for row in life.alive() if life.subjects[row] == owner(2)]
    assert len(hit) == 9
    life.forget(subjects=[owner(2)])
    assert life.dead == set(hit)
    life.workspace.train()
    life.check()


def test_checkpoints_that_hold_records_are_destroyed(tmp_path: Path) -> None:
    """Neighbours keep their training data, so this would notice any checkpoint that is left."""
    life = Life(create(tmp_path / "ws", hoarding()))
    life.ingest(range(20), names(range(20)))
    life.workspace.train()
    holding = traces(life, 7, raw(life.workspace.path))["features"]
    assert any("/checkpoints/" in path for path in holding)
    assert any("/records/" in path for path in holding)
    life.forget(rows=[7])


@pytest.mark.slow
def test_thousands_of_records(tmp_path: Path) -> None:
    """Pages of the database are split, joined and reused; ids are in none of them, nor are tokens of subjects."""
    n = 3000
    workspace = create(tmp_path / "ws")
    rng = np.random.default_rng(0)
    subjects = [owner(row) for row in range(n)]
    workspace.ingest(rng.normal(size=(n, 3)), rng.integers(0, 2, n), subjects=subjects)
    ids = [name.encode() for name in subjects]
    rows = map(str, range(n))
    tokens = {
        kind: [pseudonym(workspace, kind, name) for name in group]
        for kind, group in (("subject", subjects), ("record", rows))
    }

    def held(needles: Sequence[bytes], pattern: str = "**/*") -> set[int]:
        together = b"\n\n".join(path.read_bytes() for path in workspace.path.glob(pattern) if path.is_file())
        return {row for row, needle in enumerate(needles) if needle in together}

    assert held(ids, "*") == held(tokens["subject"]) == set()
    assert held(ids) == set(range(n))
    order = rng.permutation(n)
    for start, stop in ((0, 1), (1, 900), (900, 2500)):
        workspace.forget(record_ids=order[start:stop])
        assert held(ids) == set(order[stop:].tolist())
        assert held(tokens["subject"]) == set()
        present = tokens_by_column(workspace)
        assert all(present[tokens["record"][row]] == {"tombstone"} for row in order[:stop])


@pytest.mark.parametrize("learner", [sgd, hoarding])
def test_nothing_by_which_a_destroyed_state_could_be_recognised_is_left(
    tmp_path: Path, learner: Callable[[], Learner]
) -> None:
    """Digests of states that saw the records, and the salts of their commitments: in no page, in no journal.

    They never come into the ledger, so that nothing has to be scrubbed from it.
    """
    workspace = filled(tmp_path / "ws", learner())
    (row,) = latest_first(workspace, range(30))[-1:]
    shard, position = shard_of(workspace, names([row])[0])
    steps = [place for place in workspace._site.ledger.steps() if place[0] == shard and place[1] >= position]
    assert len(steps) == 2
    needles = digests_of_states(workspace, steps)
    contents = raw(workspace.path)
    checkpoints = {name for name in contents if "/checkpoints/" in name}
    for lowercase_hex in needles[1::3]:
        holding = {name for name, data in contents.items() if lowercase_hex in data}
        assert len(holding) == 1
        assert holding <= checkpoints
    commitments = [workspace._site.ledger.steps()[place].commitment.encode() for place in steps]
    later: list[Callable[[], object]] = [workspace.status, workspace.recover, lambda: Workspace.open(workspace.path)]
    workspace.forget(record_ids=names([row]))
    for act in (lambda: None, *later):
        act()
        together = b"\n\n".join(raw(workspace.path).values())
        assert not [needle for needle in needles if needle in together]
        assert all(commitment in together for commitment in commitments)  # which say nothing any more


def test_a_record_that_was_never_trained_on(tmp_path: Path) -> None:
    life = Life(create(tmp_path / "ws"))
    life.ingest(range(10), names(range(10)))
    life.forget(rows=[4])
    with pytest.raises(NotServingError):
        life.workspace.predict(PROBE)
    life.workspace.train()
    life.check()
    fresh = create(tmp_path / "fresh")
    rows = [row for row in range(10) if row != 4]
    fresh.ingest(canaries(rows), labels(rows), record_ids=names(rows))
    fresh.train()
    assert life.workspace.state_digest() == fresh.state_digest()


def test_a_batch_that_was_never_trained_on_leaves_the_served_state_alone(tmp_path: Path) -> None:
    workspace = filled(tmp_path / "ws")
    digest, prediction = workspace.state_digest(), served(workspace, PROBE)
    rows = range(100, 112)
    workspace.ingest(canaries(rows), labels(rows), record_ids=names(rows))
    workspace.forget(record_ids=names([105]))
    assert workspace.state_digest() == digest
    assert served(workspace, PROBE) == prediction


# No prediction


@pytest.mark.parametrize("learner", [sgd, hoarding, mlp])
def test_what_is_served_owes_nothing_to_what_the_forgotten_held(tmp_path: Path, learner: Callable[[], Learner]) -> None:
    """Two lives that differ in the forgotten records' features and targets alone."""
    gone = [2, 3, 17, 31]
    states = []
    for variant in (0, 1):
        workspace = create(tmp_path / f"ws{variant}", learner())
        for rows in (range(25), range(25, 40)):
            X, y = canaries(rows), labels(rows)
            for at, row in enumerate(rows):
                if variant and row in gone:
                    X[at], y[at] = 5 * canaries([row], variant=1)[0], 1 - y[at]
            workspace.ingest(X, y, record_ids=names(rows))
        workspace.train()
        seen = [(workspace.state_digest(), served(workspace, PROBE))]
        workspace.forget(record_ids=names(gone))
        seen.append((workspace.state_digest(), served(workspace, PROBE)))
        workspace.recover()
        seen.append((workspace.state_digest(), served(workspace, PROBE)))
        states.append(seen)
    (before, forgotten, recovered), (other, *rest) = states
    assert before[0] != other[0]
    assert before[1] != other[1]
    assert [forgotten, recovered] == rest
    assert len({before[0], forgotten[0], recovered[0]}) == 3


def test_a_shard_hit_in_its_first_slice_abstains(tmp_path: Path) -> None:
    workspace = filled(tmp_path / "ws", n=40)
    everyone = members(workspace)
    target = next(name for name in names(range(40)) if shard_of(workspace, name)[1] == 0)
    shard, _ = shard_of(workspace, target)
    workspace.forget(record_ids=[target])
    rest = [everyone[other]({"x": PROBE}) for other in sorted(everyone) if other != shard]
    np.testing.assert_array_equal(workspace.predict_proba(PROBE), sum(rest[1:], rest[0]) / len(rest))
    status = workspace.status()
    assert status.serving == 2
    assert status.behind == (shard,)
    assert not list((workspace.path / "shards" / f"{shard:04d}" / "checkpoints").iterdir())


def test_a_shard_hit_in_a_later_slice_falls_back_to_the_state_before(tmp_path: Path) -> None:
    workspace = filled(tmp_path / "ws", n=40)
    target = next(name for name in names(range(40)) if shard_of(workspace, name)[1] == 1)
    shard, _ = shard_of(workspace, target)
    site = workspace._site
    steps = site.ledger.steps()
    earlier = site.learner.predictor(site.folder(shard).load(steps[shard, 0].key).state, site.task())
    expected = [(earlier if k == shard else member)({"x": PROBE}) for k, member in sorted(members(workspace).items())]
    workspace.forget(record_ids=[target])
    np.testing.assert_array_equal(workspace.predict_proba(PROBE), sum(expected[1:], expected[0]) / 3)


# No process


def test_other_processes_and_objects_do_not_serve_what_was_forgotten(tmp_path: Path) -> None:
    workspace = filled(tmp_path / "ws")
    second = Workspace.open(workspace.path)
    order = latest_first(workspace, range(1, 30))
    with Reader(tmp_path, PROBE) as reader:
        old = served(workspace, PROBE)
        assert served(second, PROBE) == reader.predict(workspace.path) == old
        for gone in (order[:1], order[1:14], order[14:22], order[22:]):
            workspace.forget(record_ids=names(gone))
            said = [reader.predict(workspace.path), served(second, PROBE), served(workspace, PROBE)]
            fresh = served(Workspace.open(workspace.path), PROBE)
            assert fresh != old
            assert [fresh] * 3 == said
            old = fresh
        second.recover()
        fresh = served(Workspace.open(workspace.path), PROBE)
        assert fresh == reader.predict(workspace.path) == served(workspace, PROBE) != old
        second.forget(record_ids=names([0]))
        assert str(reader.predict(workspace.path)).startswith("NotServingError")


@pytest.mark.parametrize("shared", [True, False], ids=["one object", "two objects"])
def test_a_thread_that_predicts_all_the_time_never_lags_behind(tmp_path: Path, shared: bool) -> None:
    workspace = filled(tmp_path / "ws", n=60, n_slices=6)
    order = latest_first(workspace, range(60))
    busy = workspace if shared else Workspace.open(workspace.path)
    said: list[tuple[float, bytes | str]] = []
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            started = time.monotonic()
            said.append((started, served(busy, PROBE)))

    def wait() -> None:
        enough = len(said) + 6
        while len(said) < enough:
            time.sleep(0.001)

    threads = [threading.Thread(target=serve) for _ in range(2)]
    for thread in threads:
        thread.start()
    changes: list[tuple[float, bytes | str]] = []
    try:
        for number, row in enumerate(order[:8]):
            workspace.forget(record_ids=names([row]))
            after = time.monotonic()
            changes.append((after, served(Workspace.open(workspace.path), PROBE)))
            wait()
            if number % 3 == 2:
                # A recovery publishes state after state: which one a prediction meets is open until it is done.
                changes.append((time.monotonic(), b"any"))
                workspace.recover()
                changes.append((time.monotonic(), served(Workspace.open(workspace.path), PROBE)))
                wait()
    finally:
        over.set()
        for thread in threads:
            thread.join()
    compared = 0
    for (since, expected), (until, _) in zip(changes, [*changes[1:], (time.monotonic(), b"")], strict=True):
        # The next request is in force before its call returns, so the last ones inside may have met it already.
        inside = sorted((started, what) for started, what in said if since < started < until)[:4]
        if expected != b"any":
            compared += len(inside)
            assert not [what for _, what in inside if what != expected]
    assert compared >= 40


# Tombstones


def test_a_forgotten_record_returns_by_consent_only(tmp_path: Path) -> None:
    workspace = filled(tmp_path / "ws")
    rows = [5, 6, 40]
    workspace.forget(record_ids=names([5]))
    workspace.forget(subjects=names([6]))
    for consent in ((), names([5]), names([6])):
        with pytest.raises(TombstoneError, match="forgotten before"):
            workspace.ingest(canaries(rows), labels(rows), record_ids=names(rows), reconsent=consent)
    assert workspace.status().batches == 1
    workspace.ingest(canaries(rows), labels(rows), record_ids=names(rows), reconsent=names([5, 6]))
    workspace.train()
    assert tokens_by_column(workspace)[pseudonym(workspace, "record", names([5])[0])] == {"record"}
    fresh = create(tmp_path / "fresh")
    stayed = [row for row in range(30) if row not in (5, 6)]
    for part in (stayed, rows):
        fresh.ingest(canaries(part), labels(part), record_ids=names(part))
    fresh.train()
    assert workspace.state_digest() == fresh.state_digest()
    assert served(workspace, PROBE) == served(fresh, PROBE)
    workspace.forget(record_ids=names([5]))  # consent to return is no consent to stay
    with pytest.raises(TombstoneError):
        workspace.ingest(canaries([5]), labels([5]), record_ids=names([5]))


def test_a_forgotten_subject_returns_by_consent_only(tmp_path: Path) -> None:
    workspace = create(tmp_path / "ws")
    workspace.ingest(canaries(range(8)), labels(range(8)), subjects=[owner(row % 2) for row in range(8)])
    workspace.forget(subjects=[owner(0)])
    # New records of a forgotten subject are refused as well.
    with pytest.raises(TombstoneError, match=owner(0)):
        workspace.ingest(canaries([9]), labels([9]), subjects=[owner(0)], record_ids=["new"])
    workspace.ingest(canaries([9]), labels([9]), subjects=[owner(0)], record_ids=["new"], reconsent=[owner(0)])
    # Its old records were not named.
    with pytest.raises(TombstoneError, match="'0'"):
        workspace.ingest(canaries([0]), labels([0]), subjects=[owner(0)], record_ids=["0"])
    workspace.train()
    assert workspace.status().records == 5
