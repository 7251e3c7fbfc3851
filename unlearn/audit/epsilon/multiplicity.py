r"""Several attacks, several hypotheses, several looks: what they cost.

*Several attacks, one claim.* Either one attack is declared primary before anything is seen and gets all of alpha, or
each attack j gets \(\alpha_j\) of its own with \(\sum_j \alpha_j \le \alpha\) and the largest bound counts
(`best_of`).

*Several claims* (one for each deletion, method or group). Holm's step-down procedure: sorted p-values
\(p_{(1)} \le \dots \le p_{(n)}\) are rejected while \(p_{(i)} \le \alpha/(n-i+1)\). It makes any false rejection at
all with probability at most alpha, whatever the dependence, and never rejects less than Bonferroni.

*Several looks at one claim* (after every deletion, say). Look j gets \(\alpha_j\); a claim that is refuted at any
look is refuted. With a number of looks declared beforehand \(\alpha_j = \alpha/n\); without one \(\alpha_j = \alpha
\cdot 6/(\pi^2 j^2)\), which adds up to alpha over infinitely many. No independence is needed, but nothing is carried
over either: a look spends its share whether or not it refutes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from unlearn.audit.epsilon.bound import LowerBound, Verdict
from unlearn.audit.epsilon.inputs import check_alpha
from unlearn.errors import ConfigurationError, InputError


@dataclass(frozen=True)
class HolmResult:
    """One hypothesis among several.

    Attributes:
        name: Its name.
        p_value: As it was.
        adjusted: At most the alpha at which Holm's procedure would just reject it, hence comparable with alpha itself.
        verdict: At the alpha asked for.
    """

    name: str
    p_value: float
    adjusted: float
    verdict: Verdict


def holm(p_values: Mapping[str, float], *, alpha: float = 0.05) -> dict[str, HolmResult]:
    """Holm's procedure over several hypotheses.

    Args:
        p_values: By name of the hypothesis.
        alpha: Probability of any false rejection.

    Returns:
        A result for each name, in the order given.

    Raises:
        ConfigurationError: If alpha cannot be.
        InputError: If there is no p-value, or one is not in [0, 1].
    """
    check_alpha(alpha)
    if not p_values:
        raise InputError("there is no p-value to adjust")
    for name, p in p_values.items():
        if not 0 <= p <= 1:
            raise InputError(f"the p-value of {name!r} is not in [0, 1]: {p!r}")
    adjusted: dict[str, float] = {}
    largest = 0.0
    for position, name in enumerate(sorted(p_values, key=lambda one: p_values[one])):
        largest = max(largest, (len(p_values) - position) * p_values[name])
        adjusted[name] = min(1.0, largest)
    return {
        name: HolmResult(name, p, adjusted[name], Verdict.REFUTED if adjusted[name] <= alpha else Verdict.NOT_REFUTED)
        for name, p in p_values.items()
    }


def primary(bounds: Mapping[str, LowerBound], declared: str) -> LowerBound:
    """The bound of the attack declared primary before anything was seen.

    Args:
        bounds: By name of the attack.
        declared: Name of the primary one.

    Returns:
        Its bound, which says so.

    Raises:
        InputError: If there is no such attack.
    """
    if declared not in bounds:
        raise InputError(
            f"no bound of the attack declared primary, {declared!r}: there are {', '.join(sorted(bounds))}"
        )
    others = len(bounds) - 1
    said = f"{bounds[declared].multiplicity}; {declared!r} declared primary beforehand, {others} others not counted"
    return replace(bounds[declared], multiplicity=said)


def best_of(bounds: Mapping[str, LowerBound], *, alpha: float = 0.05) -> LowerBound:
    """The largest bound of several attacks that share alpha.

    Args:
        bounds: By name of the attack; all about the same delta, k and basis, each at a share of alpha.
        alpha: Total probability of a false alarm.

    Returns:
        The largest, at the confidence that all shares together leave.

    Raises:
        ConfigurationError: If alpha cannot be.
        InputError: If there is none, they are about different things, or their shares exceed alpha.
    """
    check_alpha(alpha)
    if not bounds:
        raise InputError("there is no bound to choose from")
    about = {(bound.delta, bound.k, bound.basis) for bound in bounds.values()}
    if len(about) > 1:
        raise InputError(f"bounds of different delta, k or basis are not one number: {sorted(map(str, about))}")
    spent = math.fsum(1 - bound.confidence for bound in bounds.values())
    if spent > alpha * (1 + 1e-9):
        raise InputError(
            f"{len(bounds)} attacks spend {spent:.4g} together, more than alpha {alpha:g}: give each a share of it, or "
            "declare one primary before anything is seen"
        )
    name, best = max(bounds.items(), key=lambda one: one[1].epsilon)
    said = f"best of {len(bounds)} attacks ({', '.join(bounds)}), alpha shared: {name}; for each: {best.multiplicity}"
    assumptions = tuple(dict.fromkeys(line for bound in bounds.values() for line in bound.assumptions))
    return replace(
        best,
        confidence=1 - spent,
        certifiable=max(bound.certifiable for bound in bounds.values()),
        multiplicity=said,
        assumptions=assumptions,
    )


def alpha_at(look: int, *, alpha: float = 0.05, looks: int | None = None) -> float:
    """The share of alpha that a look may spend.

    Args:
        look: Number of the look, from 1.
        alpha: For all looks together.
        looks: How many there will be, declared beforehand; None: no end is declared.

    Returns:
        The alpha of this look.

    Raises:
        ConfigurationError: If alpha cannot be, or the look is none or beyond those declared.
    """
    check_alpha(alpha)
    if look < 1 or (looks is not None and look > looks):
        raise ConfigurationError(
            f"look {look!r} of {'any number' if looks is None else looks}: looks count from 1, and none may follow "
            "those declared, since alpha is spent"
        )
    return alpha / looks if looks is not None else alpha * 6 / (math.pi * look) ** 2


def over_looks(bounds: Sequence[LowerBound], *, alpha: float = 0.05, looks: int | None = None) -> LowerBound:
    """The largest bound of successive looks at one claim, each at its share of alpha.

    Args:
        bounds: In the order of looks, each computed with `alpha_at`.
        alpha: For all looks together.
        looks: How many there will be, declared beforehand.

    Returns:
        The largest, with confidence 1 - alpha, however many looks follow.

    Raises:
        ConfigurationError: If alpha cannot be, or there were more looks than declared.
        InputError: If there is none, they are about different things, or one spent more than its share.
    """
    if not bounds:
        raise InputError("there was no look")
    for look, bound in enumerate(bounds, start=1):
        share = alpha_at(look, alpha=alpha, looks=looks)
        if 1 - bound.confidence > share * (1 + 1e-9):
            raise InputError(
                f"look {look} spent {1 - bound.confidence:.4g}, more than its share {share:.4g}: "
                "compute each bound with alpha_at(look)"
            )
    best = best_of({f"look {look}": bound for look, bound in enumerate(bounds, start=1)}, alpha=alpha)
    return replace(best, confidence=1 - alpha)
