"""LiRA against unlearning: is the confidence that of unlearned models, or of models retrained without the record?"""

from __future__ import annotations

import numpy as np

from unlearn.audit.attacks.base import Card, finite
from unlearn.audit.attacks.lira import per_record
from unlearn.errors import InputError

CARD = Card(
    "u_lira",
    "U-LiRA",
    ("confidences under a model", "confidences under unlearned models", "confidences under retrained models"),
    "Hayes, Shumailov, Triantafillou, Khalifa & Papernot 2024, Inexact Unlearning Needs More Careful Evaluations, "
    "arXiv:2403.01218",
)


def u_lira(values: np.ndarray, unlearned: np.ndarray, retrained: np.ndarray) -> np.ndarray:
    r"""\(\ln N(\varphi; \text{unlearned models}) - \ln N(\varphi; \text{retrained models})\), per record.

    Here "member" means: the model did learn the record, and then unlearned it. After exact unlearning nothing tells
    the two apart.

    Args:
        values: `[n]` confidences under the model that is attacked; it is none of the others.
        unlearned: `[a, n]` confidences under models that learned and unlearned each record, two at least.
        retrained: `[b, n]` confidences under models that never saw it, two at least.

    Returns:
        `[n]` float64; higher means more likely unlearned than retrained.

    Raises:
        InputError: If there are too few models, shapes differ, or a number is not finite.
    """
    own = finite(values, "confidences", 1)
    with_it, without = finite(unlearned, "unlearned confidences", 2), finite(retrained, "retrained confidences", 2)
    if not with_it.shape[1] == without.shape[1] == len(own):
        raise InputError(
            f"confidences are of {len(own)}, {with_it.shape[1]} and {without.shape[1]} records: give all the same ones"
        )
    inside = per_record(with_it, np.ones(with_it.shape, dtype=np.bool_), "unlearned models")
    outside = per_record(without, np.ones(without.shape, dtype=np.bool_), "retrained models")
    return np.asarray(inside.log_density(own) - outside.log_density(own))
