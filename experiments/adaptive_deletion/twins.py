"""The counterexample: labels alone tell who shares a shard, and deleting by them leaves what no retraining would.

Subjects come in pairs with equal records. A shard's model is a lookup table: it votes 1 for what it holds, and 0 for
anything else. Of three shards, two vote 1 exactly where the twins are apart. The adversary has all those pairs removed.
What stays is pairs that are together, each in one shard, so the ensemble knows none of its own training records;
trained afresh, it knows two of three.
"""

from __future__ import annotations

import numpy as np

from experiments.adaptive_deletion.figures import Figure, figure, less, pair_bound
from experiments.adaptive_deletion.placing import fresh_placement, names
from experiments.adaptive_deletion.setting import Twins
from shards.private_votes import Noise, noisy_labels

N_SHARDS = 3


def counts(placement: np.ndarray) -> np.ndarray:
    """Votes for 0 and for 1 on each pair's record, `[pairs, 2]`, from the placement `[pairs, 2]`."""
    known = np.where(placement[:, 0] == placement[:, 1], 1, 2)
    return np.stack([N_SHARDS - known, known], axis=1)


def published(votes: np.ndarray, sigma: float, asked: int, noise: Noise) -> np.ndarray:
    """How often each row was given label 1, `[pairs]`, in `asked` answers each."""
    if not sigma:
        return np.asarray(votes.argmax(axis=1) * asked)
    labels = noisy_labels(np.repeat(votes, asked, axis=0), sigma, noise)
    return np.asarray(labels.reshape(-1, asked).sum(axis=1))


def attack(setting: Twins, sigma: float, asked: int, rng: np.random.Generator, *, adaptive: bool) -> float:
    """One repetition: whether the attacked ensemble knows fewer of its own records than one trained afresh.

    Args:
        setting: Sizes.
        sigma: Noise on the counts, 0 for none.
        asked: Labels per row.
        rng: For placements, noise and guesses.
        adaptive: Whether the requests depend on the labels; otherwise as many are drawn blindly.

    Returns:
        1, 0, or a half for a tie.
    """
    subjects = names(2 * setting.pairs)
    placement = fresh_placement(rng, subjects, N_SHARDS).reshape(-1, 2)
    ones = published(counts(placement), sigma, asked, rng.standard_normal)
    removed = 2 * ones > asked
    if not adaptive:
        removed = rng.permutation(removed)
    afresh = fresh_placement(rng, subjects, N_SHARDS).reshape(-1, 2)
    return less(_knows(placement[~removed]), _knows(afresh[~removed]))


def _knows(placement: np.ndarray) -> float:
    return float(counts(placement).argmax(axis=1).sum())


def measure_twins(setting: Twins, rng: np.random.Generator) -> list[Figure]:
    """The indicator for every noise and number of answers, and once without looking."""
    grid = [(sigma, asked) for sigma in setting.sigmas for asked in setting.asked if sigma or asked == setting.asked[0]]
    found = []
    for name, adaptive, cases in (("twins.labels", True, grid), ("twins.random", False, [(0.0, 1)])):
        for sigma, asked in cases:
            values = [attack(setting, sigma, asked, rng, adaptive=adaptive) for _ in range(setting.repetitions)]
            bound = pair_bound(sigma, setting.pairs * asked, N_SHARDS)
            found.append(figure(name, {"sigma": sigma, "labels_per_row": asked}, values, bound))
    return found
