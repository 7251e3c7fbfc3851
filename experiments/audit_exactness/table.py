"""The figures of the README, from `result.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.readme import prose, source, table, values

TITLES = {
    "workspaces:all": "{workspaces} workspaces, 300 records",
    "workspaces:few": "{workspaces} workspaces, 100 records",
    "audit_planted:honest": "`audit_planted`, 300 records",
    "audit_planted:few:honest": "`audit_planted`, 100 records",
}

FIXED = "Forty seeds held fixed refute at one rate (p = {fixed_seeds.alike|.2f})."


def tables(document: Mapping[str, Any]) -> str:
    """What was found, for readers.

    Args:
        document: The result file.

    Returns:
        Markdown.
    """
    value = values(document)
    what = {figure["name"]: figure["what"] for figure in document["figures"]}
    setting = document["setting"]
    rows = []
    for name in [name.removesuffix(".even") for name in value if name.endswith(".even")]:
        source_, _, rest = name.partition(":")
        title = TITLES.get(name, f"`{source_}`, {rest.rpartition(':')[2]} writers").format_map(setting)
        if source_ == "simulated":
            title = what[f"{name}.even"].partition(":")[0]
        refuted = "see there"
        if name in value:
            low, high = what[name].rsplit("interval ", 1)[1].split(" to ")
            refuted = f"{value[name]:.3f} ({float(low):.3f} to {float(high):.3f})"
        rows.append([title, refuted, _p(value[f"{name}.no_smaller"]), _p(value[f"{name}.even"])])
    found = table(("honest deletions", "refuted (95 % interval)", "no smaller", "even"), rows)
    return "\n\n".join([f"{source(document)}.", found, prose(FIXED, value)])


def _p(value: float) -> str:
    return f"{value:.2f}" if value >= 0.005 else f"{value:.4f}"
