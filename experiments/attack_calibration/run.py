"""Draw outputs of models, audit them by attacks, and count how often that refutes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmark import Benchmark, Figure, Say
from unlearn.audit.attack_audit import AttackAudit, AttackPlan, People, audit_by_attacks
from unlearn.audit.metrics.estimate import proportion
from unlearn.audit.shown import Shown
from unlearn.audit.workspace_audit import Facts

FACTS = Facts("0" * 32, "0" * 64, "", (), {}, 0, {})
ATTACKS = ("loss", "label_gap", "shard_lira")
"""Scores without ties, scores of 0 and 1 alone, and scores of the record's shard."""

LEVEL = 0.05
POWER = 0.95
CLASSES = 5
KNOWN = 3.0
"""How much surer a shard is of the class of its members, in logits."""


def draw(setting: Mapping[str, Any], rng: np.random.Generator, *, tossed: bool, kept: bool) -> AttackAudit:
    """Audit a model that is drawn.

    Args:
        setting: The entries of `config.toml`.
        rng: It is drawn from.
        tossed: Whether coins decide who was forgotten; else it is half of those presented.
        kept: Whether the forgotten look as members do.

    Returns:
        The audit.
    """
    n = setting["members"] + setting["presented"]
    presented = np.arange(n) >= setting["members"]
    if tossed:
        forgotten = presented & (rng.random(n) < 0.5)
    else:
        forgotten = np.zeros(n, dtype=np.bool_)
        forgotten[rng.choice(np.flatnonzero(presented), setting["presented"] // 2, replace=False)] = True
    known = ~presented | (forgotten & kept)
    labels, shard = rng.integers(0, CLASSES, n), rng.integers(0, setting["shards"], n)
    logits = rng.normal(size=(setting["shards"], n, CLASSES))
    logits[shard, np.arange(n), labels] += KNOWN * known
    parts = np.exp(logits)
    parts /= parts.sum(axis=2, keepdims=True)
    return audit_by_attacks(
        Shown(parts.mean(axis=0), parts, shard, labels, presented),
        People([str(row) for row in range(n)], forgotten, presented & ~forgotten),
        AttackPlan(ATTACKS, tossed=tossed),
        FACTS,
        alpha=LEVEL,
        permutations=setting["permutations"],
        seed=int(rng.integers(2**31)),
    )


def measure(setting: Mapping[str, Any], folder: Path, say: Say) -> list[Figure]:
    """Measure everything.

    Args:
        setting: What, and how much.
        folder: Not used: nothing is written.
        say: Told what is under way.

    Returns:
        The figures.
    """
    from scipy.stats import kstest

    del folder
    rng = np.random.default_rng(setting["seed"])
    found: dict[str, list[bool]] = defaultdict(list)
    p_values: list[float] = []
    for kind, number in (("null", setting["repetitions"]), ("kept", setting["kept"])):
        say(f"{kind}: {number} audits of either sort")
        for _ in range(number):
            for tossed, prefix in ((False, f"{kind}."), (True, f"{kind}.coins.")):
                audit = draw(setting, rng, tossed=tossed, kept=kind == "kept")
                found[f"{prefix}verdict"].append(audit.verdict == "refuted")
                if audit.epsilon_lower is not None:
                    found[f"{prefix}epsilon"].append(audit.epsilon_lower > 0)
                elif kind == "null":
                    p_values.append(float(audit.findings[0].p_value or 0))
    # A p-value is a multiple of 1 / (B + 1): spread out evenly below itself, it is uniform where the test is exact.
    spread = np.array(p_values) - rng.random(len(p_values)) / (setting["permutations"] + 1)
    uniform = float(kstest(spread, "uniform").pvalue)
    figures = [_figure(name, values) for name, values in found.items()]
    what = "p-values of the first attack, where nothing is known: Kolmogorov and Smirnov's p-value of being uniform"
    return [*figures, Figure("null.uniform", what, uniform, "p", at_least=0.001)]


def _figure(name: str, found: Sequence[bool]) -> Figure:
    estimate = proportion(int(np.sum(found)), len(found))
    sort = "epsilon bounded above 0" if name.endswith("epsilon") else "refuted"
    words = f"{sort} in {len(found)} audits; 95 % interval {estimate.low:.4f} to {estimate.high:.4f}"
    if name.startswith("kept"):
        return Figure(name, words, float(np.mean(found)), "share", at_least=POWER)
    most = LEVEL + 3 * (LEVEL * (1 - LEVEL) / len(found)) ** 0.5
    return Figure(name, words, float(np.mean(found)), "share", at_most=most)


BENCHMARK = Benchmark("attack_calibration", "Audits by attacks: false alarms and power", measure, where=None)
"""`python -m experiments.attack_calibration`."""
