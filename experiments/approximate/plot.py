"""The curves of successive requests as a picture: a line for each method, the collapsed ones named."""

from __future__ import annotations

import json
from pathlib import Path

PANELS = {"gap": "average gap to retraining (points)", "ta": "test accuracy (%)"}


def draw(result: Path) -> Path:
    """Draw what was measured.

    Args:
        result: The file with the figures.

    Returns:
        The picture, an SVG file beside it.
    """
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "approximate"  # the same figures give the same file
    import matplotlib.pyplot as plt

    cells = json.loads(result.read_text(encoding="utf-8"))["cells"]
    curves = {name.split(".")[1]: cell["points"] for name, cell in cells.items() if name.startswith("successive.")}
    picture, axes = plt.subplots(1, len(PANELS), figsize=(10, 5.5), squeeze=False)
    colours = plt.colormaps["tab20"].colors  # type: ignore[attr-defined]
    for panel, (figure, label) in zip(axes[0], PANELS.items(), strict=True):
        for number, (name, points) in enumerate(curves.items()):
            counts = sorted(points, key=int)
            style = {"color": "black", "linestyle": ":"} if name in ("original", "retrain_again") else {}
            style = style or {"color": colours[number % len(colours)], "linestyle": "-" if number < 20 else "--"}
            values = [points[n][figure] for n in counts]
            panel.plot([int(n) for n in counts], values, marker=".", label=name, linewidth=1, **style)
        panel.set(xlabel="requests", ylabel=label)
        panel.grid(alpha=0.3)
    if curves:
        picture.legend(*axes[0][0].get_legend_handles_labels(), loc="upper center", ncols=6, frameon=False, fontsize=7)
    picture.tight_layout(rect=(0, 0, 1, 0.87))
    file = result.with_name(f"{result.stem}.svg")
    picture.savefig(file, metadata={"Date": None})
    plt.close(picture)
    return file
