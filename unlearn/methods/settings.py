"""What a configuration lets one set, with defaults and descriptions: read off the dataclass and its docstring."""

from __future__ import annotations

import inspect
import re
from dataclasses import MISSING, dataclass, fields
from typing import Any

_ITEM = re.compile(r"^    (\w+): (.*(?:\n        .*)*)", re.MULTILINE)


@dataclass(frozen=True)
class Setting:
    """One field of a configuration.

    Attributes:
        name: Of the field.
        type: As it is annotated.
        default: Its default; of a function, its name.
        description: Of the class that documents it, or of one it extends; empty where none does.
    """

    name: str
    type: str
    default: Any
    description: str


def settings(config: type[Any]) -> tuple[Setting, ...]:
    """The fields of a configuration, in order.

    Args:
        config: A dataclass, all of whose fields have defaults.

    Returns:
        The fields; those of a class it extends come first.
    """
    described: dict[str, str] = {}
    for parent in reversed(config.__mro__):
        described |= _described(parent)
    return tuple(
        Setting(
            item.name,
            str(item.type),
            _shown(item.default if item.default_factory is MISSING else item.default_factory()),
            described.get(item.name, ""),
        )
        for item in fields(config)
    )


def _shown(default: Any) -> Any:
    return f"{default.__module__}:{default.__qualname__}" if inspect.isfunction(default) else default


def _described(config: type[Any]) -> dict[str, str]:
    """What the Attributes section of a docstring says of each field."""
    _, _, section = inspect.cleandoc(config.__doc__ or "").partition("Attributes:\n")
    section = re.split(r"\n(?=\S)", section)[0]
    return {name: " ".join(text.split()) for name, text in _ITEM.findall(section)}
