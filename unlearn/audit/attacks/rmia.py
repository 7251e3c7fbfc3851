r"""The relative attack: does the model favour the record more than it favours records of the population?

How much it favours x is \(p_\theta(x) / p(x)\), its probability of the label against the average of models with and
without x. The score is the share of population records z that it favours less, by a factor \(\gamma\).
"""

from __future__ import annotations

import numpy as np

from unlearn.audit.attacks.base import FLOOR, Card, finite, mean_where, reference_models
from unlearn.errors import InputError

CARD = Card(
    "rmia",
    "robust membership inference",
    (
        "the label's probability under the model",
        "the same under reference models, one without each record is enough",
        "both for records of the population that the model never saw",
    ),
    "Zarifzadeh, Liu & Shokri 2024, Low-Cost High-Power Membership Inference Attacks, arXiv:2312.03262",
)

GAMMA = 2.0
"""As in the paper's experiments on images."""

OFFLINE_A = 0.3
"""How much surer models with a record are, as in the paper for CIFAR-10: fixed before anything is attacked."""


def marginal_online(reference: np.ndarray, membership: np.ndarray) -> np.ndarray:
    r"""\(p(x) = \tfrac12 (p_{in}(x) + p_{out}(x))\), each the mean over the reference models of that kind.

    Args:
        reference: `[models, n]` probability of the label under reference models.
        membership: `[models, n]` bool: the reference model was trained on the record.

    Returns:
        `[n]` float64.

    Raises:
        InputError: If a record has no model of either kind, or these are no probabilities.
    """
    p = _probability(reference, 2)
    p, member = reference_models(p, membership, p.shape[1])
    inside = mean_where(p, member, 1, "reference models with it")
    return np.asarray((inside + mean_where(p, ~member, 1, "reference models without it")) / 2)


def marginal_offline(reference: np.ndarray, membership: np.ndarray, a: float = OFFLINE_A) -> np.ndarray:
    r"""\(p(x) = \tfrac12 ((1 + a) p_{out}(x) + 1 - a)\): models with x are guessed from those without.

    `a` must not be chosen with the memberships that are attacked: take the default, or choose it on a shadow model
    whose memberships are yours.

    Args:
        reference: `[models, n]` probability of the label under reference models.
        membership: `[models, n]` bool; all False for records of the population.
        a: In [0, 1].

    Returns:
        `[n]` float64.

    Raises:
        InputError: If a record has no model without it, `a` is out of range, or these are no probabilities.
    """
    if not 0 <= a <= 1:
        raise InputError(f"a must be between 0 and 1, got {a}")
    p = _probability(reference, 2)
    p, member = reference_models(p, membership, p.shape[1])
    return np.asarray(((1 + a) * mean_where(p, ~member, 1, "reference models without it") + 1 - a) / 2)


def rmia_score(
    own: np.ndarray,
    marginal: np.ndarray,
    population: np.ndarray,
    population_marginal: np.ndarray,
    gamma: float = GAMMA,
) -> np.ndarray:
    r"""\(\Pr_z [ (p_\theta(x) / p(x)) / (p_\theta(z) / p(z)) \ge \gamma ]\).

    Args:
        own: `[n]` probability of the label under the model that is attacked.
        marginal: `[n]` p(x), by `marginal_online` or `marginal_offline`.
        population: `[m]` the same of records that the model never saw; none of those that are attacked.
        population_marginal: `[m]` p(z), by the same function.
        gamma: At least 1.

    Returns:
        `[n]` float64 in multiples of 1/m; higher means more likely a member.

    Raises:
        InputError: If there is no population, gamma is below 1, or these are no probabilities.
    """
    if not gamma >= 1:
        raise InputError(f"gamma must be at least 1, got {gamma}")
    if not len(population):
        raise InputError("the population is empty: give records that the model never saw")
    ratio = _ratio(own, marginal)
    needed = np.sort(gamma * _ratio(population, population_marginal))
    return np.searchsorted(needed, ratio, side="right") / len(needed)


def _ratio(own: np.ndarray, marginal: np.ndarray) -> np.ndarray:
    p, q = _probability(own, 1), _probability(marginal, 1)
    if p.shape != q.shape:
        raise InputError(f"{len(p)} probabilities came with {len(q)} averages of reference models")
    return np.asarray(p / np.maximum(q, FLOOR))


def _probability(values: np.ndarray, ndim: int) -> np.ndarray:
    p = finite(values, "probabilities of the label", ndim)
    if p.size and (p.min() < 0 or p.max() > 1 + 1e-6):
        raise InputError(f"probabilities of the label must lie in [0, 1], got {p.min()} to {p.max()}")
    return p
