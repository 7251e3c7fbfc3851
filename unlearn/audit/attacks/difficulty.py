"""Loss, compared with the loss of models that never saw the record: an easy record is no member for that."""

from __future__ import annotations

import numpy as np

from unlearn.audit.attacks.base import Card, finite, mean_where, reference_models

CARD = Card(
    "difficulty",
    "difficulty calibration",
    ("losses under the model", "losses under reference models, some of them without each record"),
    "Watson, Guo, Cormode & Sablayrolles 2022, On the Importance of Difficulty Calibration, arXiv:2111.08440",
)


def difficulty_score(losses: np.ndarray, reference_losses: np.ndarray, membership: np.ndarray) -> np.ndarray:
    r"""\(\operatorname{mean}_{\text{ref without } x} \ell_{ref}(x) - \ell_\theta(x)\).

    Args:
        losses: `[n]` under the model that is attacked.
        reference_losses: `[models, n]`.
        membership: `[models, n]` bool: the reference model was trained on the record, and is not used for it.

    Returns:
        `[n]` float64; higher means more likely a member.

    Raises:
        InputError: If a record has no reference model without it, or a number is not finite.
    """
    own = finite(losses, "losses", 1)
    reference, member = reference_models(reference_losses, membership, len(own))
    return np.asarray(mean_where(reference, ~member, 1, "reference models without it") - own)
