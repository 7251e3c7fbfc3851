"""The JSON description of an estimator: its class and parameters, and the way back."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from shards.digest import Json
from shards.errors import ConfigurationError
from shards.learners.canonical import name_of
from shards.learners.trusted import resolve_trusted, trusted_reference

_BUILTINS: Mapping[str, type] = {t.__name__: t for t in (bool, int, float, complex, str, bytes, object)}
"""Builtin types that estimators take as dtype parameters; nothing else of the standard library has a name."""


def describe(value: Any, trusted: tuple[str, ...] = (), where: str = "the estimator") -> Json:
    """Describe an estimator or one of its parameters in JSON.

    None, booleans, integers, finite floats, strings and lists stand for themselves; everything else is an
    object with the kind as its key: `{"estimator": "module:name", "params": {...}}`,
    `{"reference": "module:name"}`, `{"tuple": [...]}`, `{"dict": [[key, value], ...]}`, `{"float": "nan"}`,
    `{"ndarray": [dtype, shape, data]}`, `{"scalar": [dtype, data]}`, `{"slice": [start, stop, step]}`,
    `{"dtype": "<f8"}`, `{"builtin": "float"}`.

    Args:
        value: Estimator, parameter, or part of one.
        trusted: Root packages allowed beside numpy, scipy and sklearn.
        where: What is being described, for messages.

    Returns:
        A JSON value from which `build` makes an equal object.

    Raises:
        ConfigurationError: If there is no description for a value of this type, or its package is not trusted.
        CodeError: If a class or function cannot be found again by its name.
    """
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {"float": str(value)}
    if kind is list:
        return [describe(item, trusted, f"{where}[{i}]") for i, item in enumerate(value)]
    if kind is tuple:
        return {"tuple": [describe(item, trusted, f"{where}[{i}]") for i, item in enumerate(value)]}
    if kind is dict:
        pairs = [(describe(k, trusted, where), describe(v, trusted, f"{where}[{k!r}]")) for k, v in value.items()]
        return {"dict": [list(pair) for pair in pairs]}
    if kind is slice:
        return {"slice": [describe(part, trusted, where) for part in (value.start, value.stop, value.step)]}
    if isinstance(value, (np.generic, np.ndarray, np.dtype)):
        return _describe_numpy(value, trusted, where)
    if isinstance(value, type) and _BUILTINS.get(value.__name__) is value:
        return {"builtin": value.__name__}
    if name_of(value) is not None:
        return {"reference": trusted_reference(value, trusted, where)}
    if callable(getattr(value, "get_params", None)):
        return _describe_estimator(value, trusted)
    raise ConfigurationError(_no_description(value, where))


def build(description: Json, trusted: tuple[str, ...] = ()) -> Any:
    """Make the object of a description.

    Args:
        description: As returned by `describe`.
        trusted: Root packages allowed beside numpy, scipy and sklearn.

    Returns:
        A new object.

    Raises:
        ConfigurationError: If the description is malformed, or names something that does not exist, is not
            trusted, or belongs to the standard library.
    """
    if description is None or isinstance(description, (bool, int, float, str)):
        return description
    if isinstance(description, list):
        return [build(item, trusted) for item in description]
    if not isinstance(description, dict):
        raise ConfigurationError(f"an estimator's description cannot hold a {type(description).__name__}")
    if set(description) == {"estimator", "params"}:
        return _build_estimator(description, trusted)
    if len(description) != 1:
        raise ConfigurationError(f"unknown keys {sorted(description)} in an estimator's description")
    ((kind, content),) = description.items()
    try:
        return _build_tagged(kind, content, trusted)
    except ConfigurationError:
        raise
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise ConfigurationError(f"malformed {kind!r} in an estimator's description: {error}") from error


def _describe_numpy(value: Any, trusted: tuple[str, ...], where: str) -> Json:
    """A numpy scalar, array or dtype, little-endian and row-major."""
    dtype = value if isinstance(value, np.dtype) else value.dtype
    if dtype.names is not None or dtype.kind in "TV" or (dtype.hasobject and not isinstance(value, np.ndarray)):
        raise ConfigurationError(f"{where} has the numpy dtype {dtype}, which has no description; use a plain dtype")
    if isinstance(value, np.dtype):
        return {"dtype": value.str}
    if dtype.hasobject:
        items = [describe(item, trusted, where) for item in value.reshape(-1).tolist()]
        return {"ndarray": ["|O", list(value.shape), items]}
    little = np.asarray(value).astype(dtype.newbyteorder("<"))
    data = base64.b64encode(little.tobytes()).decode()
    if isinstance(value, np.generic):
        return {"scalar": [little.dtype.str, data]}
    return {"ndarray": [little.dtype.str, list(value.shape), data]}


def _describe_estimator(value: Any, trusted: tuple[str, ...]) -> Json:
    """An estimator as its class and what `get_params` says, sorted by name."""
    from sklearn.frozen import FrozenEstimator

    name = type(value).__name__
    if isinstance(value, FrozenEstimator):
        raise ConfigurationError(
            "a FrozenEstimator carries what it learnt, which a description cannot; apply it to the data before"
            " ingest, or put the unfrozen estimator into the learner"
        )
    reference = trusted_reference(type(value), trusted, name)
    params = value.get_params(deep=False)
    return {
        "estimator": reference,
        "params": {k: describe(params[k], trusted, f"{name}.{k}") for k in sorted(params)},
    }


def _no_description(value: Any, where: str) -> str:
    """What to say about a value of a kind that JSON has no place for."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(value, (np.random.RandomState, np.random.Generator)):
        return f"{where} is a {kind}, whose state moves with every use; pass an int seed, or None to derive one"
    return (
        f"{where} is a {kind}, which cannot be described in JSON; use numbers, strings, arrays, estimators, or"
        " a function or class at the top level of a module"
    )


