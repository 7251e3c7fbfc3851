"""What no retraining repairs: others delete their records because of what the model said about one subject.

One shard holds the subject u and votes u's secret bit on a certain row; the others abstain. The adversary reads the
bit from the labels, and has everyone removed whose colour is another bit. Then u goes too, and the model is trained
afresh, with fresh randomness: it still knows the bit. Only noise on what was published before helps.
"""

from __future__ import annotations

import numpy as np

from experiments.adaptive_deletion.figures import Figure, figure, guess_bound
from experiments.adaptive_deletion.setting import Copycat
from shards.private_votes import noisy_labels


def attack(setting: Copycat, sigma: float, asked: int, rng: np.random.Generator) -> float:
    """One repetition: whether the model trained afresh, without u, tells u's bit."""
    secret = int(rng.integers(2))
    votes = np.zeros((asked, 2), dtype=np.int64)
    votes[:, secret] = 1
    labels = noisy_labels(votes, sigma, rng.standard_normal) if sigma else votes.argmax(axis=1)
    ones = 2 * labels.sum()
    heard = int(rng.integers(2)) if ones == asked else int(ones > asked)
    colours = rng.integers(2, size=setting.others)
    remaining = colours[colours == heard]
    model = int(remaining.mean() > 0.5) if len(remaining) else int(rng.integers(2))
    return float(model == secret)


def measure_copycat(setting: Copycat, rng: np.random.Generator) -> list[Figure]:
    """How often the bit is told, for every noise and number of answers; 0.5 would be guessing."""
    found = []
    for sigma in setting.sigmas:
        for asked in setting.asked if sigma else setting.asked[:1]:
            values = [attack(setting, sigma, asked, rng) for _ in range(setting.repetitions)]
            bound = guess_bound(sigma, asked, votes=1)
            found.append(figure("copycat.labels", {"sigma": sigma, "labels": asked}, values, bound))
    return found
