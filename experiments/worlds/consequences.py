"""A world in which facts have consequences: people have a second name, values belong to groups, desks have one owner.

All of it is told, so that a model learns it; whether an edit reaches it is portability (Yao et al. 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.worlds.facts import RELATIONS, Fact, World
from unlearn.language.editing.base import Edit
from unlearn.language.metrics import Probe

GROUPS: dict[str, tuple[str, int, str, str]] = {
    "language": ("family", 4, "{} belongs to", "{} speaks a tongue of"),
    "city": ("land", 8, "{} lies in", "{} pays taxes in"),
    "job": ("branch", 6, "{} counts as", "{} earns a wage in"),
    "team": ("league", 6, "{} competes in", "{} can be seen in"),
    "desk": ("floor", 8, "{} stands on", "{} takes the stairs to"),
}
"""Relation to a kind of group, how many there are, how a value's group is told, and how a person's: one hop further."""

OWNER = "{} is used by"
"""The reversed relation, of desks."""

NAME = "{} is another name of"
"""How a second name is told."""


@dataclass(frozen=True)
class Linked:
    """A world, and what follows from its facts.

    Attributes:
        world: Its facts, desks among them, and in `more` all that is told beside them.
        second: Person to second name.
        group: Value to group.
    """

    world: World
    second: dict[str, str]
    group: dict[str, str]

    def consequences(self, fact: Fact, edit: Edit) -> list[Probe]:
        """What follows from an edit.

        Args:
            fact: The one that is edited.
            edit: To what.

        Returns:
            The edited prompt with the second name, the group of the new value, and the owner of the new desk; each
            with what a model must say before the edit, so that the question means anything.
        """
        new = edit.target_new
        prompt, alias = fact.prompt(), self.second[fact.subject]
        found = [
            Probe(
                "portability_alias",
                prompt.replace(fact.subject, alias),
                new,
                ((NAME.format(alias), fact.subject), (prompt.replace(fact.subject, alias), fact.answer)),
            )
        ]
        _, _, of_value, of_person = GROUPS[fact.relation]
        # Where both values are in one group, an edit that reaches nothing would be right.
        if self.group[new] != self.group[fact.answer]:
            needs = ((of_value.format(new), self.group[new]), (of_person.format(fact.subject), self.group[fact.answer]))
            found.append(Probe("portability_one_hop", of_person.format(fact.subject), self.group[new], needs))
        if fact.relation == "desk":
            owner = next(one.subject for one in self.world.facts if one.answer == new)
            needs = ((OWNER.format(new), owner), (OWNER.format(fact.answer), fact.subject))
            found.append(Probe("portability_reversed", OWNER.format(new), fact.subject, needs))
        return found


def linked(world: World, *, seed: int = 0) -> Linked:
    """Give people desks and second names, and values groups.

    Args:
        world: A world without consequences.
        seed: Desks and groups are drawn from it.

    Returns:
        The world with all that follows from its facts.
    """
    rng = np.random.default_rng([seed, 5])
    people = list(dict.fromkeys(fact.subject for fact in world.facts))
    desks = tuple(f"desk{at}" for at in range(len(people)))
    owned = [Fact(person, "desk", desks[at]) for person, at in zip(people, rng.permutation(len(people)), strict=True)]
    by_person = {person: [fact for fact in world.facts if fact.subject == person] for person in people}
    facts = tuple(fact for desk in owned for fact in (*by_person[desk.subject], desk))
    values = {**world.values, "desk": desks}
    second = {person: f"A{at}" for at, person in enumerate(people)}
    group = {
        value: f"{GROUPS[name][0]}{int(rng.integers(GROUPS[name][1]))}" for name in values for value in values[name]
    }
    return Linked(World(facts, values, tuple(_told(facts, values, second, group))), second, group)


def _told(
    facts: Sequence[Fact], values: dict[str, tuple[str, ...]], second: dict[str, str], group: dict[str, str]
) -> list[tuple[str, str]]:
    found = [(NAME.format(alias), person) for person, alias in second.items()]
    found += [(GROUPS[name][2].format(value), group[value]) for name in values for value in values[name]]
    for fact in facts:
        found.append((RELATIONS[fact.relation][0].format(second[fact.subject]), fact.answer))
        found.append((GROUPS[fact.relation][3].format(fact.subject), group[fact.answer]))
        if fact.relation == "desk":
            found.append((OWNER.format(fact.answer), fact.subject))
    return found
