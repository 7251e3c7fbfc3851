"""Canonical digests: of JSON values, of arrays, of sequences of byte strings.

Digests are of content, never of container files: two files that hold equal arrays may differ in bytes
(map order, alignment, archive time stamps); their digests here do not.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

Json = Any
"""A value made of None, bool, int, float, str, list and dict with string keys."""


def canonical_json(value: Json) -> bytes:
    """Encode a JSON value so that equal values give equal bytes.

    Args:
        value: None, bool, int, finite float, str, list, tuple or dict with string keys, nested at will.

    Returns:
        UTF-8 bytes: keys sorted, no white space.

    Raises:
        ValueError: If a float is not finite.
        TypeError: If a value is of any other type.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()


def digest_parts(domain: str, parts: Iterable[bytes | memoryview]) -> str:
    """SHA-256 of a sequence of byte strings, each preceded by its length, under a domain name.

    Args:
        domain: What is being digested; digests of different domains never coincide.
        parts: The byte strings, in order.

    Returns:
        Hex digest, 64 characters.
    """
    state = hashlib.sha256()
    name = domain.encode()
    state.update(struct.pack("<Q", len(name)) + name)
    for part in parts:
        state.update(struct.pack("<Q", len(part)))
        state.update(part)
    return state.hexdigest()


def digest_json(domain: str, value: Json) -> str:
    """SHA-256 of the canonical JSON of a value, hex."""
    return digest_parts(domain, [canonical_json(value)])


def digest_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of named arrays: sorted by name; dtype, shape and little-endian row-major bytes of each.

    Args:
        arrays: Name to array, of any shape and any numeric, boolean or fixed-width text dtype.

    Returns:
        Hex digest, 64 characters.

    Raises:
        TypeError: If an array holds Python objects.
    """

    def parts() -> Iterable[bytes | memoryview]:
        for name in sorted(arrays):
            array = arrays[name]
            if array.dtype.hasobject:
                raise TypeError(f"array {name!r} holds Python objects, which have no canonical bytes")
            little = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
            yield name.encode()
            yield little.dtype.str.encode()
            yield canonical_json(list(array.shape))
            yield little.reshape(-1).view(np.uint8).data if little.size else b""

    return digest_parts("arrays", parts())


def derive_seed(*path: int | str | bytes) -> int:
    """Derive a 63-bit seed from a path such as `(root, "shard", 3, "slice", 0)`.

    Seeds of different paths are independent for every practical purpose (SHA-256), so no generator is shared
    between shards, slices or purposes.

    Args:
        path: Integers, strings and byte strings; the type of each is part of the path.

    Returns:
        An integer in `[0, 2**63)`.
    """
    parts: list[bytes] = []
    for item in path:
        tag = b"b" if isinstance(item, bytes) else b"s" if isinstance(item, str) else b"i"
        parts.append(tag + (item if isinstance(item, bytes) else str(item).encode()))
    return int(digest_parts("seed", parts)[:16], 16) >> 1
