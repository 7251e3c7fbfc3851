r"""What a workspace that removes with a certificate has promised, and how much of it is spent: arithmetic of counts.

Noise goes on the published weights, and lemma C of decision 0028 pays for each publication with

\[ \mu_t = \frac{|\nabla F(w_t; D_t)| + \rho_t}{\lambda n_t s}. \]

Whoever removes and whoever retrains both leave a gradient of at most tolerance times n for each head, rounding
included, or they fail. So this is charged, and not what was measured:

\[ \mu = \frac{2 \sqrt{h}\, \tau}{\lambda s}, \qquad \mu^2_{\mathrm{total}} = T \mu^2, \]

for h heads and T removals, each of any number of records, since the model was last trained from nothing. It depends on
nothing that the data decide: when the budget ends tells nothing of them, and what is spent may be published.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from shards.digest import Json
from shards.errors import ConfigurationError

MOST_LEFT = 2**53
"""The most removals that a budget is said to have: the largest number that everybody reads alike."""


_LEAST_CHARGE = 1e-100
"""So small a charge can still be squared."""

_LARGEST = 1e100
"""A receipt can state so much."""


@dataclass(frozen=True)
class Promise:
    """What is promised, and by which noise.

    Attributes:
        regularisation: λ, the penalty for each example.
        scale: s, the standard deviation of the noise on each published weight.
        tolerance: Gradient norm that removal and training may leave, for each row and head.
        epsilon: What all models that are published since the last training from nothing keep together.
        delta: Its delta.
    """

    regularisation: float
    scale: float
    tolerance: float
    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, bool) or not (isinstance(value, int | float) and 0 < value <= _LARGEST):
                raise ConfigurationError(f"{name} must be a finite number above 0, {_LARGEST:g} at most, got {value!r}")
            object.__setattr__(self, name, float(value))
        if not self.delta < 1:
            raise ConfigurationError(f"delta must be below 1, got {self.delta!r}")
        spread = self.regularisation * self.scale
        if not (spread > 0 and _LEAST_CHARGE < self.tolerance / spread < 1 / _LEAST_CHARGE):
            raise ConfigurationError(
                f"tolerance over regularisation times scale is {self.tolerance!r} / {spread!r}, out of what numbers "
                "hold: take less extreme ones"
            )

    def charge(self, heads: int) -> float:
        """Mu of one removal.

        Args:
            heads: Columns of weights.

        Returns:
            2 √h τ / (λ s).
        """
        return 2 * math.sqrt(heads) * self.tolerance / (self.regularisation * self.scale)

    def spent(self, heads: int, removals: int) -> float:
        """Epsilon of so many removals, at this delta.

        Args:
            heads: Columns of weights.
            removals: Since the last training from nothing.

        Returns:
            Epsilon; infinite for nothing.
        """
        from unlearn.audit.epsilon.gdp import gdp_epsilon

        mu = math.sqrt(removals) * self.charge(heads)
        return gdp_epsilon(mu, self.delta) if math.isfinite(mu) else math.inf

    def capacity(self, heads: int) -> int:
        """How many removals the budget suffices for between two trainings.

        Args:
            heads: Columns of weights.

        Returns:
            The largest number whose `spent` is at most epsilon (to rounding, where it is above 2**40).
        """
        from unlearn.audit.epsilon.gdp import gdp_mu

        removals = min(MOST_LEFT, math.floor((gdp_mu(self.epsilon, self.delta) / self.charge(heads)) ** 2))
        while removals and self.spent(heads, removals) > self.epsilon:
            # By what both are rounded by, where that is more than one.
            removals -= max(1, removals >> 40)
        return removals

    def certificate(self, heads: int, removals: int) -> dict[str, Json]:
        """What a receipt says of the budget.

        Args:
            heads: Columns of weights.
            removals: Since the last training from nothing.

        Returns:
            `epsilon` and `delta` that are promised, `heads`, `spent` of epsilon, and how many removals are `left`.
        """
        return {
            "epsilon": self.epsilon,
            "delta": self.delta,
            "heads": heads,
            "spent": self.spent(heads, removals),
            "left": max(0, self.capacity(heads) - removals),
        }


def promise_of(config: Mapping[str, Json]) -> Promise:
    """What a request's configuration promises.

    Args:
        config: Of the method, in full.

    Returns:
        The promise in it.
    """
    numbers = {name: config[name] for name in ("regularisation", "scale", "tolerance", "epsilon", "delta")}
    return Promise(**numbers)
