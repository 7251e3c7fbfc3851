r"""The metrics of MUSE: what an unlearnt model still says, still knows, still gives away, and is still good for.

Shi, Lee, Huang, Malladi, Zhao, Holtzman, Liu, Zettlemoyer, Smith & Zhang, *MUSE: machine unlearning six-way evaluation
for language models*, ICLR 2025 (arXiv 2407.06460). Definitions are recalled; that ROUGE-L counts by its F-measure, that
the attack is Min-K% with K = 40 and which way its area is counted were read in its public code. Re-check before figures
are compared:

- VerbMem: mean ROUGE-L of greedy continuations of the forgotten texts with the true ones;
- KnowMem: the same of answers to questions about them; utility (UtilPres) is that of questions about what stays;
- PrivLeak: \((\mathrm{AUC} - \mathrm{AUC}_\mathrm{retrained}) / \mathrm{AUC}_\mathrm{retrained}\), AUC the probability
  that a *held-out* text looks more like a member than a forgotten one, by Min-K%. Near -1: the forgotten texts are
  given away; near 0: as much as by a model that never saw them; far above 0: they are too unlikely, which gives them
  away too.

Its two other properties, how size and repetition of requests matter, are experiments and no metrics. Here the length of
a continuation is that of the true one, and Min-K% reads the answers or continuations, not the prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from unlearn.audit.attacks.tokens import min_k
from unlearn.errors import InputError
from unlearn.language.hooks import frozen, logits_of
from unlearn.language.reading import greedy
from unlearn.language.text import encode, filler_of, pad
from unlearn.language.tofu import rouge_recall

SHARE = 0.4
"""K = 40 %, as in MUSE's code."""

Pair = tuple[str, str]
"""A prompt and what follows it: a question and its answer, or a text in two parts (`halves`)."""


@dataclass(frozen=True)
class Muse:
    """The four metrics.

    Attributes:
        verbatim: VerbMem, in [0, 1].
        knowledge: KnowMem, in [0, 1].
        leak: PrivLeak, from -1; 0 is best.
        utility: UtilPres, in [0, 1].
    """

    verbatim: float
    knowledge: float
    leak: float
    utility: float


def score_muse(
    model: nn.Module,
    retrained: nn.Module,
    tokenizer: Any,
    *,
    texts: Sequence[Pair],
    forget: Sequence[Pair],
    retain: Sequence[Pair],
    held_out: Sequence[Pair],
) -> Muse:
    """Ask a model.

    Args:
        model: The one after unlearning.
        retrained: One that was trained without the forgotten texts.
        tokenizer: Of both, a fast one.
        texts: Forgotten texts, each in two parts; Min-K% reads them too.
        forget: Questions about them, with answers.
        retain: Questions about what stays, with answers.
        held_out: Texts that neither model ever saw, like those of `texts`.

    Returns:
        The metrics.

    Raises:
        InputError: If one of them is empty.
    """
    reference = membership(retrained, tokenizer, texts, held_out)
    return Muse(
        memory(model, tokenizer, texts),
        memory(model, tokenizer, forget),
        privacy_leak(membership(model, tokenizer, texts, held_out), reference),
        memory(model, tokenizer, retain),
    )


def memory(model: nn.Module, tokenizer: Any, pairs: Sequence[Pair]) -> float:
    """How much of what follows a prompt a greedy generation says.

    Args:
        model: A causal language model.
        tokenizer: Its fast tokenizer.
        pairs: Prompts and what follows them.

    Returns:
        Mean ROUGE-L (F-measure), in [0, 1]. VerbMem, KnowMem or UtilPres: it depends on the pairs.

    Raises:
        InputError: If there are none.
    """
    if not pairs:
        raise InputError("no pairs are given, so there is nothing to ask for")
    lengths = [len(encode(tokenizer, *pair).answer) for pair in pairs]
    said = greedy(model, tokenizer, [prompt for prompt, _ in pairs], lengths)
    return float(np.mean([rouge_f(text, answer) for text, (_, answer) in zip(said, pairs, strict=True)]))


