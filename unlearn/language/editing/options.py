"""Options of an editor, by name and value as people give them, to its configuration and back to JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any, get_origin, get_type_hints

from shards.digest import Json, canonical_json
from unlearn.errors import ConfigurationError, meant
from unlearn.language.editing.registry import EDITORS, Editor
from unlearn.methods.options import fits, said

_NEEDS_OLD = frozenset({"kn"})
"""Editors that have to be told the old answer."""

WRITTEN = tuple(
    name
    for name, editor in EDITORS.items()
    if editor.card.edits_weights and not editor.card.needs_training and name not in _NEEDS_OLD
)
"""Editors whose edits can be written into a folder and that need nothing but facts and texts."""


def find_editor(name: str) -> Editor:
    """An editor whose edit can be written into a folder.

    Args:
        name: Its key in `EDITORS`.

    Returns:
        The editor.

    Raises:
        ConfigurationError: If there is none of that name, its edits are hooks, or it needs more than a request holds.
    """
    known = ", ".join(WRITTEN)
    if name not in EDITORS:
        raise ConfigurationError(
            f"there is no editor {name!r}{meant(name, WRITTEN)}; there are {known}; nothing was changed"
        )
    card = EDITORS[name].card
    if not card.edits_weights:
        raise ConfigurationError(
            f"{name} changes no weight: its edit is a hook, which cannot be written into a folder, and whoever loads "
            f"that folder would not have it. Choose one of {known}; nothing was changed"
        )
    if name not in WRITTEN:
        lacks = "has to be told the old answers" if name in _NEEDS_OLD else "learns from lessons before it edits"
        raise ConfigurationError(
            f"{name} {lacks}, and a request holds none: choose one of {known}, or call unlearn.language.edit; nothing "
            "was changed"
        )
    return EDITORS[name]


def config_of(editor: Editor, options: Mapping[str, Json]) -> Any:
    """An editor's configuration.

    Args:
        editor: The editor.
        options: Field to value, as JSON has it; of a field that is itself a configuration, its fields to values.

    Returns:
        The configuration; what is not named has its default.

    Raises:
        ConfigurationError: If there is no such field, or a value is of another type.
    """
    return _made(editor.config, options, editor.card.name)


def described(config: Any) -> dict[str, Json]:
    """A configuration as JSON.

    Args:
        config: It.

    Returns:
        Every field.

    Raises:
        ConfigurationError: If a number in it is not finite.
    """
    try:
        found: dict[str, Json] = json.loads(canonical_json(asdict(config)))
    except ValueError as error:
        raise ConfigurationError(f"{config} holds a number that is not finite: give a large one instead") from error
    return found


def _made(kind: type[Any], options: Mapping[str, Json], where: str) -> Any:
    hints = {item.name: get_type_hints(kind)[item.name] for item in fields(kind)}
    values: dict[str, Any] = {}
    for name, value in options.items():
        if name not in hints:
            known = ", ".join(hints)
            raise ConfigurationError(
                f"{where} has no option {name!r}{meant(name, hints)}; it has {known}; nothing was changed"
            )
        hint = hints[name]
        if is_dataclass(hint) and isinstance(hint, type):
            if not isinstance(value, Mapping):
                raise ConfigurationError(f"option {name!r} of {where} must be an object of options, got {value!r}")
            values[name] = _made(hint, value, f"{name} of {where}")
        elif not fits(value, hint) or (isinstance(value, float) and not math.isfinite(value)):
            raise ConfigurationError(f"option {name!r} of {where} must be {said(hint)}, got {value!r}")
        else:
            values[name] = tuple(value) if get_origin(hint) is tuple else value
    return kind(**values)
