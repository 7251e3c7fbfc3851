"""The audit of a workspace: what the states it serves still know of forgotten records that are presented again.

Pure: the workspace matches the records, loads the states and asks each for its outputs; here they become scores, the
scores the shard-label test (`sisa_test`), and its result is set beside what members of the model look like, so that it
says what would have been found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from shards.digest import Json
from shards.task import Kind
from unlearn.audit.sisa_test import (
    PERMUTATIONS,
    Detectable,
    ShardLabelTest,
    Verdict,
    least_detectable,
    own_advantage,
    power_against,
    shard_label_test,
)

ASSUMPTIONS = (
    (
        "Shards were chosen by the workspace's keyed hash of the subjects' names, and whoever named the subjects and "
        "chose what to forget did not know it."
    ),
    "What was forgotten was not chosen by looking at what the model said or showed (Gupta et al. 2021).",
    (
        "The records presented are those that were forgotten, under the subjects they were ingested with: ids can be "
        "checked, contents were destroyed. Others would find less, and accuse nobody falsely."
    ),
    "No other subject that stays owes its place to a forgotten one, and none is the same person under another name.",
)
NOT_SHOWN = (
    "That anything was unlearned: a test refutes, or does not refute.",
    (
        "Traces that all shards have alike, such as of a scaler, a feature extractor or hyper-parameters fitted on the "
        "records: labels of shards say nothing of them."
    ),
    "Backups, exports, caches and models elsewhere.",
    "What a stronger score than the loss of each record would find; `unlearn verify --replay` compares bytes instead.",
)

POWER = 0.95
"""With which probability the least traces are found that an audit names."""

_LEAST_PROBABILITY = 1e-9
"""Bounds the scores of certain models; logits from there on are about 20."""


@dataclass(frozen=True)
class Facts:
    """What the workspace says of itself and of the records.

    Attributes:
        workspace: Its id, 32 hex digits.
        state_digest: Of the state that was audited, hex.
        at: When, ISO 8601.
        requests: The deletion requests whose records were tested, in order.
        receipts: Name of each receipt of theirs (`REQUEST/STAGE`) to the SHA-256 of what it signed, hex.
        n_records: Records tested.
        set_aside: Records presented and not tested, by reason.
    """

    workspace: str
    state_digest: str
    at: str
    requests: tuple[str, ...]
    receipts: Mapping[str, str]
    n_records: int
    set_aside: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class ShardScores:
    """Scores of subjects under the states of all shards that serve one.

    Attributes:
        shards: Number of each column's shard.
        forgotten: `[K, S]` of forgotten subjects (`sisa_test.subject_scores`).
        labels: `[K]` column of each one's shard.
        strata: `[K]` groups inside which labels are rearranged, or None: one.
        members: `[M, S]` of some subjects that are in the data.
        member_labels: `[M]` column of each one's shard.
    """

    shards: tuple[int, ...]
    forgotten: np.ndarray
    labels: np.ndarray
    strata: np.ndarray | None
    members: np.ndarray
    member_labels: np.ndarray


@dataclass(frozen=True)
class Yardstick:
    """What forgotten subjects would look like, had nothing been forgotten: subjects that are in the data.

    Attributes:
        n_subjects: How many were looked at.
        advantage: Mean of how much higher they score under their own shard than under the others.
        power_one_shard: How often the test finds one shard that still knows its forgotten subjects so well.
        power_all_shards: How often it finds that all do.
    """

    n_subjects: int
    advantage: float
    power_one_shard: float
    power_all_shards: float


@dataclass(frozen=True)
class AuditResult:
    """An audit of a workspace.

    Attributes:
        facts: What was audited.
        score: What a score is.
        n_shards: Shards that serve a state.
        test: The shard-label test; shards are named by number.
        detectable: The least traces it would have found.
        yardstick: What members look like; None if there are none.
        assumptions: What the p-value rests on.
        not_shown: What no such audit shows.
    """

    facts: Facts
    score: str
    n_shards: int
    test: ShardLabelTest
    detectable: Detectable
    yardstick: Yardstick | None
    assumptions: tuple[str, ...] = ASSUMPTIONS
    not_shown: tuple[str, ...] = NOT_SHOWN

    @property
    def verdict(self) -> Verdict:
        """`"refuted"` or `"not refuted"`: of the claim that the served states owe nothing to the records."""
        return self.test.verdict

    @property
    def p_value(self) -> float:
        """Of the test."""
        return self.test.p_value

    def to_json(self) -> dict[str, Json]:
        """All of it as JSON: texts as keys, no number that is none."""
        found: dict[str, Json] = _plain(asdict(self))
        return found


def record_scores(outputs: np.ndarray, target: np.ndarray, kind: Kind) -> np.ndarray:
    """How well records fit a state; larger for those it has seen.

    Of classes, the logit-scaled confidence `ln p_y - ln(1 - p_y)`, of numbers, minus the squared error.

    Args:
        outputs: `[n, classes]` probabilities, or `[n, *target shape]`.
        target: `[n]` int64 class indices, or `[n, *target shape]`.
        kind: Which of the two.

    Returns:
        `[n]` float64, finite.

    Source: Carlini et al. 2022, Membership Inference Attacks From First Principles, for the logits.
    """
    values = np.asarray(outputs, dtype=np.float64)
    n = len(values)
    if kind == "regression":
        difference = (values - np.asarray(target, dtype=np.float64)).reshape(n, -1)
        errors: np.ndarray = -(difference**2).mean(axis=1)
        return errors
    own = values[np.arange(n), target]
    # The others are added up: of a model that is nearly certain, 1 - p has no digits left.
    others = np.where(np.arange(values.shape[1]) == target[:, None], 0.0, values).sum(axis=1)
    logits: np.ndarray = np.log(np.maximum(own, _LEAST_PROBABILITY)) - np.log(np.maximum(others, _LEAST_PROBABILITY))
    return logits


def audit_shards(
    scores: ShardScores,
    facts: Facts,
    kind: Kind,
    *,
    alpha: float = 0.05,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> AuditResult:
    """Test what states know of forgotten subjects.

    Args:
        scores: Of the subjects under each state.
        facts: What was audited.
        kind: What is predicted.
        alpha: Probability of refuting exact unlearning.
        permutations: Rearrangements to draw.
        seed: They are drawn from.

    Returns:
        The result.

    Raises:
        InputError: If nothing can be tested.
    """
    test = shard_label_test(
        scores.forgotten, scores.labels, strata=scores.strata, alpha=alpha, permutations=permutations, seed=seed
    )
    yardstick = None
    if len(scores.members):
        members = own_advantage(scores.members, scores.member_labels)
        one, every = (
            power_against(
                test, scores.forgotten, scores.labels, members, shards=shards, strata=scores.strata, seed=seed
            )
            for shards in (1, None)
        )
        yardstick = Yardstick(len(members), float(members.mean()), one, every)
    named = {scores.shards[column]: value for column, value in test.shards.items()}
    return AuditResult(
        facts=facts,
        score="logit of the true class" if kind == "classification" else "minus the squared error",
        n_shards=len(scores.shards),
        test=replace(test, shards=named),
        detectable=least_detectable(
            test, scores.forgotten, scores.labels, strata=scores.strata, power=POWER, seed=seed
        ),
        yardstick=yardstick,
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
