"""The sorted tree against its recursive definition over sets, and its proofs against whoever would forge them."""

from __future__ import annotations

import copy
import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from unlearn.errors import ProofError
from unlearn.ledger import radix

Set = frozenset[bytes]


# The definition, on strings of bits: slow, and shares nothing with the code under test.


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@lru_cache(2**16)
def bits(commitment: bytes) -> str:
    return "".join(f"{byte:08b}" for byte in commitment)


def under(commitments: Set, prefix: str) -> Set:
    return frozenset(item for item in commitments if bits(item).startswith(prefix))


@lru_cache(2**16)
def defined(commitments: Set, prefix: str = "") -> tuple[int, bytes]:
    if not commitments:
        return 0, bytes(32)
    if len(commitments) == 1:
        return 1, sha256(b"\x00" + next(iter(commitments)))
    preimage = b"\x01"
    for bit in "01":
        count, value = defined(under(commitments, prefix + bit), prefix + bit)
        preimage += count.to_bytes(8, "big") + value
    return len(commitments), sha256(preimage)


def defined_proof(commitments: Set, wanted: Set, prefix: str = "") -> Any:
    if not commitments:
        return None
    if len(commitments) == 1:
        return f"l:{next(iter(commitments)).hex()}"
    if prefix and not wanted:
        count, value = defined(commitments, prefix)
        return f"h:{value.hex()}:{count}"
    return [defined_proof(under(commitments, prefix + bit), under(wanted, prefix + bit), prefix + bit) for bit in "01"]


# Sets: random ones, and ones whose members agree on long prefixes.


@st.composite
def crowded(draw: st.DrawFn, most: int = 12) -> list[bytes]:
    """Commitments that differ from each other in a few bits only, the last one among them."""
    base = int.from_bytes(draw(st.binary(min_size=32, max_size=32)), "big")
    places = sorted({0, *draw(st.lists(st.integers(0, 255), max_size=3))})
    masks = draw(st.lists(st.integers(0, 2 ** len(places) - 1), max_size=most, unique=True))
    changes = [sum(1 << place for at, place in enumerate(places) if mask >> at & 1) for mask in masks]
    return [(base ^ change).to_bytes(32, "big") for change in changes]


any_commitment = st.binary(min_size=32, max_size=32)
scattered = st.lists(any_commitment, max_size=12)
sets = st.one_of(crowded(), scattered, st.builds(lambda a, b: a + b, crowded(6), scattered)).map(frozenset)


@st.composite
def questions(draw: st.DrawFn) -> tuple[Set, Set]:
    """A set, and commitments to ask for: members, their neighbours, strangers."""
    commitments: Set = draw(sets)
    wanted = set(draw(st.lists(any_commitment, max_size=3)))
    if commitments:
        members = draw(st.lists(st.sampled_from(sorted(commitments)), max_size=6))
        near = draw(st.lists(st.tuples(st.sampled_from(members), st.integers(0, 255)), max_size=4)) if members else []
        wanted |= {*members, *((int.from_bytes(a, "big") ^ (1 << b)).to_bytes(32, "big") for a, b in near)}
    return commitments, frozenset(wanted)


def through_json(proof: Any) -> Any:
    return json.loads(json.dumps(proof))


# Values


@given(sets)
def test_the_root_is_the_defined_one(commitments: Set) -> None:
    node = radix.root(commitments)
    assert (node.count, node.hash) == defined(commitments)


def test_a_root_never_changes_between_versions() -> None:
    assert radix.root([]).hash == bytes(32)
    assert radix.root([bytes(32)]).hash.hex() == "7f9c9e31ac8256ca2f258583df262dbc7d6f68f2a03043d5c99a4ae5a7396ce9"
    five = radix.root([sha256(bytes([number])) for number in range(5)])
    assert (five.count, five.hash.hex()) == (5, "96e43955efdb2e9fcf67dc7b1debb9746dc86d4f0095d0711a0bea2a8fc52a28")


