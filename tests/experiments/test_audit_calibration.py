"""The calibration experiment on little data; other tools' rules against brute force."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import beta, binom

from experiments.audit_calibration import peers
from experiments.audit_calibration.one_run import BOUNDS, REJECTED, too_high
from experiments.audit_calibration.rates import rate_of
from experiments.audit_calibration.run import read_setting, run
from unlearn.audit.epsilon.one_run import Guesses

FOLDER = Path(__file__).parents[2] / "experiments" / "audit_calibration"


@pytest.mark.parametrize("rule", list(REJECTED))
@pytest.mark.parametrize("v", [52, 60, 75])
def test_a_bound_is_above_what_it_rejects(rule: str, v: int) -> None:
    bound = BOUNDS[rule](Guesses(300, 100, v), delta=1e-4, alpha=0.05).epsilon
    for epsilon in (0.0, 0.2, 0.5, 1.0, 2.0):
        rejected = too_high(rule, 300, 100, v, epsilon, 1e-4, 0.05)
        # A Gaussian bound of 0 may come of a mu a little above 0, which delta covers.
        assert rejected == (bound > epsilon) or (epsilon == 0 and rejected)


def test_best_of_all_thresholds_by_brute_force() -> None:
    rng, alpha, delta = np.random.default_rng(0), 0.05, 0.01
    ins, outs = rng.normal(0.5, 1, 30), rng.normal(size=25)

    def low(x: int, n: int) -> float:
        return float(beta.ppf(alpha / 2, x, n - x + 1)) if x else 0.0

    def high(x: int, n: int) -> float:
        return float(beta.ppf(1 - alpha / 2, x + 1, n - x)) if x < n else 1.0

    both, one_way = 0.0, 0.0
    for t in [*ins, *outs]:
        tp, fp = int((ins >= t).sum()), int((outs >= t).sum())
        fn, tn = 30 - tp, 25 - fp
        pairs = ((tp, 30, fp, 25), (tn, 25, fn, 30), (fp, 25, tp, 30), (fn, 30, tn, 25))
        both = max(both, *(low(x, n) / high(y, k) for x, n, y, k in pairs))
        a, b = high(fp, 25), high(fn, 30)
        one_way = max(one_way, (1 - b - delta) / a, (1 - a - delta) / b)
    assert peers.tensorflow_privacy(ins, outs, alpha) == pytest.approx(max(0, math.log(both)))
    assert peers.privacy_guard(ins, outs, alpha, delta) == pytest.approx(max(0, math.log(one_way)))


def test_best_of_all_numbers_of_guesses_by_brute_force() -> None:
    rng, alpha = np.random.default_rng(1), 0.05
    coins = rng.permutation(np.arange(50) < 25)
    scores = rng.normal(size=50) + coins
    ordered = coins[np.argsort(scores)]
    step = math.isqrt(50)

    def bound(r: int, v: int) -> float:
        best = 0.0
        while binom.sf(v - 1, r, 1 / (1 + math.exp(-best - 1e-3))) < alpha:
            best += 1e-3
        return best

    grid, hindsight = 0.0, 0.0
    for first in range(0, 50, step):
        for out in range(0, first, step):
            right = int((~ordered[:out]).sum() + ordered[first:].sum())
            grid = max(grid, bound(out + 50 - first, right))
    for t in range(51):
        hindsight = max(hindsight, bound(50, int((~ordered[:t]).sum() + ordered[t:].sum())))
    assert peers.privacy_meter(scores, coins, alpha) == pytest.approx(grid, abs=2e-3)
    assert peers.best_threshold(scores, coins, alpha) == pytest.approx(hindsight, abs=2e-3)


def test_rates_say_what_is_within_the_promise() -> None:
    fine = rate_of("ours", "", "", [True] * 50 + [False] * 950, 0.0, 0.05)
    assert fine.within
    assert fine.low < 0.05 < fine.high
    assert not rate_of("ours", "", "", [True] * 90 + [False] * 910, 0.0, 0.05).within


def test_a_small_run_writes_all_figures(tmp_path: Path) -> None:
    setting = read_setting()
    setting["null"] |= {"repetitions": 3, "permutations": 19, "runs": 200}
    setting["coverage"] |= {
        "repetitions": 3, "one_run_repetitions": 5, "epsilons": [1.0], "burst_deltas": [0.01], "burst_epsilons": [0.0],
        "bursts": [100], "power_runs": [200], "power_repetitions": 2,
    }  # fmt: skip
    run(setting, tmp_path / "result.json")
    document = json.loads((tmp_path / "result.json").read_text())
    assert {"ours", "peers' rule", "outside its assumptions", "credible, no promise"} == {
        one["group"] for one in document["rates"]
    }


def test_the_kept_result_keeps_the_promise() -> None:
    document = json.loads((FOLDER / "result.json").read_text())
    setting = json.loads(json.dumps(read_setting()))
    assert document["setting"] == setting
    rates = document["rates"]
    null = [one for one in rates if one["setting"] == "exact unlearning" and one["group"] == "ours"]
    assert all(one["repetitions"] >= 2000 and one["within"] for one in null)
    assert len(null) >= 15
    assert all(one["within"] for one in rates if one["group"] == "ours")
    broken = {one["rule"]: one["within"] for one in rates if one["group"] == "peers' rule"}
    assert not broken["Privacy Meter: grid of numbers of guesses"]
    assert not broken["opake: one run, best threshold in hindsight"]
    assert not broken["tensorflow-privacy: all thresholds, both sides"]
