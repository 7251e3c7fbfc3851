"""Calls of functions in workers: independent work beside training, such as shadow models and repeated runs.

A call is named by what goes into it: function and code, environment, argument. Its value lies in a file of that name,
so that whoever repeats the calls after an interruption repeats none that returned. Values are JSON with numpy arrays
in it, in a safetensors file: nothing is pickled.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from shards.code import CodeDigest, code_digest, resolve
from shards.digest import Json, canonical_json, digest_json
from shards.environment import step_environment
from shards.errors import DamageError, EnvironmentMismatchError, InputError
from shards.files import sync_path

KERNEL = "call/1"
"""Raised when the same call may give other bytes because of us."""

_ARRAY = "__array__"


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
    skeleton = _without_arrays(value, arrays)
    data = save(arrays, metadata={"value": canonical_json(skeleton).decode(), "check": digest_json("value", skeleton)})
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
            metadata = file.metadata()
            skeleton = json.loads(metadata["value"])
            if metadata["check"] != digest_json("value", skeleton):
                raise DamageError(f"{path} is damaged: delete it, and it is computed again")
            return _with_arrays(skeleton, file.get_tensor)
    except (SafetensorError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise DamageError(f"{path} is damaged ({error}): delete it, and it is computed again") from error


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
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        name = str(len(arrays))
        arrays[name] = np.asarray(value, order="C")
        return {_ARRAY: name}
    if isinstance(value, np.generic):
        return _without_arrays(value.item(), arrays)
    if isinstance(value, dict) and _ARRAY not in value and all(isinstance(key, str) for key in value):
        return {key: _without_arrays(item, arrays) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_arrays(item, arrays) for item in value]
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and isfinite(value)):
        return value
    raise InputError(
        f"{repr(value)[:80]} of type {type(value).__qualname__} cannot be kept: return finite numbers, texts, numpy "
        "arrays of numbers, and lists and dictionaries (with texts as keys) of such"
    )


def _with_arrays(skeleton: Any, tensor: Callable[[str], np.ndarray]) -> Any:
    if isinstance(skeleton, dict):
        if skeleton.keys() == {_ARRAY}:
            return tensor(skeleton[_ARRAY])
        return {key: _with_arrays(item, tensor) for key, item in skeleton.items()}
    if isinstance(skeleton, list):
        return [_with_arrays(item, tensor) for item in skeleton]
    return skeleton
