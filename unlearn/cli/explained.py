"""`unlearn plan --explain`: the families of model disgorgement, held against one situation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unlearn.cli.output import cell, print_table, say

if TYPE_CHECKING:
    from unlearn.disgorgement import Advice, Disgorgement


def say_explained(found: Disgorgement) -> None:
    """Print for people which families fit, and what each leaves.

    Args:
        found: Of `unlearn.disgorgement.disgorge`.
    """
    from rich.table import Table

    if found.recommended is None:
        say("No family of model disgorgement keeps the situation.")
    else:
        say(f"fits the situation: {_named(found.recommended)} ({found.why})")
    if found.meanwhile is not None:
        say(f"Meanwhile {found.meanwhile.kind} can hide it; that removes nothing.")
    table = Table("", "family", "claim", "removes", "core-time a day", "fits", title="families", title_justify="left")
    for item in found.advice:
        mark = "*" if item is found.recommended else ""
        removes = "yes" if item.removes else "no"
        table.add_row(
            mark, cell(item.kind.value), item.claim.value, removes, _price(item), "yes" if item.fits else "no"
        )
    print_table(table)
    for item in found.advice:
        say(f"{_named(item)}. A request: {item.cost}." + (f" Before: {item.once}." if item.once else ""))
        if item.unmet:
            say(f"- does not fit: {'; '.join(item.unmet)}.")
        for risk in item.residual:
            say(f"- leaves: {risk}")
        say(f"- here: {item.how}")


def _named(item: Advice) -> str:
    return f"{item.kind}, {item.claim}" + ("" if item.removes else " (not removal)")


def _price(item: Advice) -> str:
    from unlearn.plan import spelled

    if item.core_hours_per_day is None:
        return "not priced"
    return spelled(item.core_hours_per_day) if item.core_hours_per_day else "none"
