"""A line of the result: a claim, what was measured about it, and what could have been."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from unlearn.audit import Claim, check_approximate, check_bound
from unlearn.audit.definitions import ExactCheck
from unlearn.audit.epsilon.clopper_pearson import clopper_pearson_grid
from unlearn.audit.epsilon.gdp import gdp_grid
from unlearn.audit.epsilon.scores import Scores


@dataclass(frozen=True)
class Row:
    """One check.

    Attributes:
        part: Of the experiment.
        model: What was trained.
        claim: What is claimed of it, in words.
        k: Records deleted together.
        delta: That epsilons are stated for.
        claimed: Epsilon that is claimed; infinity where none is. For a test of exactness 0.
        bound: Lower bound on epsilon, 95 % confidence.
        gaussian: The same if the mechanism is Gaussian; None: not looked at.
        certifiable: The largest epsilon that so many runs could have refuted.
        p_value: Of a test of exactness; None otherwise.
        verdict: On the claim.
        runs: Of each kind.
        accuracy: Of retrained models on other records, on average; None: not looked at.
    """

    part: str
    model: str
    claim: str
    k: int
    delta: float
    claimed: float
    bound: float
    gaussian: float | None
    certifiable: float
    p_value: float | None
    verdict: str
    runs: int
    accuracy: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {name: "infinity" if value == math.inf else value for name, value in asdict(self).items()}


def approximate(
    part: str, model: str, k: int, epsilon: float, seen: tuple[np.ndarray, np.ndarray, np.ndarray], alpha: float
) -> Row:
    """The survey's definition, without a delta, held against runs.

    Args:
        part: Of the experiment.
        model: What was trained.
        k: Records deleted together.
        epsilon: Claimed.
        seen: Scores `[runs]` of models left as they are, of retrained ones, and of further retrained ones on which
            thresholds are set.
        alpha: Probability of a false alarm.

    Returns:
        The line.
    """
    found = check_approximate(Scores(seen[0], seen[1]), seen[2], epsilon=epsilon, alpha=alpha)
    claim = f"every ratio of probabilities within e^±{epsilon:g}"
    certifiable, verdict = found.certifiable, str(found.verdict)
    return Row(part, model, claim, k, 0.0, epsilon, found.bound, None, certifiable, None, verdict, len(seen[0]))


def private(
    part: str,
    model: str,
    k: int,
    epsilon: float,
    delta: float,
    seen: tuple[np.ndarray, np.ndarray, np.ndarray],
    alpha: float,
) -> Row:
    """A claim with a delta, held against runs.

    Args:
        part: Of the experiment.
        model: What was trained.
        k: Records deleted together.
        epsilon: Claimed; infinity: nothing is.
        delta: That it is stated for.
        seen: As for `approximate`.
        alpha: Probability of a false alarm.

    Returns:
        The line.
    """
    scores = Scores(seen[0], seen[1])
    lower = clopper_pearson_grid(scores, seen[2], delta=delta, alpha=alpha, k=k)
    gaussian = gdp_grid(scores, seen[2], delta=delta, alpha=alpha, k=k).epsilon if delta > 0 else None
    if math.isinf(epsilon):
        claim, verdict = "none", "no claim"
    else:
        claim = f"({epsilon:.3g}, {delta:g}) for k = {k}"
        verdict = str(check_bound(Claim(epsilon, delta, k), lower).verdict)
    return Row(
        part, model, claim, k, delta, epsilon, lower.epsilon, gaussian, lower.certifiable, None, verdict, len(seen[0])
    )


def exactness(part: str, model: str, k: int, found: ExactCheck) -> Row:
    """A test of exact unlearning.

    Args:
        part: Of the experiment.
        model: What was trained.
        k: Records deleted together.
        found: Its result.

    Returns:
        The line; its bound is not a number, as a p-value is none.
    """
    claim = "unlearnt exactly: distributed as retrained"
    certifiable, verdict = found.certifiable, str(found.verdict)
    return Row(part, model, claim, k, 0.0, 0.0, 0.0, None, certifiable, found.p_value, verdict, found.n_in)
