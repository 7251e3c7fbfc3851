r"""Inverting a test into a bound: the largest claim that is still rejected.

Claims are nested: what is epsilon-unlearning is so for every larger epsilon, and a mu-GDP mechanism for every larger
mu. Where the evidence is a single count V, with \(\Pr[V \ge v] \le p_v(\varepsilon)\) under every claim, *any*
epsilon' with \(p_V(\varepsilon') \le \alpha\) may be reported, p monotone or not: let v be the smallest count for
which something above the true epsilon is reported, and epsilon'' what is. The mechanism keeps to epsilon'' too, so a
count of v or more has probability at most \(p_v(\varepsilon'') \le \alpha\). Bisection therefore costs no validity,
whichever crossing it finds.
"""

from __future__ import annotations

from collections.abc import Callable


def last_rejected(rejected: Callable[[float], bool]) -> float:
    """The last value from 0 up that is rejected, by doubling and bisection.

    Args:
        rejected: Whether a value is; not for ever.

    Returns:
        A value that is rejected, next to one that is not; 0 if even that is not rejected.
    """
    if not rejected(0.0):
        return 0.0
    high = 1.0
    while rejected(high):
        high *= 2
    low = 0.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rejected(middle) else (low, middle)
    return low
