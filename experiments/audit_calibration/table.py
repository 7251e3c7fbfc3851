"""The figures of the README, from `result.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.readme import prose, table

NULL = "exact unlearning"

COVERED = {
    "Clopper-Pearson, fixed": ("Clopper-Pearson, fixed threshold",),
    "Clopper-Pearson, grid": ("Clopper-Pearson, grid",),
    "DKW band": ("DKW band",),
    "GDP, fixed and grid": ("GDP, fixed threshold", "GDP, grid"),
    "Bayesian (credible, no promise)": ("Bayesian, fixed threshold",),
    "one run, Steinke et al.": ("one run (Steinke et al.)",),
    "one run, f-DP": ("one run, f-DP",),
    "one run, f-DP, Gaussian": ("one run, f-DP, Gaussian",),
    "one run, order statistics": ("one run, order statistics",),
    "one run, order statistics, Gaussian": ("one run, order statistics, Gaussian",),
}
"""Rules of the second table, by the rules of the result that they stand for."""

OUTSIDE = "outside its assumptions"

POWER = {
    "DKW band": "DKW band",
    "Clopper-Pearson, grid": "Clopper-Pearson, grid",
    "GDP, grid": "GDP, grid",
    "Steinke et al.": "one run (Steinke et al.)",
    "f-DP": "one run, f-DP",
    "f-DP, Gaussian": "one run, f-DP, Gaussian",
    "order statistics, Gaussian": "one run, order statistics, Gaussian",
}

FIRST = """\
RUNS runs that unlearned and RUNS that retrained, all scores from one distribution; or one run with CANARIES canaries;
REPETITIONS repetitions, δ = DELTA."""

ITALICS = """\
The rules in italics choose a threshold, attack or look on the data that they judge, and do not pay. The one-run rows
share their coins, and at ε = 0 they reject the same counts, hence the equal figures."""

SECOND = """\
How often is the bound above the truth? Largest rate over mechanisms, each with MANY repetitions (many runs) or ONE
(one run; MANY for Gaussian canaries):"""

EXTREMAL = """\
The extremal mechanism tells the truth for certain with probability δ, and is randomised response otherwise. In one
run it does so for each coin by itself, or for a random set of 50 to 1,000 coins at once: the same δ for each coin."""

THIRD = """\
Median bound for a Gaussian mechanism, μ = 1, whose ε is {truth|.3f} at δ = DELTA. The GDP-conditional ones assume
that it is Gaussian, order statistics also that canaries leak independently."""

LARGE = """\
Where δ is large, f-DP is the better of the two that assume nothing: on the extremal mechanism with ε = 1 and δ = .01
its median is {low|.2f} to {high|.2f}, that of Steinke et al. {steinke|.0f}."""


def tables(document: Mapping[str, Any]) -> str:
    """What was found, for readers.

    Args:
        document: The result file.

    Returns:
        Markdown.
    """
    rates, setting = document["rates"], document["setting"]
    words = {
        "RUNS": f"{setting['null']['runs']}",
        "CANARIES": f"{setting['null']['canaries']:,}",
        "REPETITIONS": f"{setting['null']['repetitions']:,}",
        "DELTA": f"{setting['delta']:g}",
        "MANY": f"{setting['coverage']['repetitions']:,}",
        "ONE": f"{setting['coverage']['one_run_repetitions']:,}",
    }

    def said(text: str, figures: Mapping[str, float] | None = None) -> str:
        for word, number in words.items():
            text = text.replace(word, number)
        return prose(text, figures or {})

    large = [row for row in rates if row["setting"].startswith("extremal (1, 0.01), ")]
    medians = [row["median"] for row in large if row["rule"] == "one run, f-DP"]
    figures = {
        "truth": next(row["truth"] for row in rates if row["setting"].startswith("Gaussian, mu 1")),
        "low": min(medians),
        "high": max(medians),
        "steinke": max(row["median"] for row in large if row["rule"] == "one run (Steinke et al.)"),
    }
    return "\n\n".join(
        [
            f"`{document['command']}`, {document['seconds'] / 60:.0f} minutes (`result.json`).",
            "## Exact unlearning: every epsilon above 0 is a false alarm",
            said(FIRST),
            _null([row for row in rates if row["setting"] == NULL]),
            said(ITALICS),
            "## Mechanisms whose epsilon is known",
            said(SECOND),
            _covered([row for row in rates if row["setting"] != NULL]),
            said(EXTREMAL),
            "## What the bounds find",
            said(THIRD, figures),
            _power(rates),
            said(LARGE, figures),
        ]
    )


def _null(rates: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            row["rule"] if row["group"] == "ours" else f"*{row['rule']}*",
            f"{100 * row['rate']:.2f} %",
            f"{100 * row['low']:.1f} to {100 * row['high']:.1f} %",
            "" if row["within"] else "above",
        ]
        for row in rates
    ]
    return table(("rule", "false alarms", "95 %", ""), rows)


def _covered(rates: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for title, rules in COVERED.items():
        rows.append(_largest(title, [row for row in rates if row["rule"] in rules and row["group"] != OUTSIDE]))
    rows.append(_largest(f"*order statistics {OUTSIDE}*", [row for row in rates if row["group"] == OUTSIDE]))
    return table(("rule", "mechanisms", "largest rate", "at"), rows)


def _largest(title: str, rates: Sequence[Mapping[str, Any]]) -> list[str]:
    worst = max(rates, key=lambda row: row["rate"])
    mechanisms = len({row["setting"] for row in rates})
    return [title, f"{mechanisms}", f"{100 * worst['rate']:.1f} %", worst["setting"] if worst["rate"] else ""]


def _power(rates: Sequence[Mapping[str, Any]]) -> str:
    settings = [f"Gaussian, mu 1, {runs} runs of each kind" for runs in (500, 5000)] + ["Gaussian, mu 1, for each coin"]
    medians = {(row["setting"], row["rule"]): row["median"] for row in rates}
    rows = [
        [title, *(f"{medians[setting, rule]:.2f}" if (setting, rule) in medians else "" for setting in settings)]
        for title, rule in POWER.items()
    ]
    head = ("rule", "500 runs of each kind", "5,000 runs", "one run, 200 guesses about 1,000 canaries")
    return table(head, rows)
