"""The figures as a picture: a panel for every size that is changed, both axes logarithmic."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

LINES = {
    "fit": ("fit", "tab:blue", "-"),
    "fit.loop": ("fit, bare loop", "tab:blue", ":"),
    "recover": ("recover", "tab:orange", "-"),
    "recover.loop": ("recover, bare loop", "tab:orange", ":"),
    "forget": ("forget one", "tab:green", "-"),
}
"""What is drawn: figure to label, colour and style."""


def draw(result: Path) -> Path:
    """Draw what was measured.

    Args:
        result: The file with the figures.

    Returns:
        The picture, an SVG file beside it.
    """
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "growth"  # the same figures give the same file
    import matplotlib.pyplot as plt

    panels: dict[str, dict[str, list[tuple[int, float]]]] = defaultdict(lambda: defaultdict(list))
    for figure in json.loads(result.read_text(encoding="utf-8"))["figures"]:
        axis, size, what = figure["name"].split(".", 2)
        if what in LINES:
            panels[axis][what].append((int(size), figure["value"]))
    picture, axes = plt.subplots(1, len(panels), figsize=(3.2 * len(panels), 3.4), sharey=True, squeeze=False)
    for panel, (axis, lines) in zip(axes[0], panels.items(), strict=True):
        for what, points in lines.items():
            label, colour, style = LINES[what]
            panel.plot(*zip(*points, strict=True), style, color=colour, label=label, marker=".")
        sizes = sorted({size for points in lines.values() for size, _ in points})
        panel.set(xscale="log", yscale="log", xlabel=axis)
        panel.set_xticks(sizes, [f"{size:,}" for size in sizes], minor=False, rotation=45)
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    axes[0][0].set_ylabel("seconds")
    picture.legend(*axes[0][0].get_legend_handles_labels(), loc="upper center", ncols=len(LINES), frameon=False)
    picture.tight_layout(rect=(0, 0, 1, 0.92))
    file = result.with_name(f"{result.stem}.svg")
    picture.savefig(file, metadata={"Date": None})
    plt.close(picture)
    return file
