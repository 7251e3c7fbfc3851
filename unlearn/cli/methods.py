"""`unlearn methods`: how a model that was not trained in shards can be made to forget, and what that is worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unlearn.cli.arguments import AsJson
from unlearn.cli.output import cell, print_json, print_table, say, to_plain

if TYPE_CHECKING:
    from unlearn.methods import Method

EXAMPLE = """\b
Examples:
  unlearn methods
  unlearn methods scrub
  unlearn methods --json"""

MEANINGS = {
    "exact": "the result owes nothing to what was forgotten",
    "dp": "records were never of much influence: the training bounded it, for a number of them",
    "certified": "what it may still owe is bounded, under the assumptions its card names",
    "empirical": "nothing is guaranteed: measure it (`unlearn.audit`)",
    "suppression": "nothing is forgotten: outputs are kept back",
}
"""Of each guarantee, in words."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        help="List the methods of unlearning for models that were not trained in shards, each with the most that may "
        "be claimed for it; or show one, with its paper and settings. Looks at no workspace, changes nothing.",
        epilog=EXAMPLE,
    )(methods)


def methods(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Show this one.", show_default="list all of them")
    ] = None,
    *,
    json: AsJson = False,
) -> None:
    """List methods, or show one."""
    from unlearn.methods import METHODS

    if name is None:
        print_json({"methods": [_plain(method) for method in METHODS.values()]}) if json else _say_all(METHODS)
        return
    found = _found(name)
    print_json(_plain(found)) if json else _say(found)


def _found(name: str) -> Method:
    from unlearn.errors import ConfigurationError
    from unlearn.methods.options import find_method

    try:
        return find_method(name)
    except ConfigurationError as error:
        raise typer.BadParameter(str(error), param_hint="NAME") from error


def _plain(method: Method) -> dict[str, Any]:
    from unlearn.methods.settings import settings

    return {**to_plain(method.card), "settings": [to_plain(item) for item in settings(method.config)]}


def _say_all(found: Mapping[str, Method]) -> None:
    from rich.table import Table

    table = Table("method", "guarantee", "what it is", "needs", "tasks", title="methods", title_justify="left")
    for name, method in found.items():
        card = method.card
        table.add_row(
            cell(name), card.guarantee.value, cell(card.title), cell(", ".join(card.needs)), ", ".join(card.tasks)
        )
    print_table(table)
    for guarantee in dict.fromkeys(method.card.guarantee.value for method in found.values()):
        say(f"{guarantee}: {MEANINGS[guarantee]}")


def _say(method: Method) -> None:
    from rich.table import Table

    from unlearn.methods.settings import settings
    from unlearn.request import CERTIFIED

    card = method.card
    say(f"{card.name}: {card.title}")
    say(f"guarantee: {card.guarantee.value}, that is: {MEANINGS[card.guarantee.value]}")
    say(card.statement)
    say(f"needs: {', '.join(card.needs)}")
    say(f"tasks: {', '.join(card.tasks)}")
    say(f"source: {card.citation}")
    for figure in card.published:
        say(f"published: {figure}")
    table = Table("setting", "default", "what it is", title=method.config.__name__, title_justify="left")
    for item in settings(method.config):
        table.add_row(cell(item.name), cell(repr(item.default)), cell(item.description))
    print_table(table)
    besides = ", held_out=…" if "held-out set" in card.needs else ""
    config = f"unlearn.methods.{method.config.__name__}(…)"
    say(f"In Python: unlearn.methods.{card.name}(model, forget, retain, {config}{besides})")
    if card.name == CERTIFIED:
        say(
            "In a workspace: `unlearn create RUN --learner unlearn.methods.certified_learner:CertifiedLearner --method "
            "certified_removal`; settings are options of the learner there, and it promises for all models together"
        )
