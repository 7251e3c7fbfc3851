"""Options of a method, by name and value as people give them, checked against the configuration they belong to."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from shards.digest import Json, canonical_json
from unlearn.errors import ConfigurationError, meant
from unlearn.methods import METHODS, Method


def find_method(name: str) -> Method:
    """A method by its name.

    Args:
        name: Its key in `METHODS`; dashes are as good as underscores.

    Returns:
        The method.

    Raises:
        ConfigurationError: If there is none; says which one may be meant.
    """
    wanted = str(name).replace("-", "_")
    if wanted not in METHODS:
        raise ConfigurationError(f"there is no method {name!r}{meant(wanted, METHODS)}; there are {', '.join(METHODS)}")
    return METHODS[wanted]


def full_config(method: Method, options: Mapping[str, Json]) -> dict[str, Json]:
    """A method's whole configuration, from the options that were given.

    Args:
        method: The method.
        options: Field of its configuration to value.

    Returns:
        Every field, as JSON gives it back.

    Raises:
        ConfigurationError: If it has no such field, or a value is of another type than its field, or out of its range.
    """
    kind = method.config
    hints = {item.name: hint for item in fields(kind) if (hint := get_type_hints(kind)[item.name]) is not None}
    for name, value in options.items():
        if name not in hints:
            known = ", ".join(sorted(hints)) or "none"
            raise ConfigurationError(f"{method.card.name} has no option {name!r}{meant(name, hints)}; it has {known}")
        if not fits(value, hints[name]):
            raise ConfigurationError(
                f"option {name!r} of {method.card.name} must be {said(hints[name])}, got {value!r}"
            )
    found: dict[str, Json] = json.loads(canonical_json(asdict(kind(**options))))
    return found


def fits(value: Any, hint: Any) -> bool:
    """Whether a value from JSON is of a field's type; a whole number will do for a real one."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, item) for item in get_args(hint))
    if origin is Literal:
        return any(type(value) is type(item) and value == item for item in get_args(hint))
    if origin in (tuple, list):
        inner = [item for item in get_args(hint) if item is not Ellipsis]
        return isinstance(value, list | tuple) and all(any(fits(part, item) for item in inner) for part in value)
    if hint is float:
        return type(value) in (int, float)
    if hint in (int, bool, str):
        return type(value) is hint
    return value is None if hint in (None, type(None)) else hint is typing.Any


def said(hint: Any) -> str:
    """A type, for people."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(said(item) for item in get_args(hint))
    if origin is Literal:
        return " or ".join(repr(item) for item in get_args(hint))
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", type(None): "null"}
    return words.get(hint, f"of the type {hint}")
