"""The settings of a TorchLearner, each brought to its one canonical form, so that equal learners have equal keys."""

from __future__ import annotations

import json
import math
import numbers
import operator
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, TypeAlias

from shards.code import reference
from shards.digest import Json
from shards.errors import ConfigurationError

Reference: TypeAlias = str | Callable[..., Any]
"""`"package.module:name"`, or the function or class itself; kept as the former."""


def text_of(value: Reference) -> str:
    """A reference in its textual form.

    Args:
        value: Text, or a function or class.

    Returns:
        The text as it is, or `"package.module:name"`.

    Raises:
        CodeError: If a function or class cannot be referenced, such as a lambda.
    """
    return value if isinstance(value, str) else reference(value)


def package_of(name: str) -> str:
    """Top-level package of a reference."""
    return name.partition(":")[0].partition(".")[0]


def json_copy(value: Any) -> Any:
    """A deep copy of a JSON value in JSON's own types: tuples become lists.

    Args:
        value: None, bool, int, finite float, str, list, tuple or dict with string keys, nested at will.

    Returns:
        An equal value that shares nothing with it.

    Raises:
        TypeError: If a part is of any other type.
        ValueError: If a float is not finite.
    """
    return json.loads(json.dumps(value, allow_nan=False))


def canonical_arguments(name: str, value: Mapping[str, Json]) -> dict[str, Json]:
    """A deep copy of keyword arguments.

    Args:
        name: Name of the option.
        value: What was given for it.

    Returns:
        A dict of JSON values.

    Raises:
        ConfigurationError: If they are not JSON.
    """
    hint = "give a dict of keyword arguments made of None, bool, int, finite float, str, list and dict"
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ConfigurationError(f"TorchLearner: {name} is {value!r}: {hint}")
    try:
        return dict(json_copy(dict(value)))
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"TorchLearner: {name} is {value!r}, not JSON ({error}): {hint}") from error


def canonical_name(what: str, value: Reference, known: Mapping[str, object] | None) -> str:
    """The textual form of a reference, or a short name.

    Args:
        what: Name of the option.
        value: What was given.
        known: Its short names; None if they are looked up later.

    Returns:
        Text.

    Raises:
        ConfigurationError: If it is neither reference nor short name.
        CodeError: If a function or class cannot be referenced, such as a lambda.
    """
    if not isinstance(value, str) and not callable(value):
        raise ConfigurationError(f"TorchLearner: {what} is {value!r}: give a name, or a function or class")
    text = text_of(value)
    if ":" in text or (text.isidentifier() and (known is None or text in known)):
        return text
    choices = f"choose one of {', '.join(known)}, or give" if known else "give"
    raise ConfigurationError(f"TorchLearner: {what} {text!r} is unknown: {choices} a reference 'package.module:name'")


def canonical_epochs(value: object, learner: str = "TorchLearner") -> int | float | str:
    """E in its one canonical form: an int if whole, a float if that is exact in decimal, else a fraction.

    Args:
        value: An int, a float, a fraction, or text that is one of them.
        learner: Whose it is, for messages.

    Returns:
        A JSON value; `Fraction(str(...))` of it is E.

    Raises:
        ConfigurationError: If it is no positive number.
    """
    try:
        epochs = Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        epochs = Fraction(0)
    if isinstance(value, bool) or epochs <= 0:
        raise ConfigurationError(f"{learner}: epochs is {value!r}: give a positive number, or a fraction such as '7/2'")
    if epochs.denominator == 1:
        return epochs.numerator
    decimal = float(epochs)
    return decimal if Fraction(str(decimal)) == epochs else str(epochs)


def canonical_batch_size(value: Any, learner: str = "TorchLearner") -> int:
    """The batch size as an int.

    Args:
        value: What was given, perhaps a numpy integer.
        learner: Whose it is, for messages.

    Returns:
        At least 1.

    Raises:
        ConfigurationError: If it is no positive integer.
    """
    try:
        size = operator.index(value)
    except TypeError:
        size = 0
    if isinstance(value, bool) or size < 1:
        raise ConfigurationError(f"{learner}: batch_size is {value!r}: give a positive integer")
    return size


def canonical_norm(value: Any) -> float | None:
    """The norm to clip to, as a float.

    Args:
        value: What was given.

    Returns:
        A positive finite number, or None for None.

    Raises:
        ConfigurationError: If it is neither.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 < float(value) < math.inf:
        raise ConfigurationError(f"TorchLearner: clip_norm is {value!r}: give a positive finite number, or None")
    return float(value)