def _build_estimator(description: dict[str, Json], trusted: tuple[str, ...]) -> Any:
    """A new estimator with the described parameters."""
    reference, params = description["estimator"], description["params"]
    if not isinstance(reference, str) or not isinstance(params, dict):
        raise ConfigurationError("malformed 'estimator' in an estimator's description")
    cls = resolve_trusted(reference, trusted)
    if not isinstance(cls, type) or not callable(getattr(cls, "get_params", None)):
        raise ConfigurationError(f"{reference} is no estimator: it has no get_params")
    return cls(**{name: build(value, trusted) for name, value in params.items()})


def _build_tagged(kind: str, content: Json, trusted: tuple[str, ...]) -> Any:
    """The object of a description of one kind."""
    match kind:
        case "reference":
            return resolve_trusted(content, trusted)
        case "builtin":
            return _BUILTINS[content]
        case "float":
            return float(content)
        case "tuple":
            return tuple(build(item, trusted) for item in content)
        case "dict":
            return {build(key, trusted): build(value, trusted) for key, value in content}
        case "slice":
            return slice(*(build(part, trusted) for part in content))
        case "dtype":
            return np.dtype(content)
        case "scalar":
            return np.frombuffer(base64.b64decode(content[1]), dtype=np.dtype(content[0]))[0]
        case "ndarray":
            return _build_array(*content, trusted=trusted)
        case _:
            raise ConfigurationError(f"unknown kind {kind!r} in an estimator's description")


def _build_array(dtype: str, shape: list[int], data: Json, *, trusted: tuple[str, ...]) -> np.ndarray:
    """An array of its own memory, of numbers, text or objects."""
    if dtype != "|O":
        return np.frombuffer(base64.b64decode(data), dtype=np.dtype(dtype)).reshape(shape).copy()
    result = np.empty(len(data), dtype=object)
    for i, item in enumerate(data):
        result[i] = build(item, trusted)
    return result.reshape(shape)


def references(description: Json) -> Iterator[str]:
    """All references in a description.

    Args:
        description: As returned by `describe`.

    Yields:
        `"package.module:qualname"`, in the order of the description, repeated as often as it has them.
    """
    if isinstance(description, list):
        for item in description:
            yield from references(item)
    elif isinstance(description, dict):
        if "estimator" in description:
            yield description["estimator"]
            for value in description["params"].values():
                yield from references(value)
        elif "reference" in description:
            yield description["reference"]
        else:
            yield from references(list(description.values()))


def declared_names(description: Json) -> frozenset[str]:
    """Dotted names of everything a description refers to.

    Args:
        description: As returned by `describe`.

    Returns:
        `"package.module.qualname"` of each class and function.
    """
    return frozenset(reference.replace(":", ".") for reference in references(description))
