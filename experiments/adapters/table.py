"""The figures of the README, from `result.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.readme import fill, prose, source, table, values

KINDS = {"adapters": "adapters and head", "head": "head", "whole": "every weight"}

TEXT = """\
The goal of at most 0.03 lost is missed by all three: the base knows no news, so nearly everything has to be learnt
from a quarter of 2,000 texts, by adapters as by whole models. What adapters bring here is the size of a checkpoint.
That shards of adapters lose little where the base has learnt much is what the papers report of large models
(re-check), and cannot be shown on this one."""


def tables(document: Mapping[str, Any]) -> str:
    """What was found, for readers.

    Args:
        document: The result file.

    Returns:
        Markdown.
    """
    value = values(document)
    samples = {figure["name"]: figure["samples"] for figure in document["figures"]}

    def spread(name: str) -> str:
        return f"{value[name]:.3f} ± {np.std(samples[name], ddof=1):.3f}"

    rows = [
        [
            title,
            fill(f"{{{kind}.shards.checkpoint|.1%}}", value),
            spread(f"{kind}.one.accuracy"),
            spread(f"{kind}.shards.accuracy"),
            f"{value[f'{kind}.lost']:.3f}",
            f"{value[f'{kind}.shards.training']:.0f} s",
            f"{value[f'{kind}.shards.recovery']:.0f} s",
        ]
        for kind, title in KINDS.items()
    ]
    head = (
        "trained",
        "numbers in a checkpoint",
        "accuracy as one model",
        f"in {document['setting']['n_shards']} shards",
        "lost",
        "training in shards",
        "recovery, training",
    )
    states = len(document["setting"]["seeds"]) * len(KINDS)
    same = sum(round(value[f"{kind}.shards.exact"] * len(document["setting"]["seeds"])) for kind in KINDS)
    about = (
        f"{source(document)}. Mean ± standard deviation over {len(document['setting']['seeds'])} seeds. Of {states} "
        f"states after recovery, {same} have the digest of training without the forgotten texts."
    )
    lost = "" if any(value[f"{kind}.lost"] <= 0.03 for kind in KINDS) else f"\n\n{TEXT}"
    return f"{prose(about, {})}\n\n{table(head, rows)}{lost}"
