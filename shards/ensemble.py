"""The served model: one state per shard, or none, and a rule that joins what they say.

A shard without a state abstains: the others are joined as if it did not exist. So does, row by row, one whose state
gives no number: a single record has no variance, and Gaussian naive Bayes divides by that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shards.errors import ConfigurationError, NotServingError
from shards.learners.base import Features, Joined, Learner, Predictor, State
from shards.learners.merging import MergeLearner

AGGREGATIONS = ("mean", "vote", "weighted", "sum")
"""Mean of the members' outputs; share of their votes; mean weighted by the records each has seen; one model of their
merged states, for learners that have such (`MergeLearner`)."""


@dataclass(frozen=True)
class Member:
    """One shard's contribution.

    Attributes:
        shard: Shard number.
        records: Records its state was trained on.
        predict: Features to class probabilities `[n, classes]` or targets `[n, ...]`, float64.
        state: Its state, where states are merged; else empty.
    """

    shard: int
    records: int
    predict: Predictor
    state: State = field(default_factory=dict)


def usual_aggregation(learner: Learner) -> str:
    """How shards of a learner are joined where nothing is said: what can be is merged, else outputs are averaged."""
    return "sum" if isinstance(learner, MergeLearner) else "mean"


def check_aggregation(aggregation: str, kind: str, learner: Learner) -> None:
    """Refuse a rule that does not exist or does not fit task or learner.

    Args:
        aggregation: One of `AGGREGATIONS`.
        kind: `"classification"` or `"regression"`.
        learner: What every shard trains.

    Raises:
        ConfigurationError: With the rules there are.
    """
    if aggregation not in AGGREGATIONS:
        raise ConfigurationError(f"aggregation must be one of {', '.join(AGGREGATIONS)}, got {aggregation!r}")
    if aggregation == "vote" and kind == "regression":
        raise ConfigurationError("aggregation 'vote' is for classification: use 'mean' or 'weighted'")
    if aggregation == "sum" and not isinstance(learner, MergeLearner):
        raise ConfigurationError(
            "aggregation 'sum' is for learners whose states can be merged, such as RidgeLearner, and "
            f"{type(learner).__name__} is none: use 'mean', 'vote' or 'weighted'"
        )


def combine(members: Mapping[int, Member] | Sequence[Member], aggregation: str, features: Features) -> np.ndarray:
    """Predict with every member and join the results.

    Members are joined in the order of their shards, in float64, so that equal states give equal bytes.

    Args:
        members: The shards that have a state.
        aggregation: One of `AGGREGATIONS`, and not `"sum"` (`merged`).
        features: Feature name to array `[n, *shape]`.

    Returns:
        Class probabilities `[n, classes]` or targets `[n, ...]`, float64; NaN in rows of which no member says a number.

    Raises:
        NotServingError: If there are no members.
    """
    present = _in_order(list(members.values()) if isinstance(members, Mapping) else members)
    total: np.ndarray | None = None
    weights: Any = 0
    for member in present:
        output = np.asarray(member.predict(features), dtype=np.float64)
        weight: Any = member.records if aggregation == "weighted" else 1
        said = _votes(output) if aggregation == "vote" else output
        heard = _heard(output, 1)
        if not heard.all():
            said, weight = np.where(heard, said, 0.0), weight * heard
        total = said * weight if total is None else total + said * weight
        weights = weights + weight
    assert total is not None  # noqa: S101 - there is at least one member
    with np.errstate(invalid="ignore"):
        return np.asarray(total / weights)


def combine_joined(members: Sequence[Member], joined: Joined, aggregation: str, features: Features) -> np.ndarray:
    """Predict with all members at once and join the results: as `combine`, to rounding.

    Args:
        members: The shards that have a state, in the order of their shards.
        joined: What says what they say, in this order.
        aggregation: One of `AGGREGATIONS`, and not `"sum"`.
        features: Feature name to array `[n, *shape]`.

    Returns:
        Class probabilities `[n, classes]` or targets `[n, ...]`, float64; NaN in rows of which no member says a number.
    """
    weights = np.array([member.records if aggregation == "weighted" else 1 for member in members], dtype=np.float64)
    parts = []
    for outputs in joined(features):
        said = _votes(outputs) if aggregation == "vote" else outputs
        heard = _heard(outputs, 2)
        if not heard.all():
            each = weights.reshape(-1, *[1] * (said.ndim - 1)) * heard
            with np.errstate(invalid="ignore"):
                parts.append((np.where(heard, said, 0.0) * each).sum(axis=0) / each.sum(axis=0))
            continue
        weighted = said * weights.reshape(-1, *[1] * (said.ndim - 1)) if aggregation == "weighted" else said
        parts.append(weighted.sum(axis=0) / weights.sum())
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def merged(members: Sequence[Member], learner: MergeLearner) -> State:
    """The state of all members' records together.

    Args:
        members: The shards that have a state.
        learner: Whose states they have.

    Returns:
        What one model is solved from.

    Raises:
        NotServingError: If there are no members.
    """
    return learner.merge([member.state for member in _in_order(members)])


def _in_order(members: Sequence[Member]) -> list[Member]:
    if not members:
        raise NotServingError(
            "no shard has a trained state, so there is nothing to predict with: ingest records and train first"
        )
    return sorted(members, key=lambda member: member.shard)


def _heard(outputs: np.ndarray, axes: int) -> np.ndarray:
    """Where a member says numbers only: as many axes as it is looked at by, and ones of length 1 after them."""
    inner = tuple(range(axes, outputs.ndim))
    return np.asarray(np.isfinite(outputs).all(axis=inner, keepdims=True))


def _votes(probabilities: np.ndarray) -> np.ndarray:
    """One-hot of each row's most probable class; the lowest index wins a tie."""
    votes = np.zeros_like(probabilities)
    np.put_along_axis(votes, probabilities.argmax(axis=-1)[..., None], 1.0, axis=-1)
    return votes
