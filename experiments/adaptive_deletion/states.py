"""The attack on published states, and what placing everyone anew does to it.

After Gupta et al. (arXiv 2106.04378, figure 1): half of the shards are targets. A record is taken to be in the shard
that is surest of its label; of those taken to be in a target, the ones with the largest lead over the second surest
shard are requested. Afterwards the targets should know less than the others, and have fewer records; where deletion
is exact, either half comes out ahead as often. With placing anew, everything is trained again under a fresh key after
the requests.

A few requests move sizes and accuracies little. That is a weakness of those tests, not safety: one request can be
chosen as a code for the whole placement (`states.code`).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict

import numpy as np

from experiments.adaptive_deletion.digits import Digits, accuracies, fit, outputs, sizes, without
from experiments.adaptive_deletion.figures import Figure, figure, less
from experiments.adaptive_deletion.placing import fresh_placement, names
from experiments.adaptive_deletion.setting import States

ADAPTIVE, RANDOM, ANEW = "adaptive", "random", "adaptive, placed anew"


def choose(said: np.ndarray, target: np.ndarray, targeted: np.ndarray, requests: int) -> np.ndarray:
    """Whom to delete, from what every shard says about every training record.

    Args:
        said: `[S, n, classes]`.
        target: `[n]` the records' labels.
        targeted: `[S]` bool.
        requests: How many.

    Returns:
        Rows, int64; fewer if fewer are taken to be in a targeted shard.
    """
    sure = said[:, np.arange(len(target)), target]
    two = np.sort(sure, axis=0)[-2:]
    candidates = np.flatnonzero(targeted[sure.argmax(axis=0)])
    lead = (two[1] - two[0])[candidates]
    return candidates[np.argsort(-lead, kind="stable")[:requests]]


def repetition(
    digits: Digits, n_shards: int, requests: tuple[int, ...], rng: np.random.Generator
) -> dict[tuple[str, int], tuple[float, float]]:
    """One placement, attacked with every number of requests; and as many requests without looking, each on its own.

    Args:
        digits: The digits.
        n_shards: S, even.
        requests: Numbers of requests.
        rng: For placements.

    Returns:
        (requester, requests) to the indicators by accuracy and by size.
    """
    n = len(digits.target)
    subjects = names(n)
    targeted = np.arange(n_shards) < n_shards // 2
    placement = fresh_placement(rng, subjects, n_shards)
    said = outputs(digits.kernel, fit(digits, placement, n_shards))
    results = {}
    for k in requests:
        chosen = choose(said, digits.target, targeted, k)
        blind = rng.choice(n, size=k, replace=False)
        cases = {
            ADAPTIVE: without(placement, chosen),
            RANDOM: without(fresh_placement(rng, subjects, n_shards), blind),
            ANEW: without(fresh_placement(rng, subjects, n_shards), chosen),
        }
        for requester, left in cases.items():
            known, held = accuracies(digits, left, n_shards), sizes(left, n_shards)
            by_accuracy, by_size = (less(each[targeted].mean(), each[~targeted].mean()) for each in (known, held))
            results[requester, k] = by_accuracy, by_size
    return results


def code(placement: np.ndarray) -> bytes:
    """A digest of who is in which shard."""
    return hashlib.blake2b(placement.astype(np.int8).tobytes(), digest_size=8).digest()


def code_attack(n: int, n_shards: int, rng: np.random.Generator, *, anew: bool) -> float:
    """One single request, chosen so that the digest of the placement that remains is as small as it can be.

    Only the placement matters, and the state of a kernel machine holds its records, so nothing is trained here.

    Args:
        n: Records.
        n_shards: S.
        rng: For placements.
        anew: Whether everyone is placed anew after the request.

    Returns:
        1 if the digest is smaller than that of a fresh retraining; in expectation n / (n + 1), or 0.5 if placed anew.
    """
    subjects = names(n)
    placement = fresh_placement(rng, subjects, n_shards)
    chosen = min(range(n), key=lambda row: code(without(placement, np.array(row))))
    left = without(fresh_placement(rng, subjects, n_shards) if anew else placement, np.array(chosen))
    afresh = without(fresh_placement(rng, subjects, n_shards), np.array(chosen))
    return float(code(left) < code(afresh))


def measure_states(setting: States, digits: Digits, n_shards: int, rng: np.random.Generator) -> list[Figure]:
    """The indicator for every requester and number of requests, by accuracy, by size, and by a code."""
    found: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    for _ in range(setting.repetitions):
        for key, value in repetition(digits, n_shards, setting.requests, rng).items():
            found[key].append(value)
    figures = []
    for column, what in ((0, "accuracy"), (1, "size")):
        for requester, k in sorted(found):
            values = [value[column] for value in found[requester, k]]
            figures.append(_figure(f"states.{what}", k, requester, n_shards, values))
    for requester in (ADAPTIVE, ANEW):
        values = [
            code_attack(len(digits.target), n_shards, rng, anew=requester == ANEW)
            for _ in range(setting.code_repetitions)
        ]
        figures.append(_figure("states.code", 1, requester, n_shards, values))
    return figures


def _figure(name: str, k: int, requester: str, n_shards: int, values: list[float]) -> Figure:
    # SISA retrains one shard a request; placing anew costs a full training for every k requests on top of it.
    cost = 1 / n_shards + (1 / k if requester == ANEW else 0)
    return figure(name, {"requests": k, "requester": requester}, values, more={"trainings_per_request": cost})
