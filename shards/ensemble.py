"""The served model: one state per shard, or none, and a rule that joins what they say.

A shard without a state abstains: the others are joined as if it did not exist.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shards.errors import ConfigurationError, NotServingError
from shards.learners.base import Features, Predictor

AGGREGATIONS = ("mean", "vote", "weighted")
"""Mean of the members' outputs; share of their votes; mean weighted by the records each has seen."""


@dataclass(frozen=True)
class Member:
    """One shard's contribution.

    Attributes:
        shard: Shard number.
        records: Records its state was trained on.
        predict: Features to class probabilities `[n, classes]` or targets `[n, ...]`, float64.
    """

    shard: int
    records: int
    predict: Predictor


def check_aggregation(aggregation: str, kind: str) -> None:
    """Refuse a rule that does not exist or does not fit the task.

    Args:
        aggregation: One of `AGGREGATIONS`.
        kind: `"classification"` or `"regression"`.

    Raises:
        ConfigurationError: With the rules there are.
    """
    if aggregation not in AGGREGATIONS:
        raise ConfigurationError(f"aggregation must be one of {', '.join(AGGREGATIONS)}, got {aggregation!r}")
    if aggregation == "vote" and kind == "regression":
        raise ConfigurationError("aggregation 'vote' is for classification: use 'mean' or 'weighted'")


def combine(members: Mapping[int, Member] | Sequence[Member], aggregation: str, features: Features) -> np.ndarray:
    """Predict with every member and join the results.

    Members are joined in the order of their shards, in float64, so that equal states give equal bytes.

    Args:
        members: The shards that have a state.
        aggregation: One of `AGGREGATIONS`.
        features: Feature name to array `[n, *shape]`.

    Returns:
        Class probabilities `[n, classes]` or targets `[n, ...]`, float64.

    Raises:
        NotServingError: If there are no members.
    """
    present = list(members.values()) if isinstance(members, Mapping) else list(members)
    if not present:
        raise NotServingError(
            "no shard has a trained state, so there is nothing to predict with: ingest records and train first"
        )
    total: np.ndarray | None = None
    weights = 0
    for member in sorted(present, key=lambda m: m.shard):
        output = np.asarray(member.predict(features), dtype=np.float64)
        weight = member.records if aggregation == "weighted" else 1
        said = _votes(output) if aggregation == "vote" else output
        total = said * weight if total is None else total + said * weight
        weights += weight
    assert total is not None  # noqa: S101 - there is at least one member
    return total / weights


def _votes(probabilities: np.ndarray) -> np.ndarray:
    """One-hot of each row's most probable class; the lowest index wins a tie."""
    votes = np.zeros_like(probabilities)
    votes[np.arange(len(votes)), probabilities.argmax(axis=1)] = 1.0
    return votes