@given(sets, st.randoms(use_true_random=False))
def test_neither_order_nor_repetition_matters(commitments: Set, order: random.Random) -> None:
    shuffled = [*commitments, *commitments]
    order.shuffle(shuffled)
    assert radix.root(shuffled) == radix.root(iter(sorted(commitments)))
    assert radix.prune_set(shuffled, shuffled[:3]) == radix.prune_set(sorted(commitments), sorted(set(shuffled[:3])))


@given(sets.filter(bool), st.lists(st.integers(0, 256), max_size=10), st.data())
def test_every_subtree_is_the_defined_one_and_the_join_of_its_sides(
    commitments: Set, depths: list[int], data: st.DataObject
) -> None:
    text = bits(data.draw(st.sampled_from(sorted(commitments))))
    for depth in {0, 1, 255, 256, *depths}:
        prefix = text[:depth]
        inside = sorted(under(commitments, prefix))
        node = radix.subtree(inside, depth)
        assert (node.count, node.hash) == defined(frozenset(inside), prefix)
        if depth < 256:
            sides = [radix.subtree(sorted(under(commitments, prefix + bit)), depth + 1) for bit in "01"]
            assert radix.join(*sides) == node


@given(sets, sets)
def test_different_sets_have_different_roots(one: Set, other: Set) -> None:
    assert (radix.root(one).hash == radix.root(other).hash) == (one == other)


def test_two_that_differ_in_the_last_bit_only() -> None:
    pair = [bytes(32), bytes(31) + b"\x01"]
    node = radix.join(radix.leaf(pair[0]), radix.leaf(pair[1]))
    for _ in range(255):
        node = radix.join(node, radix.EMPTY)
    assert radix.root(pair) == node
    tree = radix.check(through_json(radix.prune_set(pair, pair[:1])))
    assert (tree.root, tree.count, tree.leaves) == (node.hash, 2, frozenset(pair))
    assert not tree.holds(bytes(31) + b"\x02")


def test_a_set_that_parts_at_every_bit() -> None:
    base = int.from_bytes(sha256(b"base"), "big")
    comb = [base.to_bytes(32, "big"), *((base ^ (1 << place)).to_bytes(32, "big") for place in range(256))]
    tree = radix.check(through_json(radix.prune_set(comb, comb[:2])))
    assert (tree.count, tree.root) == defined(frozenset(comb))
    assert all(map(tree.holds, comb))  # every side branch is a lone leaf, so all are shown


