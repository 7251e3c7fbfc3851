"""Tables out of what was measured, between two marks of the README."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def tables(document: Mapping[str, Any]) -> str:
    """All tables.

    Args:
        document: As `result.json` holds it.

    Returns:
        Markdown.
    """
    runs, setting = document["runs"], document["setting"]
    lines = []
    for task, some in (("forgetting", "to forget"), ("learning", "to learn")):
        lines += [f"### {task.capitalize()}", "", f"| model | recall, people {some} | recall, others | gap closed |"]
        lines += ["| --- | --: | --: | --: |"]
        for row, title in (("base", "base"), ("expert", "expert (small)"), ("direct", "base, tuned directly")):
            lines.append(_row(title, [run[task][row] for run in runs], [None] * len(runs)))
        for alpha in setting["alphas"]:
            found = [run[task]["steered"][str(alpha)] for run in runs]
            lines.append(_row(f"steered, alpha = {alpha:g}", found, [gap(run[task], alpha) for run in runs]))
        lines.append("")
    lines.append(
        _generation(runs) + f" {document['minutes']:.0f} minutes of processor time, {document['machine']['cpu']}."
    )
    return "\n".join(lines)


def gap(task: Mapping[str, Any], alpha: float) -> float | None:
    """How much of the change that tuning the base model directly makes steering makes, for the people in question.

    Args:
        task: What was measured of a task.
        alpha: How far it is steered.

    Returns:
        1: all of it; None if tuning changes nothing.
    """
    before, after = task["base"][0], task["direct"][0]
    return None if before == after else (task["steered"][str(alpha)][0] - before) / (after - before)


def _generation(runs: list[Any]) -> str:
    found = [run["forgetting"]["generation"] for run in runs]
    shifts = [run["forgetting"]["shifts"] for run in runs]
    cost = np.median([item["cost"] for item in found])
    same, asked = sum(item["same"] for item in found), sum(item["asked"] for item in found)
    means = ", ".join(f"{kind} {np.mean([item[kind] for item in shifts]):+.3f}" for kind in shifts[0])
    return (
        f"Generation with alpha = 1 takes {cost:.2f} of the time of base, expert and antiexpert one after the other; "
        f"with caches and without, {same} of {asked} texts are the same. Mean shift of a token's probability: {means}. "
        f"Mean ± standard deviation over {len(runs)} seeds;"
    )


def _row(title: str, recalls: list[list[float]], gaps: list[float | None]) -> str:
    known = [value for value in gaps if value is not None]
    closed = f"{np.mean(known):.2f}" if known else ""
    some, others = (_spread([pair[at] for pair in recalls]) for at in (0, 1))
    return f"| {title} | {some} | {others} | {closed} |"


def _spread(values: list[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values):.3f}"
