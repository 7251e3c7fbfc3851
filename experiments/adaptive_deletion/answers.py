"""The attack on published answers: forgetting one subject shows which votes its shard had cast.

Between forgetting and recovering, the shard of the forgotten subject abstains. So whoever compares the answers on the
training records before and after sees where that shard had voted right and few others had, and those records are
likely its own. The adversary requests them. After recovering, that shard should know less than the others and have
fewer records; where deletion is exact, it comes out below another shard half of the time.
"""

from __future__ import annotations

import numpy as np

from experiments.adaptive_deletion.digits import Digits, accuracies, fit, outputs, sizes, votes, without
from experiments.adaptive_deletion.figures import Figure, below, figure, pair_bound
from experiments.adaptive_deletion.placing import fresh_placement, names
from experiments.adaptive_deletion.setting import Votes
from shards.private_votes import PrivateVotes, noisy_labels

SHARES = "vote shares"
LABELS = "labels"


def right(
    counts: np.ndarray, target: np.ndarray, sigma: float | None, asked: int, rng: np.random.Generator
) -> np.ndarray:
    """What the adversary sees of every record's own label, `[n]` in [0, 1].

    Args:
        counts: `[n, classes]` votes.
        target: `[n]` labels.
        sigma: Noise on the counts; 0 for labels without noise, None for shares of votes.
        asked: Labels per record.
        rng: For the noise.

    Returns:
        Share of votes or of answers that say so.
    """
    if sigma is None:
        return np.asarray(counts[np.arange(len(target)), target] / counts.sum(axis=1))
    if not sigma:
        return np.asarray(counts.argmax(axis=1) == target, dtype=np.float64)
    labels = noisy_labels(np.repeat(counts, asked, axis=0), sigma, rng.standard_normal)
    return np.asarray((labels.reshape(-1, asked) == target[:, None]).mean(axis=1))


def choose(before: np.ndarray, after: np.ndarray, requests: int, rng: np.random.Generator) -> np.ndarray:
    """The records whose own label lost most, ties at random."""
    order = rng.permutation(len(before))
    return order[np.argsort((after - before)[order], kind="stable")[:requests]]


def repetition(
    digits: Digits, n_shards: int, requests: int, cases: list[tuple[float | None, int]], rng: np.random.Generator
) -> list[tuple[float, float]]:
    """One placement, attacked through every kind of answer; the last pair is for requests drawn blindly.

    Returns:
        Indicators by accuracy and by size.
    """
    n = len(digits.target)
    placement = fresh_placement(rng, names(n), n_shards)
    said = outputs(digits.kernel, fit(digits, placement, n_shards))
    first = int(rng.integers(n))
    mine = np.arange(n_shards) == placement[first]
    full, reduced = votes(said), votes(said[~mine])
    others = np.delete(np.arange(n), first)

    def judge(chosen: np.ndarray) -> tuple[float, float]:
        left = without(placement, np.append(others[chosen], first))
        return below(accuracies(digits, left, n_shards), mine), below(sizes(left, n_shards), mine)

    results = []
    for sigma, asked in cases:
        before, after = (right(c, digits.target, sigma, asked, rng)[others] for c in (full, reduced))
        results.append(judge(choose(before, after, requests, rng)))
    results.append(judge(rng.choice(n - 1, size=requests, replace=False)))
    return results


def measure_answers(setting: Votes, digits: Digits, n_shards: int, rng: np.random.Generator) -> list[Figure]:
    """The indicator for every kind of answer, with epsilon and bound where there is noise."""
    cases: list[tuple[float | None, int]] = [(None, 1)]
    cases += [(sigma, asked) for sigma in setting.sigmas for asked in (setting.asked if sigma else setting.asked[:1])]
    runs = [repetition(digits, n_shards, setting.requests, cases, rng) for _ in range(setting.repetitions)]
    figures = []
    for column, what in ((0, "accuracy"), (1, "size")):
        for i, (sigma, asked) in enumerate([*cases, (None, 0)]):
            kind = "random" if i == len(cases) else SHARES if sigma is None else LABELS
            given: dict[str, float | str] = {"published": kind, "requests": setting.requests}
            more: dict[str, float] = {}
            bound = None
            if kind == LABELS and sigma is not None:
                queries = 2 * len(digits.target) * asked
                given |= {"sigma": sigma, "labels_per_row": asked}
                bound = pair_bound(sigma, queries, n_shards)
                if sigma:
                    more["epsilon"] = PrivateVotes(sigma, 1.0, setting.delta).epsilon(queries)
            figures.append(figure(f"answers.{what}", given, [run[i][column] for run in runs], bound, more))
    return figures