@pytest.mark.parametrize(
    ("commitments", "depth", "message"),
    [
        ([b"\x01" * 32, b"\x00" * 32], 0, "ascending"),
        ([b"\x01" * 32, b"\x01" * 32], 0, "ascending"),
        ([b"\x00" * 32, b"\x02" * 32, b"\x01" * 32, b"\x03" * 32], 0, "ascending"),
        ([b"\x00" * 31], 0, "32 bytes"),
        ([b"\x00" * 32, b"\x01" * 33], 0, "32 bytes"),
        ([b"\x00" * 32, b"\x80" * 32], 1, "first 1 bits"),
        ([b"\x00" * 32, b"\x00" * 31 + b"\x01"], 256, "first 256 bits"),
        ([], -1, "not -1"),
        ([], 257, "not 257"),
    ],
)
def test_what_is_no_subtree_is_refused(commitments: list[bytes], depth: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        radix.subtree(commitments, depth)


def test_what_is_no_commitment_is_refused() -> None:
    for call in (radix.leaf, lambda item: radix.root([item]), lambda item: radix.prune_set([item], [])):
        with pytest.raises(ValueError, match="32 bytes"):
            call(b"short")
    with pytest.raises(ValueError, match="32 bytes"):
        radix.prune_set([], [b"short"])


def test_span_holds_what_shares_the_prefix() -> None:
    assert radix.span(0, 0) == (bytes(32), b"\xff" * 32)
    assert radix.span(4, 0b1010) == (b"\xa0" + bytes(31), b"\xaf" + b"\xff" * 31)
    assert radix.span(256, 7) == (bytes(31) + b"\x07", bytes(31) + b"\x07")


# Proofs


@given(questions())
def test_a_proof_shows_what_was_asked_and_hides_the_rest(question: tuple[Set, Set]) -> None:
    commitments, wanted = question
    proof = radix.prune_set(commitments, wanted)
    assert proof == defined_proof(commitments, wanted)
    tree = radix.check(through_json(proof))
    assert (tree.count, tree.root) == defined(commitments)
    for item in wanted:
        assert tree.holds(item) == (item in commitments)
    assert tree.leaves <= commitments


@given(questions())
def test_what_was_not_asked_is_never_answered_wrongly(question: tuple[Set, Set]) -> None:
    commitments, wanted = question
    tree = radix.check(radix.prune_set(commitments, wanted))
    shown = 0
    for item in commitments:
        try:
            assert tree.holds(item)
            shown += 1
        except ProofError as error:
            assert item.hex() in str(error)  # noqa: PT017 (either outcome is right; which one, the leaves decide)
            assert item not in tree.leaves
    assert shown == len(tree.leaves)


@given(questions(), st.integers(0, 256))
def test_a_store_of_nodes_gives_the_same_proof_whatever_its_cut(question: tuple[Set, Set], cut: int) -> None:
    commitments, wanted = question

    def at(depth: int, prefix: int) -> tuple[Set, str]:
        text = f"{prefix:0{depth}b}" if depth else ""
        assert len(text) == depth <= cut
        return under(commitments, text), text

    def node(depth: int, prefix: int) -> radix.Node:
        return radix.Node(*defined(*at(depth, prefix)))

    def leaves(depth: int, prefix: int) -> list[bytes]:
        inside, text = at(depth, prefix)
        assert len(inside) == 1 or (depth == cut and (not depth or under(wanted, text))), "asked without need"
        first, last = radix.span(depth, prefix)
        assert inside == {item for item in commitments if first <= item <= last}
        return sorted(inside)

    assert radix.prune(wanted, cut=cut, node=node, leaves=leaves) == radix.prune_set(commitments, wanted)


def test_a_store_that_does_not_fit_its_commitments_gives_no_proof() -> None:
    commitments = sorted(sha256(bytes([number])) for number in range(40))
    cut = 3
    right = {
        (depth, prefix): radix.subtree([c for c in commitments if c[0] >> (8 - depth) == prefix], depth)
        for depth in range(cut + 1)
        for prefix in range(1 << depth)
    }

    def pruned(nodes: dict[tuple[int, int], radix.Node], present: list[bytes]) -> Any:
        return radix.prune(
            commitments[:1],
            cut=cut,
            node=lambda depth, prefix: nodes[depth, prefix],
            leaves=lambda depth, prefix: [c for c in present if c[0] >> (8 - depth) == prefix],
        )

    assert pruned(right, commitments) == radix.prune_set(commitments, commitments[:1])
    for lost in (commitments[1:], [*commitments[:1], *commitments[2:]], sorted([*commitments, bytes(32)])):
        with pytest.raises(ProofError, match="not that of what lies under it"):
            pruned(right, lost)
    on_the_way = commitments[0][0] >> 5
    touched = {(depth, on_the_way >> (cut - depth)) for depth in range(cut + 1)}
    touched |= {(depth, prefix ^ 1) for depth, prefix in touched if depth}
    for place in touched:
        count, value = right[place].count, right[place].hash
        # That nothing is there at all cannot be told at the root: it is how an empty set is stored.
        gone = [radix.EMPTY] if place != (0, 0) else []
        for wrong in (radix.Node(count + 1, value), radix.Node(count, sha256(value)), *gone):
            with pytest.raises(ProofError, match="not that of what lies under it"):
                pruned({**right, place: wrong}, commitments)
    for outside in (-1, 257):
        with pytest.raises(ValueError, match="0 to 256"):
            radix.prune([], cut=outside, node=lambda *_: radix.EMPTY, leaves=lambda *_: [])


def test_a_proof_of_nothing_still_binds_the_count() -> None:
    commitments = [sha256(bytes([number])) for number in range(40)]
    tree = radix.check(radix.prune_set(commitments, []))
    assert (tree.count, tree.root, tree.leaves) == (40, radix.root(commitments).hash, frozenset())
    with pytest.raises(ProofError, match="neither presence nor absence"):
        tree.holds(commitments[0])


def test_a_hidden_subtree_reaches_from_its_first_to_its_last_place() -> None:
    tree = radix.check([[None, f"h:{HASH}:2"], f"l:{HIGH}"])
    first, last = radix.span(2, 0b01)
    for hidden in (first, last):
        with pytest.raises(ProofError, match="neither presence nor absence"):
            tree.holds(hidden)
    before, after = (int.from_bytes(first, "big") - 1, int.from_bytes(last, "big") + 1)
    assert not any(tree.holds(place.to_bytes(32, "big")) for place in (before, after))


def test_the_smallest_sets() -> None:
    one, other = sha256(b"one"), sha256(b"other")
    assert radix.prune_set([], [one]) is None
    assert not radix.check(None).holds(one)
    assert radix.check(None).root == radix.EMPTY.hash
    assert radix.prune_set([one], [other]) == f"l:{one.hex()}"
    tree = radix.check(f"l:{one.hex()}")
    assert (tree.root, tree.count, tree.holds(one), tree.holds(other)) == (radix.leaf(one).hash, 1, True, False)


@pytest.mark.parametrize("wrong", [None, b"", b"\0" * 31, b"\0" * 33, "0" * 64, 5, [b"\0" * 32]])
def test_only_commitments_can_be_asked_for(wrong: Any) -> None:
    with pytest.raises(ProofError, match="32 bytes"):
        radix.check(None).holds(wrong)


def test_a_proof_changed_after_it_was_checked_changes_nothing() -> None:
    commitments = [sha256(bytes([number])) for number in range(9)]
    proof = radix.prune_set(commitments, commitments)
    tree = radix.check(proof)
    proof[0] = proof[1] = None
    assert all(map(tree.holds, commitments))


# Forgery

Place = tuple[int, ...]


def places(proof: Any, place: Place = ()) -> Iterator[Place]:
    yield place
    if isinstance(proof, list):
        for side in (0, 1):
            yield from places(proof[side], (*place, side))


def get(proof: Any, place: Place) -> Any:
    for side in place:
        proof = proof[side]
    return proof


def put(proof: Any, place: Place, item: Any) -> Any:
    if not place:
        return item
    changed = copy.deepcopy(proof)
    get(changed, place[:-1])[place[-1]] = item
    return changed


def collapsed(proof: Any) -> str:
    """What an inner node is when it is left out, honestly."""

    def value(item: Any) -> tuple[int, bytes]:
        if item is None:
            return 0, bytes(32)
        if isinstance(item, list):
            sides = [value(side) for side in item]
            preimage = b"".join(count.to_bytes(8, "big") + digest for count, digest in sides)
            return sum(count for count, _ in sides), sha256(b"\x01" + preimage)
        if item.startswith("l:"):
            return 1, sha256(b"\x00" + bytes.fromhex(item[2:]))
        _, digest, count = item.split(":")
        return int(count), bytes.fromhex(digest)

    count, digest = value(proof)
    return f"h:{digest.hex()}:{count}"


def digit(text: str, at: int) -> str:
    return text[:at] + ("1" if text[at] == "0" else "0") + text[at + 1 :]


def forgeries(item: Any, stranger: bytes, at: int) -> list[Any]:
    """Everything that could be put in the place of a node."""
    wrong: list[Any] = [None, f"l:{stranger.hex()}", f"h:{sha256(stranger).hex()}:2", f"h:{'0' * 64}:2"]
    wrong += [[item, None], [None, item], [item, item], [None, None], [], [item], [item, None, None], {"0": item}]
    wrong += [0, 1, -1, 1.5, True, False, "", "l:", "h:", "null"]
    if isinstance(item, list):
        hidden = collapsed(item)
        wrong += [item[::-1], item[0], item[1], [item[0], None], [None, item[1]], [item[0], item[0]], tuple(item)]
        wrong += [
            digit(hidden, 2 + at),
            f"{hidden}0",
            hidden[:66] + ":" + str(int(hidden[67:]) + 1),
            "l:" + hidden[2:66],
        ]
    elif isinstance(item, str):
        text = item
        wrong += [
            digit(text, 2 + at),
            text.upper(),
            text[:2] + text[2:].upper(),
            text + " ",
            " " + text,
            text + "\n",
            text[:-1],
            text + "0",
        ]
        if text.startswith("h:"):
            count = int(text[67:])
            wrong += [f"{text[:67]}{other}" for other in (0, 1, count - 1, count + 1, -count, f"0{count}", f"+{count}")]
            wrong += [f"l:{text[2:66]}", f"{text}.0", f"{text[:67]}{count:_}_0", f"{text[:67]}٢"]
        else:
            value = sha256(b"\x00" + bytes.fromhex(text[2:])).hex()
            wrong += [f"h:{value}:1", f"h:{value}:2", f"h:{text[2:]}:1", f"l:{value}"]
    # As JSON sees it: 1 and True are equal to Python only.
    return [bad for bad in wrong if repr(bad) != repr(item)]


@given(questions(), st.data())
def test_no_change_of_a_proof_keeps_its_root(question: tuple[Set, Set], data: st.DataObject) -> None:
    commitments, wanted = question
    proof = radix.prune_set(commitments, wanted)
    expected = radix.check(proof)
    place = data.draw(st.sampled_from(list(places(proof))))
    stranger = data.draw(st.one_of(any_commitment, st.sampled_from(sorted(wanted | {bytes(32)}))))
    for bad in forgeries(get(proof, place), stranger, data.draw(st.integers(0, 63))):
        try:
            tree = radix.check(put(proof, place, bad))
        except ProofError:
            continue
        assert tree.root != expected.root


def quarter(number: int) -> st.SearchStrategy[Set]:
    """Two commitments or more that begin with the two bits of a number."""
    return st.frozensets(
        any_commitment.map(lambda item: bytes([item[0] & 0x3F | number << 6]) + item[1:]), min_size=2, max_size=5
    )


@given(st.tuples(*map(quarter, range(4))), st.sets(any_commitment, max_size=1), st.data())
def test_counts_cannot_be_moved_from_one_hidden_subtree_to_another(
    quarters: tuple[Set, ...], wanted: set[bytes], data: st.DataObject
) -> None:
    proof = radix.prune_set(frozenset().union(*quarters), wanted)
    hidden = [place for place in places(proof) if str(get(proof, place)).startswith("h:")]
    one, other = data.draw(st.lists(st.sampled_from(hidden), min_size=2, max_size=2, unique=True))
    moved = proof
    for place, change in ((one, 1), (other, -1)):
        text = get(proof, place)
        moved = put(moved, place, f"{text[:67]}{int(text[67:]) + change}")
    try:
        tree = radix.check(moved)
    except ProofError:
        return
    assert tree.root != radix.check(proof).root


def test_the_counts_of_two_hidden_siblings_cannot_be_traded() -> None:
    commitments = [sha256(bytes([number])) for number in range(60)]
    proof = radix.prune_set(commitments, [])
    counts = [int(side[67:]) for side in proof]
    traded = [f"{side[:67]}{count + change}" for side, count, change in zip(proof, counts, (1, -1), strict=True)]
    assert radix.check(traded).count == radix.check(proof).count
    assert radix.check(traded).root != radix.check(proof).root


@given(questions(), st.data())
def test_leaving_out_more_shows_less_and_never_something_else(question: tuple[Set, Set], data: st.DataObject) -> None:
    commitments, wanted = question
    proof = radix.prune_set(commitments, wanted)
    inner = [place for place in places(proof) if place and isinstance(get(proof, place), list)]
    assume(inner)
    place = data.draw(st.sampled_from(inner))
    tree = radix.check(put(proof, place, collapsed(get(proof, place))))
    assert (tree.count, tree.root) == defined(commitments)
    for item in wanted:
        if bits(item).startswith("".join(map(str, place))):
            with pytest.raises(ProofError, match="neither presence nor absence"):
                tree.holds(item)
        else:
            assert tree.holds(item) == (item in commitments)


@given(sets, sets, st.sets(any_commitment, max_size=3))
def test_a_proof_of_another_set_has_another_root(one: Set, other: Set, asked: set[bytes]) -> None:
    assume(one != other)
    assert radix.check(radix.prune_set(other, asked | one)).root != radix.root(one).hash


pieces = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=4),
    st.from_regex(r"l:[0-9a-f]{64}", fullmatch=True),
    st.from_regex(r"h:[0-9a-f]{64}:[0-9]{1,20}", fullmatch=True),
    st.from_regex(r"[lh]:[0-9a-fA-F]{62,66}(:-?[0-9]*)?", fullmatch=True),
)
anything = st.recursive(
    pieces,
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=2), st.lists(inner, max_size=3), st.dictionaries(st.text(), inner)
    ),
)


