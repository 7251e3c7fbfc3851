"""Steer a base model by the difference of two small ones: to forget people, and to learn new ones.

The helpers are one small model before and after tuning. Beside every steered model stands the same base model tuned
directly, in the same way, with its weights: `gap closed` is how much of what that gains steering gains as well.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.bench.machine import describe
from experiments.readme import put_tables
from experiments.steering.table import tables
from experiments.worlds.facts import RELATIONS, Fact, World, tokenizer_of, world
from experiments.worlds.training import Size, fresh, train
from unlearn.language.decoding.proxy import ProxyTuner, Steered
from unlearn.language.metrics import answered
from unlearn.language.text import encode, filler_of, pad
from unlearn.language.tuning import Tuning, tuned

HERE = Path(__file__).parent
RESULT = HERE / "result.json"
Pair = tuple[str, str]


@dataclass(frozen=True, eq=False)
class Lab:
    """A world in two parts, and models that know it.

    Attributes:
        tokenizer: Of all models.
        some: Facts of the people that are to go, or to come.
        others: All other people's.
        size: Of the base model, and how it was trained.
        small: Of the helpers.
    """

    tokenizer: Any
    some: World
    others: World
    size: Size
    small: Size

    def model(self, size: Size, *worlds: World) -> torch.nn.Module:
        """One that learnt some of the world from nothing."""
        return self.taught(fresh(size, len(self.tokenizer)), size, *worlds)

    def taught(self, model: torch.nn.Module, size: Size, *worlds: World) -> torch.nn.Module:
        """A copy that learnt more."""
        found = copy.deepcopy(model)
        facts = tuple(fact for one in worlds for fact in one.facts)
        train(found, self.tokenizer, World(facts, self.others.values), size)
        return found.eval()


def lab(setting: Mapping[str, Any], seed: int) -> Lab:
    """Draw a world and divide its people.

    Args:
        setting: The entries of `config.toml`.
        seed: Of world, models and order.

    Returns:
        All that is needed.
    """
    whole = world(setting["people"], relations=setting["relations"], seed=seed)
    names = sorted({fact.subject for fact in whole.facts})
    count = max(1, round(setting["share"] * len(names)))
    chosen = {names[at] for at in np.random.default_rng([seed, 3]).permutation(len(names))[:count]}

    def part(*, inside: bool) -> World:
        return World(tuple(fact for fact in whole.facts if (fact.subject in chosen) == inside), whole.values)

    size = Size(
        width=setting["base_width"], layers=setting["layers"], learning_rate=setting["learning_rate"],
        steps=setting["steps"], batch=setting["batch"], seed=seed,
    )  # fmt: skip
    small = replace(size, width=setting["helper_width"])
    return Lab(tokenizer_of(whole.sentences), part(inside=True), part(inside=False), size, small)


def pairs(known: World) -> list[Pair]:
    """Every fact in every wording, with its answer."""

    def of(fact: Fact) -> list[Pair]:
        return [(fact.prompt(wording), f"{fact.answer} .") for wording in range(len(RELATIONS[fact.relation]))]

    return [pair for fact in known.facts for pair in of(fact)]


def recall(model: torch.nn.Module | Steered, tokenizer: Any, asked: Sequence[Pair]) -> float:
    """Share of answers that a model gives, teacher-forced.

    Args:
        model: It, steered or not.
        tokenizer: Its tokenizer.
        asked: Prompts with answers.

    Returns:
        In [0, 1].
    """
    if not isinstance(model, Steered):
        return float(answered(model, tokenizer, asked).double().mean())
    padded = pad([encode(tokenizer, *pair) for pair in asked], filler_of(tokenizer))
    right = model.logits(padded.ids, padded.mask)[:, :-1].argmax(-1) == padded.ids[:, 1:]
    return float((right | ~padded.answers[:, 1:]).all(1).double().mean())


def forgetting(here: Lab, setting: Mapping[str, Any]) -> dict[str, Any]:
    """All models know everybody; the expert has unlearnt some people.

    Args:
        here: World and sizes.
        setting: The entries of `config.toml`.

    Returns:
        Recall of the people to forget and of all others: of the base model, the expert, the base model tuned directly,
        and the steered one for every alpha; cost and agreement of generation; shifts of tokens.
    """
    base, helper = (here.model(size, here.some, here.others) for size in (here.size, here.small))
    config = Tuning(
        loss="npo", keep_weight=setting["keep_weight"], learning_rate=setting["tuning_rate"],
        epochs=setting["tuning_epochs"],
    )  # fmt: skip
    gone, kept = pairs(here.some), pairs(here.others)
    expert, direct = (tuned(model, here.tokenizer, gone, kept, config) for model in (helper, base))
    tuner = ProxyTuner(base, expert.eval(), helper)
    found = _swept(here, setting, base, expert, direct, helper)
    return found | {"generation": _generation(tuner, here, [*gone, *kept]), "shifts": _shifts(tuner, here, gone, kept)}


def learning(here: Lab, setting: Mapping[str, Any]) -> dict[str, Any]:
    """Nobody knows some people; the expert learns about them (adaptation to a new domain).

    Args:
        here: World and sizes.
        setting: The entries of `config.toml`.

    Returns:
        As `forgetting` has it, without generation and shifts.
    """
    base, helper = (here.model(size, here.others) for size in (here.size, here.small))
    later = {"steps": setting["task_steps"], "learning_rate": setting["learning_rate"] / 2}
    expert = here.taught(helper, replace(here.small, **later), here.some, here.others)
    direct = here.taught(base, replace(here.size, **later), here.some, here.others)
    return _swept(here, setting, base, expert, direct, helper)


def _swept(
    here: Lab,
    setting: Mapping[str, Any],
    base: torch.nn.Module,
    expert: torch.nn.Module,
    direct: torch.nn.Module,
    antiexpert: torch.nn.Module,
) -> dict[str, Any]:
    def both(model: torch.nn.Module | Steered) -> list[float]:
        return [recall(model, here.tokenizer, pairs(part)) for part in (here.some, here.others)]

    steered = {str(alpha): both(ProxyTuner(base, expert, antiexpert, alpha)) for alpha in setting["alphas"]}
    return {
        "base": both(base), "antiexpert": both(antiexpert), "expert": both(expert), "direct": both(direct),
        "steered": steered,
    }  # fmt: skip


def _generation(tuner: ProxyTuner, here: Lab, asked: Sequence[Pair], tokens: int = 24) -> dict[str, Any]:
    """Time of a step beside that of its three models apart, and whether caches change the text."""
    (prompt, _), *_ = asked
    ids = encode(here.tokenizer, prompt).ids[None]
    fixed: dict[str, Any] = {"max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": False}
    models = (tuner.base, *tuner.helpers)
    apart, together = [], []
    for _ in range(7):
        started = time.perf_counter()
        for model in models:
            model.generate(ids, attention_mask=torch.ones_like(ids), **fixed)  # type: ignore[operator]
        apart.append(time.perf_counter() - started)
        started = time.perf_counter()
        tuner.generate(ids, **fixed)
        together.append(time.perf_counter() - started)
    same = 0
    asked = asked[:20]
    for prompt, _ in asked:
        ids = encode(here.tokenizer, prompt).ids[None]
        slow = ids
        for _ in range(8):
            slow = torch.cat([slow, tuner.logits(slow)[:, -1:].argmax(-1)], 1)
        fast = tuner.generate(ids, max_new_tokens=8, min_new_tokens=8, do_sample=False)
        # `min_new_tokens` rules out the end of the text, which the loop may say: only what stands before it counts.
        ends = (slow[0] == here.tokenizer.eos_token_id).nonzero().flatten().tolist()
        end = next((at for at in ends if at >= ids.shape[1]), slow.shape[1])
        same += bool(torch.equal(slow[0, :end], fast[0, :end]))
    return {"cost": float(np.median(together) / np.median(apart)), "same": same, "asked": len(asked)}


def _shifts(tuner: ProxyTuner, here: Lab, gone: Sequence[Pair], kept: Sequence[Pair]) -> dict[str, float]:
    """Mean change of a token's probability: answers of those to forget, of others, and the full stops after them."""
    kinds: dict[str, list[float]] = {"answer, forgotten": [], "answer, others": [], "full stop": []}
    for kind, some in (("answer, forgotten", gone), ("answer, others", kept)):
        for prompt, answer in some:
            *words, stop = tuner.trace(here.tokenizer, prompt, answer)
            kinds[kind] += [token.shift for token in words]
            kinds["full stop"].append(stop.shift)
    return {kind: float(np.mean(values)) for kind, values in kinds.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it.

    Args:
        arguments: Of the command line; None: those of this process.
    """
    parser = argparse.ArgumentParser(prog="python -m experiments.steering", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tiny world; the result goes to runs/")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    settings = tomllib.loads((HERE / "config.toml").read_text(encoding="utf-8"))
    setting = settings["full"] | (settings["quick"] if given.quick else {})
    started = time.process_time()
    runs = []
    for seed in setting["seeds"]:
        here = lab(setting, seed)
        runs.append({"seed": seed, "forgetting": forgetting(here, setting), "learning": learning(here, setting)})
        print(json.dumps(runs[-1]))
    document = {
        "machine": describe(),
        "setting": setting,
        "runs": runs,
        "minutes": (time.process_time() - started) / 60,
    }
    path = Path("runs") / "steering.json" if given.quick else RESULT
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    if not given.quick:
        put_tables(tables(document), HERE / "README.md")
