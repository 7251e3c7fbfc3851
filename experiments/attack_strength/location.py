"""Shadow models of Location-30, each attacked with all others, and with four others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from experiments.attack_strength.posteriors import CLASSES, location30
from experiments.benchmark import Figure, Say
from unlearn.audit.attacks.base import Sample, confidence_of_logits, own_class
from unlearn.audit.attacks.difficulty import difficulty_score
from unlearn.audit.attacks.entropy import modified_entropy_score
from unlearn.audit.attacks.lira import lira_offline, lira_offline_fixed, lira_online, lira_online_fixed
from unlearn.audit.attacks.loss import loss_score
from unlearn.audit.attacks.rmia import marginal_offline, marginal_online, rmia_score
from unlearn.audit.attacks.shokri import fit_shokri
from unlearn.audit.metrics import auc, tpr_at_fpr
from unlearn.audit.shadow_mlp import StackedMLP
from unlearn.audit.shadows import half_splits

BLOCK = 4
"""Models of a block; each record is in two of them."""


@dataclass(frozen=True)
class Pool:
    """What all models say of the records and of the population.

    Attributes:
        labels: `[n]` int.
        membership: `[models, n]` bool.
        probabilities: `[models, n, classes]`.
        phi: `[models, n]` logit-scaled confidence.
        p: `[models, n]` probability of the label.
        z: `[models, m]` probability of the label, of the population, which no model saw.
    """

    labels: np.ndarray
    membership: np.ndarray
    probabilities: np.ndarray
    phi: np.ndarray
    p: np.ndarray
    z: np.ndarray


def network(setting: Mapping[str, Any]) -> StackedMLP:
    """The shadow models' network."""
    return StackedMLP(**setting["network"] | {"hidden": tuple(setting["network"]["hidden"])})


def train(setting: Mapping[str, Any], say: Say) -> Pool:
    """Train all models at once.

    Args:
        setting: The entries of `config.toml`.
        say: Told what is under way.

    Returns:
        What they say.
    """
    X, y = location30()
    order = np.random.default_rng(setting["seed"]).permutation(len(X))
    rows, population = order[: setting["records"]], order[-setting["population"] :]
    assert not set(rows.tolist()) & set(population.tolist()), "a record of the population is trained on"
    blocks = [half_splits(BLOCK, len(rows), setting["seed"] + block) for block in range(setting["blocks"])]
    membership = np.concatenate(blocks)
    say(f"{len(membership)} models of {len(rows) // 2:,} records each, in one stack")
    models = network(setting).train(X[rows], y[rows], CLASSES, membership, setting["seed"])
    p = models.probabilities(X[rows])
    return Pool(
        y[rows],
        membership,
        p,
        confidence_of_logits(models.logits(X[rows]), y[rows]),
        own_class(p, y[rows]),
        own_class(models.probabilities(X[population]), y[population]),
    )


Score = Callable[[Pool, int, np.ndarray], np.ndarray]
"""The pool, the model that is attacked, `[k]` its shadow models: to scores `[n]`."""


def _loss(pool: Pool, target: int, others: np.ndarray) -> np.ndarray:
    del others
    return loss_score(pool.probabilities[target], pool.labels)


def _modified_entropy(pool: Pool, target: int, others: np.ndarray) -> np.ndarray:
    del others
    return modified_entropy_score(pool.probabilities[target], pool.labels)


def _difficulty(pool: Pool, target: int, others: np.ndarray) -> np.ndarray:
    losses = -np.log(np.maximum(pool.p, 1e-30))
    return difficulty_score(losses[target], losses[others], pool.membership[others])


def _lira(score: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]) -> Score:
    return lambda pool, target, others: score(pool.phi[target], pool.phi[others], pool.membership[others])


def _rmia_online(pool: Pool, target: int, others: np.ndarray) -> np.ndarray:
    # No model saw the population, so its average is over models without it, on both sides.
    marginal = marginal_online(pool.p[others], pool.membership[others])
    return rmia_score(pool.p[target], marginal, pool.z[target], pool.z[others].mean(axis=0))


def _rmia_offline(pool: Pool, target: int, others: np.ndarray) -> np.ndarray:
    marginal = marginal_offline(pool.p[others], pool.membership[others])
    never = np.zeros(pool.z[others].shape, dtype=np.bool_)
    return rmia_score(pool.p[target], marginal, pool.z[target], marginal_offline(pool.z[others], never))


MANY: Mapping[str, Score] = {
    "loss": _loss,
    "modified_entropy": _modified_entropy,
    "difficulty": _difficulty,
    "lira_online": _lira(lira_online),
    "lira_online_fixed": _lira(lira_online_fixed),
    "lira_offline": _lira(lira_offline),
    "lira_offline_fixed": _lira(lira_offline_fixed),
    "rmia_online": _rmia_online,
    "rmia_offline": _rmia_offline,
}
FEW = ("loss", "difficulty", "lira_online_fixed", "lira_offline_fixed", "rmia_online", "rmia_offline")


