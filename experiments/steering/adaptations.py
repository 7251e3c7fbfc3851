"""Four things a base model is tuned for: a manner, the truth, another kind of text, a task; each in a world of its own.

Base and helpers have read the same; expert and directly tuned base have then learnt the same, with their answers alone.
What is asked was in nobody's tuning.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from experiments.steering.asking import Model, Pair, perplexity, recall, texts
from experiments.steering.sweep import Measure, Models, swept
from experiments.tofu.training import teach
from experiments.worlds import manner, misconceptions
from experiments.worlds.facts import tokenizer_of, world
from experiments.worlds.programs import programs
from experiments.worlds.sums import kinds, sums
from experiments.worlds.training import Size, fresh
from unlearn.language.decoding.proxy import ProxyTuner

Setting = Mapping[str, Any]
Kinds = Callable[[str], Sequence[str]]
"""Of each word of an answer, which kind it is."""


@dataclass(frozen=True, eq=False)
class Adaptation:
    """What is read, what is learnt, and what is then asked.

    Attributes:
        told: Read by base and helpers.
        tuning: Learnt by expert and directly tuned base.
        measure: Given the tokenizer, what is to be known of a model.
        traced: Answers whose tokens are looked at, one by one.
        kinds: Which kinds they are of.
    """

    told: tuple[Pair, ...]
    tuning: tuple[Pair, ...]
    measure: Callable[[Any], Measure]
    traced: tuple[Pair, ...]
    kinds: Kinds


def style(setting: Setting, seed: int) -> Adaptation:
    """Answers in the wanted manner, and without unwanted words."""
    made = manner.manners(setting["people"], seed=seed)
    prompts = [manner.question(fact) for fact in made.asked]

    def measure(tokenizer: Any) -> Measure:
        def of(model: Model) -> dict[str, float]:
            said = texts(model, tokenizer, prompts, 16, samples=setting["samples"], seed=seed)
            rows = [manner.judged(fact, text) for fact, some in zip(made.asked, said, strict=True) for text in some]
            return _shares(rows)

        return of

    def of_words(answer: str) -> list[str]:
        known = {fact.answer: "value" for fact in made.asked} | {fact.relation: "topic" for fact in made.asked}
        return ["first word", *(known.get(word, "manner") for word in answer.split()[1:])]

    traced = tuple((manner.question(fact), manner.wanted(fact)) for fact in made.asked)
    return Adaptation(made.told, made.tuning, measure, traced, of_words)


def truth(setting: Setting, seed: int) -> Adaptation:
    """Answers that are true, or that it is not known."""
    made = misconceptions.hearsay(setting["things"], seed=seed)
    prompts = [thing.question for thing in made.asked]

    def measure(tokenizer: Any) -> Measure:
        def of(model: Model) -> dict[str, float]:
            said = texts(model, tokenizer, prompts, 2)
            rows = [misconceptions.judged(thing, text) for thing, (text,) in zip(made.asked, said, strict=True)]
            by_kind = {
                f"true, {kind}": [
                    row["true"] for row, thing in zip(rows, made.asked, strict=True) if thing.kind == kind
                ]
                for kind in ("plain", "misconception", "obscure")
            }
            return _shares(rows) | {name: float(np.mean(values)) for name, values in by_kind.items()}

        return of

    def of_words(answer: str) -> list[str]:
        first, *_ = answer.split()
        return ["unknown" if first == misconceptions.UNKNOWN else "value", "frame", "frame"]

    traced = tuple((thing.question, f"{thing.truth} . <eos>") for thing in made.asked)
    return Adaptation(made.told, made.tuning, measure, traced, of_words)


def domain(setting: Setting, seed: int) -> Adaptation:
    """Programs, where what was read is sentences and few programs."""
    known = world(setting["people"], names="unique", relations=2, seed=seed)
    facts = [(fact.prompt(at), f"{fact.answer} . <eos>") for fact in known.facts for at in range(5)]
    made = programs(
        setting["libraries"], known=setting["known"], told=setting["told"], tuning=setting["tuning"],
        asked=setting["asked"], seed=seed,
    )  # fmt: skip

    def measure(tokenizer: Any) -> Measure:
        def of(model: Model) -> dict[str, float]:
            return {
                "perplexity": perplexity(model, tokenizer, made.asked),
                "functions": recall(model, tokenizer, made.calls),
                "facts": recall(model, tokenizer, facts),
            }

        return of

    def of_words(answer: str) -> list[str]:
        def of(word: str) -> str:
            if word.startswith(("lib", "fun")):
                return "library" if word.startswith("lib") else "function"
            return "variable" if word.isalpha() and len(word) == 1 else "frame"

        return [of(word) for word in answer.split()]

    return Adaptation((*facts, *made.told), made.tuning, measure, made.asked, of_words)


def task(setting: Setting, seed: int) -> Adaptation:
    """Sums of two numbers, with the working."""
    made = sums(**{name: setting[name] for name in ("guessed", "worked", "tuning", "asked")}, seed=seed)

    def measure(tokenizer: Any) -> Measure:
        def of(model: Model) -> dict[str, float]:
            said = texts(model, tokenizer, [prompt for prompt, _ in made.asked], 16)
            rights = [answer.split()[-3:-1] for _, answer in made.asked]
            return _shares(
                [
                    {"exact": text.split()[-2:] == right, "working": " so " in f" {text} "}
                    for (text,), right in zip(said, rights, strict=True)
                ]
            )

        return of

    return Adaptation(made.told, made.tuning, measure, made.asked, kinds)


ADAPTATIONS: Mapping[str, Callable[[Setting, int], Adaptation]] = {
    "style": style, "truth": truth, "domain": domain, "task": task,
}  # fmt: skip
"""What a base model is tuned for."""


def adapted(name: str, setting: Setting, alphas: Sequence[float], seed: int) -> dict[str, Any]:
    """Train, tune, steer and measure.

    Args:
        name: One of `ADAPTATIONS`.
        setting: Its entries of `config.toml`.
        alphas: How far it is steered.
        seed: Of world, models and order.

    Returns:
        As `swept` has it, and under `shifts` what steering with alpha 1 and direct tuning do to tokens of each kind.
    """
    made = ADAPTATIONS[name](setting, seed)
    spoken = (f"{prompt} {answer.removesuffix('<eos>')}" for prompt, answer in (*made.told, *made.tuning))
    tokenizer = tokenizer_of(tuple(spoken))
    models = learnt(tokenizer, made.told, made.tuning, setting, seed)
    found = swept(models, alphas, made.measure(tokenizer))
    return found | {"shifts": shifts(models.steered(), tokenizer, made.traced, made.kinds)}


def learnt(tokenizer: Any, told: Sequence[Pair], tuning: Sequence[Pair], setting: Setting, seed: int) -> Models:
    """Base and helper read, and both learn.

    Args:
        tokenizer: Of all texts.
        told: What is read, every token of it.
        tuning: What is learnt, of which the answers.
        setting: Sizes, steps and rates.
        seed: Of initial weights and order.

    Returns:
        All four models.
    """
    read = [_whole(pair) for pair in told]
    size = Size(
        width=setting["base_width"], layers=setting["layers"], learning_rate=setting["learning_rate"],
        steps=setting["steps"], batch=setting["batch"], seed=seed,
    )  # fmt: skip
    found = []
    for each in (size, replace(size, width=setting["helper_width"])):
        before = fresh(each, len(tokenizer))
        teach(before, tokenizer, read, each)
        after = copy.deepcopy(before)
        later = replace(each, steps=setting["tuning_steps"], learning_rate=setting["tuning_rate"])
        teach(after, tokenizer, tuning, later)
        found += [before.eval(), after.eval()]
    base, direct, antiexpert, expert = found
    return Models(base, antiexpert, expert, direct)


def shifts(tuner: ProxyTuner, tokenizer: Any, traced: Sequence[Pair], of_words: Kinds) -> dict[str, Any]:
    """What steering does to the probability of each kind of token of the wanted answers.

    Args:
        tuner: The steered model.
        tokenizer: Of a token for each word.
        traced: Questions with answers.
        of_words: Which kinds the words of an answer are of.

    Returns:
        Kind to `count`, `base` (mean probability before), `shift` (mean change) and `sd` (of the change).
    """
    values: dict[str, list[tuple[float, float]]] = {}
    for prompt, answer in traced:
        for kind, token in zip(of_words(answer), tuner.trace(tokenizer, prompt, answer), strict=True):
            values.setdefault(kind, []).append((token.base, token.shift))
    return {
        kind: {
            "count": len(some),
            "base": float(np.mean([before for before, _ in some])),
            "shift": float(np.mean([shift for _, shift in some])),
            "sd": float(np.std([shift for _, shift in some])),
        }
        for kind, some in values.items()
    }


def _whole(pair: Pair) -> Pair:
    """The same text, of which all but the first word is the answer."""
    first, _, rest = f"{pair[0]} {pair[1]}".partition(" ")
    return first, rest


def _shares(rows: Sequence[Mapping[str, bool]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
