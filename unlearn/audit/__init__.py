"""Audits: what forgetting really achieved, measured: scores in, verdicts with intervals out, and no claim confirmed.

The tests of unlearning and the checks of claims are here by name; estimators of epsilon are in `epsilon`, attacks in
`attacks` (`ATTACKS` lists them), what is computed of their scores in `metrics`, models to compare with in `shadows`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlearn.audit.attack_audit import AttackAudit, AttackPlan
    from unlearn.audit.attacks import ATTACKS
    from unlearn.audit.definitions import check_approximate, check_exact
    from unlearn.audit.epsilon.bound import LowerBound, UpperBound, Verdict
    from unlearn.audit.epsilon.check import Claim, check_bound, compare
    from unlearn.audit.epsilon.multiplicity import alpha_at, best_of, holm, over_looks
    from unlearn.audit.quality import forgetting_quality
    from unlearn.audit.set_test import guess_extremes, set_unlearning_test, toss_coins
    from unlearn.audit.sisa_test import least_detectable, shard_label_test, subject_scores
    from unlearn.audit.statement import read_audit
    from unlearn.audit.workspace_audit import AuditResult

__all__ = [
    "ATTACKS",
    "AttackAudit",
    "AttackPlan",
    "AuditResult",
    "Claim",
    "LowerBound",
    "UpperBound",
    "Verdict",
    "alpha_at",
    "best_of",
    "check_approximate",
    "check_bound",
    "check_exact",
    "compare",
    "forgetting_quality",
    "guess_extremes",
    "holm",
    "least_detectable",
    "over_looks",
    "read_audit",
    "set_unlearning_test",
    "shard_label_test",
    "subject_scores",
    "toss_coins",
]

_HOMES = {
    "attack_audit": ("AttackAudit", "AttackPlan"),
    "attacks": ("ATTACKS",),
    "definitions": ("check_approximate", "check_exact"),
    "epsilon.bound": ("LowerBound", "UpperBound", "Verdict"),
    "epsilon.check": ("Claim", "check_bound", "compare"),
    "epsilon.multiplicity": ("alpha_at", "best_of", "holm", "over_looks"),
    "quality": ("forgetting_quality",),
    "set_test": ("guess_extremes", "set_unlearning_test", "toss_coins"),
    "sisa_test": ("least_detectable", "shard_label_test", "subject_scores"),
    "statement": ("read_audit",),
    "workspace_audit": ("AuditResult",),
}
"""Which module has which names; it is imported when one is first asked for."""

_PARTS = ("attacks", "epsilon", "metrics", "shadows")


def __getattr__(name: str) -> Any:
    """Import what is asked for, so that a workspace that is not audited loads none of it."""
    if name in _PARTS:
        return importlib.import_module(f"{__name__}.{name}")
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_PARTS})