def measure_pool(name: str, pool: Pool, setting: Mapping[str, Any], say: Say) -> list[Figure]:
    """Attack each model with all others, some with four others, and a few as Shokri et al. do.

    Args:
        name: Of the data.
        pool: What the models say.
        setting: The entries of `config.toml`.
        say: Told what is under way.

    Returns:
        The figures.
    """
    n = len(pool.membership)
    right = pool.probabilities.argmax(axis=2) == pool.labels
    figures = [
        Figure(f"{name}.members", "accuracy on members", float(right[pool.membership].mean()), "share"),
        Figure(f"{name}.others", "accuracy on non-members", float(right[~pool.membership].mean()), "share"),
    ]
    for attack, score in MANY.items():
        say(f"{attack}: {setting['trials']} models, each with {n - 1} others")
        found = [_attack(pool, t, score(pool, t, np.delete(np.arange(n), t))) for t in range(setting["trials"])]
        figures += _figures(f"{name}.{attack}", f"{attack}, {n - 1} shadow models", found)
    for attack in FEW:
        targets = range(setting["few_trials"])
        found = [_attack(pool, t, MANY[attack](pool, t, _block_after(t, n))) for t in targets]
        figures += _figures(f"few.{attack}", f"{attack}, {BLOCK} shadow models", found)
    say(f"attack models by class: {setting['shokri_trials']} models")
    found = [_attack(pool, t, _shokri(pool, t, setting["shokri_shadows"])) for t in range(setting["shokri_trials"])]
    figures += _figures(f"{name}.shokri", f"shokri, {setting['shokri_shadows']} shadow models", found)
    return figures + _orders(name, {figure.name: figure.value for figure in figures})


def _block_after(target: int, n: int) -> np.ndarray:
    """The four models of the block after the target's."""
    return (np.arange(BLOCK) + (target // BLOCK + 1) * BLOCK) % n


def _shokri(pool: Pool, target: int, shadows: int) -> np.ndarray:
    others = (target + 1 + np.arange(shadows)) % len(pool.membership)
    attack = fit_shokri(pool.probabilities[others], pool.labels, pool.membership[others])
    return attack.scores(pool.probabilities[target], pool.labels)


@dataclass(frozen=True)
class _Strength:
    auc: float
    low: float
    high: float
    tpr_1000: float
    tpr_100: float
    tpr_100_low: float


def _attack(pool: Pool, target: int, scores: np.ndarray) -> _Strength:
    sample = Sample(scores, pool.membership[target], tuple(range(len(scores))), f"model {target}")
    area, strict, loose = auc(sample), tpr_at_fpr(sample, 0.001), tpr_at_fpr(sample, 0.01)
    return _Strength(area.value or 0.0, area.low, area.high, strict.value or 0.0, loose.value or 0.0, loose.low)


def _figures(name: str, what: str, found: list[_Strength]) -> list[Figure]:
    """Medians over the attacked models; the interval of the first of them, since all attack the same records."""
    areas, strict, loose = [s.auc for s in found], [s.tpr_1000 for s in found], [s.tpr_100 for s in found]
    return [
        Figure(f"{name}.auc", f"{what}: AUC", median(areas), "share", samples=areas),
        Figure(f"{name}.auc.low", "of the first model: its 95 % interval begins here", found[0].low, "share"),
        Figure(f"{name}.auc.high", "and ends here", found[0].high, "share"),
        Figure(f"{name}.tpr_0.1", f"{what}: TPR at 0.1 % FPR", median(strict), "share", samples=strict),
        Figure(f"{name}.tpr_1", f"{what}: TPR at 1 % FPR", median(loose), "share", samples=loose),
        Figure(f"{name}.tpr_1.low", "of the first model: at least, at 95 %", found[0].tpr_100_low, "share"),
    ]


def _orders(name: str, values: Mapping[str, float]) -> list[Figure]:
    """What the papers find, as differences that should not be negative, and one ratio."""
    pairs = (
        ("lira_online", "lira_offline", "auc"),
        ("lira_online", "loss", "tpr_0.1"),
        ("lira_offline", "loss", "tpr_0.1"),
        ("difficulty", "loss", "tpr_0.1"),
        ("rmia_online", "rmia_offline", "auc"),
    )
    found = [
        Figure(
            f"order.{better}_over_{worse}.{figure}",
            f"{better} over {worse}, many shadow models: {figure}",
            values[f"{name}.{better}.{figure}"] - values[f"{name}.{worse}.{figure}"],
            "difference",
            at_least=0.0,
        )
        for better, worse, figure in pairs
    ]
    few = values["few.rmia_offline.auc"] - values["few.lira_offline_fixed.auc"]
    what = "rmia over lira, offline, four shadow models: auc"
    return [*found, Figure("order.few.rmia_over_lira.auc", what, few, "difference", at_least=0.0)]
