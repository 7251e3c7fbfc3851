"""The figures of the README, from `result.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.readme import prose, source, table, values

ROWS = {
    "before": "with the poison",
    "reduced": "forgotten, until recovery",
    "recovered": "after recovery",
    "never": "that never saw it",
    "whole": "one model, trained again",
}

TEXT = """\
- Backdoor: {backdoor.records|,.0f} records of {backdoor.writers|.0f} writers; {backdoor.reduced.shards|.0f} of SHARDS
  shards serve until recovery, which takes {backdoor.repair.of_retraining|.2f} of the record-visits of training one
  model again ({backdoor.repair.of_retraining_seconds|.2f} of its seconds).
- Mislabelled: {mislabelled.records|,.0f} records of {mislabelled.writers|.0f} writers;
  {mislabelled.reduced.shards|.0f} of SHARDS shards serve until recovery, which takes
  {mislabelled.repair.of_retraining|.2f} of the record-visits of that training
  ({mislabelled.repair.of_retraining_seconds|.2f} of its seconds).
- Both times the state after recovery has the digest of a fresh workspace that never held the poison; the run fails
  otherwise."""


def tables(document: Mapping[str, Any]) -> str:
    """What was found, for readers.

    Args:
        document: The result file.

    Returns:
        Markdown.
    """
    value = values(document)
    rows = [
        [
            title,
            *(
                f"{value[name]:.3f}" if (name := f"{attack}.{row}.{figure}") in value else ""
                for attack in ("backdoor", "mislabelled")
                for figure in ("accuracy", "success")
            ),
        ]
        for row, title in ROWS.items()
    ]
    found = table(("model", "backdoor: accuracy", "success", "mislabelled: accuracy", "success"), rows)
    text = prose(TEXT.replace("SHARDS", f"{document['setting']['n_shards']}"), value)
    return "\n\n".join([f"{source(document)}.", found, text])