@given(anything, st.lists(any_commitment, max_size=2))
def test_any_json_is_read_or_refused_and_nothing_else(proof: Any, asked: list[bytes]) -> None:
    try:
        tree = radix.check(proof)
    except ProofError:
        return
    assert collapsed(proof) == f"h:{tree.root.hex()}:{tree.count}"
    for item in asked:
        try:
            assert tree.holds(item) == (item in tree.leaves)
        except ProofError:
            assert item not in tree.leaves


LOW, HIGH = "00" * 32, "ff" * 32
ODD = "00" * 31 + "01"
HASH = "ab" * 32

NOT_CANONICAL = {
    "an empty inner node": [None, None],
    "an inner node of one leaf": [f"l:{LOW}", None],
    "an inner node of one leaf, deeper": [[f"l:{LOW}", None], f"l:{HIGH}"],
    "an empty inner node, deeper": [[None, None], f"l:{HIGH}"],
    "a leaf on the wrong side": [f"l:{HIGH}", f"l:{LOW}"],
    "a leaf under the wrong prefix": [[f"l:{LOW}", f"l:{ODD}"], f"l:{HIGH}"],
    "the same leaf twice": [f"l:{LOW}", f"l:{LOW}"],
    "a hidden subtree of none": [f"h:{HASH}:0", f"l:{HIGH}"],
    "a hidden subtree of one": [f"h:{HASH}:1", f"l:{HIGH}"],
    "a hidden root": f"h:{HASH}:5",
    "a leading zero": [f"h:{HASH}:02", f"l:{HIGH}"],
    "a sign": [f"h:{HASH}:+2", f"l:{HIGH}"],
    "a negative count": [f"h:{HASH}:-2", f"l:{HIGH}"],
    "no count": [f"h:{HASH}", f"l:{HIGH}"],
    "an empty count": [f"h:{HASH}:", f"l:{HIGH}"],
    "digits of another script": [f"h:{HASH}:٢", f"l:{HIGH}"],
    "a count above any set": [f"h:{HASH}:{2**63}", None],
    "a sum above any set": [f"h:{HASH}:{2**63 - 1}", f"l:{HIGH}"],
    "two halves of too many": [f"h:{HASH}:{2**62}", f"h:{HASH}:{2**62}"],
    "a count of many digits": [f"h:{HASH}:{'9' * 10**6}", None],
    "upper case": [f"l:{LOW}", f"l:{HIGH.upper()}"],
    "upper case of a hash": [f"h:{HASH.upper()}:2", f"l:{HIGH}"],
    "a line end": [f"l:{LOW}\n", f"l:{HIGH}"],
    "a line end after a count": [f"h:{HASH}:2\n", f"l:{HIGH}"],
    "a leaf with a count": [f"l:{LOW}:1", f"l:{HIGH}"],
    "a short leaf": [f"l:{LOW[:-1]}", f"l:{HIGH}"],
    "a long leaf": [f"l:{LOW}0", f"l:{HIGH}"],
    "another kind": f"x:{LOW}",
    "bare hex": LOW,
    "no text": "",
    "a very long text": "l:" + "0" * 10**7,
    "one side": [f"l:{LOW}"],
    "three sides": [f"l:{LOW}", f"l:{HIGH}", None],
    "no sides": [],
    "very many sides": [None] * 10**6,
    "a tuple": (f"l:{LOW}", f"l:{HIGH}"),
    "an object": {"left": f"l:{LOW}", "right": f"l:{HIGH}"},
    "a number": 0,
    "true": True,
    "false": False,
    "not a number": float("nan"),
    "bytes": LOW.encode(),
    "an unpaired surrogate": "l:\ud800",
}


