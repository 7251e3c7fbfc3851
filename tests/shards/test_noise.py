"""Noise that privacy rests on: its distribution, and that no two draws are the same."""

from __future__ import annotations

import math

import numpy as np

from shards.noise import SYSTEM, system_normal


def phi(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def test_the_system_s_noise_is_normal_and_never_twice_the_same() -> None:
    n = 200_000
    noise = system_normal((n, 2))
    assert noise.shape == (n, 2)
    assert not np.array_equal(noise, system_normal((n, 2)))
    assert abs(np.corrcoef(noise.T)[0, 1]) < 6 / math.sqrt(n)
    for x in (-2.5, -1.0, 0.0, 0.5, 1.5, 3.0):
        expected = phi(x)
        assert abs((noise < x).mean() - expected) < 6 * math.sqrt(expected * (1 - expected) / (2 * n))


def test_uniform_numbers_are_uniform_below_one_and_never_twice_the_same() -> None:
    n = 200_000
    drawn = SYSTEM.uniform(n)
    assert drawn.shape == (n,)
    assert drawn.dtype == np.float64
    assert ((drawn >= 0) & (drawn < 1)).all()
    assert not np.array_equal(drawn, SYSTEM.uniform(n))
    for x in (0.001, 0.1, 0.5, 0.99):
        assert abs((drawn < x).mean() - x) < 6 * math.sqrt(x * (1 - x) / n)
    assert (drawn * 2.0**53 % 1 == 0).all()
    assert SYSTEM.normal(()).shape == ()
