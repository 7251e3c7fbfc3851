"""Placement depends on the subject alone, spreads evenly, and orders by id."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.errors import ConfigurationError
from shards.placement import Placement, Region, grouped, keyed_tokens, place, place_subjects

KEY = bytes(range(32))
names = st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=40, unique=True)


@given(names, st.integers(1, 7), st.integers(1, 4), st.randoms())
def test_a_record_keeps_its_place_whoever_else_is_there(ids: list[str], shards: int, slices: int, random) -> None:
    subjects = [name[:1] for name in ids]
    whole = place(KEY, subjects, ids, shards, slices)
    chosen = sorted(random.sample(range(len(ids)), random.randint(0, len(ids))))
    random.shuffle(chosen)
    part = place(KEY, [subjects[i] for i in chosen], [ids[i] for i in chosen], shards, slices)
    assert part.shards.tolist() == whole.shards[chosen].tolist()
    assert part.slices.tolist() == whole.slices[chosen].tolist()
    assert part.tokens.tolist() == whole.tokens[chosen].tolist()


def test_records_of_one_subject_share_shard_and_slice() -> None:
    found = place(KEY, ["w"] * 50, [str(i) for i in range(50)], 10, 5)
    assert len(set(found.shards.tolist())) == len(set(found.slices.tolist())) == 1


@given(names, st.integers(1, 7), st.integers(1, 4), st.data())
def test_a_region_keeps_its_subjects_and_moves_nobody_else(
    ids: list[str], shards: int, slices: int, data: st.DataObject
) -> None:
    """Against the definition: the two halves of the digest, each modulo the count, from the first one on."""

    def part(count: int) -> range:
        first = data.draw(st.integers(0, count - 1))
        return range(first, data.draw(st.integers(first, count - 1)) + 1)

    kinds = [Region(), Region(part(shards)), Region(None, part(slices)), Region(part(shards), part(slices))]
    regions = data.draw(st.lists(st.sampled_from(kinds), min_size=len(ids), max_size=len(ids)))
    found = place(KEY, ids, ids, shards, slices, regions)
    anywhere = place(KEY, ids, ids, shards, slices)
    for row, (name, region) in enumerate(zip(ids, regions, strict=True)):
        digest = hashlib.blake2b(name.encode(), key=KEY, person=b"placement", digest_size=16).digest()
        among = (region.shards or range(shards), region.slices or range(slices))
        halves = (int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little"))
        expected = [numbers[half % len(numbers)] for numbers, half in zip(among, halves, strict=True)]
        assert [found.shards[row], found.slices[row]] == expected
        if region == Region():
            assert (found.shards[row], found.slices[row]) == (anywhere.shards[row], anywhere.slices[row])
    assert found.tokens.tolist() == anywhere.tokens.tolist()


def test_regions_of_nobody() -> None:
    shards, slices = place_subjects(KEY, [], 3, 2, [])
    assert shards.tolist() == slices.tolist() == []


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (Region(range(2, 4)), "shards 2 to 3, but they are 0 to 2"),
        (Region(None, range(1, 3)), "slices 1 to 2, but they are 0 to 1"),
        (Region(range(0)), "follow each other"),
        (Region(range(-1, 2)), "follow each other"),
        (Region(range(0, 3, 2)), "follow each other"),
        (Region(range(2, 0, -1)), "follow each other"),
    ],
)
def test_regions_that_are_not_there_are_refused(region: Region, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        place(KEY, ["a"], ["a"], 3, 2, [region])


def test_the_key_decides() -> None:
    ids = [str(i) for i in range(200)]
    one, other = (place(key, ids, ids, 20, 5) for key in (KEY, bytes(32)))
    assert (one.shards != other.shards).any()
    assert (one.tokens != other.tokens).any()


def test_tokens_are_keyed_blake2b() -> None:
    expected = hashlib.blake2b("ä".encode(), key=KEY, person=b"order", digest_size=16).digest()
    assert keyed_tokens(KEY, "order", ["ä"]).tobytes() == expected


def test_placement_is_uniform() -> None:
    n, cells = 40_000, 20 * 5
    ids = [f"s{i}" for i in range(n)]
    found = place(KEY, ids, ids, 20, 5)
    counts = np.bincount(found.shards * 5 + found.slices, minlength=cells)
    chi2 = float(((counts - n / cells) ** 2 / (n / cells)).sum())
    # 99 degrees of freedom: mean 99, standard deviation 14.1; five of them.
    assert chi2 < 99 + 5 * 14.1


@given(names, st.integers(1, 5), st.integers(1, 3))
def test_groups_partition_the_rows_in_order_of_token(ids: list[str], shards: int, slices: int) -> None:
    found = place(KEY, ids, ids, shards, slices)
    groups = grouped(found, slices)
    assert sorted(np.concatenate([rows for _, _, rows in groups]).tolist()) == list(range(len(ids)))
    assert [(a, b) for a, b, _ in groups] == sorted({(a, b) for a, b, _ in groups})
    for shard, piece, rows in groups:
        assert set(found.shards[rows].tolist()) == {shard}
        assert set(found.slices[rows].tolist()) == {piece}
        tokens = [found.tokens[row].tobytes() for row in rows]
        assert tokens == sorted(tokens)


def test_no_records_make_no_groups() -> None:
    nobody = np.empty(0, dtype=np.int64)
    assert grouped(Placement(nobody, nobody, np.empty((0, 16), dtype=np.uint8)), 3) == []


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="at least 1"):
        place(KEY, ["a"], ["a"], 0, 1)
    with pytest.raises(ConfigurationError, match="32 bytes"):
        place(b"short", ["a"], ["a"], 1, 1)
