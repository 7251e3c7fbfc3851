"""Tables out of what was measured, between two marks of the README."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.steering.sweep import gap

PAIRS = {
    "stopped": "expert stopped once it knows",
    "learning": "expert tuned for all steps",
    "distilled": "the same, helpers distilled",
}
"""Pairs of helpers that learn of people."""

COLUMNS: Mapping[str, Mapping[str, str]] = {
    "forgetting": {"some": "recall, people to forget", "others": "recall, others"},
    "learning": {"some": "recall, people to learn", "others": "recall, others"},
    "style": {"unwanted": "unwanted output", "style": "wanted manner", "right": "right value"},
    "truth": {
        "true": "true",
        "informative": "informative",
        "true, plain": "true, plain",
        "true, misconception": "true, misconceptions",
        "true, obscure": "true, obscure",
    },
    "domain": {"perplexity": "perplexity", "functions": "recall, functions", "facts": "recall, people before"},
    "task": {"exact": "right sum", "working": "with working"},
}
"""Figures of each part."""

PURPOSES = {
    "forgetting": "Forgetting",
    "learning": "Learning of people",
    "style": "Manner, and unwanted output",
    "truth": "Truth against informativeness",
    "domain": "Another kind of text",
    "task": "A task",
}

JUDGED = (
    ("forgetting", "some"), ("stopped", "some"), ("learning", "some"), ("distilled", "some"), ("style", "unwanted"),
    ("style", "style"), ("truth", "true"), ("truth", "informative"), ("domain", "perplexity"), ("domain", "functions"),
    ("task", "exact"),
)  # fmt: skip
"""Parts and figures of the summary."""

ROWS = {
    "base": "base",
    "antiexpert": "antiexpert (small)",
    "expert": "expert (small)",
    "direct": "base, tuned directly",
}


def found_of(document: Mapping[str, Any], part: str) -> list[Mapping[str, Any]]:
    """What was measured of a part, one entry a seed.

    Args:
        document: As `result.json` holds it.
        part: One of `COLUMNS`, or of `PAIRS`.

    Returns:
        As `swept` makes them.
    """
    cell = "learning" if part in PAIRS else part
    cells = [document["cells"].get(f"{cell}/{seed}") for seed in document["setting"]["seeds"]]
    return [one[part] if part in PAIRS else one for one in cells if one is not None]


def tables(document: Mapping[str, Any]) -> str:
    """All tables.

    Args:
        document: As `result.json` holds it.

    Returns:
        Markdown.
    """
    alphas = document["setting"]["alphas"]
    lines = ["### At alpha 1", "", *_summary(document)]
    for part in COLUMNS:
        runs = found_of(document, part)
        if runs:
            lines += ["", f"### {PURPOSES[part]}", ""]
            lines += _learning(document, alphas) if part == "learning" else _part(part, runs, alphas)
    lines += ["", "### Which tokens move", "", *_shifts(document), "", *_note(document)]
    return "\n".join(lines)


def welch(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Welch's t of two means.

    Args:
        one: Its `count`, `shift` (the mean) and `sd`.
        other: The same.

    Returns:
        Positive where the first is larger.
    """
    error = math.sqrt(sum(some["sd"] ** 2 / some["count"] for some in (one, other)))
    return (one["shift"] - other["shift"]) / error


def pooled(runs: Sequence[Mapping[str, Mapping[str, float]]], kind: str) -> dict[str, float]:
    """Shifts of a kind of token over all seeds, as if they were one sample.

    Args:
        runs: Shifts by kind, one entry a seed.
        kind: Which.

    Returns:
        `count`, `base`, `shift` and `sd`.
    """
    some = [run[kind] for run in runs if kind in run]
    counts = np.array([one["count"] for one in some])
    weights = counts / counts.sum()
    base, shift = (float(weights @ [one[name] for one in some]) for name in ("base", "shift"))
    square = float(weights @ [one["sd"] ** 2 + one["shift"] ** 2 for one in some])
    return {"count": int(counts.sum()), "base": base, "shift": shift, "sd": math.sqrt(max(0.0, square - shift**2))}


def _summary(document: Mapping[str, Any]) -> list[str]:
    lines = ["| purpose | figure | base | expert | tuned directly | steered | gap closed |", _rule(2, 5)]
    for part, name in JUDGED:
        runs = found_of(document, part)
        if not runs or "1.0" not in runs[0]["steered"]:
            continue
        of = "learning" if part in PAIRS else part
        helpers = f": {PAIRS[part]}" if part in PAIRS else ""
        values = [_spread([run[row][name] for run in runs]) for row in ("base", "expert", "direct")]
        values.append(_spread([run["steered"]["1.0"][name] for run in runs]))
        cells = [f"{PURPOSES[of]}{helpers}", COLUMNS[of][name], *values, _closed(runs, 1.0, name)]
        lines.append(_cells(cells))
    return lines


