"""Exact unlearning: how often does each rule report an epsilon above 0?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

from experiments.audit_calibration import peers
from experiments.audit_calibration.rates import Rate, rate_of
from unlearn.audit.definitions import check_approximate, check_exact
from unlearn.audit.epsilon.bayesian import bayesian
from unlearn.audit.epsilon.bound import LowerBound
from unlearn.audit.epsilon.clopper_pearson import clopper_pearson, clopper_pearson_grid
from unlearn.audit.epsilon.dkw import dkw
from unlearn.audit.epsilon.gdp import gdp, gdp_grid
from unlearn.audit.epsilon.multiplicity import alpha_at, best_of, over_looks
from unlearn.audit.epsilon.one_run import Guesses, guess, one_run
from unlearn.audit.epsilon.one_run_fdp import one_run_fdp, one_run_gdp
from unlearn.audit.epsilon.order_statistics import order_statistics, order_statistics_gdp
from unlearn.audit.epsilon.scores import Scores, hold_out
from unlearn.audit.forgetting_quality import example_epsilon

ONE_RUN: dict[str, Callable[..., LowerBound]] = {
    "one run (Steinke et al.)": one_run,
    "one run, f-DP": one_run_fdp,
    "one run, f-DP, Gaussian": one_run_gdp,
    "one run, order statistics": order_statistics,
    "one run, order statistics, Gaussian": order_statistics_gdp,
}
"""Estimators from guesses of one run."""

FIXED: dict[str, Callable[..., LowerBound]] = {
    "Clopper-Pearson, fixed threshold": clopper_pearson,
    "GDP, fixed threshold": gdp,
    "Bayesian, fixed threshold": bayesian,
}
"""Estimators from the errors of one test."""


def errors(scores: Scores, threshold: float) -> tuple[int, int, int, int]:
    """False positives, retrained runs, false negatives, unlearned runs at a threshold."""
    wrong, missed = int((scores.outs > threshold).sum()), int((scores.ins <= threshold).sum())
    return wrong, len(scores.outs), missed, len(scores.ins)


@cache
def bound_of(rule: str, m: int, r: int, v: int, delta: float, alpha: float) -> float:
    """The bound of so many right guesses; the same count comes again and again."""
    return ONE_RUN[rule](Guesses(m, r, v), delta=delta, alpha=alpha).epsilon


@cache
def bound_at(m: int, r: int, v: int, delta: float, alpha: float) -> LowerBound:
    """Steinke et al.'s bound as a whole."""
    return one_run(Guesses(m, r, v), delta=delta, alpha=alpha)


def measure_null(setting: Mapping[str, Any], alpha: float, delta: float, rng: np.random.Generator) -> list[Rate]:
    """Draw, judge and count."""
    n, m = setting["runs"], setting["canaries"]
    ours: dict[str, list[float]] = defaultdict(list)
    theirs: dict[str, list[float]] = defaultdict(list)
    for _ in range(setting["repetitions"]):
        scores = Scores(rng.normal(size=n), rng.normal(size=n))
        aside, judged = hold_out(scores, rng)
        for rule, bound in FIXED.items():
            ours[rule].append(bound(*errors(judged, float(np.median(aside))), delta=delta, alpha=alpha).epsilon)
        ours["Clopper-Pearson, grid"].append(clopper_pearson_grid(judged, aside, delta=delta, alpha=alpha).epsilon)
        ours["GDP, grid"].append(gdp_grid(judged, aside, delta=delta, alpha=alpha).epsilon)
        ours["DKW band"].append(dkw(scores, delta=delta, alpha=alpha).epsilon)
        ours["epsilon-approximate, by events"].append(check_approximate(judged, aside, epsilon=0, alpha=alpha).bound)

        coins, said = rng.random(m) < 0.5, rng.normal(size=m)
        half = setting["guesses"] // 2
        guessed = guess(said[coins], said[~coins], guess_in=half, guess_out=half)
        for rule in ONE_RUN:
            ours[rule].append(bound_of(rule, guessed.m, guessed.r, guessed.v, delta, alpha))

        few = setting["test_runs"]
        test = check_exact(scores.ins[:few], scores.outs[:few], rng, alpha=alpha, permutations=setting["permutations"])
        ours["exact, permutation test"].append(float(test.p_value <= alpha))

        # Other attacks and looks are one run each, with guesses that know nothing.
        n_attacks, n_looks, r = setting["attacks"], setting["looks"], setting["guesses"]
        counts = [int(v) for v in rng.binomial(r, 0.5, n_attacks + n_looks)]
        share = alpha / n_attacks
        attacks = {str(i): bound_at(m, r, v, delta, share) for i, v in enumerate(counts[:n_attacks])}
        ours[f"best of {n_attacks} attacks on one run, alpha shared"].append(best_of(attacks, alpha=alpha).epsilon)
        looks = [bound_at(m, r, v, delta, alpha_at(i, alpha=alpha)) for i, v in enumerate(counts[n_attacks:], start=1)]
        ours[f"best of {n_looks} looks at one run each, alpha spent"].append(over_looks(looks, alpha=alpha).epsilon)
        careless = [bound_at(m, r, v, delta, alpha).epsilon for v in counts]
        theirs[f"best of {n_attacks} attacks on one run, alpha for each"].append(max(careless[:n_attacks]))
        theirs[f"best of {n_looks} looks at one run each, alpha for each"].append(max(careless[n_attacks:]))

        theirs["tensorflow-privacy: all thresholds, both sides"].append(
            peers.tensorflow_privacy(scores.ins, scores.outs, alpha)
        )
        theirs["PrivacyGuard: all thresholds"].append(peers.privacy_guard(scores.ins, scores.outs, alpha, delta))
        both, members = np.concatenate([scores.ins, scores.outs]), np.arange(2 * n) < n
        theirs["Privacy Meter: grid of numbers of guesses"].append(peers.privacy_meter(both, members, alpha))
        theirs["opake: one run, best threshold in hindsight"].append(peers.best_threshold(both, members, alpha))
        theirs["NeurIPS 2023 score's epsilon"].append(example_epsilon(scores.ins[:few], scores.outs[:few], delta))
    rates = []
    for group, rules in (("ours", ours), ("peers' rule", theirs)):
        for rule, values in rules.items():
            rates.append(
                rate_of(group, "exact unlearning", rule, values, 0.0, alpha, mean=rule != "exact, permutation test")
            )
    return rates
