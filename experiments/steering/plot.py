"""The sweep over alpha as a picture: a panel for each purpose; dotted, what direct tuning of the base model reaches."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from experiments.steering.table import found_of

PANELS = {
    "forgetting": ("forgetting", {"some": "people to forget", "others": "others"}),
    "distilled": ("learning, distilled helper", {"some": "people to learn", "others": "others"}),
    "style": ("manner", {"unwanted": "unwanted output", "style": "wanted manner", "right": "right value"}),
    "truth": ("truth", {"true": "true", "informative": "informative"}),
    "domain": ("another kind of text", {"functions": "functions", "facts": "people before"}),
    "task": ("a task", {"exact": "right sum", "working": "with working"}),
}
"""What is drawn: title, and figures with their labels."""


def draw(result: Path) -> Path:
    """Draw what was measured.

    Args:
        result: The file with the figures.

    Returns:
        The picture, an SVG file beside it.
    """
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "steering"  # the same figures give the same file
    import matplotlib.pyplot as plt

    document = json.loads(result.read_text(encoding="utf-8"))
    alphas = document["setting"]["alphas"]
    picture, axes = plt.subplots(2, 3, figsize=(10, 5.5), sharex=True, sharey=True)
    for panel, (part, (title, figures)) in zip(axes.flat, PANELS.items(), strict=True):
        runs = found_of(document, part)
        for number, (name, label) in enumerate(figures.items()):
            if not runs:
                continue
            colour = f"C{number}"
            values = np.array([[run["steered"][str(alpha)][name] for alpha in alphas] for run in runs])
            panel.errorbar(alphas, values.mean(0), values.std(0), color=colour, marker=".", label=label, capsize=2)
            panel.axhline(np.mean([run["direct"][name] for run in runs]), color=colour, linestyle=":", linewidth=1)
        panel.axvline(1, color="black", linewidth=0.5)
        panel.set(title=title)
        panel.grid(alpha=0.3)
        if runs:
            panel.legend(fontsize=7)
    for panel in axes[-1]:
        panel.set(xlabel="alpha")
    for panel in axes[:, 0]:
        panel.set(ylabel="share")
    picture.tight_layout()
    file = result.with_name(f"{result.stem}.svg")
    picture.savefig(file, metadata={"Date": None})
    plt.close(picture)
    return file
