"""U-LiRA on every method: can models that learned and unlearned a record be told from models that never saw it?

All models share the records to forget. Each has its own draw of the others, its own first weights and its own order:
an *original* is trained on both, and a *retrained* one, of another draw, on others alone. Per record, one normal
distribution of the logit-scaled confidence over unlearned models and one over retrained ones give a likelihood ratio
for a model that neither was fitted on: models are left out in turn, a fold at a time.

[Hayes, Shumailov, Triantafillou, Khalifa & Papernot 2024, Inexact Unlearning Needs More Careful Evaluations to Avoid a
False Sense of Privacy, arXiv:2403.01218; there the records to forget are drawn anew for each model, which needs more
models for as many confidences of a record]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from experiments.approximate.cases import Case
from experiments.approximate.lab import Lab, options, train
from experiments.approximate.tuning import Values, configuration
from unlearn.audit.attacks.base import Sample, confidence_of_logits
from unlearn.audit.attacks.u_lira import u_lira
from unlearn.audit.metrics.roc import auc, tpr_at_fpr
from unlearn.errors import ConfigurationError, InputError
from unlearn.methods import METHODS
from unlearn.methods.training import outputs_of

SEED = 10_000
"""Of the first original; no model of the table has the seed of one of these."""

REFERENCES = ("original", "retrain_again")
"""Rows that are no methods: models that forgot nothing, and retrained ones, which nothing tells from retrained ones."""


@dataclass(eq=False)
class Population:
    """The models; those that are not unlearned are trained when first asked for.

    Attributes:
        pool: Who training sets are drawn from, the records to forget among them.
        forgotten: `[n]` bool.
        others: Records of each training set beside those to forget.
        setting: The entries of `config.toml` for this part.
    """

    pool: Case
    forgotten: np.ndarray
    others: int
    setting: Mapping[str, Any]
    _originals: dict[int, torch.nn.Module] = field(default_factory=dict)
    _retrained: dict[int, np.ndarray] = field(default_factory=dict)

    def lab(self, number: int) -> Lab:
        """One training: its data, and what is to be forgotten of it.

        Args:
            number: Of the model, from 0 on.

        Returns:
            The lab.
        """
        seed = SEED + number
        drawn = np.random.default_rng(seed).permutation(np.flatnonzero(~self.forgotten))[: self.others]
        rows = np.sort(np.concatenate([np.flatnonzero(self.forgotten), drawn]))
        case = replace(self.pool, train=self.pool.train.take(torch.from_numpy(rows)), subject=self.pool.subject[rows])
        return Lab(case, seed, self.forgotten[rows], 1)

    def confidences(self, row: str, values: Values, fixed: Values) -> np.ndarray:
        """Logit-scaled confidences in the records to forget.

        Args:
            row: A method, or one of `REFERENCES`.
            values: The method's configuration.
            fixed: Of all configurations.

        Returns:
            `[models, records]` float64.

        Raises:
            ConfigurationError: If the method says so of a model.
            InputError: The same.
        """
        n = self.setting["models"]
        if row == "retrain_again":
            return np.stack([self._of_retrained(number) for number in range(2 * n, 3 * n)])
        return np.stack([self._of(self._unlearned(row, values, fixed, number)) for number in range(n)])

    def retrained(self) -> np.ndarray:
        """The same of the retrained models that everything is compared with."""
        n = self.setting["models"]
        return np.stack([self._of_retrained(number) for number in range(n, 2 * n)])

    def _of_retrained(self, number: int) -> np.ndarray:
        if number not in self._retrained:
            lab = self.lab(number)
            model = train(lab.case.network(lab.seed), lab.retain, lab.case.training(lab.seed), None)[0]
            self._retrained[number] = self._of(model)
        return self._retrained[number]

    def _unlearned(self, row: str, values: Values, fixed: Values, number: int) -> torch.nn.Module:
        lab = self.lab(number)
        if number not in self._originals:
            self._originals[number] = lab.original
        original = self._originals[number]
        if row == "original":
            return original
        config = configuration(row, values, fixed, lab.seed)
        model: torch.nn.Module = METHODS[row](original, lab.forget, lab.retain, config, **options(row, lab))
        return model

    def _of(self, model: torch.nn.Module) -> np.ndarray:
        given = self.pool.train.take(torch.from_numpy(np.flatnonzero(self.forgotten)))
        logits = outputs_of(model, given.inputs).double().numpy()
        return confidence_of_logits(logits, given.targets.numpy())


def measure(row: str, population: Population, values: Values, fixed: Values) -> dict[str, Any]:
    """Attack one row.

    Args:
        row: A method, or one of `REFERENCES`.
        population: The models.
        values: The method's configuration.
        fixed: Of all configurations.

    Returns:
        `tpr` with `low` and `high`, all in percent, `verdict` and `note` of it, and `auc`; or `failed` with what the
        method said of a model.
    """
    setting = population.setting
    try:
        ours = population.confidences(row, values, fixed)
    except (ConfigurationError, InputError) as error:  # nothing finite is left of a model
        return {"failed": str(error)}
    inside, outside = scores(ours, population.retrained(), setting["folds"])
    sample = _sample(inside, outside)
    found = tpr_at_fpr(sample, setting["fpr"])
    low, high = interval(inside, outside, setting["fpr"], setting["resamples"])
    assert found.value is not None
    return {
        "tpr": 100 * found.value,
        "low": 100 * low,
        "high": 100 * high,
        "verdict": found.verdict,
        "note": f"{outside.size} non-members of {len(outside)} models, {inside.size} members of {len(inside)}",
        "auc": auc(sample).value,
    }


def scores(unlearned: np.ndarray, retrained: np.ndarray, folds: int) -> tuple[np.ndarray, np.ndarray]:
    """Likelihood ratios of models that the distributions were not fitted on.

    Args:
        unlearned: `[models, n]` confidences under unlearned models.
        retrained: `[models, n]` under as many retrained ones.
        folds: So many times a part of the models on both sides is left out, each once.

    Returns:
        Two arrays `[models, n]`, of unlearned and of retrained models; higher means more likely unlearned.
    """
    inside, outside = np.empty_like(unlearned), np.empty_like(retrained)
    for left_out in np.array_split(np.arange(len(unlearned)), folds):
        fitted = np.setdiff1d(np.arange(len(unlearned)), left_out)
        for number in left_out:
            inside[number] = u_lira(unlearned[number], unlearned[fitted], retrained[fitted])
            outside[number] = u_lira(retrained[number], unlearned[fitted], retrained[fitted])
    return inside, outside


def interval(inside: np.ndarray, outside: np.ndarray, fpr: float, resamples: int) -> tuple[float, float]:
    """95 % of bootstrap samples of whole models: scores of one model are not independent.

    Args:
        inside: `[models, n]` scores of unlearned models.
        outside: `[models, n]` of retrained ones.
        fpr: In (0, 1).
        resamples: Bootstrap samples, drawn under a seed.

    Returns:
        The ends, as shares.
    """
    rng = np.random.default_rng(0)
    found = []
    for _ in range(resamples):
        members, others = (part[rng.integers(len(part), size=len(part))].ravel() for part in (inside, outside))
        place = int(np.floor(fpr * len(others) + 1e-9))  # as `tpr_at_fpr` reads it
        threshold = -np.partition(-others, place)[place]
        found.append(float((members > threshold).mean()))
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


def _sample(inside: np.ndarray, outside: np.ndarray) -> Sample:
    """Of every model each record counts as one; unlearned ones are members."""
    values = np.concatenate([inside.ravel(), outside.ravel()])
    member = np.arange(len(values)) < inside.size
    return Sample(values, member, tuple(range(len(values))), "unlearned and retrained models")