@pytest.mark.parametrize("proof", NOT_CANONICAL.values(), ids=NOT_CANONICAL)
def test_only_the_one_way_of_writing_a_tree_is_read(proof: Any) -> None:
    started = time.perf_counter()
    with pytest.raises(ProofError) as caught:
        radix.check(proof)
    assert time.perf_counter() - started < 2
    assert len(str(caught.value)) < 300, "the message repeats nothing of what was sent"


def chain(depth: int, end: Any, wrap: Callable[[Any], Any]) -> Any:
    for _ in range(depth):
        end = wrap(end)
    return end


@pytest.mark.parametrize(
    "wrap",
    [lambda a: [a], lambda a: [a, None], lambda a: [None, a], lambda a: [a, f"h:{HASH}:2"], lambda a: {"a": a}],
    ids=["alone", "left", "right", "beside a subtree", "object"],
)
@pytest.mark.parametrize("depth", [257, 10**5])
def test_deep_nesting_is_refused(wrap: Callable[[Any], Any], depth: int) -> None:
    started = time.perf_counter()
    with pytest.raises(ProofError):
        radix.check(chain(depth, [f"l:{LOW}", f"l:{ODD}"], wrap))
    assert time.perf_counter() - started < 2


def test_the_deepest_tree_there_is_is_read_however_deep_the_caller_stands() -> None:
    proof = chain(255, [f"l:{LOW}", f"l:{ODD}"], lambda a: [a, None])

    def stand(frames: int) -> radix.PrunedTree:
        return stand(frames - 1) if frames else radix.check(proof)

    assert stand(600).count == 2
    with pytest.raises(ProofError):
        radix.check(chain(1, proof, lambda a: [a, None]))


