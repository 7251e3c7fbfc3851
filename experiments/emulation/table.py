"""The figures of the README, from `result.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.readme import prose, source, table, values


def tables(document: Mapping[str, Any]) -> str:
    """What was found, for readers.

    Args:
        document: The result file.

    Returns:
        Markdown.
    """
    value, setting = values(document), document["setting"]
    samples = {figure["name"]: figure["samples"] for figure in document["figures"]}
    rows = []
    for epsilon in setting["epsilons"]:
        row = [f"{epsilon:g}"]
        for unit in setting["units"]:
            name = f"{unit}.{epsilon:g}"
            ten = value[f"{name}.ten"]
            row += [
                f"{value[name]:.3f} ± {np.std(samples[name], ddof=1):.3f}",
                f"{ten:.1f}" if ten < 50 else f"{ten:.0f}",
            ]
        rows.append(row)
    deltas = " and ".join(f"{unit} {each['delta']:g}" for unit, each in setting["units"].items())
    head = ["epsilon"]
    for unit in setting["units"]:
        head += [f"{unit}: accuracy", "ten of them: epsilon"]
    about = prose(
        f"{source(document)}, {len(setting['draws'])} draws each; delta: {deltas}. The network trained on the images "
        "themselves reaches {real|.3f}.",
        value,
    )
    return f"{about}\n\n{table(head, rows)}"
