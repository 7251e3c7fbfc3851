"""What is measured of a model, before and after the audits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

from experiments.tofu.rows import TEMPLATE, Questions, pairs
from unlearn.language.muse import halves, membership, memory
from unlearn.language.quantisation import quantised
from unlearn.language.relearning import knowledge, relearnt
from unlearn.language.tofu import Row, model_utility, score_rows, truth_ratios

TREATMENTS = ("none", "relearnt", "retained", "int8", "int4")
"""As it is; tuned on half of the forgotten questions; tuned on retained ones; rounded to so many bits."""


@dataclass(frozen=True, eq=False)
class Lab:
    """What every model of a seed is asked and shown.

    Attributes:
        tokenizer: Of all models.
        rows: All questions.
        original: Taught everything.
        retrained: Taught everything but the authors to forget, from other initial weights.
        made: Name of a row to its model, which all audits share; grows.
    """

    tokenizer: Any
    rows: Questions
    original: nn.Module
    retrained: nn.Module
    made: dict[str, nn.Module] = field(default_factory=dict)


def treated(model: nn.Module, here: Lab, treatment: str, setting: Mapping[str, Any]) -> nn.Module:
    """Do to a model what an audit does.

    Args:
        model: It; stays as it is.
        here: Whose questions are shown.
        treatment: One of `TREATMENTS`.
        setting: The entries of `config.toml`.

    Returns:
        The model after it.
    """
    if treatment in ("int8", "int4"):
        return quantised(model, int(treatment[3:]))
    if treatment == "none":
        return model
    shown = here.rows.forget[::2] if treatment == "relearnt" else here.rows.retain[: len(here.rows.forget) // 2]
    return relearnt(
        model, here.tokenizer, pairs(shown), learning_rate=setting["relearning_rate"], steps=setting["relearning_steps"]
    )


def measured(model: nn.Module, here: Lab, setting: Mapping[str, Any]) -> dict[str, Any]:
    """Ask a model everything.

    Args:
        model: It.
        here: The questions.
        setting: The entries of `config.toml`.

    Returns:
        Name to figure; truth ratios, of all forgotten questions in order and of those that no audit shows, are lists.
    """
    tokenizer, rows = here.tokenizer, here.rows
    forgotten = score_rows(model, tokenizer, rows.forget, template=TEMPLATE)
    some = setting["asked"]
    stays = {
        "retain": score_rows(model, tokenizer, rows.asked[:some], template=TEMPLATE),
        "real authors": score_rows(model, tokenizer, rows.real_authors[:some], options="choice", template=TEMPLATE),
        "world facts": score_rows(model, tokenizer, rows.world_facts[:some], options="choice", template=TEMPLATE),
    }
    texts = [_continued(tokenizer, row) for row in rows.forget]
    return {
        "ratios": [float(ratio) for ratio in forgotten.truth_ratios],
        "probability": forgotten.probability,
        "rouge": forgotten.rouge,
        "hidden": knowledge(model, tokenizer, pairs(rows.forget[1::2])).probability,
        "utility": model_utility(stays),
        "retain": stays["retain"].probability,
        "verbatim": memory(model, tokenizer, texts),
        "knowledge": memory(model, tokenizer, pairs(rows.forget)),
        "membership": membership(model, tokenizer, pairs(rows.forget), pairs(rows.held_out)),
        "preserved": memory(model, tokenizer, pairs(rows.asked[:some])),
    }


def quick(model: nn.Module, here: Lab, setting: Mapping[str, Any]) -> tuple[Sequence[float], float]:
    """What tuning looks at: truth ratios of what is to be forgotten, and how likely retained answers are.

    Args:
        model: It.
        here: The questions.
        setting: The entries of `config.toml`.

    Returns:
        Ratios, and a mean probability.
    """
    ratios = truth_ratios(model, here.tokenizer, here.rows.forget, template=TEMPLATE)
    return list(map(float, ratios)), knowledge(
        model, here.tokenizer, pairs(here.rows.asked[: setting["asked"]])
    ).probability


def _continued(tokenizer: Any, row: Row) -> tuple[str, str]:
    """A question with the first half of its answer, and the second."""
    if " " not in row.answer:
        return TEMPLATE.format(question=row.question), row.answer
    first, second = halves(tokenizer, row.answer)
    return f"{TEMPLATE.format(question=row.question)} {first}", second


def distance(some: Sequence[float], other: Sequence[float]) -> float:
    """Kolmogorov-Smirnov distance of two samples.

    Args:
        some: Truth ratios.
        other: Those of another model.

    Returns:
        In [0, 1].
    """
    from scipy.stats import ks_2samp

    return float(ks_2samp(np.asarray(some), np.asarray(other)).statistic)
