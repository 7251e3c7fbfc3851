"""Calls of functions in workers: independent work beside training, such as shadow models and repeated runs.

A call is named by what goes into it: function and code, environment, argument. Its value lies in a file of that name,
so that whoever repeats the calls after an interruption repeats none that returned. Values are JSON with numpy arrays
in it, in a safetensors file: nothing is pickled.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from shards.code import CodeDigest, code_digest, resolve
from shards.digest import Json, canonical_json, digest_arrays, digest_json
from shards.environment import step_environment
from shards.errors import DamageError, EnvironmentMismatchError, InputError
from shards.files import sync_path

KERNEL = "call/1"
"""Raised when the same call may give other bytes because of us."""

_ARRAY = "__array__"

_WIDEST = 8
"""Bytes of a number at most: wider ones differ between machines."""


@dataclass(frozen=True)
class CallOrder:
    """What a worker is told: call a function.

    Attributes:
        number: Number of the item, from 0.
        function: Reference `"package.module:name"`.
        argument: What to call it with.
        environment: Digest of the environment the call was named for (`call_environment`).
        code: Digest of the user's own modules it was named for.
        result: Path of the file for its value; empty: it comes back with the answer.
    """

    number: int
    function: str
    argument: Json
    environment: str
    code: str
    result: str

    def to_json(self) -> Json:
        """The order as JSON."""
        return {"call": asdict(self)}

    @classmethod
    def from_json(cls, value: Any) -> CallOrder:
        """The order from its JSON."""
        return cls(**value["call"])


def call_environment(numeric: str, code: CodeDigest) -> str:
    """Digest of all that decides a call's bits besides its argument and the user's own code.

    Args:
        numeric: Digest of the worker's numeric environment.
        code: The function's code.

    Returns:
        Hex digest.
    """
    return step_environment(numeric, KERNEL, code.distributions)


def call_key(function: str, argument: Json, environment: str, code: str) -> str:
    """Name of a call: equal names, equal values.

    Args:
        function: Reference.
        argument: What it is called with.
        environment: See `call_environment`.
        code: Digest of the user's own modules.

    Returns:
        Hex digest.
    """
    return digest_json("call", [function, argument, environment, code])


def make_call(order: CallOrder, numeric: str) -> Any:
    """Call the function; to be called in a worker.

    Args:
        order: What to call.
        numeric: Digest of this worker's numeric environment.

    Returns:
        What it returned.

    Raises:
        CodeError: If the function is not there.
        EnvironmentMismatchError: If environment or code is not what the order was made for.
    """
    code = code_digest([order.function])
    if code.source != order.code or call_environment(numeric, code) != order.environment:
        raise EnvironmentMismatchError(
            f"{order.function}, item {order.number}: the worker's code or numeric environment is not the driver's: "
            "start the program again, with the same files and libraries everywhere"
        )
    function: Callable[[Json], Any] = resolve(order.function)
    return function(order.argument)


def write_value(path: Path, value: Any) -> None:
    """Write a value, durably; a file of that name is complete.

    Args:
        path: Where to, in a folder that is there.
        value: None, booleans, numbers, texts, numpy arrays of numbers, and lists and dictionaries of such.

    Raises:
        InputError: If it holds anything else.
    """
    from safetensors.numpy import save

    arrays: dict[str, np.ndarray] = {}
    try:
        skeleton = _without_arrays(value, arrays)
        # One entry: the order of several is left to chance, and equal values are to give equal files.
        text = canonical_json({"value": skeleton, "check": _check(skeleton, arrays)}).decode()
    except RecursionError as error:
        raise InputError("what refers to itself, or is nested too deeply, cannot be kept") from error
    data = save(arrays, metadata={"call": text})
    draft = path.with_name(f".{secrets.token_hex(8)}")
    with draft.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    sync_path(path.parent)


def read_value(path: Path) -> Any:
    """Read a value.

    Args:
        path: Where it was written to.

    Returns:
        The value; tuples come back as lists.

    Raises:
        DamageError: If the file is not what was written.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = json.loads(file.metadata()["call"])
            skeleton = metadata["value"]
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            value = _with_arrays(skeleton, arrays)
            is_sound = metadata["check"] == _check(skeleton, arrays)
    except (SafetensorError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise DamageError(f"{path} is damaged ({error}): delete it, and it is computed again") from error
    if not is_sound:
        raise DamageError(f"{path} is damaged: delete it, and it is computed again")
    return value


def _check(skeleton: Json, arrays: Mapping[str, np.ndarray]) -> str:
    """Digest of a value taken apart."""
    return digest_json("value", [skeleton, digest_arrays(arrays)])


def small_value(value: Any) -> Json:
    """A value that goes back with a worker's answer, which is to stay small: JSON, without arrays.

    Args:
        value: None, booleans, finite numbers, texts, and lists and dictionaries of such.

    Returns:
        The same, in plain JSON.

    Raises:
        InputError: If it holds anything else.
    """
    arrays: dict[str, np.ndarray] = {}
    plain = _without_arrays(value, arrays)
    if arrays:
        raise InputError(
            "an answer holds no arrays: keep values in a folder, or put arrays where the driver finds them"
        )
    return plain


def _without_arrays(value: Any, arrays: dict[str, np.ndarray]) -> Json:
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf" and value.dtype.itemsize <= _WIDEST:
        name = str(len(arrays))
        arrays[name] = np.asarray(value, dtype=value.dtype.newbyteorder("="), order="C")
        return {_ARRAY: name}
    if isinstance(value, np.generic):
        return _without_arrays(value.item(), arrays)
    if isinstance(value, dict) and _ARRAY not in value and all(_is_text(key) for key in value):
        return {key: _without_arrays(item, arrays) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_arrays(item, arrays) for item in value]
    if value is None or isinstance(value, bool | int) or _is_text(value):
        return value
    if isinstance(value, float) and isfinite(value):
        return value
    raise InputError(
        f"{ascii(value)[:80]} of type {type(value).__qualname__} cannot be kept: return finite numbers, texts, numpy "
        "arrays of numbers, and lists and dictionaries (with texts as keys) of such"
    )


def _is_text(value: Any) -> bool:
    """Whether it is a text that a file can hold: halves of characters are not."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _with_arrays(skeleton: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(skeleton, dict):
        if skeleton.keys() == {_ARRAY}:
            return arrays[skeleton[_ARRAY]]
        return {key: _with_arrays(item, arrays) for key, item in skeleton.items()}
    if isinstance(skeleton, list):
        return [_with_arrays(item, arrays) for item in skeleton]
    return skeleton