def rouge_f(said: str, answer: str) -> float:
    """The F-measure of ROUGE-L (Lin 2004): harmonic mean of its recall and its precision.

    Args:
        said: What was generated.
        answer: What was to be said.

    Returns:
        In [0, 1].
    """
    recall, precision = rouge_recall(said, answer), rouge_recall(answer, said)
    return 2 * recall * precision / (recall + precision) if recall + precision else 0.0


def membership(
    model: nn.Module, tokenizer: Any, forget: Sequence[Pair], held_out: Sequence[Pair], *, share: float = SHARE
) -> float:
    """The AUC of PrivLeak.

    Args:
        model: A causal language model.
        tokenizer: Its fast tokenizer.
        forget: Forgotten texts, at least one.
        held_out: Texts it never saw, at least one.
        share: K / 100 of Min-K%.

    Returns:
        The probability that Min-K% of a held-out text is above that of a forgotten one, ties counting half. 0: the
        model was trained on what is called forgotten, and shows it.

    Raises:
        InputError: If there are none of either.
    """
    from scipy.stats import mannwhitneyu

    if not forget or not held_out:
        raise InputError("PrivLeak compares forgotten texts with held-out ones: give some of each")
    scores = min_k(token_log_probabilities(model, tokenizer, [*forget, *held_out]), share)
    members, others = scores[: len(forget)], scores[len(forget) :]
    return float(mannwhitneyu(others, members).statistic) / (len(others) * len(members))


def privacy_leak(found: float, retrained: float) -> float:
    """PrivLeak.

    Args:
        found: `membership` of the model after unlearning.
        retrained: That of one trained without the forgotten texts.

    Returns:
        Their relative difference, at least -1 (MUSE reports it in percent).

    Raises:
        InputError: If that of the retrained model is 0.
    """
    if not retrained > 0:
        raise InputError("the retrained model gives all forgotten texts away: was it trained on them?")
    return (found - retrained) / retrained


def halves(tokenizer: Any, text: str, share: float = 0.5) -> Pair:
    """Divide a text into a prompt and its continuation, between two words.

    Args:
        tokenizer: A fast tokenizer; counts the tokens.
        text: At least two words.
        share: Of the tokens, at most so many in the prompt, and one word at least.

    Returns:
        The two parts, without the space between them.

    Raises:
        InputError: If there is but one word.
    """
    words = text.split(" ")
    if len(words) < 2:
        raise InputError(f"{text!r} is one word, and cannot be divided")
    limit = share * len(encode(tokenizer, text).ids)
    cut = 1
    while cut < len(words) - 1 and len(encode(tokenizer, " ".join(words[: cut + 1])).ids) <= limit:
        cut += 1
    return " ".join(words[:cut]), " ".join(words[cut:])


def token_log_probabilities(
    model: nn.Module, tokenizer: Any, pairs: Sequence[Pair], *, batch: int = 64
) -> list[np.ndarray]:
    """What attacks on language models read: the log-probability of each token that follows a prompt.

    Args:
        model: A causal language model.
        tokenizer: Its fast tokenizer.
        pairs: Prompts and what follows them.
        batch: So many at a time.

    Returns:
        `[tokens]` float64 for each pair, natural logarithms.
    """
    found: list[np.ndarray] = []
    device = next(model.parameters()).device
    for start in range(0, len(pairs), batch):
        some = [encode(tokenizer, *pair) for pair in pairs[start : start + batch]]
        padded = pad(some, filler_of(tokenizer)).to(device)
        with frozen(model), torch.no_grad():
            logits = logits_of(model, padded.ids, padded.mask)[:, :-1].double().log_softmax(-1)
        each = logits.gather(2, padded.ids[:, 1:, None])[..., 0].cpu().numpy()
        found += [row[text.start - 1 : len(text.ids) - 1] for row, text in zip(each, some, strict=True)]
    return found
