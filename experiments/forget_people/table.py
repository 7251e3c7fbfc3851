"""The figures of the README, from `result.json`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from experiments.readme import fill, prose, source, table, values

SCORES = {"writers": "accuracy", "patients": "auc"}
WAYS = {"together": "together", "one_by_one": "one by one"}

TEXT = """\
- Without anybody forgotten: writers {writers.sharded.accuracy|.3f} in shards and {writers.whole.accuracy|.3f} as one
  model; patients' AUC {patients.sharded.auc|.3f} and {patients.whole.auc|.3f} (accuracy
  {patients.sharded.accuracy|.3f} and {patients.whole.accuracy|.3f}, balanced accuracy {patients.sharded.balanced|.3f}
  and {patients.whole.balanced|.3f}).
- Sharding pays, with requests together, up to {writers.largest.together.layout|.0f} writers and
  {patients.largest.together.layout|.0f} patients; the plan said {writers.largest.together.expected|.0f} and
  {patients.largest.together.expected|.0f}. One by one: {writers.largest.one_by_one.layout|.0f} and
  {patients.largest.one_by_one.layout|.0f}; the plan said {writers.largest.one_by_one.expected|.0f} and
  {patients.largest.one_by_one.expected|.0f}."""


def tables(document: Mapping[str, Any]) -> str:
    """What was found, for readers.

    Args:
        document: The result file.

    Returns:
        Markdown.
    """
    value, setting = values(document), document["setting"]
    rows = []
    for people, score in SCORES.items():
        for way, title in WAYS.items():
            start = f"{people}.{way}"
            sizes = sorted(int(found[1]) for name in value if (found := re.fullmatch(rf"{start}\.(\d+)\.visits", name)))
            for k in sizes:
                form = (
                    f"{{K.visits|,.0f}};{{K.of_layout|.2f}};{{K.of_retraining|.3f}};{{K.seconds|.1f}} s;"
                    f"{{K.reduced.{score}|.3f}};{{K.recovered.{score}|.3f}}"
                )
                rows.append([people, title, f"{k}", *fill(form.replace("{K.", f"{{{start}.{k}."), value).split(";")])
    head = (
        *("people", "how", "K", "record-visits", "by the layout's", "by retraining's", "wall time"),
        *("until recovery", "after it"),
    )
    averages = ", and ".join(
        ", ".join(f"{value[f'{people}.average.{k}.of_expected']:.2f}" for k in setting["groups"]) + f" for {people}"
        for people in SCORES
    )
    about = (
        f"{source(document)}: {setting['n_shards']} shards of {setting['n_slices']} slices, "
        f"{setting['writers']['epochs']} passes. The last two columns are test accuracy for writers, and "
        "AUC for patients."
    )
    mean = (
        f"- The mean of {setting['draws']} random groups of {', '.join(map(str, setting['groups']))} people, by the "
        f"expected, is "
        f"{averages}."
    )
    return "\n\n".join([prose(about, {}), table(head, rows), prose(f"{TEXT}\n{mean}", value)])
