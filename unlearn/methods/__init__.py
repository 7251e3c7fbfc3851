"""Approximate unlearning: one paper a file, each with its honest guarantee.

A method is a function of the model, the examples to forget and those that stay, `unlearn.methods.scrub(model, forget,
retain)`, and returns a new model. `METHODS["scrub"]` is the same with its card, which says what may be claimed.
Functions and their configurations are reached from here; files of papers are in `papers`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlearn.methods.base import Examples, Guarantee, Method, MethodCard
    from unlearn.methods.papers.retraining import RetrainConfig, retrain

_REGISTRY = {
    "retrain": ("papers.retraining", "RetrainConfig"),
}
"""Of each method, by its name: the module that holds the function of that name, its configuration and `METHOD`."""

_HOMES = dict.fromkeys(("Examples", "Guarantee", "Method", "MethodCard"), "base") | {
    name: home for function, (home, config) in _REGISTRY.items() for name in (function, config)
}
"""Which module has which public name; it is imported when the name is first asked for."""

_PARTS = ("papers",)

__all__ = ["METHODS", "Examples", "Guarantee", "Method", "MethodCard", "RetrainConfig", "retrain"]


class _Methods(Mapping[str, "Method"]):
    """All methods by name; the file of one is loaded when it is looked up."""

    def __getitem__(self, name: str) -> Method:
        method: Method = importlib.import_module(f"{__name__}.{_REGISTRY[name][0]}").METHOD
        return method

    def __contains__(self, name: object) -> bool:
        return name in _REGISTRY

    def __iter__(self) -> Iterator[str]:
        return iter(_REGISTRY)

    def __len__(self) -> int:
        return len(_REGISTRY)


METHODS: Mapping[str, Method] = _Methods()
"""Every method, by name, from the reference to the latest."""


def __getattr__(name: str) -> Any:
    """Import what is asked for, so that no method loads another."""
    if name in _PARTS:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_PARTS})
