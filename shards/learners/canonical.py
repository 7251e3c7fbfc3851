"""Canonical digest of a Python object: of what it means, not of how it happens to lie in memory.

A fitted estimator is a graph of Python objects and arrays. Two graphs with the same meaning may differ in which
parts are shared, in the insertion order of dictionaries, in the iteration order of sets, in memory layout and
in the padding of structures. The digest looks at none of these: it is a Merkle hash over the *tree* that the
object unfolds to, each node tagged with its kind.
"""

from __future__ import annotations

import copyreg
import types
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import numpy as np

from shards.digest import digest_parts
from shards.errors import CodeError, ConfigurationError

_NAMED_TYPES = (types.FunctionType, types.BuiltinFunctionType, np.ufunc)


def content_digest(obj: object) -> str:
    """SHA-256 of an object's meaning, equal across processes and after a faithful round trip through a file.

    Scalars, containers, arrays, sparse matrices and random generators are read directly; classes and functions
    count as their names; everything else as its `__reduce_ex__(4)`: callable, arguments, state, items. Types
    count: `1`, `1.0`, `np.float64(1)` and `np.array(1.0)` differ. All NaN of Python type float are one value.

    Args:
        obj: Any object without cycles, such as a fitted estimator.

    Returns:
        Hex digest, 64 characters.

    Raises:
        ConfigurationError: If the object contains itself, or a part that has no canonical form, such as an open
            file; the message names the part.
        CodeError: If a class or function in it cannot be named, such as a lambda.
    """
    return _Walk().digest(obj, "object").hex()


def name_of(obj: Any) -> str | None:
    """The reference `"module:qualname"` of a class or a function.

    Args:
        obj: A class, a function in Python or C, or a numpy ufunc.

    Returns:
        The reference, or None for anything that is neither class nor function.
    """
    if isinstance(obj, np.ufunc):
        return f"{'numpy' if getattr(np, obj.__name__, None) is obj else 'scipy.special'}:{obj.__name__}"
    if not isinstance(obj, type):
        if getattr(obj, "__self__", None) is not None and not isinstance(obj.__self__, types.ModuleType):
            return None  # a bound method: its object is part of its meaning
        if not isinstance(obj, _NAMED_TYPES) and type(obj).__name__ not in _C_FUNCTIONS:
            return None
    module, name = getattr(obj, "__module__", None), getattr(obj, "__qualname__", None)
    return f"{module or 'builtins'}:{name}" if isinstance(name, str) else None


# Functions made by Cython and by numpy's dispatch have private types, which only their names tell.
_C_FUNCTIONS = frozenset({"cython_function_or_method", "fused_cython_function", "_ArrayFunctionDispatcher"})


