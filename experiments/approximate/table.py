"""The tables of README.md, made of `result.json`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from statistics import mean, stdev
from typing import Any

from experiments.approximate.orderings import ORDERINGS, found
from unlearn.methods import METHODS

COLUMNS = {
    "ua": "UA",
    "ra": "RA",
    "ta": "TA",
    "mia": "MIA",
    "gap": "average gap",
    "kl": "KL",
    "time": "time",
}
NAMES = {"original": "*original*", "retrain": "**retraining**", "retrain_again": "*retraining, another seed*"}

Rows = Mapping[str, list[Mapping[str, float]]]
"""By name of a row, its figures under each seed; a seed that failed is left out."""


def rows_of(cells: Mapping[str, Any], data: str) -> Rows:
    """The rows of one data set.

    Args:
        cells: As in `result.json`.
        data: Its name.

    Returns:
        The rows, in the order they were measured in.
    """
    rows: dict[str, list[Mapping[str, float]]] = defaultdict(list)
    for name, cell in cells.items():
        where, row, what = (*name.split("."), "")[:3]
        if where == data and what.isdigit() and "failed" not in cell:
            rows[row].append(cell)
    return rows


def means_of(rows: Rows) -> dict[str, dict[str, float]]:
    """The mean of each figure over seeds."""
    return {row: {figure: mean(one[figure] for one in seeds) for figure in COLUMNS} for row, seeds in rows.items()}


def tables(document: Mapping[str, Any]) -> str:
    """All tables, as Markdown.

    Args:
        document: As in `result.json`.

    Returns:
        The text.
    """
    cells, setting = document["cells"], document["setting"]
    machine = document["machine"]
    about = (
        f"Measured on {machine['cpu']} until {document['date']}: {document['processor_seconds'] / 60:.0f} minutes of "
        f"processor time, torch {machine['versions']['torch']}, at a load of {document['load'][0]:.0f} on "
        f"{machine['cores']} cores. Mean ± standard deviation over {len(setting['seeds'])} seeds."
    )
    lines = [about]
    for data in setting["data"]:
        measured = rows_of(cells, data)
        rows = {name: measured[name] for name in (*NAMES, *setting["spaces"]) if name in measured}
        lines += ["", f"### {data}", "", *(_table(rows, len(setting["seeds"])) if rows else ["Not measured."])]
        failed = [name for name in setting["spaces"] if cells.get(f"{data}.{name}.tuning", {}).get("chosen", 0) is None]
        missing = [name for name in setting["spaces"] if name not in rows and name not in failed]
        if rows:
            lines += ["", _no_nearer(means_of(rows))]
        if failed:
            lines += ["", f"Failed in every configuration: {', '.join(failed)}."]
        if rows and missing:
            lines += ["", f"Not measured: {', '.join(missing)}."]
    further = (_orderings(cells, setting["data"]), _successive(cells), _ulira(cells, setting))
    return "\n".join([*lines, *(line for part in further for line in ("", *part))])


def _table(rows: Rows, seeds: int) -> list[str]:
    lines = ["| method | " + " | ".join(COLUMNS.values()) + " |", "| --- |" + " --: |" * len(COLUMNS)]
    for row, found_ in rows.items():
        told = NAMES.get(row, f"`{row}`") + ("" if len(found_) == seeds else f" ({len(found_)} of {seeds} seeds)")
        lines.append(
            f"| {told} | " + " | ".join(_figure(name, [one[name] for one in found_]) for name in COLUMNS) + " |"
        )
    return lines


def _no_nearer(means: Mapping[str, Mapping[str, float]]) -> str:
    """Which methods end no nearer to retraining than the model that forgot nothing."""
    limit = means["original"]["gap"]
    lost = [f"`{row}`" for row, figures in means.items() if row not in NAMES and figures["gap"] >= limit]
    return f"No nearer to retraining than the original: {', '.join(lost) or 'none'}."


def _figure(name: str, values: list[float]) -> str:
    digits = 2 if name in ("kl", "time") else 1
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"


def _orderings(cells: Mapping[str, Any], data: Iterable[str]) -> list[str]:
    means = {name: means_of(rows_of(cells, name)) for name in data}
    about = (
        "Of means over seeds; in bold where the ordering does not hold. Papers look at other data, larger networks and "
        "often at one kind of forget set only."
    )
    lines = [
        "### Orderings of the papers",
        "",
        about,
        "",
        "| of | should have less | than | of | " + " | ".join(means) + " |",
        "| --- | --- | --- | --- |" + " --: |" * len(means),
    ]
    for one in ORDERINGS:
        pairs = [found(one, of_data) for of_data in means.values()]
        words = f"| `{one.method}`: {one.source} | `{one.less}` | `{one.more}` | {COLUMNS[one.figure]} | "
        lines.append(words + " | ".join(_pair(pair) for pair in pairs) + " |")
    return [*lines, "", _unconfirmed(means.values())]


def _unconfirmed(means: Collection[Mapping[str, Mapping[str, float]]]) -> str:
    """Which methods have no ordering that holds on some data."""
    holds = {
        one.method
        for one in ORDERINGS
        for of_data in means
        if (pair := found(one, of_data)) is not None and pair[0] < pair[1]
    }
    lost = dict.fromkeys(f"`{one.method}`" for one in ORDERINGS if one.method not in holds)
    return f"No ordering that holds on any data: {', '.join(lost) or 'none'}."


def _pair(pair: tuple[float, float] | None) -> str:
    if pair is None:
        return ""
    text = f"{pair[0]:.2f}, {pair[1]:.2f}"
    if pair[0] == pair[1]:
        return f"{text} (equal)"
    return text if pair[0] < pair[1] else f"**{text}**"


def _successive(cells: Mapping[str, Any]) -> list[str]:
    curves = {name.split(".")[1]: cell for name, cell in cells.items() if name.startswith("successive.")}
    if not curves:
        return ["### Successive requests", "", "Not measured."]
    counts = sorted({int(n) for cell in curves.values() for n in cell["points"]})
    lines = [
        "### Successive requests",
        "",
        "Average gap to retraining, and test accuracy after the last request that was judged.",
        "",
        "| method | " + " | ".join(f"{n}" for n in counts) + " | TA | |",
        "| --- |" + " --: |" * (len(counts) + 1) + " --- |",
    ]
    for row, cell in curves.items():
        points = cell["points"]
        gaps = [f"{points[str(n)]['gap']:.1f}" if str(n) in points else "" for n in counts]
        last = max(points, key=int, default=None)
        accuracy = "" if last is None else f"{points[last]['ta']:.1f}"
        lines.append(
            f"| {NAMES.get(row, f'`{row}`')} | {' | '.join(gaps)} | {accuracy} | {cell.get('failed', '')[:60]} |"
        )
    return lines


def _ulira(cells: Mapping[str, Any], setting: Mapping[str, Any]) -> list[str]:
    measured = {name.split(".")[1]: cell for name, cell in cells.items() if name.startswith("ulira.")}
    rows = {name: measured[name] for name in (*NAMES, *setting["spaces"]) if name in measured}
    if not rows:
        return ["### U-LiRA", "", "Not measured."]
    rate = f"{100 * setting['ulira']['fpr']:g} %"
    about = (
        f"Unlearned records found at {rate} false alarms, in percent, with a 95 % interval (whole models resampled): "
        f"{rate} is found by guessing. {next(one['note'] for one in rows.values() if 'note' in one)}."
    )
    lines = [
        "### U-LiRA",
        "",
        about,
        "",
        f"| method | TPR at {rate} FPR | interval | AUC | |",
        "| --- | --: | --: | --: | --- |",
    ]
    for row, cell in rows.items():
        told = NAMES.get(row, f"`{row}`")
        if "failed" in cell:
            lines.append(f"| {told} | | | | failed: {cell['failed'][:60]} |")
            continue
        verdict = "" if cell["verdict"] == "measured" else cell["verdict"]
        span = f"{cell['low']:.1f} to {cell['high']:.1f}"
        lines.append(f"| {told} | {cell['tpr']:.1f} | {span} | {cell['auc']:.3f} | {verdict} |")
    return lines


ELSEWHERE = {
    "infinitesimal_jackknife": "experiments.influence",
    "newton": "experiments.influence",
    "projective_residual": "experiments.influence",
    "warnecke_first_order": "experiments.influence",
    "warnecke_second_order": "experiments.influence",
    "certified_removal": "experiments.certified",
    "differential_privacy": "experiments.definitions",
}
"""Methods for convex or privately trained models, and where they are measured instead."""


def unmeasured(setting: Mapping[str, Any]) -> list[str]:
    """Registered methods that the table has no ranges for."""
    return [name for name in METHODS if name not in setting["spaces"]]
