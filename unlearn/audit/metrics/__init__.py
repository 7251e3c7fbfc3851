"""What attacks and unlearned models are worth: figures with intervals, each beside its retrained reference."""

from __future__ import annotations

from unlearn.audit.metrics.backdoor import BackdoorResult, verify_by_backdoor
from unlearn.audit.metrics.confusion import ConfusionResult, interclass_confusion, swap_labels
from unlearn.audit.metrics.curves import Curve, Point, curve
from unlearn.audit.metrics.degradation import DegradationResult, degradation
from unlearn.audit.metrics.divergence import DivergenceResult, divergence
from unlearn.audit.metrics.estimate import Estimate, mean, paired_difference, proportion
from unlearn.audit.metrics.gaps import GapResult, Outcome, gaps
from unlearn.audit.metrics.groups import GroupResult, SubjectResult, by_group, by_subject, over_subjects
from unlearn.audit.metrics.relearning import RelearningResult, relearning_time, steps_to_reach
from unlearn.audit.metrics.roc import (
    AttackResult,
    DecisionResult,
    auc,
    judge,
    largest_advantage,
    measure,
    non_members_needed,
    null_band,
    tpr_at_fpr,
)

__all__ = [
    "AttackResult",
    "BackdoorResult",
    "ConfusionResult",
    "Curve",
    "DecisionResult",
    "DegradationResult",
    "DivergenceResult",
    "Estimate",
    "GapResult",
    "GroupResult",
    "Outcome",
    "Point",
    "RelearningResult",
    "SubjectResult",
    "auc",
    "by_group",
    "by_subject",
    "curve",
    "degradation",
    "divergence",
    "gaps",
    "interclass_confusion",
    "judge",
    "largest_advantage",
    "mean",
    "measure",
    "non_members_needed",
    "null_band",
    "over_subjects",
    "paired_difference",
    "proportion",
    "relearning_time",
    "steps_to_reach",
    "swap_labels",
    "tpr_at_fpr",
    "verify_by_backdoor",
]
