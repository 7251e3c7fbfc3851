"""Attacks on an ensemble of shards by its owner: every other shard is a model without the record, for nothing.

They are told which shard the record would be in, and see the constituents: right for an owner who audits a system,
more than anybody outside has.
"""

from __future__ import annotations

import numpy as np

from unlearn.audit.attacks.base import Card, confidence, finite
from unlearn.errors import InputError

_NEEDS = ("class probabilities of every shard's model", "labels", "the shard each record would be in")
_SOURCE = "this project; compare LiRA, arXiv:2112.03570, with the other shards as the models without the record"

SHARD_LIRA = Card("shard_lira", "the record's shard against all others", _NEEDS, _SOURCE)
JACKKNIFE = Card("ensemble_jackknife", "the ensemble against the ensemble without the record's shard", _NEEDS, _SOURCE)


def shard_lira(probabilities: np.ndarray, labels: np.ndarray, shard: np.ndarray) -> np.ndarray:
    r"""\(\varphi_{s(x)}(x) - \operatorname{mean}_{j \ne s(x)} \varphi_j(x)\).

    Args:
        probabilities: `[shards, n, classes]`.
        labels: `[n]` int.
        shard: `[n]` int: where each record is, or would have been, placed.

    Returns:
        `[n]` float64; higher means more likely a member.

    Raises:
        InputError: If there is one shard only, or a number is out of range.
    """
    p, mine = _checked(probabilities, shard)
    values = confidence(p, labels)
    own = values[mine, np.arange(len(mine))]
    return np.asarray(own - (values.sum(axis=0) - own) / (len(values) - 1))


def ensemble_jackknife(probabilities: np.ndarray, labels: np.ndarray, shard: np.ndarray) -> np.ndarray:
    r"""\(\varphi(\operatorname{mean}_j p_j) - \varphi(\operatorname{mean}_{j \ne s(x)} p_j)\).

    Args:
        probabilities: `[shards, n, classes]`.
        labels: `[n]` int.
        shard: `[n]` int: where each record is, or would have been, placed.

    Returns:
        `[n]` float64; higher means more likely a member.

    Raises:
        InputError: If there is one shard only, or a number is out of range.
    """
    p, mine = _checked(probabilities, shard)
    total = p.sum(axis=0)
    others = np.maximum(total - p[mine, np.arange(len(mine))], 0)  # rounding may leave a little less than nothing
    return np.asarray(confidence(total / len(p), labels) - confidence(others / (len(p) - 1), labels))


def _checked(probabilities: np.ndarray, shard: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    p, mine = finite(probabilities, "probabilities", 3), np.asarray(shard)
    if len(p) < 2 or mine.shape != (p.shape[1],) or mine.dtype.kind not in "iu":
        raise InputError(
            f"give probabilities [shards, n, classes] of two shards or more and n integers, got {p.shape} and "
            f"{mine.dtype} {mine.shape}"
        )
    if len(mine) and (mine.min() < 0 or mine.max() >= len(p)):
        raise InputError(f"shards must be 0 to {len(p) - 1}, got {mine.min()} to {mine.max()}")
    return p, mine
