"""People to be forgotten and people to be learnt, in a world of people and their attributes.

Learning depends on the helpers, and is measured with three pairs of them: `stopped`, where the expert is tuned until it
gives every answer and no longer; `learning`, where it is tuned for all steps; `distilled`, where before that the small
model has learnt to say what the base model says after every prompt, for which logits are enough.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from experiments.steering.asking import Model, Pair, recall
from experiments.steering.sweep import Models, swept
from experiments.tofu.training import teach
from experiments.worlds.facts import RELATIONS, World, tokenizer_of, world
from experiments.worlds.training import Size, fresh, train
from unlearn.language.decoding.proxy import ProxyTuner
from unlearn.language.hooks import frozen, logits_of
from unlearn.language.text import encode, filler_of, pad
from unlearn.language.tuning import Tuning, tuned

Setting = Mapping[str, Any]


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
        """One that learnt some of the world from nothing, until it knows all of that."""
        return self.stopped(fresh(size, len(self.tokenizer)), size, *worlds)

    def stopped(self, model: torch.nn.Module, size: Size, *worlds: World) -> torch.nn.Module:
        """A copy that learnt more, until it knew it."""
        found = copy.deepcopy(model)
        facts = tuple(fact for one in worlds for fact in one.facts)
        train(found, self.tokenizer, World(facts, self.others.values), size)
        return found.eval()

    def taught(self, model: torch.nn.Module, size: Size) -> torch.nn.Module:
        """A copy that learnt of everybody for all steps."""
        found = copy.deepcopy(model)
        teach(found, self.tokenizer, [*pairs(self.some), *pairs(self.others)], size)
        return found.eval()


def lab(setting: Setting, seed: int) -> Lab:
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
    return [
        (fact.prompt(wording), f"{fact.answer} .")
        for fact in known.facts
        for wording in range(len(RELATIONS[fact.relation]))
    ]


def forgetting(setting: Setting, alphas: Sequence[float], seed: int) -> dict[str, Any]:
    """All models know everybody; the expert has unlearnt some people.

    Args:
        setting: The entries of `config.toml`.
        alphas: How far it is steered.
        seed: Of all.

    Returns:
        As `swept` has it, for the people to forget (`some`) and all others; whether caches change what is said
        (`texts`); and shifts of tokens.
    """
    here = lab(setting, seed)
    base, helper = (here.model(size, here.some, here.others) for size in (here.size, here.small))
    config = Tuning(
        loss="npo", keep_weight=setting["keep_weight"], learning_rate=setting["forgetting_rate"],
        epochs=setting["forgetting_epochs"],
    )  # fmt: skip
    gone, kept = pairs(here.some), pairs(here.others)
    expert, direct = (tuned(model, here.tokenizer, gone, kept, config) for model in (helper, base))
    models = Models(base, helper, expert.eval(), direct)
    tuner = models.steered()
    return swept(models, alphas, _both(here)) | {
        "texts": agreement(tuner, here.tokenizer, [prompt for prompt, _ in [*gone, *kept]][: setting["texts"]]),
        "shifts": _shifts(tuner, here, gone, kept),
    }


def learning(setting: Setting, alphas: Sequence[float], seed: int) -> dict[str, Any]:
    """Nobody knows some people; the expert learns about them.

    Args:
        setting: The entries of `config.toml`.
        alphas: How far it is steered.
        seed: Of all.

    Returns:
        For each pair of helpers, as `swept` has it, for the people to learn (`some`) and all others.
    """
    here = lab(setting, seed)
    base, helper = (here.model(size, here.others) for size in (here.size, here.small))
    later = {"steps": setting["learning_steps"], "learning_rate": setting["learning_rate"] / 2}
    larger, smaller = replace(here.size, **later), replace(here.small, **later)
    near = distilled(helper, base, here, smaller)
    direct = here.taught(base, larger)
    made = {
        "stopped": Models(
            base, helper, here.stopped(helper, smaller, here.some, here.others),
            here.stopped(base, larger, here.some, here.others),
        ),
        "learning": Models(base, helper, here.taught(helper, smaller), direct),
        "distilled": Models(base, near, here.taught(near, smaller), direct),
    }  # fmt: skip
    return {name: swept(models, alphas, _both(here)) for name, models in made.items()}


def distilled(helper: torch.nn.Module, base: torch.nn.Module, here: Lab, size: Size) -> torch.nn.Module:
    """A copy of a helper that learnt to say what the base model says after every prompt; no answer is told.

    Args:
        helper: Small.
        base: Whose logits it learns.
        here: Whose prompts are asked, of the people to learn as well.
        size: How it is trained.

    Returns:
        The copy.
    """
    found = copy.deepcopy(helper)
    prompts = [encode(here.tokenizer, prompt) for prompt, _ in [*pairs(here.some), *pairs(here.others)]]
    asked = pad(prompts, filler_of(here.tokenizer))
    read = asked.mask.bool()
    with frozen(base), torch.no_grad():
        wanted = logits_of(base, asked.ids, asked.mask).softmax(-1)
    optimizer = torch.optim.AdamW(found.parameters(), lr=size.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, size.steps)
    rng = torch.Generator().manual_seed(size.seed)
    found.train()
    for _ in range(size.steps):
        rows = torch.randint(len(prompts), (size.batch,), generator=rng)
        said = logits_of(found, asked.ids[rows], asked.mask[rows]).log_softmax(-1)
        loss = -(wanted[rows] * said).sum(-1)[read[rows]].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return found.eval()


def agreement(tuner: ProxyTuner, tokenizer: Any, prompts: Sequence[str], length: int = 8) -> dict[str, int]:
    """Whether caches change what a steered model says.

    Args:
        tuner: It.
        tokenizer: Its tokenizer.
        prompts: What it is asked.
        length: So many tokens are said.

    Returns:
        How many texts are the `same` as without caches, of how many `asked`.
    """
    same = 0
    for prompt in prompts:
        ids = encode(tokenizer, prompt).ids[None]
        slow = ids
        for _ in range(length):
            slow = torch.cat([slow, tuner.logits(slow)[:, -1:].argmax(-1)], 1)
        fast = tuner.generate(ids, max_new_tokens=length, min_new_tokens=length, do_sample=False)
        # `min_new_tokens` rules out the end of the text, which the loop may say: only what stands before it counts.
        ends = (slow[0] == tokenizer.eos_token_id).nonzero().flatten().tolist()
        end = next((at for at in ends if at >= ids.shape[1]), slow.shape[1])
        same += bool(torch.equal(slow[0, :end], fast[0, :end]))
    return {"same": same, "asked": len(prompts)}


def _both(here: Lab) -> Callable[[Model], dict[str, float]]:
    asked = {"some": pairs(here.some), "others": pairs(here.others)}
    return lambda model: {name: recall(model, here.tokenizer, part) for name, part in asked.items()}


def _shifts(tuner: ProxyTuner, here: Lab, gone: Sequence[Pair], kept: Sequence[Pair]) -> dict[str, float]:
    """Mean change of a token's probability: answers of those to forget, of others, and the full stops after them."""
    kinds: dict[str, list[float]] = {"answer, forgotten": [], "answer, others": [], "full stop": []}
    for kind, some in (("answer, forgotten", gone), ("answer, others", kept)):
        for prompt, answer in some:
            *words, stop = tuner.trace(here.tokenizer, prompt, answer)
            kinds[kind] += [token.shift for token in words]
            kinds["full stop"].append(stop.shift)
    return {kind: float(np.mean(values)) for kind, values in kinds.items()}
