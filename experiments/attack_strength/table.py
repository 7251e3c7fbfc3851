"""The figures of the README, from `result.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.readme import prose, source, table, values

ATTACKS = (
    "loss",
    "modified_entropy",
    "difficulty",
    "shokri",
    "lira_online",
    "lira_online_fixed",
    "lira_offline",
    "lira_offline_fixed",
    "rmia_online",
    "rmia_offline",
)

POSTERIORS = """\
The published posteriors give what is known of them: accuracy {posteriors.members|.3f} on members and
{posteriors.others|.3f} on others, gap attack {posteriors.gap|.3f}, AUC of the loss {plain.loss.auc|.3f}
({plain.loss.auc.low|.3f} to {plain.loss.auc.high|.3f}), defended by MemGuard {defended.loss.auc|.3f}
({defended.loss.auc.low|.3f} to {defended.loss.auc.high|.3f}). On Location-30, with {models|.0f} shadow models on the
left and four on the right, medians:"""

SPEED = """\
A minibatch of the shadow models' network takes {speed.location.alone|.0f} μs in torch's loop and
{speed.location.stacked|.0f} μs in the stack, {speed.location.gain|.2f} times less, of which
{speed.location.products|.0f} μs are matrix products; of the small network {speed.small.alone|.0f} and
{speed.small.stacked|.0f} μs, {speed.small.gain|.1f} times less."""


def strengths(document: Mapping[str, Any], data: str, measures: Mapping[str, str]) -> str:
    """Each attack with many shadow models, and with four.

    Args:
        document: The result file.
        data: What the figures with many are named for.
        measures: Ends of the figures' names, and titles of their columns.

    Returns:
        A table.
    """
    value = values(document)

    def cells(start: str) -> list[str]:
        forms = {end: "{:.3f}" if end == "auc" else "{:.1%}" for end in measures}
        names = {end: f"{start}.{end}" for end in measures}
        return [
            forms[end].format(value[name]).replace("%", " %") if name in value else "" for end, name in names.items()
        ]

    titles = {"shokri": f"`shokri` ({document['setting']['shokri_shadows']} shadow models)"}
    rows = [
        [titles.get(attack, f"`{attack}`"), *cells(f"{data}.{attack}"), *cells(f"few.{attack}")] for attack in ATTACKS
    ]
    return table(("attack", *measures.values(), *measures.values()), rows)


def tables(document: Mapping[str, Any]) -> str:
    """What was found, for readers.

    Args:
        document: The result file.

    Returns:
        Markdown.
    """
    value = values(document) | {"models": document["setting"]["trials"] - 1}
    found = strengths(document, "location", {"auc": "AUC", "tpr_1": "TPR at 1 %", "tpr_0.1": "at 0.1 %"})
    return "\n\n".join([f"{source(document)}.", prose(POSTERIORS, value), found, prose(SPEED, value)])
