"""Digests are of content: equal for equal meaning, different for any difference."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.digest import canonical_json, derive_seed, digest_arrays, digest_json, digest_parts

parts = st.lists(st.binary(max_size=12), max_size=5)


@given(parts, parts)
def test_sequences_of_parts_never_collide_by_moving_a_boundary(one: list[bytes], other: list[bytes]) -> None:
    assert (digest_parts("x", one) == digest_parts("x", other)) == (one == other)


def test_the_domain_is_part_of_the_digest() -> None:
    assert digest_parts("a", [b"bc"]) != digest_parts("ab", [b"c"])


def test_canonical_json_ignores_the_order_of_keys_only() -> None:
    assert canonical_json({"a": 1, "b": [1, 2]}) == canonical_json({"b": [1, 2], "a": 1})
    assert canonical_json([1, 2]) != canonical_json([2, 1])
    assert canonical_json(1) != canonical_json(1.0)


def test_canonical_json_refuses_what_has_no_canonical_form() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))
    with pytest.raises(TypeError):
        canonical_json({1, 2})


def test_array_digest_sees_values_shape_dtype_and_name_but_not_layout() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    same = digest_arrays({"a": array})
    assert digest_arrays({"a": np.asfortranarray(array)}) == same
    assert digest_arrays({"a": array.astype(">f4")}) == same
    assert digest_arrays({"a": array[:, ::-1][:, ::-1]}) == same
    changed = array.copy()
    changed[1, 2] = np.nextafter(changed[1, 2], np.float32(np.inf))
    for other in ({"a": changed}, {"a": array.reshape(3, 2)}, {"a": array.astype(np.float64)}, {"b": array}, {}):
        assert digest_arrays(other) != same


def test_array_digest_tells_minus_zero_from_zero() -> None:
    assert digest_arrays({"a": np.array([0.0])}) != digest_arrays({"a": np.array([-0.0])})


def test_array_digest_refuses_objects() -> None:
    with pytest.raises(TypeError, match="Python objects"):
        digest_arrays({"a": np.array([object()])})


def test_seeds_are_equal_across_processes_and_differ_between_paths() -> None:
    code = "from shards.digest import derive_seed; print(derive_seed(1, 'shard', 2, b'x'))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(printed) == derive_seed(1, "shard", 2, b"x")
    seeds = {derive_seed(*path) for path in ((1, 2), (12,), ("1", 2), (1, "2"), (b"1", 2), (2, 1), (1, 2, 0))}
    assert len(seeds) == 7
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_digest_json_is_the_digest_of_the_canonical_json() -> None:
    assert digest_json("d", {"b": 1, "a": 2}) == digest_parts("d", [b'{"a":2,"b":1}'])
