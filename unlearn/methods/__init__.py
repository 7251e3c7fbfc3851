"""Approximate unlearning: one paper a file, each with its honest guarantee.

A method is a function of the model, the examples to forget and those that stay, `unlearn.methods.scrub(model, forget,
retain)`, and returns a new model. `METHODS["scrub"]` is the same with its card, which says what may be claimed.
Functions and their configurations are reached from here; files of papers are in `papers`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlearn.methods.base import Examples, Guarantee, Method, MethodCard
    from unlearn.methods.papers.bad_teaching import BadTeacherConfig, bad_teacher
    from unlearn.methods.papers.fine_tuning import FineTuneConfig, fine_tune
    from unlearn.methods.papers.gradient_ascent import GradientAscentConfig, gradient_ascent
    from unlearn.methods.papers.l1_sparse import L1SparseConfig, l1_sparse
    from unlearn.methods.papers.last_layers import CFkConfig, EUkConfig, cf_k, eu_k
    from unlearn.methods.papers.neg_grad_plus import NegGradPlusConfig, neg_grad_plus
    from unlearn.methods.papers.neg_merge import NegMergeConfig, neg_merge
    from unlearn.methods.papers.random_labelling import RandomLabelsConfig, random_labels
    from unlearn.methods.papers.retraining import RetrainConfig, retrain
    from unlearn.methods.papers.scrub import ScrubConfig, scrub, scrub_rewind
    from unlearn.methods.papers.task_arithmetic import TaskArithmeticConfig, task_arithmetic

_REGISTRY = {
    "retrain": ("papers.retraining", "RetrainConfig"),
    "fine_tune": ("papers.fine_tuning", "FineTuneConfig"),
    "gradient_ascent": ("papers.gradient_ascent", "GradientAscentConfig"),
    "random_labels": ("papers.random_labelling", "RandomLabelsConfig"),
    "cf_k": ("papers.last_layers", "CFkConfig"),
    "eu_k": ("papers.last_layers", "EUkConfig"),
    "bad_teacher": ("papers.bad_teaching", "BadTeacherConfig"),
    "neg_grad_plus": ("papers.neg_grad_plus", "NegGradPlusConfig"),
    "scrub": ("papers.scrub", "ScrubConfig"),
    "scrub_rewind": ("papers.scrub", "ScrubConfig"),
    "l1_sparse": ("papers.l1_sparse", "L1SparseConfig"),
    "task_arithmetic": ("papers.task_arithmetic", "TaskArithmeticConfig"),
    "neg_merge": ("papers.neg_merge", "NegMergeConfig"),
}
"""Of each method, by its name: the module that holds the function of that name, its configuration and its `Method`."""

_HOMES = dict.fromkeys(("Examples", "Guarantee", "Method", "MethodCard"), "base") | {
    name: home for function, (home, config) in _REGISTRY.items() for name in (function, config)
}
"""Which module has which public name; it is imported when the name is first asked for."""

_PARTS = ("papers",)

__all__ = [
    "METHODS",
    "BadTeacherConfig",
    "CFkConfig",
    "EUkConfig",
    "Examples",
    "FineTuneConfig",
    "GradientAscentConfig",
    "Guarantee",
    "L1SparseConfig",
    "Method",
    "MethodCard",
    "NegGradPlusConfig",
    "NegMergeConfig",
    "RandomLabelsConfig",
    "RetrainConfig",
    "ScrubConfig",
    "TaskArithmeticConfig",
    "bad_teacher",
    "cf_k",
    "eu_k",
    "fine_tune",
    "gradient_ascent",
    "l1_sparse",
    "neg_grad_plus",
    "neg_merge",
    "random_labels",
    "retrain",
    "scrub",
    "scrub_rewind",
    "task_arithmetic",
]


class _Methods(Mapping[str, "Method"]):
    """All methods by name; the file of one is loaded when it is looked up."""

    def __getitem__(self, name: str) -> Method:
        from unlearn.methods.base import Method

        home = _loaded(_REGISTRY[name][0])
        return next(value for value in vars(home).values() if isinstance(value, Method) and value.card.name == name)

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
        return _loaded(name)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_loaded(_HOMES[name]), name)


def _loaded(home: str) -> ModuleType:
    from unlearn.errors import ConfigurationError

    try:
        return importlib.import_module(f"{__name__}.{home}")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ConfigurationError("methods need torch: pip install 'sisa-unlearn[torch]'") from error


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_PARTS})
