"""Attacks on language models: pure functions of the log-probabilities that a model gave to the tokens of each text."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np

from unlearn.audit.attacks.base import Card, finite
from unlearn.errors import InputError

MIN_K = Card(
    "min_k",
    "Min-K%",
    ("log-probability of each token",),
    "Shi, Ajith, Xia, Huang, Liu, Blevins, Chen & Zettlemoyer 2024, Detecting Pretraining Data, arXiv:2310.16789",
)
MIN_K_PLUS_PLUS = Card(
    "min_k_plus_plus",
    "Min-K%++",
    ("log-probability of each token", "mean and deviation of the log-probability over the vocabulary, at each token"),
    "Zhang, Sun, Yeats, Ouyang, Kuo, Zhang, Yang & Li 2025, Min-K%++, arXiv:2404.02936",
)
ZLIB = Card(
    "zlib_ratio",
    "likelihood against compressed length",
    ("log-probability of each token", "texts"),
    "Carlini et al. 2021, Extracting Training Data from Large Language Models, arXiv:2012.07805",
)
REFERENCE = Card(
    "reference_ratio",
    "likelihood against a reference model",
    ("log-probability of each token", "the same under a reference model"),
    "Carlini et al. 2021, arXiv:2012.07805; Mireshghallah et al. 2022, arXiv:2203.03929",
)

SHARE = 0.2
"""K = 20 %, as in both papers."""


def min_k(log_probs: Sequence[np.ndarray], share: float = SHARE) -> np.ndarray:
    """Mean of the lowest K % of a text's token log-probabilities: an unseen text has some outliers.

    Args:
        log_probs: `[tokens]` of each text, natural logarithms.
        share: K / 100, in (0, 1]; the number of tokens is rounded down, to one at least.

    Returns:
        `[texts]` float64; higher means more likely a member.

    Raises:
        InputError: If a text has no token, a logarithm is positive or not finite, or the share is out of range.
    """
    return np.array([_lowest(logs, share) for logs in _checked(log_probs)])


def min_k_plus_plus(
    log_probs: Sequence[np.ndarray], means: Sequence[np.ndarray], stds: Sequence[np.ndarray], share: float = SHARE
) -> np.ndarray:
    r"""Min-K% of \((\ln p(t) - \mu_t) / \sigma_t\): how the token stands among all that could have stood there.

    Args:
        log_probs: `[tokens]` of each text.
        means: `[tokens]`: expectation of the log-probability over the vocabulary, under the model's own prediction.
        stds: `[tokens]`: its standard deviation, positive.
        share: K / 100, in (0, 1].

    Returns:
        `[texts]` float64; higher means more likely a member.

    Raises:
        InputError: As `min_k`; or if moments do not fit the tokens, or a deviation is not positive.
    """
    found = []
    if not len(log_probs) == len(means) == len(stds):
        raise InputError(f"{len(log_probs)} texts came with {len(means)} means and {len(stds)} deviations")
    for number, logs in enumerate(_checked(log_probs)):
        mean, std = finite(means[number], "means", 1), finite(stds[number], "deviations", 1)
        if not len(mean) == len(std) == len(logs) or std.min() <= 0:
            raise InputError(
                f"text number {number} needs a mean and a positive deviation for each of {len(logs)} tokens"
            )
        found.append(_lowest((logs - mean) / std, share))
    return np.array(found)


def vocabulary_moments(log_probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""\(\mu_t = \sum_v p_v \ln p_v\) and the deviation around it, for `min_k_plus_plus`.

    Args:
        log_probs: `[tokens, vocabulary]` log-probabilities, summing to 1 in probability.

    Returns:
        `[tokens]` means and `[tokens]` standard deviations, float64.

    Raises:
        InputError: If these are no log-probabilities.
    """
    logs = finite(log_probs, "log-probabilities", 2)
    p = np.exp(logs)
    if np.abs(p.sum(axis=1) - 1).max(initial=0) > 1e-3:
        raise InputError("log-probabilities must sum to 1 in probability over the vocabulary: were logits given?")
    mean = (p * logs).sum(axis=1)
    return mean, np.sqrt((p * (logs - mean[:, None]) ** 2).sum(axis=1))


def zlib_ratio(log_probs: Sequence[np.ndarray], texts: Sequence[str]) -> np.ndarray:
    """Mean log-probability of the tokens over the length of the zlib-compressed text, in bytes.

    Args:
        log_probs: `[tokens]` of each text.
        texts: The texts.

    Returns:
        `[texts]` float64; higher means more likely a member.

    Raises:
        InputError: As `min_k`; or if numbers of texts differ.
    """
    if len(log_probs) != len(texts):
        raise InputError(f"{len(log_probs)} texts have log-probabilities, and {len(texts)} are given")
    found = _checked(log_probs)
    return np.array(
        [logs.mean() / len(zlib.compress(text.encode())) for logs, text in zip(found, texts, strict=True)],
        dtype=np.float64,
    )


def reference_ratio(log_probs: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> np.ndarray:
    r"""\(\ln p_\theta(x) - \ln p_{ref}(x)\), summed over tokens: the logarithm of the likelihood ratio.

    Args:
        log_probs: `[tokens]` of each text.
        reference: The same under the reference model; its tokens may be others.

    Returns:
        `[texts]` float64; higher means more likely a member.

    Raises:
        InputError: As `min_k`; or if numbers of texts differ.
    """
    if len(log_probs) != len(reference):
        raise InputError(f"{len(log_probs)} texts came with {len(reference)} under the reference model")
    pairs = zip(_checked(log_probs), _checked(reference), strict=True)
    return np.array([own.sum() - other.sum() for own, other in pairs])


def _checked(log_probs: Sequence[np.ndarray]) -> list[np.ndarray]:
    found = [finite(logs, "log-probabilities", 1) for logs in log_probs]
    for number, logs in enumerate(found):
        if not len(logs):
            raise InputError(f"text number {number} has no token: leave it out")
        if logs.max() > 1e-6:
            raise InputError(f"text number {number} has a log-probability of {logs.max()}: they are 0 at most")
    return found


def _lowest(values: np.ndarray, share: float) -> float:
    if not 0 < share <= 1:
        raise InputError(f"share must lie in (0, 1], got {share}")
    count = max(1, math.floor(len(values) * share))
    return float(np.partition(values, count - 1)[:count].mean())
