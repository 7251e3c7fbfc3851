"""Approximate unlearning: one paper a file, each with its honest guarantee.

A method is a function of the model, the examples to forget and those that stay, `unlearn.methods.scrub(model, forget,
retain)`, and returns a new model. `METHODS["scrub"]` is the same with its card, which says what may be claimed.
Functions and their configurations are reached from here; files of papers are in `papers`, and what keeps a budget or a
factor over many deletions in `certified`, `descent_to_delete`, `langevin`, `dp` and `influence`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlearn.methods.base import Examples, Guarantee, Method, MethodCard
    from unlearn.methods.certified.head import CertifiedRemovalConfig, certified_removal
    from unlearn.methods.dp import DifferentialPrivacyConfig, differential_privacy
    from unlearn.methods.influence.infinitesimal_jackknife import InfinitesimalJackknifeConfig, infinitesimal_jackknife
    from unlearn.methods.influence.newton_update import NewtonConfig, newton
    from unlearn.methods.influence.projective_residual import ProjectiveResidualConfig, projective_residual
    from unlearn.methods.influence.warnecke import (
        WarneckeFirstOrderConfig,
        WarneckeSecondOrderConfig,
        warnecke_first_order,
        warnecke_second_order,
    )
    from unlearn.methods.papers.amnesiac import AmnesiacConfig, amnesiac
    from unlearn.methods.papers.bad_teaching import BadTeacherConfig, bad_teacher
    from unlearn.methods.papers.boundary_expand import BoundaryExpandConfig, boundary_expand
    from unlearn.methods.papers.boundary_shrink import BoundaryShrinkConfig, boundary_shrink
    from unlearn.methods.papers.fine_tuning import FineTuneConfig, fine_tune
    from unlearn.methods.papers.fisher_forgetting import FisherForgettingConfig, fisher_forgetting
    from unlearn.methods.papers.forget_contrast import ForgetContrastConfig, forget_contrast
    from unlearn.methods.papers.gradient_ascent import GradientAscentConfig, gradient_ascent
    from unlearn.methods.papers.jit import JiTConfig, jit
    from unlearn.methods.papers.l1_sparse import L1SparseConfig, l1_sparse
    from unlearn.methods.papers.last_layers import CFkConfig, EUkConfig, cf_k, eu_k
    from unlearn.methods.papers.masked_small_gradients import MaskedSmallGradientsConfig, masked_small_gradients
    from unlearn.methods.papers.neg_grad_plus import NegGradPlusConfig, neg_grad_plus
    from unlearn.methods.papers.neg_merge import NegMergeConfig, neg_merge
    from unlearn.methods.papers.random_labelling import RandomLabelsConfig, random_labels
    from unlearn.methods.papers.retraining import RetrainConfig, retrain
    from unlearn.methods.papers.salun import SalUnConfig, salun
    from unlearn.methods.papers.scrub import ScrubConfig, scrub, scrub_rewind
    from unlearn.methods.papers.ssd import SSDConfig, ssd
    from unlearn.methods.papers.task_arithmetic import TaskArithmeticConfig, task_arithmetic
    from unlearn.methods.papers.unsir import UNSIRConfig, unsir

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
    "infinitesimal_jackknife": ("influence.infinitesimal_jackknife", "InfinitesimalJackknifeConfig"),
    "newton": ("influence.newton_update", "NewtonConfig"),
    "projective_residual": ("influence.projective_residual", "ProjectiveResidualConfig"),
    "warnecke_first_order": ("influence.warnecke", "WarneckeFirstOrderConfig"),
    "warnecke_second_order": ("influence.warnecke", "WarneckeSecondOrderConfig"),
    "certified_removal": ("certified.head", "CertifiedRemovalConfig"),
    "differential_privacy": ("dp", "DifferentialPrivacyConfig"),
    "fisher_forgetting": ("papers.fisher_forgetting", "FisherForgettingConfig"),
    "amnesiac": ("papers.amnesiac", "AmnesiacConfig"),
    "boundary_shrink": ("papers.boundary_shrink", "BoundaryShrinkConfig"),
    "boundary_expand": ("papers.boundary_expand", "BoundaryExpandConfig"),
    "unsir": ("papers.unsir", "UNSIRConfig"),
    "ssd": ("papers.ssd", "SSDConfig"),
    "jit": ("papers.jit", "JiTConfig"),
    "salun": ("papers.salun", "SalUnConfig"),
    "forget_contrast": ("papers.forget_contrast", "ForgetContrastConfig"),
    "masked_small_gradients": ("papers.masked_small_gradients", "MaskedSmallGradientsConfig"),
}
"""Of each method, by its name: the module that holds the function of that name, its configuration and its `Method`."""

_HOMES = dict.fromkeys(("Examples", "Guarantee", "Method", "MethodCard"), "base") | {
    name: home for function, (home, config) in _REGISTRY.items() for name in (function, config)
}
"""Which module has which public name; it is imported when the name is first asked for."""

_PARTS = ("certified", "descent_to_delete", "dp", "influence", "langevin", "papers")
"""Parts inside, which are imported likewise."""

__all__ = [
    "METHODS",
    "AmnesiacConfig",
    "BadTeacherConfig",
    "BoundaryExpandConfig",
    "BoundaryShrinkConfig",
    "CFkConfig",
    "CertifiedRemovalConfig",
    "DifferentialPrivacyConfig",
    "EUkConfig",
    "Examples",
    "FineTuneConfig",
    "FisherForgettingConfig",
    "ForgetContrastConfig",
    "GradientAscentConfig",
    "Guarantee",
    "InfinitesimalJackknifeConfig",
    "JiTConfig",
    "L1SparseConfig",
    "MaskedSmallGradientsConfig",
    "Method",
    "MethodCard",
    "NegGradPlusConfig",
    "NegMergeConfig",
    "NewtonConfig",
    "ProjectiveResidualConfig",
    "RandomLabelsConfig",
    "RetrainConfig",
    "SSDConfig",
    "SalUnConfig",
    "ScrubConfig",
    "TaskArithmeticConfig",
    "UNSIRConfig",
    "WarneckeFirstOrderConfig",
    "WarneckeSecondOrderConfig",
    "amnesiac",
    "bad_teacher",
    "boundary_expand",
    "boundary_shrink",
    "certified_removal",
    "cf_k",
    "differential_privacy",
    "eu_k",
    "fine_tune",
    "fisher_forgetting",
    "forget_contrast",
    "gradient_ascent",
    "infinitesimal_jackknife",
    "jit",
    "l1_sparse",
    "masked_small_gradients",
    "neg_grad_plus",
    "neg_merge",
    "newton",
    "projective_residual",
    "random_labels",
    "retrain",
    "salun",
    "scrub",
    "scrub_rewind",
    "ssd",
    "task_arithmetic",
    "unsir",
    "warnecke_first_order",
    "warnecke_second_order",
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
