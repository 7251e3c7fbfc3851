"""After any history: the log is the tree over all its events, the set of records is the tree over what is present."""

from __future__ import annotations

import functools
import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from tests.unlearn.ledger.test_ledger import AT, _artefact, request, step, submission, token
from tests.unlearn.ledger.where import Where, hooked
from unlearn.errors import ProofError
from unlearn.ledger import Ledger, Location, NewRecord, Withdrawal, chain, merkle, radix, recordset, soundness
from unlearn.ledger.chain import Head
from unlearn.ledger.fold import Built, fold

PAST = settings(max_examples=12, suppress_health_check=list(HealthCheck))


@dataclass
class Past:
    """A ledger, what is known of it outside, and what was noted on the way."""

    ledger: Ledger
    rng: random.Random
    records: dict[bytes, tuple[int, int, bytes]] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(10**6)))
    heads: list[Head] = field(default_factory=list)
    buried: dict[bytes, str] = field(default_factory=dict)
    """Token of a record that must not return to the request that removed it."""
    removed: dict[str, tuple[set[bytes], set[bytes], set[bytes]]] = field(default_factory=dict)
    """Request to what it removed, and all commitments before and after."""

    def present(self) -> set[bytes]:
        return {commitment for _, _, commitment in self.records.values()}

    def commitment(self) -> bytes:
        # Some share many bits, so that subtrees lie deep.
        drawn = self.rng.randbytes(32)
        return bytes(4) + drawn[4:] if self.rng.random() < 0.2 else drawn

    def token(self) -> bytes:
        drawn = hashlib.sha256(token(next(self.numbers))).digest()[:16]
        return bytes(4) + drawn[4:] if self.rng.random() < 0.2 else drawn

    def add(self, count: int) -> None:
        batch = [
            NewRecord(self.token(), self.rng.randrange(3), self.rng.randrange(4), self.commitment())
            for _ in range(count)
        ]
        self.ledger.add_batch({"task": 1}, [], batch, [])
        self.records |= {item.token: (item.shard, item.position, item.commitment) for item in batch}

    def withdraw(self, count: int) -> None:
        """Several requests in one transaction."""
        together = []
        before = self.present()
        for _ in range(self.rng.randint(1, 3)):
            chosen = self.rng.sample(sorted(self.records), min(count, len(self.records)))
            places = {name: self.records.pop(name) for name in chosen}
            gone = tuple(Location(name, shard, position) for name, (shard, position, _) in places.items())
            shards = {k: min(item.position for item in gone if item.shard == k) for k in {item.shard for item in gone}}
            made = request(next(self.numbers), n_records=len(gone), shards=shards)
            together.append(Withdrawal(made, f"print {made.id}", gone, dict.fromkeys(chosen, "record")))
            self.buried |= dict.fromkeys(chosen, made.id)
            self.removed[made.id] = ({place[2] for place in places.values()}, before, self.present())
            before = self.present()
        self.ledger.withdraw(together)

    def lift(self, count: int) -> None:
        """Some that were forgotten may return."""
        chosen = self.rng.sample(sorted(self.buried), min(count, len(self.buried)))
        self.ledger.add_batch({"task": 1}, [], [], chosen)
        for name in chosen:
            del self.buried[name]

    def graves(self) -> radix.Node:
        """The tree over the tombstones, made at once."""
        return radix.root(
            name + hashlib.sha256(f"tombstone/record/{made}".encode()).digest()[:16]
            for name, made in self.buried.items()
        )

    def act(self, action: str, number: int) -> None:
        ledger = self.ledger
        if action == "add":
            self.add(number)
        elif action == "withdraw":
            self.withdraw(number)
        elif action == "lift":
            self.lift(number)
        elif action == "forget":
            ledger.replace_slices({(item.shard, item.position): None for item in ledger.erasures()})
            ledger.finish_forget()
        elif action == "recover":
            ledger.finish_recover(range(3))
        elif action == "submit":
            ledger.submit([submission(next(self.numbers)) for _ in range(number)])
        elif action == "fail" and ledger.pending():
            ledger.fail(ledger.pending()[0].request.id, "unknown id")
        elif action == "train":
            ledger.record_step(step(number % 3, number % 4))
        elif action == "drop" and ledger.steps():
            ledger.drop_steps(list(ledger.steps().values())[: number % 4])
        elif action == "register":
            ledger.add_artefact(replace(_artefact(0), id=f"art-{next(self.numbers)}"), {number % 3: number % 4})
        elif action == "key":
            ledger.add_key(f"key-{next(self.numbers)}", "{}")
        self.heads.append(ledger.head())


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *("add", "add", "withdraw", "withdraw", "forget", "recover", "lift"),
                *("submit", "fail", "train", "drop", "register", "key"),
            ]
        ),
        st.integers(1, 40),
    ),
    max_size=12,
)


