r"""The set-unlearning test: one training, one deletion, and coins that only exact forgetting makes unguessable.

Fix a base set R and canaries `c_1 … c_m`. Toss fair coins `S_i`; train on R and on the canaries with `S_i = 1`; have
these deleted together, which leaves the model θ; guess r of the coins from θ alone, v of them rightly. Whatever the
coins were, exact unlearning ends in a model of R, which knows nothing of them. So if deletion of the set is
(ε, δ)-unlearning, for every s and every event `Pr_U <= e^ε Pr_A(R) + δ`, then on average over the coins

    Pr(v or more right) <= e^ε π(r, v) + δ,    π(r, v) = P[Bin(r, 1/2) >= v]

and `π` is an exact p-value of ε = δ = 0, while

    ε_lower = max(0, ln((β - δ) / π(r, v)))    has    Pr(ε_lower > ε) <= β.

The bound is on the **joint** deletion of all canaries that were inserted, about half of them, never on one record; and
on one direction of the definition alone. Where the secret is not a coin but which of S shards a canary was in, 1/S
takes the place of 1/2. Derivation: `unlearn/decisions/0022-two-tests-of-unlearning.md`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unlearn.audit.epsilon.inputs import score_array
from unlearn.errors import InputError

ABSTAIN = -1
"""A guess that is none."""

_EXACT_TRIALS = 20_000
"""Up to so many guesses binomial tails are summed as whole numbers; it takes a second there."""


@dataclass(frozen=True)
class SetUnlearningTest:
    """What the test found.

    Attributes:
        verdict: Whether exact unlearning of the set is refuted: `"refuted"` or `"not refuted"`; never more.
        p_value: Exact, of ε = δ = 0; 0 where it is below what a float can say, see `log_p_value`.
        log_p_value: Its natural logarithm.
        epsilon_lower: No (ε, δ)-unlearning of the whole set has a lower ε, at the confidence.
        epsilon_largest: The largest bound this test could have given: all guesses right.
        needed: Least number of right guesses that refutes ε = 0 at this δ; None if not even all would.
        delta: The δ.
        confidence: `1 - β`.
        n_canaries: m.
        guesses: r, those that were no abstentions.
        correct: v.
        choices: What each secret is one of: 2 for coins.
    """

    verdict: Literal["refuted", "not refuted"]
    p_value: float
    log_p_value: float
    epsilon_lower: float
    epsilon_largest: float
    needed: int | None
    delta: float
    confidence: float
    n_canaries: int
    guesses: int
    correct: int
    choices: int


def toss_coins(n: int, rng: np.random.Generator) -> np.ndarray:
    """Fair coins that say which canaries are inserted.

    Args:
        n: How many canaries.
        rng: Seeded from what nobody who guesses knows.

    Returns:
        `[n]` bool.
    """
    return rng.integers(0, 2, n).astype(bool)


def guess_extremes(scores: np.ndarray, guesses: int | None = None) -> np.ndarray:
    """Guess that those canaries were inserted that score highest, and that those were not that score lowest.

    Args:
        scores: `[m]`, larger for what the model seems to have seen; a function of the model alone.
        guesses: r, even, chosen before looking at the scores; None: half of the canaries, to abstain on the others.

    Returns:
        `[m]` int64: 1, 0 or `ABSTAIN`.

    Raises:
        InputError: If there are not so many canaries, the number is odd, or a score is not a number.
    """
    values = score_array("canaries", scores)
    number = 2 * (len(values) // 4) if guesses is None else guesses
    if not 2 <= number <= len(values) or number % 2:
        raise InputError(
            f"{number} guesses about {len(values)} canaries cannot be made: guess an even number of them, at least 2"
        )
    order = np.argsort(values, kind="stable")
    result = np.full(len(values), ABSTAIN, dtype=np.int64)
    result[order[: number // 2]] = 0
    result[order[len(order) - number // 2 :]] = 1
    return result


def set_unlearning_test(
    secrets: np.ndarray,
    guesses: np.ndarray,
    *,
    choices: int = 2,
    delta: float = 0.0,
    confidence: float = 0.95,
) -> SetUnlearningTest:
    """Hold guesses against the secrets.

    Args:
        secrets: `[m]`: coins, or shards; uniform, independent of each other and of everything else that went into
            training.
        guesses: `[m]`: a secret's value, or `ABSTAIN`. They may depend on the model in any way, also in how many they
            are, and on nothing else that depends on the secrets: no log, count, timing or optimiser state.
        choices: How many values a secret may have: 2, or the number of shards.
        delta: The δ of the bound, below `1 - confidence`.
        confidence: `1 - β`, in (0, 1).

    Returns:
        The result.

    Raises:
        InputError: If arguments do not fit together, or nothing is guessed.
    """
    truth, said = np.asarray(secrets).astype(np.int64), np.asarray(guesses).astype(np.int64)
    beta = 1 - confidence
    if not 0 < beta < 1 or not 0 <= delta < beta:
        raise InputError(f"confidence must be in (0, 1), and delta at least 0 and below 1 - confidence; got {delta}")
    if truth.shape != said.shape or truth.ndim != 1 or choices < 2:
        raise InputError(f"secrets and guesses must be [m] and alike, got {truth.shape} and {said.shape}")
    if ((truth < 0) | (truth >= choices)).any() or ((said < ABSTAIN) | (said >= choices)).any():
        raise InputError(f"secrets and guesses must be 0 to {choices - 1}, and a guess may be {ABSTAIN}")
    made = said != ABSTAIN
    number, correct = int(made.sum()), int((truth == said)[made].sum())
    if number == 0:
        raise InputError("nothing is guessed, so nothing can be tested: guess at least one secret")
    log_p = log_tail(number, correct, choices)
    allowance = math.log(beta - delta)
    return SetUnlearningTest(
        verdict="refuted" if log_p <= math.log(beta) else "not refuted",
        p_value=math.exp(log_p),
        log_p_value=log_p,
        epsilon_lower=max(0.0, allowance - log_p),
        epsilon_largest=max(0.0, allowance + number * math.log(choices)),
        needed=_needed(number, choices, allowance),
        delta=delta,
        confidence=confidence,
        n_canaries=len(truth),
        guesses=number,
        correct=correct,
        choices=choices,
    )


def log_tail(trials: int, least: int, choices: int = 2) -> float:
    """Natural logarithm of `P[Bin(trials, 1 / choices) >= least]`, from whole numbers: nothing is rounded to 0.

    Args:
        trials: r.
        least: v.
        choices: Inverse of the probability of success.

    Returns:
        At most 0; minus infinity if more successes than trials are asked for.

    Raises:
        InputError: If there are too many trials to sum.
    """
    if trials > _EXACT_TRIALS:
        raise InputError(f"{trials} guesses are too many: make at most {_EXACT_TRIALS}")
    if least <= 0:
        return 0.0
    if least > trials:
        return -math.inf
    # Ways to have i right, from i = trials down: comb(trials, i) (choices - 1)^(trials - i).
    ways = total = 1
    for right in range(trials, least, -1):
        ways = ways * right * (choices - 1) // (trials - right + 1)
        total += ways
    return math.log(total) - trials * math.log(choices)


def power(
    accuracy: float, guesses: int, *, epsilon: float = 0.0, delta: float = 0.0, confidence: float = 0.95
) -> float:
    """How often a guesser of a given accuracy refutes an ε.

    Args:
        accuracy: Probability that a guess is right, each independently.
        guesses: r.
        epsilon: The ε to refute: `epsilon_lower` is above it.
        delta: The δ.
        confidence: `1 - β`.

    Returns:
        The probability.
    """
    from scipy.stats import binom

    needed = _needed(guesses, 2, math.log(1 - confidence - delta) - epsilon)
    return 0.0 if needed is None else float(binom.sf(needed - 1, guesses, accuracy))


def _needed(trials: int, choices: int, below: float) -> int | None:
    """Least number of right guesses whose log tail is below a bound."""
    if not -trials * math.log(choices) < below:
        return None
    low, high = 0, trials
    while low < high:
        middle = (low + high) // 2
        if log_tail(trials, middle, choices) < below:
            high = middle
        else:
            low = middle + 1
    return low
