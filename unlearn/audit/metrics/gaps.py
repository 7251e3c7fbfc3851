"""The usual four accuracies of unlearning, each against a model retrained without the forget set: UA, RA, TA, MIA.

The reference is always the retrained model: forgetting does not mean an accuracy of 0, nor an attack at one half.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from unlearn.audit.metrics.estimate import CONFIDENCE, Estimate, as_json, checked_confidence, paired_difference
from unlearn.errors import InputError


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one model did on the three sets.

    Attributes:
        forget: `[n_forget]` bool: predicted right.
        retain: `[n_retain]` bool: predicted right.
        test: `[n_test]` bool: predicted right.
        called_non_member: `[n_forget]` bool: a rule chosen elsewhere says that the forgotten record was no member.
        seconds: What it took to make the model, positive.

    Raises:
        InputError: If these are others, or a set is empty.
    """

    forget: np.ndarray
    retain: np.ndarray
    test: np.ndarray
    called_non_member: np.ndarray
    seconds: float

    def __post_init__(self) -> None:
        for name in ("forget", "retain", "test", "called_non_member"):
            value = np.asarray(getattr(self, name))
            if value.dtype != np.bool_ or value.ndim != 1 or not len(value):
                raise InputError(f"{name} must be bool [n], a record at least, got {value.dtype} {value.shape}")
            object.__setattr__(self, name, value)
        if self.forget.shape != self.called_non_member.shape or not self.seconds > 0:
            raise InputError(
                f"called_non_member is about the {len(self.forget)} forgotten records, got "
                f"{len(self.called_non_member)}; "
                f"and seconds must be positive, got {self.seconds}"
            )

    @property
    def ua(self) -> float:
        """Unlearning accuracy: 1 - accuracy on the forget set."""
        return 1 - float(self.forget.mean())

    @property
    def ra(self) -> float:
        """Accuracy on the retain set."""
        return float(self.retain.mean())

    @property
    def ta(self) -> float:
        """Accuracy on the test set."""
        return float(self.test.mean())

    @property
    def mia(self) -> float:
        """Share of the forget set that the attack calls non-members."""
        return float(self.called_non_member.mean())


@dataclass(frozen=True)
class GapResult:
    """Unlearned against retrained.

    Attributes:
        unlearned: UA, RA, TA, MIA.
        retrained: The same of the retrained model.
        gaps: Unlearned minus retrained of each; the four intervals hold together.
        average_gap: Mean of the four absolute gaps.
        seconds: Of unlearning.
        retrain_seconds: Of retraining.
    """

    unlearned: dict[str, float]
    retrained: dict[str, float]
    gaps: dict[str, Estimate]
    average_gap: Estimate
    seconds: float
    retrain_seconds: float

    @property
    def speed_up(self) -> float:
        """Time of retraining over time of unlearning."""
        return self.retrain_seconds / self.seconds

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return as_json(self) | {"speed_up": self.speed_up}


def gaps(unlearned: Outcome, retrained: Outcome, confidence: float = CONFIDENCE) -> GapResult:
    """Compare with a retrained model [Jia et al. 2023, arXiv:2304.04934; Fan et al. 2024, arXiv:2310.12508].

    The intervals are of sampling records. They say nothing of how another run of training would differ: compare a
    retrained model with another retrained one for that, and print both.

    Args:
        unlearned: Of the unlearned model.
        retrained: Of the retrained one, on the same records in the same order.
        confidence: With which all intervals hold together.

    Returns:
        The gaps.
    """
    each = 1 - (1 - checked_confidence(confidence)) / 4
    found = {
        "ua": paired_difference(~unlearned.forget, ~retrained.forget, each),
        "ra": paired_difference(unlearned.retain, retrained.retain, each),
        "ta": paired_difference(unlearned.test, retrained.test, each),
        "mia": paired_difference(unlearned.called_non_member, retrained.called_non_member, each),
    }
    values = [abs(one.value or 0.0) for one in found.values()]
    lows = [max(0.0, one.low, -one.high) for one in found.values()]
    highs = [max(abs(one.low), abs(one.high)) for one in found.values()]
    average = Estimate(
        float(np.mean(values)), float(np.mean(lows)), float(np.mean(highs)), confidence, "mean of the four intervals"
    )
    return GapResult(_four(unlearned), _four(retrained), found, average, unlearned.seconds, retrained.seconds)


def _four(outcome: Outcome) -> dict[str, float]:
    return {"ua": outcome.ua, "ra": outcome.ra, "ta": outcome.ta, "mia": outcome.mia}
