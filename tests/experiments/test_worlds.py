"""Generated worlds: the plain ones stay what they were, and consequences follow from the facts that are told."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pytest

from experiments.worlds.consequences import GROUPS, NAME, OWNER, linked
from experiments.worlds.facts import RELATIONS, world


@pytest.mark.parametrize(
    ("people", "names", "relations", "seed", "digest"),
    [(12, "shared", 4, 0, "e1dfe34001ca17ed"), (40, "unique", 2, 3, "b7d2bf734fac14b0")],
)
def test_worlds_on_which_other_experiments_rest_stay(
    people: int, names: Any, relations: int, seed: int, digest: str
) -> None:
    sentences = world(people, names=names, relations=relations, seed=seed).sentences
    assert hashlib.sha256(json.dumps(sentences).encode()).hexdigest()[:16] == digest


def test_every_consequence_follows_from_what_is_told() -> None:
    everything = linked(world(20, names="unique", seed=4), seed=4)
    known = everything.world
    told = set(known.sentences)
    desks = [fact.answer for fact in known.facts if fact.relation == "desk"]
    assert len(set(desks)) == len(desks) == 20
    rng = np.random.default_rng(0)
    kinds = []
    for fact in known.facts:
        asked = known.other(fact, rng)
        probes = everything.consequences(fact, asked)
        kinds += [probe.kind for probe in probes]
        for probe in probes:
            # What is needed is told, and what is to be said after the edit is not what is told now.
            assert all(f"{prompt} {answer} ." in told for prompt, answer in probe.needs)
            assert f"{probe.prompt} {probe.answer} ." not in told
            if probe.kind == "portability_alias":
                alias = everything.second[fact.subject]
                assert (NAME.format(alias), fact.subject) in probe.needs
                assert (probe.prompt, probe.answer) == (RELATIONS[fact.relation][0].format(alias), asked.target_new)
            elif probe.kind == "portability_one_hop":
                assert f"{GROUPS[fact.relation][2].format(asked.target_new)} {probe.answer} ." in told
            else:
                assert (probe.prompt, probe.answer) == (OWNER.format(asked.target_new), fact.subject)
    assert kinds.count("portability_alias") == len(known.facts)
    assert kinds.count("portability_reversed") == 20
    assert 0 < kinds.count("portability_one_hop") < len(known.facts)


def test_an_edit_within_a_group_has_no_hop() -> None:
    everything = linked(world(20, names="unique", seed=4), seed=4)
    fact = next(fact for fact in everything.world.facts if fact.relation == "city")
    asked = everything.world.other(fact, np.random.default_rng(0))
    group = everything.group
    same = next(
        value
        for value in everything.world.values["city"]
        if value != fact.answer and group[value] == group[fact.answer]
    )
    inside = type(asked)(asked.prompt, asked.subject, same, fact.answer)
    assert [probe.kind for probe in everything.consequences(fact, inside)] == ["portability_alias"]
