"""Every way to unlearn of `unlearn.language.tuning`, with the settings its paper names and one that is tuned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from unlearn.language.lora import Lora
from unlearn.language.tuning import Pair, Tuning, negated, tuned

METHODS: Mapping[str, tuple[str, Tuning | None]] = {
    "ga": ("GA", Tuning(loss="ga", keep="nothing")),
    "graddiff": ("GradDiff", Tuning(loss="ga")),
    "kl": ("KL", Tuning(loss="ga", keep="divergence")),
    "npo": ("NPO", Tuning(loss="npo")),
    "simnpo": ("SimNPO", Tuning(loss="simnpo", beta=2.5)),
    "dpo": ("DPO", Tuning(loss="dpo")),
    "idk": ("IDK", Tuning(loss="idk")),
    "rmu": ("RMU", Tuning(loss="rmu")),
    "undial": ("UNDIAL", Tuning(loss="undial", gamma=10.0)),
    "whp": ("WHP", Tuning(loss="whp")),
    "task_vector": ("task vector", None),
    "npo_lora": ("NPO, LoRA", Tuning(loss="npo")),
}
"""Name to title and settings; None: no loss of its own."""

ADAPTERS: Mapping[str, Lora] = {"npo_lora": Lora(rank=8)}
"""Methods that tune adapters instead of all weights."""

ADAPTERS_RATE = 10.0
"""So many times the learning rate of all weights: adapters begin at nothing."""

ANSWER = "I don't know that."
"""What DPO and IDK have said instead."""

Way = Callable[[nn.Module, Any, Sequence[Pair], Sequence[Pair]], nn.Module]
"""Model, tokenizer, pairs to forget and to retain, to the model after."""


def way(name: str, setting: Mapping[str, Any], learning_rate: float, seed: int) -> Way:
    """A method with all its settings.

    Args:
        name: One of `METHODS`.
        setting: The entries of `config.toml`.
        learning_rate: What is tuned, of all weights.
        seed: Of order and directions.

    Returns:
        What unlearns.
    """
    _, config = METHODS[name]
    if config is None:
        return partial(_negated, learning_rate=learning_rate, steps=setting["reinforcement"])
    lora = ADAPTERS.get(name)
    rate = learning_rate if lora is None else ADAPTERS_RATE * learning_rate
    whole = replace(
        config, learning_rate=rate, epochs=setting["epochs"], batch=setting["unlearning_batch"],
        keep_weight=setting["keep_weight"],
        other_answer=ANSWER, reinforcement=setting["reinforcement"], seed=seed,
    )  # fmt: skip
    return partial(tuned, config=whole, lora=lora)


def _negated(
    model: nn.Module, tokenizer: Any, forget: Sequence[Pair], _: Sequence[Pair], *, learning_rate: float, steps: int
) -> nn.Module:
    return negated(model, tokenizer, forget, learning_rate=learning_rate, steps=steps)
