"""Verification by a backdoor: a person marks their records, and later asks whether the mark still works.

[Sommer, Song, Wagh & Mittal 2022, Athena: Probabilistic Verification of Machine Unlearning, PoPETs, arXiv:2003.04247]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from unlearn.audit.binomial import lower_limit, upper_limit
from unlearn.audit.metrics.estimate import Estimate, as_json, proportion
from unlearn.errors import InputError


@dataclass(frozen=True)
class BackdoorResult:
    """A test of "the marked records are gone".

    Attributes:
        verdict: `"refuted"`: the mark works more often than in models without it; `"not refuted"` proves nothing.
        p_value: Of the count, if they are gone: at the upper bound of the rate without them, plus the chance that the
            bound is wrong [Berger and Boos 1994].
        success: Share of marked queries that got the mark's label.
        rejects_from: The claim is refuted from so many successes on; more than `queries`: never.
        power: Probability, at least, that a model that kept the records is refuted.
        alpha: Probability, at most, that a model without them is refuted.
        queries: n.
    """

    verdict: Literal["refuted", "not refuted"]
    p_value: float
    success: Estimate
    rejects_from: int
    power: float
    alpha: float
    queries: int

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return as_json(self)


def verify_by_backdoor(
    successes: int, queries: int, *, without: tuple[int, int], kept: tuple[int, int], alpha: float = 0.05
) -> BackdoorResult:
    """Test the claim that marked records were forgotten.

    Half of alpha allows for the rate of chance successes being an estimate itself, half for the test.

    Args:
        successes: Queries with the mark that got its label, from the model that is tested.
        queries: n, independent ones.
        without: Successes and queries with models that never saw the mark.
        kept: Successes and queries with models that were trained on it.
        alpha: False alarms, at most.

    Returns:
        The verdict, and what it could have found.

    Raises:
        InputError: If counts are impossible.
    """
    from scipy.stats import binom

    for name, (count, n) in (("tested", (successes, queries)), ("without", without), ("kept", kept)):
        if not 0 <= count <= n or not n:
            raise InputError(f"{name}: {count} successes of {n} queries are impossible, or too few")
    if not 0 < alpha < 1:
        raise InputError(f"alpha must lie between 0 and 1, got {alpha}")
    chance, works = float(upper_limit(*without, alpha / 2)), float(lower_limit(*kept, alpha / 2))
    # P[Bin >= t] <= alpha / 2 from t = ppf + 1 on.
    rejects_from = int(binom.ppf(1 - alpha / 2, queries, chance)) + 1
    p = min(1.0, float(binom.sf(successes - 1, queries, chance)) + alpha / 2)
    return BackdoorResult(
        "refuted" if successes >= rejects_from else "not refuted",
        p,
        proportion(successes, queries, 1 - alpha),
        rejects_from,
        float(binom.sf(rejects_from - 1, queries, works)),
        alpha,
        queries,
    )