def test_a_hidden_subtree_may_not_be_fuller_than_its_depth_allows() -> None:
    def at(depth: int, count: int) -> Any:
        return [chain(depth - 1, f"h:{HASH}:{count}", lambda a: [a, None]), f"l:{HIGH}"]

    assert radix.check(at(255, 2)).count == 3
    assert radix.check(at(254, 4)).count == 5
    for depth, count in ((255, 3), (254, 5), (256, 2), (256, 1)):
        with pytest.raises(ProofError):
            radix.check(at(depth, count))


def test_a_tree_of_too_many_nodes_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    # The same list at many places: little in memory, 2**200 nodes to walk.
    shared: Any = f"h:{HASH}:2"
    for _ in range(200):
        shared = [shared, shared]
    monkeypatch.setattr(radix, "MAX_PROOF_NODES", 10**4)
    with pytest.raises(ProofError, match="more than 10000 nodes"):
        radix.check(shared)
    commitments = [sha256(number.to_bytes(4, "big")) for number in range(2000)]
    assert all(map(radix.check(radix.prune_set(commitments, commitments)).holds, commitments))


def test_many_are_shown_at_once() -> None:
    order = random.Random(5)
    everyone = [order.randbytes(32) for _ in range(20_000)]
    present, absent = everyone[:15_000], everyone[15_000:]
    tree = radix.check(through_json(radix.prune_set(present, [*present[:5_000], *absent])))
    assert (tree.count, tree.root) == (15_000, radix.root(present).hash)
    assert all(map(tree.holds, present[:5_000]))
    assert not any(map(tree.holds, absent))
