"""Attacks on whole models: what changes nothing is caught, what hides too much is caught, retraining passes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.stats import binomtest

from unlearn.audit.attacks.base import confidence, sample_of
from unlearn.audit.attacks.lira import lira_online_fixed
from unlearn.audit.attacks.loss import loss_score
from unlearn.audit.attacks.u_lira import u_lira
from unlearn.audit.metrics import Estimate, auc, null_band
from unlearn.audit.shadow_mlp import StackedMLP
from unlearn.audit.shadows import half_splits

RETAIN, FORGET, NEVER = 80, 60, 60
SHADOWS, RETRAINED = 12, 20


@dataclass(frozen=True)
class World:
    """Posteriors `[models, records, classes]` and labels of the forgotten records, then of records never seen."""

    labels: np.ndarray
    original: np.ndarray
    retrained: np.ndarray
    shadows: np.ndarray
    membership: np.ndarray


@cache
def world() -> World:
    """Labels that say nothing about the records, so that whoever knows them has seen them."""
    random = np.random.default_rng(0)
    n = RETAIN + FORGET + NEVER
    X, y = random.normal(size=(n, 12)), random.integers(0, 3, n)
    halves = half_splits(SHADOWS, FORGET + NEVER, 0)
    membership = np.zeros((1 + RETRAINED + SHADOWS, n), dtype=bool)
    membership[:, :RETAIN] = True
    membership[0, RETAIN : RETAIN + FORGET] = True
    membership[1 + RETRAINED :, RETAIN:] = halves
    models = StackedMLP((32,), epochs=30, batch_size=16, learning_rate=0.1).train(X, y, 3, membership, 0)
    p = models.probabilities(X[RETAIN:])
    return World(y[RETAIN:], p[0], p[1 : 1 + RETRAINED], p[1 + RETRAINED :], halves)


FORGOTTEN = np.arange(FORGET + NEVER) < FORGET


def attack(posteriors: np.ndarray, forgotten: np.ndarray = FORGOTTEN) -> Estimate:
    """AUC of LiRA: forgotten records against records never seen."""
    w = world()
    scores = lira_online_fixed(confidence(posteriors, w.labels), confidence(w.shadows, w.labels), w.membership)
    return auc(sample_of(scores[forgotten], scores[~forgotten], "audited"))


BAND = null_band(FORGET, NEVER)


def test_a_method_that_changes_nothing_is_caught() -> None:
    assert attack(world().original).low > BAND[1]


def test_exact_retraining_passes_at_its_rate() -> None:
    # No retrained model saw either kind, so which of them had been forgotten may be drawn anew for each.
    random = np.random.default_rng(0)
    draws = [random.permutation(FORGET + NEVER) < FORGET for _ in range(5 * RETRAINED)]
    values = [attack(world().retrained[i % RETRAINED], drawn).value or 0 for i, drawn in enumerate(draws)]
    outside = sum(not BAND[0] <= value <= BAND[1] for value in values)
    assert binomtest(outside, len(draws), 0.05, "greater").pvalue > 0.001
    assert abs(float(np.mean(values)) - 0.5) < 0.02


def test_a_suppressed_output_is_caught_from_below() -> None:
    # Uniform posteriors on the forget set: less sure than a model that never saw it ("Streisand").
    w = world()
    hidden = w.retrained[0].copy()
    hidden[:FORGET] = 1 / 3
    hidden_scores, honest_scores = (np.abs(p - 1 / 3).sum(axis=1) for p in (hidden, w.retrained[0]))
    found = auc(sample_of(hidden_scores[:FORGET], hidden_scores[FORGET:], "hidden"))
    assert found.high < BAND[0]
    honest = auc(sample_of(honest_scores[:FORGET], honest_scores[FORGET:], "honest"))
    assert honest.low < 0.5 < honest.high


def test_flipping_labels_is_caught_from_below() -> None:
    # The model answers wrongly on purpose: its loss on the forget set is higher than that of a model without it.
    w = world()
    flipped = w.original.copy()
    flipped[:FORGET] = np.roll(flipped[:FORGET], 1, axis=1)
    scores = loss_score(flipped, w.labels)
    assert auc(sample_of(scores[:FORGET], scores[FORGET:], "flipped")).high < 0.5


def test_u_lira_tells_unlearned_from_retrained_models_where_they_differ() -> None:
    w = world()
    phi = confidence(w.retrained, w.labels)[:, :FORGET]
    unlearned = phi + 2.0  # a method that leaves some confidence behind
    others = slice(2, RETRAINED)
    found = [u_lira(values, unlearned[others], phi[others]) for values in (unlearned[0], phi[1])]
    assert auc(sample_of(found[0], found[1], "unlearned")).low > 0.5
    same = [u_lira(values, phi[2:11], phi[11:]) for values in (phi[0], phi[1])]
    low, high = null_band(FORGET, FORGET, 0.999)
    assert low < (auc(sample_of(same[0], same[1], "retrained")).value or 0) < high
