"""What noise on the votes costs in accuracy, and what it buys in epsilon."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments.adaptive_deletion.digits import Digits, fit, outputs, votes
from experiments.adaptive_deletion.placing import fresh_placement, names
from experiments.adaptive_deletion.setting import AccuracySetting
from shards.private_votes import PrivateVotes, noisy_labels


@dataclass(frozen=True)
class Cost:
    """One row.

    Attributes:
        n_shards: S.
        sigma: Noise on each count.
        test_accuracy: Of one label a record.
        epsilon: Of the declared number of labels, for one subject; None without noise.
        epsilon_afresh: The same for "as if trained afresh".
    """

    n_shards: int
    sigma: float
    test_accuracy: float
    epsilon: float | None
    epsilon_afresh: float | None


def measure_accuracy(setting: AccuracySetting, digits: Digits, rng: np.random.Generator) -> list[Cost]:
    """Accuracy and epsilon for every number of shards and every noise."""
    rows = []
    for n_shards in setting.n_shards:
        drawn = [_test_votes(digits, n_shards, rng) for _ in range(setting.repetitions)]
        for sigma in setting.sigmas:
            labels = [noisy_labels(counts, sigma, rng.standard_normal) for counts in drawn]
            accuracy = float(np.mean([label == digits.test_target for label in labels]))
            subject, afresh = (
                PrivateVotes(sigma, 1.0, setting.delta, votes=v).epsilon(setting.labels) if sigma else None
                for v in (1, n_shards)
            )
            rows.append(Cost(n_shards, sigma, accuracy, subject, afresh))
    return rows


def _test_votes(digits: Digits, n_shards: int, rng: np.random.Generator) -> np.ndarray:
    placement = fresh_placement(rng, names(len(digits.target)), n_shards)
    return votes(outputs(digits.test_kernel, fit(digits, placement, n_shards)))
