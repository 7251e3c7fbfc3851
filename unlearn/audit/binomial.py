r"""Exact confidence limits of a rate (Clopper and Pearson 1934): what all that is counted here rests on.

With x of n independent trials, the upper limit at alpha is the p at which x or fewer have probability alpha,

\[ U(x, n, \alpha) = \mathrm{BetaInv}(1-\alpha; x+1, n-x), \qquad L(x, n, \alpha) = 1 - U(n-x, n, \alpha), \]

and U = 1 if x = n. Either is beyond the rate with probability alpha at most, whatever the rate is.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

Floats = npt.NDArray[np.float64]


def upper_limit(count: npt.ArrayLike, n: npt.ArrayLike, alpha: float) -> Floats:
    """The one-sided upper limit of a rate.

    Args:
        count: `[...]` how often it happened, x.
        n: `[...]` trials; 0 gives 1.
        alpha: Probability that the limit is below the rate, at most.

    Returns:
        `[...]` float64 in (0, 1].
    """
    x, n = np.broadcast_arrays(np.asarray(count, dtype=np.float64), np.asarray(n, dtype=np.float64))
    limit: Floats = np.where(x >= n, 1.0, betaincinv(x + 1, np.maximum(n - x, 1), 1 - alpha))
    return limit


def lower_limit(count: npt.ArrayLike, n: npt.ArrayLike, alpha: float) -> Floats:
    """The one-sided lower limit of a rate; see `upper_limit`.

    Args:
        count: `[...]` how often it happened, x.
        n: `[...]` trials; 0 gives 0.
        alpha: Probability that the limit is above the rate, at most.

    Returns:
        `[...]` float64 in [0, 1).
    """
    limit: Floats = 1 - upper_limit(np.asarray(n) - np.asarray(count), n, alpha)
    return limit
