"""The history tree against the published vectors, and against the RFC's recursive definitions for every small size."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlearn.errors import ProofError
from unlearn.ledger import merkle

MOST = 70

# The test data of the reference implementation of certificate transparency.
PUBLISHED_LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
PUBLISHED_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
PUBLISHED_INCLUSION = {
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
PUBLISHED_CONSISTENCY = {
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}


# RFC 6962, section 2.1, word for word: slow, and shares nothing with the code under test.


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def largest_power_of_two_below(n: int) -> int:
    k = 1
    while 2 * k < n:
        k *= 2
    return k


@cache
def mth(data: tuple[bytes, ...]) -> bytes:
    if len(data) == 0:
        return sha256(b"")
    if len(data) == 1:
        return sha256(b"\x00" + data[0])
    k = largest_power_of_two_below(len(data))
    return sha256(b"\x01" + mth(data[:k]) + mth(data[k:]))


def path(m: int, data: tuple[bytes, ...]) -> list[bytes]:
    if len(data) == 1:
        return []
    k = largest_power_of_two_below(len(data))
    if m < k:
        return [*path(m, data[:k]), mth(data[k:])]
    return [*path(m - k, data[k:]), mth(data[:k])]


def subproof(m: int, data: tuple[bytes, ...], whole: bool) -> list[bytes]:
    if m == len(data):
        return [] if whole else [mth(data)]
    k = largest_power_of_two_below(len(data))
    if m <= k:
        return [*subproof(m, data[:k], whole), mth(data[k:])]
    return [*subproof(m - k, data[k:], whole=False), mth(data[:k])]


def turns(m: int, n: int) -> list[str]:
    """On which side the sibling stands, from the leaf up."""
    if n == 1:
        return []
    k = largest_power_of_two_below(n)
    return [*turns(m, k), "right"] if m < k else [*turns(m - k, n - k), "left"]


def replay(m: int, n: int, proof: list[bytes], old_root: bytes, whole: bool) -> tuple[bytes, bytes] | None:
    """The two roots that a consistency proof comes to when read back by its definition; None if too long or short."""
    if m == n:
        if whole:
            return (old_root, old_root) if not proof else None
        return (proof[0], proof[0]) if len(proof) == 1 else None
    if not proof:
        return None
    k = largest_power_of_two_below(n)
    *below, last = proof
    if m <= k:
        roots = replay(m, k, below, old_root, whole)
        return roots and (roots[0], sha256(b"\x01" + roots[1] + last))
    roots = replay(m - k, n - k, below, old_root, whole=False)
    return roots and (sha256(b"\x01" + last + roots[0]), sha256(b"\x01" + last + roots[1]))


DATA = tuple(f"leaf {number}".encode() for number in range(MOST))


class Store(dict[tuple[int, int], bytes]):
    """Complete subtrees as a log keeps them; counts what is read."""

    def __init__(self, data: Sequence[bytes]) -> None:
        super().__init__()
        self.reads = 0
        self.appender = merkle.Appender(0, self.subtree)
        for item in data:
            for level, index, value in self.appender.append(merkle.leaf_hash(item)):
                assert (level, index) not in self, "a complete subtree is made once"
                self[level, index] = value

    def subtree(self, level: int, index: int) -> bytes:
        self.reads += 1
        return self[level, index]


STORE = Store(DATA)


def refused(check: Callable[..., None], *arguments: Any) -> bool:
    try:
        check(*arguments)
    except ProofError:
        return True
    return False


# Published vectors


def test_the_reference_definitions_give_the_published_values() -> None:
    data = tuple(PUBLISHED_LEAVES)
    assert [mth(data[:size]).hex() for size in range(9)] == PUBLISHED_ROOTS
    for (index, size), proof in PUBLISHED_INCLUSION.items():
        assert [value.hex() for value in path(index, data[:size])] == proof
    for (old, size), proof in PUBLISHED_CONSISTENCY.items():
        assert [value.hex() for value in subproof(old, data[:size], whole=True)] == proof


def test_leaf_and_node_hashes_are_the_published_ones() -> None:
    assert merkle.leaf_hash(b"").hex() == PUBLISHED_ROOTS[1]
    assert (
        merkle.leaf_hash(bytes.fromhex("101112131415161718191a1b1c1d1e1f")).hex()
        == "3bfb960453ebaebf33727da7a1f4db38acc051d381b6da20d6d4e88f0eabfd7a"
    )
    assert (
        merkle.node_hash(bytes(range(0x20)), bytes(range(0x20, 0x40))).hex()
        == "1a378704c17da31e2d05b6d121c2bb2c7d76f6ee6fa8f983e596c2d034963c57"
    )


def test_roots_are_the_published_ones() -> None:
    hashes = [merkle.leaf_hash(leaf) for leaf in PUBLISHED_LEAVES]
    store = Store(PUBLISHED_LEAVES)
    assert merkle.EMPTY_ROOT.hex() == PUBLISHED_ROOTS[0]
    assert [merkle.root(hashes[:size]).hex() for size in range(9)] == PUBLISHED_ROOTS
    assert [merkle.root_at(size, store.subtree).hex() for size in range(9)] == PUBLISHED_ROOTS


@pytest.mark.parametrize(("index", "size"), PUBLISHED_INCLUSION)
def test_inclusion_proofs_are_the_published_ones(index: int, size: int) -> None:
    expected = [bytes.fromhex(text) for text in PUBLISHED_INCLUSION[index, size]]
    assert merkle.inclusion_proof(index, size, Store(PUBLISHED_LEAVES).subtree) == expected
    leaf, root = merkle.leaf_hash(PUBLISHED_LEAVES[index]), bytes.fromhex(PUBLISHED_ROOTS[size])
    merkle.check_inclusion(leaf, index, size, expected, root)


@pytest.mark.parametrize(("old", "size"), PUBLISHED_CONSISTENCY)
def test_consistency_proofs_are_the_published_ones(old: int, size: int) -> None:
    expected = [bytes.fromhex(text) for text in PUBLISHED_CONSISTENCY[old, size]]
    assert merkle.consistency_proof(old, size, Store(PUBLISHED_LEAVES).subtree) == expected
    old_root, root = (bytes.fromhex(PUBLISHED_ROOTS[leaves]) for leaves in (old, size))
    merkle.check_consistency(old, old_root, size, root, expected)


# Against the definitions


@pytest.mark.parametrize("size", range(MOST + 1))
def test_every_root_and_proof_of_a_size_is_the_defined_one(size: int) -> None:
    data = DATA[:size]
    root = mth(data)
    assert merkle.root([merkle.leaf_hash(item) for item in data]) == root
    assert merkle.root_at(size, STORE.subtree) == root
    for index in range(size):
        proof = merkle.inclusion_proof(index, size, STORE.subtree)
        assert proof == path(index, data)
        merkle.check_inclusion(merkle.leaf_hash(data[index]), index, size, proof, root)
    for old in range(1, size + 1):
        proof = merkle.consistency_proof(old, size, STORE.subtree)
        assert proof == subproof(old, data, whole=True)
        merkle.check_consistency(old, mth(data[:old]), size, root, proof)
    assert merkle.consistency_proof(0, size, STORE.subtree) == []
    merkle.check_consistency(0, merkle.EMPTY_ROOT, size, root, [])


@given(st.lists(st.binary(max_size=40), max_size=MOST))
def test_roots_of_any_data_are_the_defined_ones(data: list[bytes]) -> None:
    store = Store(data)
    assert merkle.root([merkle.leaf_hash(item) for item in data]) == mth(tuple(data)) == store.appender.root()


def test_the_appender_gives_every_complete_subtree_and_the_leaf_first() -> None:
    expected = {
        (level, index): mth(DATA[index << level : (index + 1) << level])
        for level in range(MOST.bit_length())
        for index in range(MOST >> level)
    }
    assert dict(STORE) == expected
    appender = merkle.Appender(0, STORE.subtree)
    for number, item in enumerate(DATA):
        new = appender.append(merkle.leaf_hash(item))
        assert new[0] == (0, number, merkle.leaf_hash(item))
        assert [level for level, _, _ in new] == list(range(len(new)))
        assert appender.size == number + 1
        assert appender.root() == mth(DATA[: number + 1])


@pytest.mark.parametrize("size", range(MOST))
def test_an_appender_goes_on_where_the_log_stands(size: int) -> None:
    appender = merkle.Appender(size, STORE.subtree)
    assert (appender.size, appender.root()) == (size, mth(DATA[:size]))
    for item in DATA[size:]:
        assert all(STORE[level, index] == value for level, index, value in appender.append(merkle.leaf_hash(item)))
    assert appender.root() == mth(DATA)


@given(st.integers(1, 2**60), st.data())
def test_a_log_of_any_size_costs_a_logarithmic_number_of_reads(size: int, data: st.DataObject) -> None:
    # All leaves alike, so that a subtree's hash depends on its level alone.
    levels = [merkle.leaf_hash(b"")]
    while len(levels) < 62:
        levels.append(merkle.node_hash(levels[-1], levels[-1]))
    reads: list[tuple[int, int]] = []

    def subtree(level: int, index: int) -> bytes:
        assert (index + 1) << level <= size, "only complete subtrees are read"
        reads.append((level, index))
        return levels[level]

    most = 2 * size.bit_length()
    root = merkle.root_at(size, subtree)
    assert len(reads) <= size.bit_length()
    reads.clear()
    index = data.draw(st.integers(0, size - 1))
    proof = merkle.inclusion_proof(index, size, subtree)
    assert len(reads) <= most
    merkle.check_inclusion(levels[0], index, size, proof, root)
    reads.clear()
    old = data.draw(st.integers(1, size))
    proof = merkle.consistency_proof(old, size, subtree)
    assert len(reads) <= most
    merkle.check_consistency(old, merkle.root_at(old, subtree), size, root, proof)


# What must be refused


def spoilt(proof: list[bytes]) -> list[Any]:
    """Every truncation, extension, reordering and wrong type of a proof, and a flip of a bit in every byte of it."""
    many: list[Any] = [None, "proof", 7, b"".join(proof), {"proof": proof}, iter(proof)]
    other = sha256(b"other")
    for position in range(len(proof)):
        before, value, after = proof[:position], proof[position], proof[position + 1 :]
        for byte in range(len(value)):
            flipped = bytearray(value)
            flipped[byte] ^= 1 << (byte % 8)
            many.append([*before, bytes(flipped), *after])
        many += [[*before, *after], proof[:position]]
        many += [[*before, wrong, *after] for wrong in (value[:-1], value + b"\0", b"", value.hex(), None, 0, [value])]
        for later in range(position + 1, len(proof)):
            swapped = list(proof)
            swapped[position], swapped[later] = swapped[later], swapped[position]
            many.append(swapped)
    for position in range(len(proof) + 1):
        many += [[*proof[:position], extra, *proof[position:]] for extra in (other, *proof[:1])]
    return many


@given(st.integers(1, MOST), st.data())
def test_every_change_of_an_inclusion_proof_is_refused(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof, root, leaf = path(index, DATA[:size]), mth(DATA[:size]), merkle.leaf_hash(DATA[index])
    for bad in spoilt(proof):
        assert refused(merkle.check_inclusion, leaf, index, size, bad, root)
    for position in range(32):
        flip = bytes(int(position == at) for at in range(32))
        wrong_leaf, wrong_root = (bytes(a ^ b for a, b in zip(value, flip, strict=True)) for value in (leaf, root))
        assert refused(merkle.check_inclusion, wrong_leaf, index, size, proof, root)
        assert refused(merkle.check_inclusion, leaf, index, size, proof, wrong_root)
    for wrong in (None, "", leaf.hex(), leaf[:-1], leaf + b"\0", 5):
        assert refused(merkle.check_inclusion, wrong, index, size, proof, root)
        assert refused(merkle.check_inclusion, leaf, index, size, proof, wrong)
    for number in (-1, size, 2**70, None, "0", 0.0, True, False, float("nan")):
        assert refused(merkle.check_inclusion, leaf, number, size, proof, root)
    for number in (-1, 0, index, None, "8", float(size), True, False):
        assert refused(merkle.check_inclusion, leaf, index, number, proof, root)


@pytest.mark.parametrize("size", range(1, 24))
def test_a_wrong_index_or_size_is_refused_wherever_the_path_differs(size: int) -> None:
    root = mth(DATA[:size])
    for index in range(size):
        proof, leaf = path(index, DATA[:size]), merkle.leaf_hash(DATA[index])
        for other_size in range(1, 40):
            for other in range(other_size):
                same_path = turns(other, other_size) == turns(index, size)
                assert refused(merkle.check_inclusion, leaf, other, other_size, proof, root) != same_path
                assert not same_path or (other, other_size) == (index, size) or other_size != size


@given(st.integers(1, MOST), st.data())
def test_every_change_of_a_consistency_proof_is_refused(size: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(0, size))
    proof = subproof(old, DATA[:size], whole=True) if old else []
    old_root, root = mth(DATA[:old]), mth(DATA[:size])
    merkle.check_consistency(old, old_root, size, root, proof)
    for bad in spoilt(proof):
        assert refused(merkle.check_consistency, old, old_root, size, root, bad)
    for position in range(32):
        flip = bytes(int(position == at) for at in range(32))
        wrong_old, wrong = (bytes(a ^ b for a, b in zip(value, flip, strict=True)) for value in (old_root, root))
        assert refused(merkle.check_consistency, old, wrong_old, size, root, proof)
        if old:  # any tree continues the one without leaves
            assert refused(merkle.check_consistency, old, old_root, size, wrong, proof)
    for value in (None, "", root.hex(), root[:-1], root + b"\0", 5):
        assert refused(merkle.check_consistency, old, value, size, root, proof)
        assert refused(merkle.check_consistency, old, old_root, size, value, proof)
    for number in (-1, size + 1, 2**70, None, "0", 0.0, True, False):
        assert refused(merkle.check_consistency, number, old_root, size, root, proof)
    for number in (-1, old - 1, None, "8", float(size), True, False):
        assert refused(merkle.check_consistency, old, old_root, number, root, proof)


@pytest.mark.parametrize("size", range(2, 18))
def test_wrong_sizes_of_a_consistency_proof_are_refused_wherever_the_definition_differs(size: int) -> None:
    root = mth(DATA[:size])
    for old in range(1, size):
        proof, old_root = subproof(old, DATA[:size], whole=True), mth(DATA[:old])
        for other_size in range(2, 34):
            for other in range(1, other_size):
                fits = replay(other, other_size, proof, old_root, whole=True) == (old_root, root)
                assert refused(merkle.check_consistency, other, old_root, other_size, root, proof) != fits
                if other_size == size:
                    assert fits == (other == old)


@given(st.integers(1, MOST), st.data())
def test_a_rewritten_log_does_not_continue_the_old_one(size: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, size))
    changed = data.draw(st.integers(0, old - 1))
    rewritten = (*DATA[:changed], b"rewritten", *DATA[changed + 1 : size])
    for proof in (subproof(old, rewritten, whole=True), subproof(old, DATA[:size], whole=True)):
        assert refused(merkle.check_consistency, old, mth(DATA[:old]), size, mth(rewritten), proof)


def test_the_tree_without_leaves_has_one_root_only() -> None:
    merkle.check_consistency(0, merkle.EMPTY_ROOT, 0, merkle.EMPTY_ROOT, [])
    other = sha256(b"other")
    assert refused(merkle.check_consistency, 0, other, 0, other, [])
    assert refused(merkle.check_consistency, 0, other, 5, mth(DATA[:5]), [])
    assert refused(merkle.check_inclusion, other, 0, 0, [], other)


def test_a_place_before_the_first_leaf_is_refused_though_the_path_would_fit() -> None:
    # Read as a pattern of turns, -1 is "left" at every level: the path of the last leaf of four.
    proof, root, leaf = path(3, DATA[:4]), mth(DATA[:4]), merkle.leaf_hash(DATA[3])
    with pytest.raises(ProofError, match="leaf index: must be an integer of at least 0"):
        merkle.check_inclusion(leaf, -1, 1, proof, root)


def test_an_inner_node_does_not_pass_for_a_leaf() -> None:
    left, right = merkle.leaf_hash(b"a"), merkle.leaf_hash(b"b")
    assert merkle.leaf_hash(left + right) != merkle.node_hash(left, right)


def test_misuse_by_the_keeper_of_the_log_is_an_error_of_its_own() -> None:
    with pytest.raises(ValueError, match="no leaf 3"):
        merkle.inclusion_proof(3, 3, STORE.subtree)
    with pytest.raises(ValueError, match="no leaf -1"):
        merkle.inclusion_proof(-1, 3, STORE.subtree)
    with pytest.raises(ValueError, match="does not continue one of 4"):
        merkle.consistency_proof(4, 3, STORE.subtree)
    with pytest.raises(ValueError, match="does not continue one of -1"):
        merkle.consistency_proof(-1, 3, STORE.subtree)
    with pytest.raises(ValueError, match="-1 leaves"):
        merkle.root_at(-1, STORE.subtree)
    with pytest.raises(ValueError, match="-1 leaves"):
        merkle.Appender(-1, STORE.subtree)
    with pytest.raises(ValueError, match="use leaf_hash"):
        merkle.Appender(0, STORE.subtree).append(b"not a hash")
    with pytest.raises(ValueError, match="32 bytes"):
        merkle.root([sha256(b""), b"short"])
