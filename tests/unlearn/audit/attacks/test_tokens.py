"""Attacks on log-probabilities of tokens, against the same by hand."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest

from unlearn.audit.attacks.tokens import min_k, min_k_plus_plus, reference_ratio, vocabulary_moments, zlib_ratio
from unlearn.errors import InputError


def texts(seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [-random.exponential(2, n) for n in (1, 4, 5, 10, 37)]


def test_min_k_averages_the_lowest() -> None:
    logs = texts()
    for share in (0.05, 0.2, 0.5, 1.0):
        expected = [np.mean(sorted(one)[: max(1, int(len(one) * share))]) for one in logs]
        assert min_k(logs, share) == pytest.approx(expected)
    assert min_k(logs, 1.0) == pytest.approx([one.mean() for one in logs])


def test_min_k_plus_plus_standardises_first() -> None:
    random = np.random.default_rng(1)
    logs = texts()
    means, stds = [random.normal(-3, 1, len(one)) for one in logs], [random.uniform(0.5, 2, len(one)) for one in logs]
    expected = [
        np.mean(sorted((one - mean) / std)[: max(1, int(len(one) * 0.2))])
        for one, mean, std in zip(logs, means, stds, strict=True)
    ]
    assert min_k_plus_plus(logs, means, stds) == pytest.approx(expected)
    with pytest.raises(InputError, match="positive deviation"):
        min_k_plus_plus(logs, means, [0 * std for std in stds])
    with pytest.raises(InputError, match="5 texts came with 4 means"):
        min_k_plus_plus(logs, means[:4], stds)


def test_moments_over_the_vocabulary() -> None:
    p = np.array([[0.5, 0.25, 0.25], [0.9, 0.05, 0.05]])
    means, stds = vocabulary_moments(np.log(p))
    for row in range(2):
        mean = sum(q * math.log(q) for q in p[row])
        assert means[row] == pytest.approx(mean)
        assert stds[row] == pytest.approx(math.sqrt(sum(q * (math.log(q) - mean) ** 2 for q in p[row])))
    with pytest.raises(InputError, match="were logits given"):
        vocabulary_moments(np.zeros((2, 3)))


def test_ratios() -> None:
    logs = texts()[:2]
    words = ["a", "the same the same the same the same"]
    lengths = [len(zlib.compress(word.encode())) for word in words]
    assert zlib_ratio(logs, words) == pytest.approx([one.mean() / n for one, n in zip(logs, lengths, strict=True)])
    other = [np.array([-1.0, -2.0]), np.array([-3.0])]
    assert reference_ratio(logs, other) == pytest.approx([logs[0].sum() + 3, logs[1].sum() + 3])


@pytest.mark.parametrize(
    ("logs", "message"),
    [
        ([np.array([])], "has no token"),
        ([np.array([0.5])], "they are 0 at most"),
        ([np.array([np.nan])], "NaN"),
        ([np.array([[-1.0]])], "1 axes"),
    ],
)
def test_what_is_no_log_probability_is_refused(logs: list[np.ndarray], message: str) -> None:
    with pytest.raises(InputError, match=message):
        min_k(logs)
    with pytest.raises(InputError, match=message):
        reference_ratio(logs, logs)
    with pytest.raises(InputError, match=message):
        zlib_ratio(logs, ["a"])


def test_counts_and_shares_are_checked() -> None:
    with pytest.raises(InputError, match="share must lie"):
        min_k(texts(), 0)
    with pytest.raises(InputError, match="5 texts have log-probabilities, and 1 are given"):
        zlib_ratio(texts(), ["a"])
    with pytest.raises(InputError, match="5 texts came with 4"):
        reference_ratio(texts(), texts()[:4])
