r"""Losses that unlearn: what is minimised so that a language model stops saying what it should forget.

All are functions of sums of log-probabilities or of logits; none promises anything about the data, so the most that can
be claimed for a model trained with them is `empirical`, and relearning shows how deep it went.

With \(\ell_\theta(y \mid x) = \sum_t \log \pi_\theta(y_t \mid x, y_{<t})\) and the model before, `ref`:

- gradient ascent (Jang et al. 2023): \(\ell_\theta / \lvert y \rvert\)
- NPO (Zhang et al. 2024): \(-\tfrac{2}{\beta} \log \sigma\bigl(-\beta (\ell_\theta - \ell_\mathrm{ref})\bigr)\)
- SimNPO (Fan et al. 2024): \(-\tfrac{2}{\beta} \log \sigma\bigl(-\tfrac{\beta}{\lvert y \rvert} \ell_\theta -
  \gamma\bigr)\)
- DPO (Rafailov et al. 2023; as in Zhang et al. 2024): \(-\tfrac{1}{\beta} \log \sigma\bigl(\beta (\ell_\theta(y_w) -
  \ell_\mathrm{ref}(y_w)) - \beta (\ell_\theta(y) - \ell_\mathrm{ref}(y))\bigr)\)
- UNDIAL (Dong et al. 2024): cross-entropy to \(\mathrm{softmax}(s_\mathrm{ref} - \gamma \, e_y)\)
- WHP (Eldan & Russinovich 2023): cross-entropy to \(\mathrm{softmax}(s_\mathrm{ref} - \alpha \max(0,
  s_\mathrm{reinforced} - s_\mathrm{ref}))\)
- RMU (Li et al. 2024): \(\lVert h_\theta - c u \rVert^2\) at one layer, u a fixed random direction

The constants before the logarithms are recalled from the papers. Whatever the type of the logits, probabilities are
computed in float32 at least: in 16 bits, the gradient of a divergence from a model that is near can be half wrong.

GradDiff and KL are not losses of their own: a loss on the forget set plus a weight times the negative log-likelihood of
the retain set, or the divergence from the model before on it (`unlearn.language.tuning`).
"""

from __future__ import annotations

import torch
from torch.nn.functional import kl_div, logsigmoid

from unlearn.language.hooks import at_least_32_bits


