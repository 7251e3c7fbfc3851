"""Whether a bound from one run is above an epsilon: it is if that epsilon is rejected, which costs no search."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from unlearn.audit.epsilon.gdp import gdp_mu
from unlearn.audit.epsilon.one_run import Guesses, one_run, one_run_p_value
from unlearn.audit.epsilon.one_run_fdp import (
    approximate_inverse,
    gaussian_inverse,
    one_run_fdp,
    one_run_gdp,
    rejects,
)
from unlearn.audit.epsilon.order_statistics import (
    approximate_p_value,
    gaussian_p_value,
    order_statistics,
    order_statistics_gdp,
)

STEINKE, FDP, FDP_GAUSSIAN = "one run (Steinke et al.)", "one run, f-DP", "one run, f-DP, Gaussian"
ORDER, ORDER_GAUSSIAN = "one run, order statistics", "one run, order statistics, Gaussian"

Rejected = Callable[[Guesses, float, float, float], bool]
"""From guesses, epsilon, delta and alpha."""

REJECTED: dict[str, Rejected] = {
    STEINKE: lambda seen, epsilon, delta, alpha: one_run_p_value(seen, epsilon, delta) <= alpha,
    FDP: lambda seen, epsilon, delta, alpha: rejects(seen, approximate_inverse(epsilon, delta), alpha),
    FDP_GAUSSIAN: lambda seen, epsilon, delta, alpha: rejects(seen, gaussian_inverse(_mu(epsilon, delta)), alpha),
    ORDER: lambda seen, epsilon, delta, alpha: approximate_p_value(seen, epsilon, delta) <= alpha,
    ORDER_GAUSSIAN: lambda seen, epsilon, delta, alpha: gaussian_p_value(seen, _mu(epsilon, delta)) <= alpha,
}
BOUNDS = {
    STEINKE: one_run,
    FDP: one_run_fdp,
    FDP_GAUSSIAN: one_run_gdp,
    ORDER: order_statistics,
    ORDER_GAUSSIAN: order_statistics_gdp,
}


@cache
def too_high(rule: str, m: int, r: int, v: int, epsilon: float, delta: float, alpha: float) -> bool:
    """Whether the bound of so many right guesses is above an epsilon; the same count comes again and again."""
    return REJECTED[rule](Guesses(m, r, v), epsilon, delta, alpha)


@cache
def _mu(epsilon: float, delta: float) -> float:
    # The largest mu that implies epsilon 0 is a little above 0, as far as delta goes; exact unlearning has 0.
    return gdp_mu(epsilon, delta) if epsilon else 0.0
