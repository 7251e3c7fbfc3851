"""Exact unlearning: how often does each rule report an epsilon above 0?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from experiments.audit_calibration import peers
from experiments.audit_calibration.one_run import REJECTED, STEINKE, too_high
from experiments.audit_calibration.rates import Rate, rate_of_bounds
from unlearn.audit.definitions import check_approximate, check_exact
from unlearn.audit.epsilon.bayesian import posterior_below
from unlearn.audit.epsilon.bound import LowerBound
from unlearn.audit.epsilon.clopper_pearson import clopper_pearson, clopper_pearson_grid
from unlearn.audit.epsilon.dkw import dkw
from unlearn.audit.epsilon.gdp import gdp, gdp_grid
from unlearn.audit.epsilon.multiplicity import alpha_at
from unlearn.audit.epsilon.one_run import guess
from unlearn.audit.epsilon.scores import Scores, hold_out
from unlearn.audit.quality import example_epsilon

FIXED: dict[str, Callable[..., LowerBound]] = {
    "Clopper-Pearson, fixed threshold": clopper_pearson,
    "GDP, fixed threshold": gdp,
}
"""Estimators from the errors of one test."""

BAYES = "Bayesian, fixed threshold"


def errors(scores: Scores, threshold: float) -> tuple[int, int, int, int]:
    """False positives, retrained runs, false negatives, unlearned runs at a threshold."""
    wrong, missed = int((scores.outs > threshold).sum()), int((scores.ins <= threshold).sum())
    return wrong, len(scores.outs), missed, len(scores.ins)


def measure_null(setting: Mapping[str, Any], alpha: float, delta: float, rng: np.random.Generator) -> list[Rate]:
    """Draw, judge and count."""
    n, m, r = setting["runs"], setting["canaries"], setting["guesses"]

    def alarm(v: int, share: float) -> float:
        return float(too_high(STEINKE, m, r, v, 0.0, delta, share))

    ours: dict[str, list[float]] = defaultdict(list)
    theirs: dict[str, list[float]] = defaultdict(list)
    for _ in range(setting["repetitions"]):
        scores = Scores(rng.normal(size=n), rng.normal(size=n))
        aside, judged = hold_out(scores, rng)
        counted = errors(judged, float(np.median(aside)))
        ours[BAYES].append(float(posterior_below(0.0, *counted, delta=delta) <= alpha / 2))
        for rule, bound in FIXED.items():
            ours[rule].append(bound(*counted, delta=delta, alpha=alpha).epsilon)
        ours["Clopper-Pearson, grid"].append(clopper_pearson_grid(judged, aside, delta=delta, alpha=alpha).epsilon)
        ours["GDP, grid"].append(gdp_grid(judged, aside, delta=delta, alpha=alpha).epsilon)
        ours["DKW band"].append(dkw(scores, delta=delta, alpha=alpha).epsilon)
        ours["epsilon-approximate, by events"].append(check_approximate(judged, aside, epsilon=0, alpha=alpha).bound)

        coins, said = rng.random(m) < 0.5, rng.normal(size=m)
        half = r // 2
        guessed = guess(said[coins], said[~coins], guess_in=half, guess_out=half)
        for rule in REJECTED:
            ours[rule].append(float(too_high(rule, guessed.m, guessed.r, guessed.v, 0.0, delta, alpha)))

        few = setting["test_runs"]
        test = check_exact(scores.ins[:few], scores.outs[:few], rng, alpha=alpha, permutations=setting["permutations"])
        ours["exact, permutation test"].append(float(test.p_value <= alpha))

        # Other attacks and looks are one run each, with guesses that know nothing.
        n_attacks, n_looks = setting["attacks"], setting["looks"]
        counts = [int(v) for v in rng.binomial(r, 0.5, n_attacks + n_looks)]
        attacks, looks = counts[:n_attacks], counts[n_attacks:]
        ours[f"best of {n_attacks} attacks on one run, alpha shared"].append(
            max(alarm(v, alpha / n_attacks) for v in attacks)
        )
        ours[f"{n_looks} looks at one run each, alpha spent"].append(
            max(alarm(v, alpha_at(i, alpha=alpha)) for i, v in enumerate(looks, start=1))
        )
        theirs[f"best of {n_attacks} attacks on one run, alpha for each"].append(max(alarm(v, alpha) for v in attacks))
        theirs[f"{n_looks} looks at one run each, alpha for each"].append(max(alarm(v, alpha) for v in looks))

        theirs["tensorflow-privacy: all thresholds, both sides"].append(
            peers.tensorflow_privacy(scores.ins, scores.outs, alpha)
        )
        theirs["PrivacyGuard: all thresholds"].append(peers.privacy_guard(scores.ins, scores.outs, alpha, delta))
        both, members = np.concatenate([scores.ins, scores.outs]), np.arange(2 * n) < n
        theirs["Privacy Meter: grid of numbers of guesses"].append(peers.privacy_meter(both, members, alpha))
        theirs["opake: one run, best threshold in hindsight"].append(peers.best_threshold(both, members, alpha))
        theirs["NeurIPS 2023 score's epsilon"].append(example_epsilon(scores.ins[:few], scores.outs[:few], delta))
    return [
        rate_of_bounds(group, "exact unlearning", rule, values, 0.0, alpha)
        for group, rules in (("ours", ours), ("peers' rule", theirs))
        for rule, values in rules.items()
    ]