class _Walk:
    """One traversal: digests of finished objects, and the objects under way, by identity."""

    def __init__(self) -> None:
        # The objects themselves are kept, so that no identity is given to a new object during the walk.
        self._done: dict[int, tuple[object, bytes]] = {}
        self._active: set[int] = set()

    def digest(self, obj: Any, path: str) -> bytes:
        """Digest of one node; `path` is for messages only.

        Args:
            obj: The object at this node.
            path: How the node is reached from the root.

        Returns:
            32 bytes.

        Raises:
            ConfigurationError: If the object contains itself.
        """
        scalar = _scalar(obj)
        if scalar is not None:
            return _node(*scalar)
        key = id(obj)
        if key in self._done:
            return self._done[key][1]
        if key in self._active:
            raise ConfigurationError(
                f"{path} of type {_type_name(type(obj))} contains itself, so it has no canonical content;"
                " use an estimator without back references"
            )
        self._active.add(key)
        result = self._compound(obj, path)
        self._active.discard(key)
        self._done[key] = (obj, result)
        return result

    def _compound(self, obj: Any, path: str) -> bytes:
        kind = type(obj)
        if kind in (list, tuple):
            return _node(kind.__name__, *self._items(obj, path))
        if kind in (set, frozenset):
            return _node(kind.__name__, *sorted(self._items(obj, path)))
        if kind is dict:
            return _node("dict", *self._pairs(obj.items(), path))
        if isinstance(obj, np.ndarray):
            return self._array(obj, path)
        if isinstance(obj, np.random.RandomState):
            return _node("RandomState", self.digest(obj.get_state(legacy=False), path + ".get_state()"))
        if isinstance(obj, np.random.Generator):
            return _node("Generator", self.digest(obj.bit_generator, path + ".bit_generator"))
        if isinstance(obj, np.random.BitGenerator):
            return self._bit_generator(obj, path)
        if _is_sparse(obj):
            return self._sparse(obj, path)
        return self._reduced(obj, path)

    def _items(self, items: Iterable[Any], path: str) -> list[bytes]:
        return [self.digest(item, f"{path}[{i}]") for i, item in enumerate(items)]

    def _pairs(self, pairs: Iterable[tuple[Any, Any]], path: str, ordered: bool = False) -> list[bytes]:
        found = [self.digest(key, f"{path} key") + self.digest(value, f"{path}[{key!r}]") for key, value in pairs]
        return found if ordered else sorted(found)

    def _array(self, array: np.ndarray, path: str) -> bytes:
        if isinstance(array, np.ma.MaskedArray):
            # What a mask hides has no meaning, and neither has the value it would be filled with.
            visible = np.asarray(array.data)[~np.ma.getmaskarray(array)]
            return _node("masked", self._array(np.ma.getmaskarray(array), path), self._array(visible, path))
        plain = np.asarray(array)
        head = [] if type(array) in (np.ndarray, np.memmap) else [_type_name(type(array)).encode()]
        head.append(repr(array.shape).encode())
        if plain.dtype.names is not None:
            # Field by field: the bytes between the fields of a structure are not part of its value.
            fields = [self._field(plain, name, path) for name in plain.dtype.names]
            return _node("record array", *head, *fields)
        if plain.dtype.kind in "OT":
            # Also numpy's variable-width text, whose buffer holds addresses.
            return _node("array", *head, plain.dtype.kind.encode(), *self._items(plain.reshape(-1).tolist(), path))
        little = np.ascontiguousarray(plain, dtype=plain.dtype.newbyteorder("<"))
        return _node("array", *head, little.dtype.str.encode(), little.tobytes())

    def _field(self, array: np.ndarray, name: str, path: str) -> bytes:
        return name.encode() + b"\0" + self._array(array[name], f"{path}[{name!r}]")

    def _bit_generator(self, bits: np.random.BitGenerator, path: str) -> bytes:
        parts = [self.digest(dict(bits.state), path + ".state")]
        if isinstance(bits.seed_seq, np.random.SeedSequence):
            parts.append(self.digest(bits.seed_seq.state, path + ".seed_seq.state"))
        return _node("BitGenerator", *parts)

    def _sparse(self, matrix: Any, path: str) -> bytes:
        # Coordinates in order, duplicates summed: two layouts of the same matrix are the same matrix.
        coo = matrix.tocoo(copy=True)
        coo.sum_duplicates()
        coords = [np.asarray(axis, dtype=np.int64) for axis in coo.coords]
        order = np.lexsort(coords[::-1])
        arrays = [axis[order] for axis in coords] + [coo.data[order]]
        head = (_type_name(type(matrix)).encode(), repr(tuple(int(n) for n in matrix.shape)).encode())
        return _node("sparse", *head, *(self._array(array, path) for array in arrays))

    def _reduced(self, obj: Any, path: str) -> bytes:
        reducer = copyreg.dispatch_table.get(type(obj))
        try:
            # The pickle protocol is only asked to describe: nothing is pickled, and nothing is ever unpickled.
            reduced = reducer(obj) if reducer is not None else obj.__reduce_ex__(4)
        except (TypeError, AttributeError, ValueError, NotImplementedError) as error:
            raise ConfigurationError(
                f"{path} of type {_type_name(type(obj))} has no canonical content ({error}); keep files, locks,"
                " threads and generators out of the estimator, or give the class __getstate__"
            ) from error
        if isinstance(reduced, str):
            return _node("global", f"{type(obj).__module__}:{reduced}".encode())
        maker, arguments, state, items, pairs, setter = [*list(reduced), None, None, None, None][:6]
        return _node(
            "object",
            self.digest(maker, path + " constructor"),
            self.digest(arguments, path + " arguments"),
            self._state(state, path),
            _node("items", *self._items(items or (), path)),
            _node("pairs", *self._pairs(pairs or (), path, ordered=isinstance(obj, OrderedDict))),
            self.digest(setter, path + " state setter"),
        )

    def _state(self, state: Any, path: str) -> bytes:
        if type(state) is not dict:
            return self.digest(state, path + " state")
        # Named attributes, the common case, for messages one can follow. No attributes is the same as no state.
        found = [self.digest(k, path) + self.digest(v, f"{path}.{k}") for k, v in state.items()]
        return _node("dict", *sorted(found)) if found else self.digest(None, path)


def _scalar(obj: Any) -> tuple[str, bytes] | None:
    """Tag and bytes of an object without parts, or None if it has parts."""
    kind = type(obj)
    if obj is None or kind in (bool, int):
        return (kind.__name__, str(obj).encode())
    if kind is float:
        return ("float", obj.hex().encode())
    if kind is complex:
        return ("complex", f"{obj.real.hex()} {obj.imag.hex()}".encode())
    if kind is str:
        return ("str", obj.encode("utf-8", "surrogatepass"))
    if kind in (bytes, bytearray):
        return (kind.__name__, bytes(obj))
    if isinstance(obj, np.dtype):
        return ("dtype", repr(np.lib.format.dtype_to_descr(obj.newbyteorder("<"))).encode())
    if isinstance(obj, np.generic) and obj.dtype.names is None and not obj.dtype.hasobject:
        little = obj.dtype.newbyteorder("<")
        return ("scalar", little.str.encode() + b"\0" + np.asarray(obj).astype(little).tobytes())
    if isinstance(obj, types.ModuleType):
        return ("module", obj.__name__.encode())
    return _named(obj)


def _named(obj: Any) -> tuple[str, bytes] | None:
    """A class or function as its name, refused if the name leads nowhere; None for anything else."""
    name = name_of(obj)
    if name is None:
        return None
    if "<" in name or name.startswith(("__main__:", "__mp_main__:")):
        raise CodeError(
            f"{name} cannot be found again by its name, so it has no canonical content; define it at the top"
            " level of a module in a file"
        )
    return ("name", name.encode())


def _is_sparse(obj: Any) -> bool:
    """Whether an object is a scipy sparse matrix or array, without importing scipy for the answer."""
    return any(base.__module__.startswith("scipy.sparse.") for base in type(obj).__mro__) and hasattr(obj, "tocoo")


def _type_name(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _node(kind: str, *parts: bytes) -> bytes:
    return bytes.fromhex(digest_parts(f"content {kind}", parts))
