"""Are p-values uniform, or at least no smaller?"""

from __future__ import annotations

import numpy as np


def no_smaller(p_values: np.ndarray) -> float:
    """Test that `P(p <= x) <= x` for every x, which is all that a p-value promises.

    Args:
        p_values: `[n]`, independent.

    Returns:
        Kolmogorov's one-sided p-value against it. Where p-values lie on a grid or have ties it is too large at most.
    """
    from scipy.stats import kstest

    return float(kstest(p_values, "uniform", alternative="greater").pvalue)


def even(p_values: np.ndarray, permutations: int, draws: int = 2_000, seed: int = 0) -> float:
    """Test that p-values are uniform on the grid `1/(B+1), 2/(B+1), …, 1`, as they are where no two statistics tie.

    Args:
        p_values: `[n]`, independent, on the grid.
        permutations: B.
        draws: Of the greatest distance between the distribution functions, from the grid's own uniform distribution.
        seed: Of these.

    Returns:
        The two-sided Monte Carlo p-value.
    """
    cells = permutations + 1
    rng = np.random.default_rng(seed)
    null = rng.multinomial(len(p_values), np.full(cells, 1 / cells), size=draws)
    observed = np.bincount(np.rint(np.asarray(p_values) * cells).astype(np.int64), minlength=cells + 1)[1:]
    farthest = [_farthest(counts) for counts in (observed, *null)]
    return float(np.mean(np.array(farthest) >= farthest[0] - 1e-12))


def _farthest(counts: np.ndarray) -> float:
    """From the uniform distribution function, at the points of the grid."""
    steps = np.arange(1, len(counts) + 1) / len(counts)
    return float(np.abs(counts.cumsum() / counts.sum() - steps).max())
