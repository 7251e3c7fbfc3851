"""Tables out of what was measured, between two marks of the README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.tofu.measuring import TREATMENTS, distance
from experiments.tofu.methods import METHODS
from unlearn.language.muse import privacy_leak
from unlearn.language.tofu import forget_quality

REFERENCE = "retrained"
ROWS = {"retrained": "retrained", "retrained again": "retrained, another seed", "original": "original"} | {
    name: title for name, (title, _) in METHODS.items()
}
TREATED = {
    "none": "as it is",
    "relearnt": "relearnt: half of the forgotten",
    "retained": "relearnt: retained alone",
    "int8": "8 bits",
    "int4": "4 bits",
}
Run = Mapping[str, Any]


def tables(document: Mapping[str, Any]) -> str:
    """All tables.

    Args:
        document: As `result.json` holds it.

    Returns:
        Markdown.
    """
    cells = document["cells"]
    seeds = document["setting"]["seeds"]
    rows = [name for name in ROWS if any(cell.startswith(f"{name}/") for cell in cells)]
    lines = ["### TOFU", ""]
    lines += _table(
        ("forget quality, p", "distance", "utility", "forgotten: probability", "forgotten: ROUGE-L recall"),
        [name for name in rows if name != REFERENCE],
        lambda name: _tofu(cells, name, seeds),
    )
    lines += ["", "### MUSE", ""]
    lines += _table(("VerbMem", "KnowMem", "PrivLeak, %", "UtilPres"), rows, lambda name: _muse(cells, name, seeds))
    for title, of in (("Forget quality", _quality), ("What is known of the half that is never shown", _hidden)):
        lines += ["", f"### {title}", ""]
        names = [name for name in rows if name != REFERENCE or of is _hidden]
        lines += _table(list(TREATED.values()), names, lambda name, of=of: of(cells, name, seeds))  # type: ignore[misc]
    lines += ["", "### Utility", ""]
    lines += _table(list(TREATED.values()), rows, lambda name: _utility(cells, name, seeds))
    chosen = _tuning(cells, seeds[0])
    lines += ["", *(["### Chosen", "", *chosen, ""] if chosen else []), _note(document)]
    return "\n".join(lines)


def compared(cells: Mapping[str, Any], name: str, treatment: str, seed: int) -> tuple[float, float]:
    """A model's truth ratios beside those of the retrained one, treated the same.

    Args:
        cells: Of the document.
        name: The row.
        treatment: What was done to both.
        seed: Which models.

    Returns:
        p-value and distance: of all forgotten questions, after relearning some of them of the others alone.
    """
    found, reference = (cells[f"{one}/{treatment}/{seed}"]["ratios"] for one in (name, REFERENCE))
    part = slice(1, None, 2) if treatment == "relearnt" else slice(None)
    return forget_quality(np.array(found[part]), np.array(reference[part])), distance(found[part], reference[part])


def _tofu(cells: Mapping[str, Any], name: str, seeds: Sequence[int]) -> list[str]:
    there = _there(cells, name, "none", seeds)
    both = [compared(cells, name, "none", seed) for seed in there]
    keys = ("utility", "probability", "rouge")
    return [
        _p([p for p, _ in both]), _spread([apart for _, apart in both]),
        *(_spread([cells[f"{name}/none/{seed}"][key] for seed in there]) for key in keys),
    ]  # fmt: skip


def _muse(cells: Mapping[str, Any], name: str, seeds: Sequence[int]) -> list[str]:
    there = _there(cells, name, "none", seeds)
    own = [cells[f"{name}/none/{seed}"] for seed in there]
    reference = [cells[f"{REFERENCE}/none/{seed}"]["membership"] for seed in there]
    leak = [100 * privacy_leak(run["membership"], other) for run, other in zip(own, reference, strict=True)]
    return [
        _spread([run["verbatim"] for run in own]), _spread([run["knowledge"] for run in own]),
        _spread(leak, digits=0), _spread([run["preserved"] for run in own]),
    ]  # fmt: skip


def _quality(cells: Mapping[str, Any], name: str, seeds: Sequence[int]) -> list[str]:
    return [
        _p([compared(cells, name, treatment, seed)[0] for seed in _there(cells, name, treatment, seeds)])
        for treatment in TREATMENTS
    ]


def _hidden(cells: Mapping[str, Any], name: str, seeds: Sequence[int]) -> list[str]:
    return [_of(cells, name, treatment, seeds, "hidden") for treatment in TREATMENTS]


def _utility(cells: Mapping[str, Any], name: str, seeds: Sequence[int]) -> list[str]:
    return [_of(cells, name, treatment, seeds, "utility") for treatment in TREATMENTS]


def _of(cells: Mapping[str, Any], name: str, treatment: str, seeds: Sequence[int], key: str) -> str:
    there = _there(cells, name, treatment, seeds)
    return _spread([cells[f"{name}/{treatment}/{seed}"][key] for seed in there])


def _there(cells: Mapping[str, Any], name: str, treatment: str, seeds: Sequence[int]) -> list[int]:
    """Seeds for which both the row and its reference were measured."""
    return [seed for seed in seeds if {f"{name}/{treatment}/{seed}", f"{REFERENCE}/{treatment}/{seed}"} <= set(cells)]


def _tuning(cells: Mapping[str, Any], seed: int) -> list[str]:
    lines = []
    for name, (title, _) in METHODS.items():
        cell = cells.get(f"{name}/tuning/{seed}")
        if cell is not None:
            best = cell["tried"][str(cell["rate"])]
            lines.append(f"| {title} | {cell['rate']:g} | {best['distance']:.2f} | {best['retain']:.3f} |")
    head = ["| method | learning rate | distance | retained: probability |", "| --- | --: | --: | --: |"]
    return head + lines if lines else []


def _note(document: Mapping[str, Any]) -> str:
    cells = document["cells"]
    seeds = sorted({int(name.rsplit("/", 1)[1]) for name in cells})
    minutes = sum(cell["seconds"] for cell in cells.values()) / 60
    full = len(document["setting"]["seeds"]) * len(TREATMENTS) * len(ROWS) + len(METHODS)
    return (
        f"Mean ± standard deviation over seeds ({', '.join(map(str, seeds))}); p-values: median (smallest to largest). "
        f"{len(cells)} of {full} cells measured, in {minutes:.0f} minutes of processor time beside the training of the "
        f"models, {document['machine']['cpu']}."
    )


def _table(columns: Sequence[str], names: Sequence[str], row: Any) -> list[str]:
    lines = [f"| model | {' | '.join(columns)} |", f"| --- |{' --: |' * len(columns)}"]
    return lines + [f"| {ROWS[name]} | {' | '.join(row(name))} |" for name in names]


def _spread(values: Sequence[float], digits: int = 3) -> str:
    if len(values) < 2:
        return "".join(f"{value:.{digits}f}" for value in values)
    return f"{np.mean(values):.{digits}f} ± {np.std(values):.{digits}f}"


def _p(values: Sequence[float]) -> str:
    if not values:
        return ""
    if len(values) == 1:
        return f"{values[0]:.2g}"
    return f"{np.median(values):.2g} ({min(values):.2g} to {max(values):.2g})"
