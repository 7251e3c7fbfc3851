"""What the tests of edits share: a tiny language model in a folder, a workspace that knows it, work done right here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.worlds.facts import tokenizer_of, world
from experiments.worlds.training import Size, fresh
from shards.calls import CallOrder, make_call, small_value
from shards.environment import describe, environment_digest
from shards.executors.base import Environment, Executor, OnTurn, Program
from shards.executors.work import Work
from unlearn import Fact, Workspace
from unlearn.facts import LANGUAGE_MODEL, EditRequest

WORLD = world(6, relations=2)
TEXTS = list(WORLD.sentences)
OPTIONS = {"layer": -1, "learning_rate": 5e-3, "box": 100.0, "steps": 60}
"""Of FT-M: it edits any model."""


class Here(Executor):
    """Calls functions in this very process: starting a worker takes seconds."""

    def environment(self, program: Program) -> Environment:
        found = describe(program.libraries)
        return Environment(environment_digest(found), found)

    def perform(self, program: Program, work: Sequence[Work], on_turn: OnTurn) -> None:
        numeric = self.environment(program).digest
        for item in work:
            order = CallOrder.from_json(item.message())
            item.hear({"type": "returned", "value": small_value(make_call(order, numeric))})


def fact(number: int = 0, rephrasings: int = 2) -> Fact:
    """Something that the model does not say."""
    told = WORLD.facts[number]
    other = next(item.answer for item in WORLD.facts if item.relation == told.relation and item.answer != told.answer)
    return Fact(told.prompt(0), told.subject, other, tuple(told.prompt(at) for at in range(1, 1 + rephrasings)))


def save_model(folder: Path) -> Path:
    """A model of the GPT-2 kind with random weights and its tokenizer, as transformers saves them."""
    tokenizer = tokenizer_of(WORLD.sentences)
    model: Any = fresh(Size(width=32, layers=2, heads=2), len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def with_model(folder: Path, model: Path) -> tuple[Workspace, str]:
    """A workspace that comes to know a language model, tuned on its records, and the model's id."""
    workspace = Workspace.open(folder)
    return workspace, workspace.register("assistant", LANGUAGE_MODEL, str(model), source="records").id


def edited(workspace: Workspace, model: str, output: Path, *facts: Fact, **changes: Any) -> EditRequest:
    """Have it edited."""
    settings: dict[str, Any] = {"texts": TEXTS, "editor": "ft-m", "editor_options": OPTIONS}
    return workspace.edit_facts(list(facts) or [fact()], model=model, output=output, **{**settings, **changes})
