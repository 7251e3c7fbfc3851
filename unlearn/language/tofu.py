"""The metrics of TOFU: questions about people who do not exist, before and after some of them are forgotten.

Maini, Feng, Schwarzschild, Lipton, Kolter, *TOFU: a task of fictitious unlearning for LLMs*, COLM 2024 (arXiv
2401.06121). Written from its definitions as recalled. Read in its public code were that a choice counts lengths, as it
does here; that a ratio's wrong answers are averaged by their mean for the utility, as here, but by the mean of their
logarithms for the forget quality; and that ROUGE compares stems of words, where it compares words here. Re-check before
figures are compared. "Forgotten" is a comparison with a model that was trained without the questions, so
`forget_quality` needs that model's ratios, and beside it the same between two such models (`unlearn.audit` has tests
with a stated power; this is a score).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from unlearn.errors import InputError
from unlearn.language.metrics import answer_log_probability
from unlearn.language.reading import greedy
from unlearn.language.text import encode

Options = Literal["open", "choice"]
"""`"open"`: an answer's own probability counts; `"choice"`: its share among itself and the wrong answers."""


_LARGEST = math.log(np.finfo(np.float64).max) - 1
"""Of the logarithm of a ratio."""


@dataclass(frozen=True)
class Row:
    """A question of TOFU.

    Attributes:
        question: As the model is asked.
        answer: As it was taught, or the right one.
        paraphrase: The same answer in other words; the answer itself where the file has none.
        wrong: Answers of the same form that are not true; none in files without them.
    """

    question: str
    answer: str
    paraphrase: str
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scores:
    """What a model knows of some questions.

    Attributes:
        probability: Mean, in [0, 1]: of an answer, to the power of one over its tokens; with `"choice"`, its share.
        rouge: Mean recall of ROUGE-L, in [0, 1]: the words of the answer that a greedy generation gives, in order.
        truth_ratios: `[n]` float64 at least 0: how likely a wrong answer is beside the paraphrase; empty without wrong
            answers. Near 0: the model knows; about 1: it cannot tell.
    """

    probability: float
    rouge: float
    truth_ratios: np.ndarray

    @property
    def truth(self) -> float:
        """Mean of 1 - ratio, at least 0 each: what the model knows to be true; NaN without ratios."""
        return float(np.maximum(0.0, 1.0 - self.truth_ratios).mean()) if len(self.truth_ratios) else math.nan


def load_rows(path: Path | str) -> list[Row]:
    """Read a file of TOFU, a JSON object a line.

    Args:
        path: With `question` and `answer`; `paraphrased_answer` and `perturbed_answer` where there are some.

    Returns:
        Its rows.

    Raises:
        InputError: If a line is no such object; names it.
        OSError: If the file cannot be read.
    """
    name = Path(path).name
    try:
        with Path(path).open(encoding="utf-8") as lines:
            return [_row(line, f"line {number} of {name}") for number, line in enumerate(lines, 1)]
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is no text in UTF-8: {error}") from error


def score_rows(
    model: nn.Module,
    tokenizer: Any,
    rows: Sequence[Row],
    *,
    options: Options = "open",
    template: str = "Question: {question}\nAnswer:",
) -> Scores:
    """Ask a model.

    Args:
        model: A causal language model.
        tokenizer: Its fast tokenizer.
        rows: Questions.
        options: How probability is counted: TOFU's own authors are `"open"`, real authors and world facts `"choice"`.
        template: The prompt, with `{question}`; a space and the answer follow it.

    Returns:
        What it knows.

    Raises:
        InputError: If there are no questions, if only some have wrong answers, or none where `"choice"` needs them.
    """
    if not rows:
        raise InputError("no questions are given")
    if len({bool(row.wrong) for row in rows}) > 1:
        raise InputError("some questions have wrong answers and others have none: ask them apart")
    if options == "choice" and not rows[0].wrong:
        raise InputError("a choice needs wrong answers: these questions have none")
    prompts = [template.format(question=row.question) for row in rows]
    right = _log_likelihoods(model, tokenizer, [(p, row.answer) for p, row in zip(prompts, rows, strict=True)])
    ratios = np.empty(0)
    probability = np.exp(right)
    if rows[0].wrong:
        wrong = _wrong(model, tokenizer, rows, prompts)
        ratios = _ratios(model, tokenizer, rows, prompts, wrong)
        if options == "choice":
            total = [np.logaddexp.reduce([one, *some]) for one, some in zip(right, wrong, strict=True)]
            probability = np.exp(right - total)
    lengths = [len(encode(tokenizer, p, row.answer).answer) for p, row in zip(prompts, rows, strict=True)]
    said = greedy(model, tokenizer, prompts, lengths)
    rouge = np.mean([rouge_recall(text, row.answer) for text, row in zip(said, rows, strict=True)])
    return Scores(float(probability.mean()), float(rouge), ratios)


def truth_ratios(
    model: nn.Module, tokenizer: Any, rows: Sequence[Row], *, template: str = "Question: {question}\nAnswer:"
) -> np.ndarray:
    """Those of `score_rows` alone, which generate nothing.

    Args:
        model: A causal language model.
        tokenizer: Its fast tokenizer.
        rows: Questions with wrong answers.
        template: The prompt, with `{question}`.

    Returns:
        `[n]` float64.

    Raises:
        InputError: If there are no questions, or one has no wrong answers.
    """
    if not rows or not all(row.wrong for row in rows):
        raise InputError("truth ratios need questions, each with wrong answers")
    prompts = [template.format(question=row.question) for row in rows]
    return _ratios(model, tokenizer, rows, prompts, _wrong(model, tokenizer, rows, prompts))


