"""The figures of the README, from `result.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.attack_strength.table import strengths
from experiments.readme import prose, source, values

TEXT = """\
Accuracy {cifar.members|.3f} on members and {cifar.others|.3f} on others; with {models|.0f} shadow models on the left
and four on the right, medians over the attacked networks:"""


def tables(document: Mapping[str, Any]) -> str:
    """What was found, for readers.

    Args:
        document: The result file.

    Returns:
        Markdown.
    """
    value = values(document) | {"models": document["setting"]["trials"] - 1}
    found = strengths(document, "cifar", {"auc": "AUC", "tpr_1": "TPR at 1 %"})
    return "\n\n".join([f"{source(document)}.", prose(TEXT, value), found])
