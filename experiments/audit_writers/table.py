"""The tables of the README, from `result.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.audit_planted.failures import FAILURES
from experiments.readme import table


def tables(document: Mapping[str, Any]) -> str:
    """What was found, for readers.

    Args:
        document: The result file.

    Returns:
        Markdown.
    """
    figures = {figure["name"]: figure for figure in document["figures"]}
    value = {name: figure["value"] for name, figure in figures.items()}
    presented = document["setting"]["presented"]
    most = presented[-1]

    def rate(name: str) -> str:
        low, high = figures[name]["what"].rsplit("interval ", 1)[1].split(" to ")
        return f"{value[name]:.3f} ({low} to {high})"

    def least(name: str) -> str:
        return f"{value[name]:.2f}" if value[name] else "none"

    honest = [
        [
            f"{k}",
            rate(f"honest:{k}"),
            least(f"named:{k}.least_everywhere"),
            least(f"named:{k}.least_one_shard"),
            f"{value[f'named:{k}.power_all_shards']:.2f}",
            f"{value[f'named:{k}.power_one_shard']:.2f}",
        ]
        for k in presented
    ]
    failures = [
        [
            f"`{name}`",
            *(f"{value[f'{name}:{k}']:.2f}" for k in presented),
            f"{value[f'attacks:{name}']:.2f}",
            f"{value[f'{name}.needed']:.0f}" if value[f"{name}.needed"] else f"over {most}",
        ]
        for name in FAILURES
    ]
    traces = [
        [
            f"`{name}`",
            f"{value[f'{name}.advantage']:+.2f}",
            f"{value[f'{name}.members']:.2f}",
            least(f"{name}.least_everywhere"),
            least(f"{name}.least_one_shard"),
            rate(f"{name}:{most}"),
            f"{value[f'replay:{name}']:.0%}".replace("%", " %"),
        ]
        for name in ("honest", *FAILURES)
    ]
    momentum = [
        [
            f"{passes:g}",
            f"{value[f'momentum:{passes:g}.distance']:.2f}",
            f"{value[f'momentum:{passes:g}.advantage']:+.3f}",
            least(f"momentum:{passes:g}.least_everywhere"),
            rate(f"momentum:{passes:g}"),
        ]
        for passes in document["setting"]["passes"]
    ]
    number = len(figures[f"honest:{most}"]["samples"])
    heading = (
        f"{number} honest deletions, {document['setting']['planted']} with each failure; exact 95 % intervals. By "
        f"attacks, honest deletions are refuted in {rate('attacks:honest')}. What audits of honest deletions name:"
    )
    return "\n\n".join(
        [
            heading,
            table(
                ("writers", "refuted", "least, all shards", "least, one shard", "power, all kept", "power, one kept"),
                honest,
            ),
            "How often failures are found, by so many writers:",
            table(("failure", *map(str, presented), "by attacks", "needed"), failures),
            f"What they leave, in logits, and what the audits of them with {most} writers could have found:",
            table(
                (
                    "failure",
                    "advantage",
                    "of writers who stay",
                    "least, all shards",
                    "least, one shard",
                    "found",
                    "replay",
                ),
                traces,
            ),
            "Started over but for the momentum, so many passes later:",
            table(("passes", "distance", "advantage", "least, all shards", "found"), momentum),
        ]
    )