def rouge_recall(said: str, answer: str) -> float:
    """Recall of ROUGE-L (Lin 2004): the longest common subsequence of words over the words of the answer.

    Words are runs of letters and digits in lower case.

    Args:
        said: What was generated.
        answer: What was to be said.

    Returns:
        In [0, 1]; 1 for an answer without words.
    """
    first, second = _words(said), _words(answer)
    row = [0] * (len(first) + 1)
    for word in second:
        new = [0]
        for at, other in enumerate(first):
            new.append(row[at] + 1 if word == other else max(row[at + 1], new[-1]))
        row = new
    return row[-1] / len(second) if second else 1.0


def forget_quality(truth_ratios: np.ndarray, retrained: np.ndarray) -> float:
    """Whether the ratios of the forgotten questions look like those of a model trained without them.

    The two-sample Kolmogorov-Smirnov test, of which TOFU reports the p-value. Read it as a score: a large one may come
    of few questions, and it is uniform only if the two models are independent draws of the same training.

    Args:
        truth_ratios: `[n]` after unlearning.
        retrained: `[m]` of the model trained without the questions.

    Returns:
        p-value in [0, 1].

    Raises:
        InputError: If one is empty or holds no finite numbers.
    """
    from scipy.stats import ks_2samp

    for name, values in (("truth_ratios", truth_ratios), ("retrained", retrained)):
        if not len(values) or not np.isfinite(values).all():
            raise InputError(f"{name} must hold at least one number, and finite ones alone")
    return float(ks_2samp(truth_ratios, retrained).pvalue)


def model_utility(scores: Mapping[str, Scores]) -> float:
    """What the model is still good for: the harmonic mean of probability, ROUGE and truth of all sets.

    Args:
        scores: Name to scores, of what was to stay: retained questions, real authors, world facts.

    Returns:
        In [0, 1]; 0 if one of them is.

    Raises:
        InputError: If there are no sets, one has no truth ratios, or a score is not a number.
    """
    missing = [name for name, found in scores.items() if not len(found.truth_ratios)]
    if missing or not scores:
        raise InputError(f"utility needs sets with wrong answers; without: {', '.join(missing) or 'there are no sets'}")
    each = [value for found in scores.values() for value in (found.probability, found.rouge, found.truth)]
    if any(map(math.isnan, each)):
        raise InputError("a score is not a number: look at the model's weights, or load it in float32")
    return len(each) / sum(1 / value for value in each) if min(each) > 0 else 0.0


def _row(line: str, where: str) -> Row:
    try:
        item = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where} is no JSON: {error}") from error
    if not isinstance(item, dict):
        raise InputError(f"{where} is no question of TOFU: it must be an object with question and answer")
    wrong = item.get("perturbed_answer", [])
    question, answer = item.get("question"), item.get("answer")
    paraphrase = item.get("paraphrased_answer", answer)
    if not isinstance(wrong, list) or not all(
        isinstance(text, str) and text for text in [question, answer, paraphrase, *wrong]
    ):
        raise InputError(
            f"{where} is no question of TOFU: question, answer and paraphrased_answer must be texts, perturbed_answer "
            "a list of texts"
        )
    return Row(str(question), str(answer), str(paraphrase), tuple(wrong))


def _wrong(model: nn.Module, tokenizer: Any, rows: Sequence[Row], prompts: Sequence[str]) -> list[np.ndarray]:
    """For each row, the logarithms of the likelihoods of its wrong answers."""
    flat = [(prompt, answer) for prompt, row in zip(prompts, rows, strict=True) for answer in row.wrong]
    ends = np.cumsum([len(row.wrong) for row in rows])[:-1]
    return np.split(_log_likelihoods(model, tokenizer, flat), ends)


def _ratios(
    model: nn.Module, tokenizer: Any, rows: Sequence[Row], prompts: Sequence[str], wrong: Sequence[np.ndarray]
) -> np.ndarray:
    other = _log_likelihoods(model, tokenizer, [(p, row.paraphrase) for p, row in zip(prompts, rows, strict=True)])
    mean = np.array([np.logaddexp.reduce(some) - math.log(len(some)) for some in wrong])
    # A model that was driven to say nothing likely has ratios beyond all numbers, which no test could compare.
    return np.asarray(np.exp(np.minimum(mean - other, _LARGEST)))


def _log_likelihoods(model: nn.Module, tokenizer: Any, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """`[n]` float64: logarithms of probabilities, over the number of the answers' tokens."""
    lengths = torch.tensor([len(encode(tokenizer, *pair).answer) for pair in pairs])
    return np.asarray(answer_log_probability(model, tokenizer, pairs) / lengths, np.float64)


def _words(text: str) -> list[str]:
    cut = [0, *(at for at, (a, b) in enumerate(pairwise(text), 1) if a.isalnum() != b.isalnum()), len(text)]
    return [text[a:b].lower() for a, b in pairwise(cut) if text[a:b].isalnum()]
