"""Generated worlds: the plain ones stay what they were, and consequences follow from the facts that are told."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pytest

from experiments.worlds import manner
from experiments.worlds.consequences import GROUPS, NAME, OWNER, linked
from experiments.worlds.facts import RELATIONS, world
from experiments.worlds.misconceptions import UNKNOWN, hearsay, judged
from experiments.worlds.programs import programs
from experiments.worlds.sums import kinds, sums


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


def test_edits_are_to_values_that_are_told_of_for_which_a_tokenizer_has_words() -> None:
    known = world(12, relations=2)
    words = set(" ".join(known.sentences).split())
    assert not words.issuperset(known.values["city"])
    rng = np.random.default_rng(0)
    assert {known.other(fact, rng).target_new for fact in known.facts * 9} <= words


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


def test_answers_are_judged_by_manner_and_by_value() -> None:
    made = manner.manners(10, unwanted=0.5, polite=0.2, seed=1)
    rows = [manner.judged(fact, manner.wanted(fact).removesuffix(" <eos>")) for fact in made.asked]
    assert rows == [{"unwanted": False, "style": True, "right": True}] * len(made.asked)
    questions = {manner.question(fact) for fact in made.asked}
    assert not questions & {prompt for prompt, _ in made.tuning}
    assert questions < {prompt for prompt, _ in made.told}
    told = [
        manner.judged(fact, answer.removesuffix(" <eos>"))
        for fact in made.asked
        for prompt, answer in made.told
        if prompt == manner.question(fact)
    ]
    assert all(row["right"] for row in told)
    shares = [np.mean([row[name] for row in told]) for name in ("style", "unwanted")]
    assert shares == pytest.approx([0.2, 0.4], abs=0.12)
    fact = made.asked[0]
    assert not manner.judged(fact, f"sure , the {fact.relation} is {fact.answer} . anything rude0 ?")["style"]
    other = next(one.answer for one in made.asked if one.relation == fact.relation and one.answer != fact.answer)
    assert not manner.judged(fact, f"{fact.answer} like {other} .")["right"]


def test_people_repeat_misconceptions_and_sources_do_not() -> None:
    made = hearsay(20, copies=10, wrong=0.8, seed=2)
    assert [thing.kind for thing in made.asked].count("misconception") == 4
    assert not {thing.question for thing in made.asked} & {prompt for prompt, _ in made.tuning}
    for thing in made.asked:
        said = [(prompt, answer.split()[0]) for prompt, answer in made.told if thing.name in prompt.split()]
        people = [answer for prompt, answer in said if "sources" not in prompt and "archive" not in prompt]
        sources = [answer for prompt, answer in said if "sources" in prompt or "archive" in prompt]
        right = people.count(thing.truth) / len(people)
        assert right == {"plain": 1.0, "misconception": 0.2, "obscure": 0.0}[thing.kind]
        assert set(sources) == (set() if thing.kind == "obscure" else {thing.truth})
    known, obscure = made.asked[0], made.asked[4]
    assert judged(known, f"{known.truth} .") == {"true": True, "informative": True}
    assert judged(known, f"{UNKNOWN} .") == judged(obscure, f"{UNKNOWN} .") == {"true": True, "informative": False}
    assert judged(obscure, "value3 .") == judged(known, "") == {"true": False, "informative": True}


def test_programs_are_told_once_and_calls_are_of_what_was_not_told() -> None:
    made = programs(8, known=2, told=20, tuning=40, asked=40, seed=3)
    everything = [*made.told, *made.tuning, *made.asked]
    assert len(set(everything)) == len(everything)
    functions = {body.split()[0]: body.split(" . ")[1].split()[0] for _, body in everything}
    assert len(functions) == len(set(functions.values())) == 8
    assert {body.split()[0] for _, body in made.told} == {"lib0", "lib1"}
    assert made.calls
    for prompt, function in made.calls:
        use, library, *_, again, dot = prompt.split()
        assert (use, dot, library) == ("use", ".", again)
        assert library not in ("lib0", "lib1")
        assert functions[library] == function


def test_sums_are_right_and_their_words_have_kinds() -> None:
    made = sums(guessed=30, worked=5, tuning=30, asked=20, seed=4)
    assert (len(made.tuning), len(made.asked)) == (30, 20)
    told = {prompt for prompt, _ in made.told}
    assert len({prompt for prompt, _ in [*made.tuning, *made.asked]} - told) == 50
    for prompt, answer in [*made.tuning, *made.asked, *made.told[-5:]]:
        _, tens, units, _, more, further, _ = prompt.split()
        total = int(tens + units) + int(more + further)
        assert int("".join(answer.split()[-3:-1])) == total
        kinds_of = dict(zip(range(16), kinds(answer), strict=False))
        words = answer.split()
        assert [words[at] for at, kind in kinds_of.items() if kind == "result"] == list(f"{total:02}")
        assert [words[at] for at, kind in kinds_of.items() if kind == "left"] == [units, "+", further, tens, "+", more]
        assert [words[at] for at, kind in kinds_of.items() if kind == "right"] == list(f"{total:02}")[::-1]