def log_likelihood(logits: torch.Tensor, ids: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
    """Sum over an answer's tokens of their log-probabilities.

    Args:
        logits: `[n, T, vocabulary]`.
        ids: `[n, T]` int64.
        answers: `[n, T]` bool: tokens of the answers; the first token of a text is none.

    Returns:
        `[n]`.
    """
    said = _log_probabilities(logits[:, :-1]).gather(2, ids[:, 1:, None])[..., 0]
    return said.masked_fill(~answers[:, 1:], 0).sum(1)


def gradient_ascent(likelihood: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Mean log-probability of a token: minimising it makes answers unlikely, without end.

    Args:
        likelihood: `[n]`, of the model.
        lengths: `[n]`, tokens of the answers.

    Returns:
        `[]`.
    """
    return (likelihood / lengths).mean()


def npo(likelihood: torch.Tensor, reference: torch.Tensor, beta: float = 0.1) -> torch.Tensor:
    """Negative preference optimisation: gradient ascent that ends, the sooner the larger beta.

    Args:
        likelihood: `[n]`, of the model.
        reference: `[n]`, of the model before.
        beta: Inverse temperature; towards 0 it becomes gradient ascent.

    Returns:
        `[]`.
    """
    return -(2 / beta) * logsigmoid(-beta * (likelihood - reference)).mean()


def simnpo(likelihood: torch.Tensor, lengths: torch.Tensor, beta: float = 2.5, gamma: float = 0.0) -> torch.Tensor:
    """NPO without a reference, normalised by length.

    Args:
        likelihood: `[n]`, of the model.
        lengths: `[n]`, tokens of the answers.
        beta: Inverse temperature.
        gamma: Margin.

    Returns:
        `[]`.
    """
    return -(2 / beta) * logsigmoid(-beta * likelihood / lengths - gamma).mean()


def dpo(
    preferred: torch.Tensor,
    preferred_before: torch.Tensor,
    rejected: torch.Tensor,
    rejected_before: torch.Tensor,
    beta: float = 0.1,
) -> torch.Tensor:
    """Direct preference optimisation: another answer ("I don't know") is preferred to the one to forget.

    Args:
        preferred: `[n]`, of the model, for the other answers.
        preferred_before: `[n]`, of the model before.
        rejected: `[n]`, of the model, for the answers to forget.
        rejected_before: `[n]`, of the model before.
        beta: Inverse temperature.

    Returns:
        `[]`.
    """
    margin = (preferred - preferred_before) - (rejected - rejected_before)
    return -(1 / beta) * logsigmoid(beta * margin).mean()


def undial(
    logits: torch.Tensor, before: torch.Tensor, ids: torch.Tensor, answers: torch.Tensor, gamma: float = 10.0
) -> torch.Tensor:
    """Distillation from the model before, with the logit of the true token lowered.

    Args:
        logits: `[n, T, vocabulary]`, of the model.
        before: `[n, T, vocabulary]`, of the model before.
        ids: `[n, T]` int64.
        answers: `[n, T]` bool.
        gamma: By how much.

    Returns:
        `[]`.
    """
    lowered = before[:, :-1].scatter_add(2, ids[:, 1:, None], torch.full_like(before[:, :-1, :1], -gamma))
    return _soft_cross_entropy(logits[:, :-1], lowered, answers[:, 1:])


def whp(
    logits: torch.Tensor, before: torch.Tensor, reinforced: torch.Tensor, answers: torch.Tensor, alpha: float = 5.0
) -> torch.Tensor:
    """Who's Harry Potter: what a model that was trained further on the text says louder, is said less.

    Args:
        logits: `[n, T, vocabulary]`, of the model.
        before: `[n, T, vocabulary]`, of the model before.
        reinforced: `[n, T, vocabulary]`, of the model trained further on what is to be forgotten.
        answers: `[n, T]` bool.
        alpha: How much less.

    Returns:
        `[]`.
    """
    generic = before - alpha * (reinforced - before).clamp(min=0)
    return _soft_cross_entropy(logits[:, :-1], generic[:, :-1], answers[:, 1:])


def rmu(hidden: torch.Tensor, mask: torch.Tensor, direction: torch.Tensor, scale: float = 20.0) -> torch.Tensor:
    """Representation misdirection: hidden states of the forget set are driven to one random vector.

    Args:
        hidden: `[n, T, d]`, of the model at one layer.
        mask: `[n, T]`, 0 where there is padding.
        direction: `[d]`, of length 1.
        scale: Length of the vector.

    Returns:
        `[]`: squared distance, mean over numbers and tokens.
    """
    each = ((hidden - scale * direction) ** 2).mean(-1)
    return (each * mask).sum() / mask.sum()


def divergence(logits: torch.Tensor, before: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    r"""\(\mathrm{KL}(\pi_\mathrm{ref} \Vert \pi_\theta)\), mean over tokens.

    Args:
        logits: `[n, T, vocabulary]`, of the model.
        before: `[n, T, vocabulary]`, of the model before.
        mask: `[n, T]`, 0 where there is padding.

    Returns:
        `[]`.
    """
    now, then = _log_probabilities(logits), _log_probabilities(before)
    each = kl_div(now, then, reduction="none", log_target=True).sum(-1)
    return (each * mask).sum() / mask.sum()


def _soft_cross_entropy(logits: torch.Tensor, target: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    each = -(_log_probabilities(target).exp() * _log_probabilities(logits)).sum(-1)
    return (each * wanted).sum() / wanted.sum()


def _log_probabilities(logits: torch.Tensor) -> torch.Tensor:
    return logits.log_softmax(-1, dtype=at_least_32_bits(logits))
