r"""The likelihood-ratio attack: is the confidence more like that of models with the record, or of models without it?

Per record, the logit-scaled confidences \(\varphi\) of shadow models are taken as normal, with one mean and deviation
over models trained with it and another over those without. With few models, deviations are pooled over all records
("fixed variance"): the released code sets both from the models *with* the record; here each side has its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unlearn.audit.attacks.base import Card, finite, mean_where, reference_models
from unlearn.errors import InputError

_PAPER = (
    "Carlini, Chien, Nasr, Song, Terzis & Tramer 2022, Membership Inference from First Principles, arXiv:2112.03570"
)
_OWN = "confidences under the model"

ONLINE = Card("lira_online", "LiRA, online", (_OWN, "shadow models with and without each record, two each"), _PAPER)
ONLINE_FIXED = Card(
    "lira_online_fixed",
    "LiRA, online, fixed variance",
    (_OWN, "shadow models with and without each record, one each"),
    _PAPER,
)
OFFLINE = Card("lira_offline", "LiRA, offline", (_OWN, "two shadow models without each record"), _PAPER)
OFFLINE_FIXED = Card(
    "lira_offline_fixed", "LiRA, offline, fixed variance", (_OWN, "a shadow model without each record"), _PAPER
)

SPREAD_FLOOR = 1e-6
"""Least standard deviation: models that agree entirely are no proof that the next one would."""


@dataclass(frozen=True, eq=False)
class Gaussians:
    """A normal distribution a record.

    Attributes:
        mean: `[n]` float64.
        std: `[n]` float64, positive.
    """

    mean: np.ndarray
    std: np.ndarray

    def log_density(self, values: np.ndarray) -> np.ndarray:
        """Logarithm of the density.

        Args:
            values: `[n]`.

        Returns:
            `[n]` float64.
        """
        return np.asarray(-0.5 * np.log(2 * np.pi) - np.log(self.std) - 0.5 * self.standardise(values) ** 2)

    def standardise(self, values: np.ndarray) -> np.ndarray:
        """Deviations from the mean.

        Args:
            values: `[n]`.

        Returns:
            `[n]` float64.
        """
        return np.asarray((values - self.mean) / self.std)


def per_record(values: np.ndarray, chosen: np.ndarray, what: str) -> Gaussians:
    """Mean and deviation of each record, over its chosen models.

    Args:
        values: `[models, n]` float64.
        chosen: `[models, n]` bool, at least two a record.
        what: The models are called, in a message.

    Returns:
        One distribution a record; deviations divide by the number of models, as in the released code.

    Raises:
        InputError: If a record has fewer than two.
    """
    mean = mean_where(values, chosen, 2, what)
    variance = mean_where((values - mean) ** 2, chosen, 2, what)
    return Gaussians(mean, np.maximum(np.sqrt(variance), SPREAD_FLOOR))


def pooled(values: np.ndarray, chosen: np.ndarray, what: str) -> Gaussians:
    """Mean of each record, and one deviation around these means for all.

    Args:
        values: `[models, n]` float64.
        chosen: `[models, n]` bool, at least one a record, and more for some.
        what: The models are called, in a message.

    Returns:
        One distribution a record.

    Raises:
        InputError: If a record has none, or all have a single one.
    """
    mean = mean_where(values, chosen, 1, what)
    free = int(chosen.sum() - chosen.shape[1])
    if free < 1:
        raise InputError(f"every record has a single one of the {what}: a deviation needs two for some record")
    total = float(np.where(chosen, (values - mean) ** 2, 0).sum())
    return Gaussians(mean, np.full(len(mean), max(np.sqrt(total / free), SPREAD_FLOOR)))


def lira_online(values: np.ndarray, shadow_values: np.ndarray, membership: np.ndarray) -> np.ndarray:
    r"""\(\ln N(\varphi; \mu_{in}, \sigma_{in}^2) - \ln N(\varphi; \mu_{out}, \sigma_{out}^2)\).

    Args:
        values: `[n]` confidences under the model that is attacked.
        shadow_values: `[models, n]` confidences under shadow models.
        membership: `[models, n]` bool: the shadow model was trained on the record.

    Returns:
        `[n]` float64; higher means more likely a member.

    Raises:
        InputError: If a record has fewer than two models on either side, or a number is not finite.
    """
    own, shadow, member = _checked(values, shadow_values, membership)
    inside, outside = per_record(shadow, member, _WITH), per_record(shadow, ~member, _WITHOUT)
    return np.asarray(inside.log_density(own) - outside.log_density(own))


def lira_online_fixed(values: np.ndarray, shadow_values: np.ndarray, membership: np.ndarray) -> np.ndarray:
    """As `lira_online`, with one deviation for all records with, and another for all without.

    Args:
        values: `[n]`.
        shadow_values: `[models, n]`.
        membership: `[models, n]` bool.

    Returns:
        `[n]` float64; higher means more likely a member.

    Raises:
        InputError: If a record has no model on either side, or a number is not finite.
    """
    own, shadow, member = _checked(values, shadow_values, membership)
    inside, outside = pooled(shadow, member, _WITH), pooled(shadow, ~member, _WITHOUT)
    return np.asarray(inside.log_density(own) - outside.log_density(own))


def lira_offline(values: np.ndarray, shadow_values: np.ndarray, membership: np.ndarray) -> np.ndarray:
    r"""\((\varphi - \mu_{out}) / \sigma_{out}\), which orders as \(\Phi\) of it does, and does not saturate at 1.

    One-sided: a confidence far *below* that of models without the record is no sign of membership. (The released code
    scores by the density without the record, where it is.)

    Args:
        values: `[n]`.
        shadow_values: `[models, n]`.
        membership: `[models, n]` bool.

    Returns:
        `[n]` float64; higher means more likely a member.

    Raises:
        InputError: If a record has fewer than two models without it, or a number is not finite.
    """
    own, shadow, member = _checked(values, shadow_values, membership)
    return per_record(shadow, ~member, _WITHOUT).standardise(own)


def lira_offline_fixed(values: np.ndarray, shadow_values: np.ndarray, membership: np.ndarray) -> np.ndarray:
    """As `lira_offline`, with one deviation for all records.

    Args:
        values: `[n]`.
        shadow_values: `[models, n]`.
        membership: `[models, n]` bool.

    Returns:
        `[n]` float64; higher means more likely a member.

    Raises:
        InputError: If a record has no model without it, or a number is not finite.
    """
    own, shadow, member = _checked(values, shadow_values, membership)
    return pooled(shadow, ~member, _WITHOUT).standardise(own)


_WITH = "shadow models with it"
_WITHOUT = "shadow models without it"


def _checked(
    values: np.ndarray, shadow_values: np.ndarray, membership: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    own = finite(values, "confidences", 1)
    return own, *reference_models(shadow_values, membership, len(own))
