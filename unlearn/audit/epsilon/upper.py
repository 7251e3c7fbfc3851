r"""Upper bounds on epsilon: what a mechanism is proven to keep to, for k deletions.

Differential privacy in training makes *doing nothing* an unlearning method: what was trained with k records is close
to what would have been trained without them. The bound is the group's, not the single record's.

*Generic rules*, for k from 1: pure epsilon to k epsilon; (epsilon, delta) to
\((k\varepsilon, \delta \frac{e^{k\varepsilon}-1}{e^\varepsilon-1})\), by k steps of which each multiplies the deltas
of those before it by \(e^\varepsilon\); mu-GDP to k mu; rho-zCDP to k² rho (arXiv 1605.02065); Rényi order a and
epsilon to order \(a/2^c\) and \(3^c\varepsilon\) for \(k \le 2^c\), if \(a \ge 2^{c+1}\) (arXiv 1702.07476).

*Poisson-sampled DP-SGD* (Ganesh, arXiv 2401.10294): of k records, Bin(k, q) are in a batch, each moving the sum by at
most its clipping norm. So one step is dominated by a mixture of Gaussians with sensitivities 0..k and these weights,
and T steps by its T-fold composition. Much tighter than the generic rules.

Accountants are dp-accounting's: privacy loss distributions, rounded pessimistically, and Rényi. Accountants that rest
on a central limit theorem estimate; what may fall short is no upper bound, and none is offered here.

*Certified removal* (Guo et al., arXiv 1911.03030), *as published and conditional*: the proof takes the residual for a
vector that is fixed while the noise is drawn, which it is not, and a bound on its norm alone is not enough (decision
0028, section 2, with counterexamples; what is proven is in `unlearn.methods.certified`). So the bound says
`proven=False`. Under that assumption, with noise b ~ N(0, sigma² I) in the objective and residual
gradient norms that add up to beta, each head is beta/sigma-GDP in the sense of a shifted Gaussian; C heads with noise
of their own compose to the root of the sum of squares. The exact curve of `gdp` replaces the paper's classical
formula, which holds for epsilon up to 1 only.

Floating-point noise is not covered by any of these proofs.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from scipy.stats import binom

from unlearn.audit.epsilon.bound import UpperBound
from unlearn.audit.epsilon.gdp import gdp_epsilon
from unlearn.audit.epsilon.inputs import Floats, check_delta, check_k
from unlearn.errors import ConfigurationError, InputError

SGD = (
    "batches are drawn by Poisson sampling, each record independently with probability q; shuffling is not covered",
    "each record's gradient is clipped to norm C; noise of standard deviation noise multiplier x C is added to the sum",
    "data sets are neighbours if one has a record more; all noise is fresh and secret",
    "numbers are real; floating-point noise is not covered",
    "hyper-parameters were not chosen on the records that are to be forgotten",
)
_ROUNDING = 1e-13
_RESOLUTION = 1e-3


def dp_sgd_pld(noise_multiplier: float, q: float, steps: int, *, delta: float, k: int = 1) -> UpperBound:
    """DP-SGD as an unlearning method of k records, by privacy loss distributions.

    Args:
        noise_multiplier: Standard deviation of the noise, in clipping norms.
        q: Probability of a record to be in a batch.
        steps: Batches.
        delta: That epsilon is stated for.
        k: Records deleted together.

    Returns:
        The bound; infinite where delta is too small for the accountant's resolution.

    Raises:
        ConfigurationError: If a parameter cannot be, or dp-accounting is not installed.
    """
    _check_sgd(noise_multiplier, q, steps, delta, k)
    return _sgd_bound(
        "DP-SGD, PLD accountant", noise_multiplier, q, steps, delta, k, _loss(noise_multiplier, q, steps, k)
    )


def dp_sgd_rdp(noise_multiplier: float, q: float, steps: int, *, delta: float) -> UpperBound:
    """DP-SGD as an unlearning method of one record, by Rényi differential privacy.

    Args:
        noise_multiplier: Standard deviation of the noise, in clipping norms.
        q: Probability of a record to be in a batch.
        steps: Batches.
        delta: That epsilon is stated for.

    Returns:
        The bound: looser than by privacy loss distributions, and quick.

    Raises:
        ConfigurationError: If a parameter cannot be, or dp-accounting is not installed.
    """
    _check_sgd(noise_multiplier, q, steps, delta, 1)
    events, rdp = accounting("dp_event"), accounting("rdp.rdp_privacy_accountant")
    accountant = rdp.RdpAccountant()
    event = events.PoissonSampledDpEvent(q, events.GaussianDpEvent(noise_multiplier))
    epsilon = float(accountant.compose(event, steps).get_epsilon(delta))
    evidence = {"noise_multiplier": noise_multiplier, "q": q, "steps": steps}
    return UpperBound("DP-SGD, RDP accountant", epsilon, delta, 1, evidence=evidence, assumptions=SGD)


def dp_sgd_group(noise_multiplier: float, q: float, steps: int, *, delta: float, k: int) -> UpperBound:
    """DP-SGD for k records by the generic rule on the curve of one record, for comparison.

    Args:
        noise_multiplier: Standard deviation of the noise, in clipping norms.
        q: Probability of a record to be in a batch.
        steps: Batches.
        delta: That epsilon is stated for.
        k: Records deleted together.

    Returns:
        The best bound over all points of the curve; infinity if no point gives one.

    Raises:
        ConfigurationError: If a parameter cannot be, or dp-accounting is not installed.
    """
    _check_sgd(noise_multiplier, q, steps, delta, k)
    loss = _loss(noise_multiplier, q, steps, 1)

    def curve(epsilons: Floats) -> Floats:
        # Composition by Fourier transforms leaves errors of this order, so nothing below is believed.
        deltas: Floats = np.maximum(np.asarray(loss.get_delta_for_epsilon(epsilons.tolist())), _ROUNDING)
        return deltas

    epsilon = group_of_curve(curve, k, delta)
    evidence = {"noise_multiplier": noise_multiplier, "q": q, "steps": steps}
    return UpperBound(
        "DP-SGD, PLD accountant, generic group rule", epsilon, delta, k, evidence=evidence, assumptions=SGD
    )


def group_of_curve(curve: Callable[[Floats], Floats], k: int, delta: float) -> float:
    """Epsilon for k records from one record's privacy curve, by the generic rule at the best point of the curve.

    Args:
        curve: From `[n]` rising epsilons to `[n]` deltas for one record.
        k: Records deleted together.
        delta: For all together.

    Returns:
        Epsilon; infinity if the rule reaches that delta nowhere on the grid.
    """
    # The rule's delta may fall and rise again, so the first point that is good enough is sought on a grid, then finer.
    low, high = 0.0, 120.0
    for _ in range(4):
        grid = np.linspace(low, high, 601)
        good = [group_approximate(e, d, k)[1] <= delta for e, d in zip(grid.tolist(), curve(grid), strict=True)]
        if True not in good:
            return math.inf
        first = good.index(True)
        low, high = float(grid[max(0, first - 1)]), float(grid[first])
    return k * high


def group_pure(epsilon: float, k: int) -> float:
    """Epsilon for k records of an epsilon-DP mechanism."""
    check_k(k)
    return k * epsilon


def group_approximate(epsilon: float, delta: float, k: int) -> tuple[float, float]:
    """Epsilon and delta for k records of an (epsilon, delta)-DP mechanism; a delta of 1 or more says nothing."""
    check_k(k)
    if delta == 0:
        return k * epsilon, 0.0
    if k * epsilon > 700:
        return k * epsilon, math.inf
    factor = float(k) if epsilon == 0 else math.expm1(k * epsilon) / math.expm1(epsilon)
    return k * epsilon, delta * factor


def group_gdp(mu: float, k: int) -> float:
    """Mu for k records of a mu-GDP mechanism."""
    check_k(k)
    return k * mu


def group_zcdp(rho: float, k: int) -> float:
    """Rho for k records of a rho-zCDP mechanism."""
    check_k(k)
    return k * k * rho


def group_rdp(order: float, epsilon: float, k: int) -> tuple[float, float]:
    """Order and epsilon for k records of a mechanism that is (order, epsilon)-RDP.

    Args:
        order: Rényi order, above 1.
        epsilon: At that order.
        k: Records deleted together.

    Returns:
        The order and the epsilon left.

    Raises:
        ConfigurationError: If the order is too small for so many records.
    """
    check_k(k)
    doublings = math.ceil(math.log2(k))
    if k == 1:
        return order, epsilon
    if order < 2 ** (doublings + 1):
        raise ConfigurationError(
            f"order {order:g} is too small for {k} records: it must be at least {2 ** (doublings + 1)}"
        )
    return order / 2**doublings, 3**doublings * epsilon


def gaussian(mu: float, *, delta: float, k: int = 1) -> UpperBound:
    """A mu-GDP mechanism as an unlearning method of k records.

    Args:
        mu: For one record.
        delta: That epsilon is stated for.
        k: Records deleted together.

    Returns:
        The bound.

    Raises:
        ConfigurationError: If a parameter cannot be.
    """
    grouped = group_gdp(mu, k)
    about = ("the mechanism is mu-GDP for one record", "all noise is fresh and secret; numbers are real")
    return UpperBound("Gaussian DP", gdp_epsilon(grouped, delta), delta, k, grouped, {"mu": mu}, about)


def exact(*, k: int = 1, assumptions: Sequence[str]) -> UpperBound:
    """An exact method: epsilon 0 at delta 0.

    Args:
        k: Records deleted together.
        assumptions: On what exactness rests, in words; requests that do not look at what was published, say.

    Returns:
        The bound.

    Raises:
        ConfigurationError: If no assumption is named.
    """
    check_k(k)
    if not assumptions:
        raise ConfigurationError("exactness always rests on something: name it, or nobody can check it")
    return UpperBound("exact unlearning", 0.0, 0.0, k, assumptions=tuple(assumptions))


def certified_removal(
    residuals: Sequence[float], *, initial_residual: float, sigma: float, delta: float, heads: int = 1, k: int
) -> UpperBound:
    r"""Certified removal as published, after a number of removals, by the residual gradients they left: conditional.

    The residual is taken for a vector that does not depend on the noise. It does, and what that costs is unproven
    (decision 0028, section 2): `CertifiedRemoval` of `unlearn.methods.certified` has a claim that is proven.

    \(\beta = \|\nabla L(w^*)\| + \sum_i \beta_i\), \(\mu = \sqrt C\,\beta/\sigma\), and epsilon from the exact curve.

    Args:
        residuals: `[removals]` bounds on the residual gradient norm that each removal adds, for the worst head.
        initial_residual: Gradient norm that the optimiser left before any removal, for the worst head.
        sigma: Standard deviation of the noise in the objective, for each head.
        delta: That epsilon is stated for.
        heads: One-vs-rest classifiers with noise of their own.
        k: Records removed in all.

    Returns:
        The bound, which says that it is not proven.

    Raises:
        ConfigurationError: If sigma, heads, delta or k cannot be.
        InputError: If a residual is negative or not finite.
    """
    check_k(k)
    if not (math.isfinite(sigma) and sigma > 0) or heads < 1:
        raise ConfigurationError(f"sigma must be above 0 and heads at least 1, got {sigma!r} and {heads!r}")
    parts = [initial_residual, *residuals]
    if not all(math.isfinite(part) and part >= 0 for part in parts):
        raise InputError("residual gradient norms must be finite and at least 0: one that is not bounds nothing")
    beta = math.fsum(parts)
    mu = math.sqrt(heads) * beta / sigma
    return UpperBound(
        method="certified removal as published (Guo et al.), exact Gaussian curve, conditional",
        epsilon=gdp_epsilon(mu, delta),
        delta=delta,
        k=k,
        mu=mu,
        evidence={"beta": beta, "sigma": sigma, "heads": heads, "removals": len(residuals)},
        assumptions=(
            "the loss is convex with the regulariser and smoothness that the residual bounds were computed for",
            "UNPROVEN: the residual is taken for a vector that does not depend on the noise (decision 0028, section 2)",
            "UNPROVEN, unless it is one for all noise: bounds on residuals, the optimiser's too, hold for every draw",
            "UNPROVEN: that a budget ends, and a model is retrained, by what the noise was is taken to tell nothing",
            "features come from public data, or from a mechanism accounted for elsewhere",
            "removals do not depend on what was published; each removed record is also removed from every head",
        ),
        proven=False,
    )


def worst_case_residual(*, smoothness: float, lipschitz: float, regularisation: float, n: int) -> float:
    r"""The worst-case residual gradient norm of one removal.

    It is \(4\gamma C^2 / (\lambda^2 (n-1))\) (Guo et al., theorem 1), for weights of norm at most \(C/\lambda\). Noise
    in the objective makes them longer, and no bound holds for all noise; decision 0028, section 1, has one for noise in
    a ball, which by Taylor's remainder is half of this where the noise is small.

    Args:
        smoothness: gamma, the Lipschitz constant of the loss's second derivative: √3/18 for the logistic loss. The 1/4
            that is often taken for it bounds the second derivative itself, and is safe but 2.6 times as large.
        lipschitz: C, a bound on the gradient of one loss, features of norm at most 1.
        regularisation: lambda, in the objective's \(\lambda n \|w\|^2 / 2\).
        n: Records before the removal.

    Returns:
        The norm.

    Raises:
        ConfigurationError: If a constant is not above 0.
        InputError: If no record would be left.
    """
    if not (smoothness > 0 and lipschitz > 0 and regularisation > 0):
        raise ConfigurationError("smoothness, the Lipschitz constant and regularisation must be above 0")
    if n < 2:
        raise InputError(f"after a removal there must be a record left, got n = {n!r}")
    return 4 * smoothness * lipschitz**2 / (regularisation**2 * (n - 1))


def deletion_capacity(bound: Callable[[int], float], epsilon: float, most: int = 10_000) -> int:
    """How many records may be deleted together before a bound exceeds an epsilon.

    Args:
        bound: From k to epsilon; rises.
        epsilon: That may not be exceeded.
        most: Where to stop looking.

    Returns:
        The largest such k; 0 if even one is too many.
    """
    if bound(1) > epsilon:
        return 0
    low, high = 1, 2
    while high <= most and bound(high) <= epsilon:
        low, high = high, high * 2
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if bound(middle) <= epsilon else (low, middle)
    return low


def accounting(name: str) -> ModuleType:
    """A module of dp-accounting, which is an extra.

    Args:
        name: Below `dp_accounting`.

    Returns:
        The module.

    Raises:
        ConfigurationError: If it is not installed.
    """
    try:
        return importlib.import_module(f"dp_accounting.{name}")
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f'bounds for DP-SGD need dp-accounting, and {error.name} is missing: pip install "sisa-unlearn[audit]"'
        ) from error


def _check_sgd(noise_multiplier: float, q: float, steps: int, delta: float, k: int) -> None:
    check_k(k)
    check_delta(delta)
    if not (math.isfinite(noise_multiplier) and noise_multiplier > 0):
        raise ConfigurationError(f"the noise multiplier must be finite and above 0, got {noise_multiplier!r}")
    if not 0 < q <= 1 or steps < 1:
        raise ConfigurationError(f"q must be above 0 and at most 1, steps at least 1, got {q!r} and {steps!r}")
    if delta == 0:
        raise ConfigurationError("a Gaussian mechanism has no finite epsilon at delta 0: state a delta above 0")


def _loss(noise_multiplier: float, q: float, steps: int, k: int) -> Any:
    """The privacy loss distribution of k records' steps, rounded pessimistically.

    For one record the mixture is the sampled Gaussian, which dp-accounting has in closed form, hence much sooner.

    Returns:
        dp-accounting's object, which has no types.
    """
    distributions = accounting("pld.privacy_loss_distribution")
    if k == 1:
        one = distributions.from_gaussian_mechanism(
            noise_multiplier, sampling_prob=q, value_discretization_interval=_RESOLUTION
        )
        return one.self_compose(steps)
    present = np.arange(k + 1)
    weights = binom.pmf(present, k, q)
    kept = weights > 0
    one = distributions.from_mixture_gaussian_mechanism(
        noise_multiplier,
        present[kept].astype(float).tolist(),
        weights[kept].tolist(),
        value_discretization_interval=_RESOLUTION,
    )
    return one.self_compose(steps)


def _sgd_bound(method: str, noise: float, q: float, steps: int, delta: float, k: int, loss: Any) -> UpperBound:
    epsilon = float(loss.get_epsilon_for_delta(delta))
    evidence = {"noise_multiplier": noise, "q": q, "steps": steps}
    return UpperBound(method, epsilon, delta, k, evidence=evidence, assumptions=SGD)