def _part(part: str, runs: Sequence[Mapping[str, Any]], alphas: Sequence[float]) -> list[str]:
    first, *_ = names = list(COLUMNS[part])
    lines = [_cells(["model", *COLUMNS[part].values(), "gap closed"]), _rule(1, len(names) + 1)]
    for row, title in ROWS.items():
        lines.append(_cells([title, *(_spread([run[row][name] for run in runs]) for name in names), ""]))
    for alpha in alphas:
        found = [run["steered"][str(alpha)] for run in runs]
        figures = [_spread([one[name] for one in found]) for name in names]
        lines.append(_cells([f"steered, alpha = {alpha:g}", *figures, _closed(runs, alpha, first)]))
    return [*lines, "", f"Gap closed: of *{COLUMNS[part][first]}*, of its means."]


def _learning(document: Mapping[str, Any], alphas: Sequence[float]) -> list[str]:
    """Recall of the people to learn and of the others, for each pair of helpers."""
    some, others = COLUMNS["learning"].values()
    columns = [f"{title}: {what}" for title in PAIRS.values() for what in (some, others)]
    lines = [_cells(["model", *columns]), _rule(1, len(columns))]
    by_pair = {pair: found_of(document, pair) for pair in PAIRS}

    def row(title: str, of: Any) -> str:
        figures = [_spread([of(run)[name] for run in runs]) for runs in by_pair.values() for name in ("some", "others")]
        return _cells([title, *figures])

    lines += [row(title, lambda run, name=name: run[name]) for name, title in ROWS.items()]
    for alpha in alphas:
        lines.append(row(f"steered, alpha = {alpha:g}", lambda run, alpha=alpha: run["steered"][str(alpha)]))
    return lines


def _shifts(document: Mapping[str, Any]) -> list[str]:
    lines = ["| purpose | kind of token | tokens | probability before | change at alpha 1 |", _rule(2, 3)]
    said = []
    for part in ("style", "truth", "domain", "task"):
        runs = [run["shifts"] for run in found_of(document, part)]
        if not runs:
            continue
        kinds = {kind: pooled(runs, kind) for kind in runs[0]}
        for kind, one in sorted(kinds.items(), key=lambda item: -item[1]["shift"]):
            lines.append(
                _cells([PURPOSES[part], kind, f"{one['count']:,}", f"{one['base']:.3f}", f"{one['shift']:+.3f}"])
            )
        if part == "task":
            said = ["", _sides(kinds["left"], kinds["right"])]
    runs = [run["shifts"] for run in found_of(document, "forgetting")]
    if runs:
        means = ", ".join(f"{kind} {np.mean([run[kind] for run in runs]):+.3f}" for kind in runs[0])
        said += ["", f"When forgetting: {means}."]
    return [*lines, *said]


def _sides(left: Mapping[str, float], right: Mapping[str, float]) -> str:
    return (
        f"Left sides of equations move by {left['shift']:+.3f}, right sides by {right['shift']:+.3f} (Welch's t = "
        f"{welch(left, right):.1f}); published for GSM: +0.131 and +0.056."
    )


def _note(document: Mapping[str, Any]) -> list[str]:
    sizes = [one for name, one in document["cells"].items() if name.startswith("cost/")]
    lines = _costs(sorted(sizes, key=lambda one: one["base"])) if sizes else []
    said = [one["texts"] for one in found_of(document, "forgetting")]
    if said:
        same, asked = sum(one["same"] for one in said), sum(one["asked"] for one in said)
        lines += [f"With caches and without, {same} of {asked} texts are the same."]
    seeds, minutes = len(document["setting"]["seeds"]), document["processor_seconds"] / 60
    note = f"Mean ± standard deviation over {seeds} seeds; {minutes:.0f} minutes of processor time"
    return [*lines, f"{note}, {document['machine']['cpu']}."]


def _costs(sizes: Sequence[Mapping[str, Any]]) -> list[str]:
    head = "| base | helpers | steered | apart | in turn | steered / apart | steered / in turn |"
    lines = ["### Cost", "", head, _rule(0, 7)]
    for one in sizes:
        shapes = ["{} of {}".format(*reversed(one[name])) for name in ("base", "helper")]
        times = [f"{one[name]:.2f} ms" for name in ("steered", "apart", "in_turn")]
        lines.append(_cells([*shapes, *times, f"{one['ratio']:.2f}", f"{one['ratio_in_turn']:.2f}"]))
    meaning = (
        "Sizes are blocks and their width. Processor time for a token: steered; where the three models generate one "
        "after the other; where each reads one token in turn, and nothing else is done."
    )
    return [*lines, "", meaning, ""]


def _closed(runs: Sequence[Mapping[str, Any]], alpha: float, name: str) -> str:
    """Of means over all seeds: where tuning changes little with one of them, its share says nothing."""

    def mean(of: Callable[[Mapping[str, Any]], Mapping[str, float]]) -> dict[str, float]:
        return {name: float(np.mean([of(run)[name] for run in runs]))}

    at = str(alpha)
    means = {row: mean(lambda run, row=row: run[row]) for row in ("base", "direct")}  # type: ignore[misc]
    closed = gap(means | {"steered": {at: mean(lambda run: run["steered"][at])}}, alpha, name)
    return "" if closed is None else f"{closed:.2f}"


def _cells(values: Sequence[str]) -> str:
    return f"| {' | '.join(values)} |"


def _rule(words: int, numbers: int) -> str:
    return _cells(["---"] * words + ["--:"] * numbers)


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values):.3f}"