def lived(where: Where, seed: int, actions: list[tuple[str, int]]) -> Past:
    past = Past(where.ledger(), random.Random(seed))
    past.heads.append(past.ledger.head())
    for action, number in actions:
        past.act(action, number)
    return past


@PAST
@given(seed=st.integers(0, 10**6), actions=ACTIONS)
def test_the_log_is_the_tree_over_all_events(where: Where, seed: int, actions: list[tuple[str, int]]) -> None:
    past = lived(where, seed, actions)
    ledger = past.ledger
    entries = list(ledger.entries())
    assert [entry.number for entry in entries] == list(range(len(entries)))
    leaves = [merkle.leaf_hash(entry.body) for entry in entries]
    head = ledger.head()
    assert (head.size, head.root) == (len(leaves), merkle.root(leaves))
    for size in {0, 1, len(leaves) // 2, len(leaves)}:
        assert ledger.root_at(size) == merkle.root(leaves[:size])
    for number, leaf in enumerate(leaves):
        proof = ledger.inclusion(number, head.size)
        merkle.check_inclusion(leaf, number, head.size, proof, head.root)
        with pytest.raises(ProofError):
            merkle.check_inclusion(hashlib.sha256(leaf).digest(), number, head.size, proof, head.root)
    for old in past.heads:
        assert old.root == merkle.root(leaves[: old.size])
        proof = ledger.consistency(old.size, head.size)
        merkle.check_consistency(old.size, old.root, head.size, head.root, proof)
        if old.size < head.size:
            with pytest.raises(ProofError):
                merkle.check_consistency(old.size, head.root, head.size, head.root, proof)


@PAST
@given(seed=st.integers(0, 10**6), actions=ACTIONS)
def test_the_set_of_records_is_the_tree_over_what_is_present(
    where: Where, seed: int, actions: list[tuple[str, int]]
) -> None:
    past = lived(where, seed, actions)
    expected = radix.root(past.present())
    assert past.ledger.record_root() == (expected.hash, expected.count)
    story = fold(past.ledger.entries())
    assert (story.root, story.count) == (expected.hash.hex(), expected.count)
    graves = past.graves()
    assert past.ledger.tombstone_root() == (graves.hash, graves.count)
    assert story.tombstones == (graves.hash.hex(), graves.count)
    soundness.check_tombstone_tree(past.ledger)
    soundness.check_record_tree(past.ledger)
    assert story.requests == {item.id: item.state for item in past.ledger.requests()}
    assert story.steps == {
        place: Built(item.key, item.commitment, item.environment, item.records, item.visits)
        for place, item in past.ledger.steps().items()
    }
    assert [row[3] for row in past.ledger.commitments()] == sorted(past.present())
    said = [entry.event.fields for entry in past.ledger.entries() if entry.event.kind == "withdrawn"]
    roots = {
        name: [[radix.root(before), radix.root(after)], removed]
        for name, (removed, before, after) in past.removed.items()
    }
    assert {fields["request"] for fields in said} == roots.keys()
    for fields in said:
        (before, after), removed = roots[fields["request"]]
        assert fields["records"] == [before.hash.hex(), after.hash.hex()]
        assert fields["counts"] == [before.count, after.count]
        assert fields["n_records"] == len(removed)


@PAST
@given(seed=st.integers(0, 10**6), actions=ACTIONS)
def test_evidence_shows_presence_before_and_absence_after(
    where: Where, seed: int, actions: list[tuple[str, int]]
) -> None:
    past = lived(where, seed, [("add", 5), *actions, ("withdraw", 2)])
    assert past.removed
    for name, (removed, before, after) in past.removed.items():
        found = past.ledger.evidence(name)
        shown = found.withdrawal
        assert shown["removed"] == sorted(item.hex() for item in removed)
        presence, absence = radix.check(shown["presence"]), radix.check(shown["absence"])
        assert (presence.root, presence.count) == (radix.root(before).hash, len(before))
        assert (absence.root, absence.count) == (radix.root(after).hash, len(after))
        assert shown["records"]["before"] == {"count": len(before), "root": presence.root.hex()}
        assert shown["records"]["after"] == {"count": len(after), "root": absence.root.hex()}
        assert all(presence.holds(item) for item in removed)
        assert not any(absence.holds(item) for item in removed)
        if found.recovery is not None:
            later = radix.check(found.recovery["absence"])
            assert not any(later.holds(item) for item in removed)
        assert json.loads(json.dumps(shown)) == shown
        kinds = [entry.event.kind for entry, _ in found.entries if entry.event.kind != "artefact-tainted"]
        assert kinds[:2] == ["submitted", "withdrawn"]
        assert all(entry.event.request == name for entry, _ in found.entries)
        for entry, proof in found.entries:
            merkle.check_inclusion(merkle.leaf_hash(entry.body), entry.number, found.head.size, proof, found.head.root)


def test_a_large_batch_and_most_of_it_withdrawn(where: Where) -> None:
    """So many that the tree is computed from one look at everything, and then from many small ones."""
    past = Past(where.ledger(), random.Random(0))
    past.add(3000)
    assert len({item[0] for item in past.present()}) * 16 > (1 << recordset.CUT) // 8
    for count in (1, 400, 2500):
        past.withdraw(count) if count < 2500 else past.withdraw(len(past.records))
        expected = radix.root(past.present())
        assert past.ledger.record_root() == (expected.hash, expected.count)
        assert past.ledger.tombstone_root() == (past.graves().hash, past.graves().count)
    for count in (1, 300, 2500):
        past.lift(count)
        assert past.ledger.tombstone_root() == (past.graves().hash, past.graves().count)
    past.add(1)
    assert past.ledger.record_root() == (radix.root(past.present()).hash, 1)


def test_proofs_and_appends_read_few_rows(where: Where, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as the logarithm of the log is long, however long it is."""
    ledger = where.ledger()
    made = iter(range(10**6))
    read: list[int] = []
    inner = chain.subtrees

    def counting(c: Connection, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
        found = inner(c, places)
        read.append(len(found))
        return found

    monkeypatch.setattr(chain, "subtrees", counting)
    for exponent in (4, 8, 12):
        ledger.submit([submission(next(made)) for _ in range((1 << exponent) - 1 - ledger.head().size)])
        size = ledger.head().size
        calls: list[Callable[[], object]] = [
            ledger.head,
            functools.partial(ledger.inclusion, size // 3, size),
            functools.partial(ledger.consistency, size // 3, size),
            functools.partial(ledger.submit, [submission(next(made)) for _ in range(5)]),
        ]
        for call in calls:
            read.clear()
            call()
            assert 0 < sum(read) <= 2 * exponent, call


def test_reading_nodes_does_not_look_through_all_of_them(tmp_path: Path) -> None:
    """SQLite says how it goes about a query: by key, never by a scan."""
    ledger = Where(tmp_path, None).ledger()
    ledger.submit([submission(number) for number in range(20)])
    said = []

    def explain(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if " FROM tree " in statement:
            plan = cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
            said.append(" | ".join(row[3] for row in plan))

    with hooked(ledger, "before_cursor_execute", explain):
        ledger.inclusion(7, 21)
        ledger.consistency(7, 21)
        ledger.extend("req-1", AT)
    assert len(said) == 3
    assert all("SEARCH tree USING PRIMARY KEY (level=? AND position=?)" in plan for plan in said)
    assert not [plan for plan in said if "SCAN" in plan]
