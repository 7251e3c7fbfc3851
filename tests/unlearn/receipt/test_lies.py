"""What an operator could claim: receipts signed with the right key, whose log and digests agree with the claim.

Only what the claim says of itself, or fails to show, can refute it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from tests.unlearn.receipt.build import Made, commitments, make, recovery, sha, withdrawal
from unlearn.errors import VerificationError
from unlearn.ledger import radix
from unlearn.receipt import verify_offline

Edit = Callable[[Any], None]
EVERYONE = commitments(24)
REMOVED = EVERYONE[3:6]
LEFT = EVERYONE[:3] + EVERYONE[6:]


def as_set(present: list[bytes]) -> dict[str, Any]:
    """Count and root of a set of records."""
    node = radix.root(present)
    return {"count": node.count, "root": node.hash.hex()}


def refused(made: Made, stage: str, step: int, message: str) -> None:
    """Expect a receipt to be refused."""
    with pytest.raises(VerificationError, match=message) as caught:
        verify_offline(made.receipt(stage), [made.pinned])
    assert caught.value.step == step


def never_there(taken: Any) -> None:
    stranger = sorted([*(item.hex() for item in REMOVED[:2]), hashlib.sha256(b"stranger").hexdigest()])
    taken.update(
        removed=stranger,
        presence=radix.prune_set(EVERYONE, map(bytes.fromhex, stranger)),
        absence=radix.prune_set(LEFT, map(bytes.fromhex, stranger)),
    )


def still_there(taken: Any) -> None:
    after = EVERYONE[3:]  # three others went instead
    taken["records"]["after"] = as_set(after)
    taken["absence"] = radix.prune_set(after, REMOVED)


def exchanged(taken: Any) -> None:
    after = [*LEFT[1:], hashlib.sha256(b"slipped in").digest()]
    taken["records"]["after"] = as_set(after)
    taken["absence"] = radix.prune_set(after, REMOVED)


def not_shown(taken: Any) -> None:
    taken["absence"] = radix.prune_set(LEFT, [EVERYONE[0]])


def presence_not_shown(taken: Any) -> None:
    taken["presence"] = radix.prune_set(EVERYONE, [EVERYONE[0]])


def another_tree(taken: Any) -> None:
    taken["presence"] = radix.prune_set(EVERYONE[:-1], REMOVED)


def another_tree_after(taken: Any) -> None:
    taken["absence"] = radix.prune_set(LEFT[:-1], REMOVED)


def no_tree(taken: Any) -> None:
    taken["absence"] = "h:" + 64 * "a" + ":21"


def one_less_removed(taken: Any) -> None:
    taken["removed"] = taken["removed"][:2]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (never_there, "withdrawal: presence: the record [0-9a-f]{16}… was not there, so it cannot have been forgotten"),
        (still_there, "withdrawal: absence: the record [0-9a-f]{16}… is still there"),
        (exchanged, "the records after are not those before without the forgotten ones: others were removed or exch"),
        (not_shown, "withdrawal: absence: pruned tree: it shows neither presence nor absence"),
        (presence_not_shown, "withdrawal: presence: pruned tree: it shows neither presence nor absence"),
        (another_tree, "withdrawal: presence is a proof over another set of records than the one stated"),
        (another_tree_after, "withdrawal: absence is a proof over another set of records than the one stated"),
        (no_tree, "withdrawal: absence: pruned tree, depth 0: the whole tree is left out"),
        (one_less_removed, "withdrawal: removed lists 2 records, request: n_records says 3"),
        (
            lambda taken: taken["records"]["after"].update(count=20),
            "there were 24 before and 20 after, which is not 3 f",
        ),
    ],
)
def test_lies_about_the_records(edit: Edit, message: str) -> None:
    made = make(edit_withdrawal=edit)
    for stage in ("forgotten", "recovered"):
        refused(made, stage, 7, message)


def test_a_stated_root_must_be_the_one_in_the_log() -> None:
    def edit(event: Any) -> None:
        event["records"] = event["records"][::-1]

    refused(make(edit_events={"withdrawn": edit}), "forgotten", 7, "withdrawal: records: roots is not what the event")

    def counts(event: Any) -> None:
        event["counts"] = [25, 22]

    refused(
        make(edit_events={"withdrawn": counts}), "forgotten", 7, "withdrawal: records: counts is not what the event"
    )


def test_stated_shards_must_be_those_in_the_log() -> None:
    made = make(edit_events={"withdrawn": lambda event: event.update(shards=[0, 0])})
    refused(made, "forgotten", 6, "withdrawal: shards is not what the event withdrawn in the log says")


def came_back(restored: Any) -> None:
    restored.update(recovery([*LEFT, REMOVED[0]], REMOVED))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (came_back, "recovery: absence: the record [0-9a-f]{16}… is still there"),
        (
            lambda restored: restored.update(absence=radix.prune_set(LEFT, REMOVED)),
            "recovery: absence is a proof over ano",
        ),
        (lambda restored: restored.update(absence=None), "recovery: absence is a proof over another set of records"),
    ],
)
def test_lies_about_the_records_after_the_recovery(edit: Edit, message: str) -> None:
    made = make(edit_recovery=edit)
    verify_offline(made.forgotten, [made.pinned])
    refused(made, "recovered", 7, message)


@pytest.mark.parametrize(("field", "value"), [("records", "ab" * 32), ("count", 21)])
def test_a_stated_root_after_the_recovery_must_be_the_one_in_the_log(field: str, value: Any) -> None:
    made = make(edit_events={"recovered": lambda event: event.update({field: value})})
    refused(made, "recovered", 7, "recovery: records: .* is not what the event recovered in the log says")


def set_after(states: list[list[Any]]) -> Edit:
    """Claim that these states were served after the withdrawal."""
    return lambda taken: taken["states"].update(after=states)


FIRST = [1, 0, sha("key", 1, 0), sha("state", 1, 0), 4]
STAYS = [2, 1, sha("key", 2, 1), sha("state", 2, 1), 8]


def unhit(taken: Any) -> None:
    """Shard 0 is said not to be hit, and serves on."""
    taken["shards"] = {"1": 1}
    taken["states"]["after"] = [taken["states"]["before"][0], FIRST, STAYS]


def falls_back_needlessly(taken: Any) -> None:
    """Shard 2 is said to be hit later than what it served."""
    taken["shards"]["2"] = 5
    taken["states"]["after"] = [FIRST, [2, 0, sha("key", 2, 0), sha("state", 2, 0), 4]]


def spared(taken: Any) -> None:
    taken["destroyed"] = taken["destroyed"][:1] + taken["destroyed"][2:]


def another_destroyed(taken: Any) -> None:
    taken["destroyed"][2][2] = sha("another")


def nothing_before(taken: Any) -> None:
    taken["states"]["before"] = taken["states"]["before"][::2]


def shared_key(taken: Any) -> None:
    """A shard that stays serves what another destroyed."""
    for when, place in (("before", 2), ("after", 1)):
        taken["states"][when][place][2] = sha("key", 0, 1)


def too_much_learned(taken: Any) -> None:
    for when, place in (("before", 2), ("after", 1)):
        taken["states"][when][place][4] = 18


def too_much_learned_before(taken: Any) -> None:
    taken["states"]["before"][0][4] = 9


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (set_after([FIRST]), "shard 2 held no forgotten record, and yet its state changed"),
        (set_after([FIRST, [*STAYS[:3], sha("x"), 8]]), "shard 2 held no forgotten record, and yet its state changed"),
        (set_after([FIRST, [*STAYS[:4], 7]]), "shard 2 held no forgotten record, and yet its state changed"),
        (
            set_after([[0, 0, sha("key", 0, 0), sha("s"), 4], FIRST, STAYS]),
            "shard 0 still serves position 0, though every",
        ),
        (
            set_after([[1, 1, sha("key", 1, 1), sha("s"), 8], STAYS]),
            "shard 1 still serves position 1, though everything fr",
        ),
        (falls_back_needlessly, "shard 2 served a state that had not seen the forgotten records, and yet it changed"),
        (nothing_before, "shard 1 served nothing before, and yet something after: a withdrawal builds nothing"),
        (unhit, "destroyed: the state of shard 0, position 0 had not seen the records"),
        (spared, "destroyed: the state that shard 0 served had seen the forgotten records, but is not among those des"),
        (
            another_destroyed,
            "destroyed: the state that shard 1 served had seen the forgotten records, but is not among",
        ),
        (
            lambda taken: taken["destroyed"].append([2, 1, STAYS[2]]),
            "destroyed: the state of shard 2, position 1 had not",
        ),
        (
            lambda taken: taken["destroyed"].insert(2, [1, 0, FIRST[2]]),
            "destroyed: the state of shard 1, position 0 had n",
        ),
        (shared_key, "withdrawal: states: after: shard 2 serves a state that is said to be destroyed"),
        (too_much_learned, "withdrawal: states: after: they learned from 22 records together, but there are 21"),
        (
            too_much_learned_before,
            "withdrawal: states: before: they learned from 25 records together, but there are 24",
        ),
    ],
)
def test_lies_about_the_states(edit: Edit, message: str) -> None:
    made = make(edit_withdrawal=edit)
    for stage in ("forgotten", "recovered"):
        refused(made, stage, 8, message)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda restored: restored["states"][0].__setitem__(2, sha("key", 0, 1)),
            "recovery: states: shard 0 serves a state that is said to be destroyed",
        ),
        (
            lambda restored: restored["rebuilt"][2].__setitem__(2, sha("key", 1, 1)),
            "recovery: rebuilt: the state of shard 1, position 1 is a destroyed one",
        ),
        (
            lambda restored: restored["states"][0].__setitem__(4, 8),
            "recovery: states: they learned from 23 records together, but there are 22",
        ),
    ],
)
def test_lies_about_the_recovered_states(edit: Edit, message: str) -> None:
    made = make(edit_recovery=edit)
    verify_offline(made.forgotten, [made.pinned])
    refused(made, "recovered", 8, message)


@pytest.mark.parametrize("kind", ["submitted", "withdrawn", "forgotten", "recovered"])
def test_an_event_of_another_request_is_refused(kind: str) -> None:
    made = make(edit_events={kind: lambda event: event.update(request="r-0002")})
    refused(made, "recovered", 5, f"log: the event {kind} is about another request than request: id")


@pytest.mark.parametrize(
    ("kind", "edit", "message"),
    [
        ("submitted", {"digest": "ab" * 32}, "request: digest is not what the event submitted in the log says"),
        ("submitted", {"n_subjects": 3}, "request: n_subjects is not what the event submitted"),
        ("submitted", {"n_subjects": 2.0}, "request: n_subjects is not what the event submitted"),
        ("submitted", {"deadline": None}, "request: deadline is not what the event submitted"),
        ("withdrawn", {"n_records": 2}, "request: n_records is not what the event withdrawn"),
        ("forgotten", {"kind": "failed"}, "log: events are of the kinds 'submitted', 'withdrawn', 'failed'"),
        ("forgotten", {"kind": 7}, "log: event 3: kind must be a text"),
        ("forgotten", {"version": 2}, "log: event 3: version must be 1, not 2"),
        ("forgotten", {"version": True}, "log: event 3: version must be 1, not True"),
        ("forgotten", {"at": "yesterday"}, "log: event 3: at must be a time in UTC"),
        ("forgotten", {"at": "2025-05-25T10:06:00.123456+02:00"}, "log: event 3: at must be a time in UTC"),
    ],
)
def test_an_event_that_says_something_else_is_refused(kind: str, edit: dict[str, Any], message: str) -> None:
    refused(make(edit_events={kind: lambda event: event.update(edit)}), "forgotten", 5, message)


@pytest.mark.parametrize("name", ["kind", "version", "at"])
def test_an_event_without_a_field_is_refused(name: str) -> None:
    made = make(edit_events={"forgotten": lambda event: event.pop(name)})
    refused(made, "forgotten", 5, f"log: event 3: the field '{name}' is missing")


@pytest.mark.parametrize(
    ("kind", "name"), [("submitted", "n_subjects"), ("submitted", "deadline"), ("withdrawn", "counts")]
)
def test_a_field_that_an_event_lacks_is_not_null(kind: str, name: str) -> None:
    made = make(
        edit_events={kind: lambda event: event.pop(name)},
        edit_request=lambda request: request.update(deadline=None) if name == "deadline" else None,
    )
    refused(made, "forgotten", 7 if name == "counts" else 5, f"is not what the event {kind} in the log says")


def test_nothing_forgotten_is_a_receipt_of_nothing() -> None:
    def edit(taken: Any) -> None:
        taken.update(withdrawal(EVERYONE, []), shards={}, destroyed=[])
        taken["states"]["after"] = taken["states"]["before"]

    made = make(
        edit_withdrawal=edit,
        edit_events={"withdrawn": lambda event: event.update(n_records=0)},
        edit_request=lambda request: request.update(n_records=0),
    )
    assert verify_offline(made.forgotten, [made.pinned]).predicate.request.n_records == 0
