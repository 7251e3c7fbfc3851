r"""LoRA: tune a few numbers beside a model's weights, and add them to the weights at the end.

Each linear map gets \(W + \frac{\alpha}{r} B A\) with \(A\) and \(B\) of rank r, \(B\) zero at first (Hu et al. 2022,
*LoRA: Low-Rank Adaptation of Large Language Models*, arXiv 2106.09685). The adapters are those of the library peft;
what is made of them here is a plain model again, whose weights differ from the old ones by matrices of that rank.

To unlearn with few numbers is cheaper, and no stronger: what was learnt by all weights need not be reachable by a
change of small rank, and what LoRA hid, LoRA finds again (`relearning`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import nn

from unlearn.errors import ConfigurationError, InputError
from unlearn.language.hooks import Architecture, anatomy, is_transposed

_MARK = "peft_config"
"""What peft writes on a model with adapters."""


@dataclass(frozen=True)
class Lora:
    r"""What is tuned instead of all weights.

    Attributes:
        rank: r.
        alpha: \(\alpha\).
        targets: Ends of the names of the linear maps that get adapters, such as `q_proj`; none: all in the blocks.

    Raises:
        InputError: If rank or alpha is not positive.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if min(self.rank, self.alpha) <= 0:
            raise InputError(f"rank and alpha must be positive, got {self}")


@contextmanager
def trainable(
    model: nn.Module, lora: Lora | None, seed: int = 0, *, layout: Architecture | None = None
) -> Iterator[list[nn.Parameter]]:
    """What is to be tuned of a model: all its parameters, or adapters, which are merged at the end.

    Args:
        model: A causal language model; changes.
        lora: The adapters; None: there are none.
        seed: Their first values come from it.
        layout: Where things are in the model; None: what `model.config.model_type` says. Not needed with targets.

    Yields:
        The parameters.

    Raises:
        ConfigurationError: If peft is not installed, or the model's inside is not known.
        InputError: If no linear map has such a name, or one shares its weight with another module, as heads that are
            tied to embeddings do; if nothing of the model is to be tuned, or it has adapters already.
    """
    if lora is None:
        wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not wanted:
            raise InputError(
                "no parameter of the model asks for a gradient: call model.requires_grad_(True), or give lora"
            )
        with torch.enable_grad():
            yield wanted
        return
    if hasattr(model, _MARK):
        raise InputError("the model has adapters already: merge them first, with merge_and_unload() of peft")
    asked = {parameter: parameter.requires_grad for parameter in model.parameters()}
    targets = _targets(model, lora, layout)
    _check_peft()
    try:
        _insert(model, lora, targets, seed)
        added = [parameter for parameter in model.parameters() if parameter not in asked]
        model.requires_grad_(requires_grad=False)
        for parameter in added:
            parameter.requires_grad = True
        with torch.enable_grad():
            yield added
    finally:
        _merge(model)
        for parameter, value in asked.items():
            parameter.requires_grad_(value)


def _targets(model: nn.Module, lora: Lora, layout: Architecture | None) -> dict[str, nn.Module]:
    """Names of the linear maps, and they."""
    linear = {name: module for name, module in model.named_modules() if _is_linear(module)}
    if lora.targets:
        found = {
            name: module
            for name, module in linear.items()
            if any(name == end or name.endswith(f".{end}") for end in lora.targets)
        }
    else:
        blocks = anatomy(model, layout).layout.blocks
        found = {name: module for name, module in linear.items() if name.startswith(f"{blocks}.")}
    if not found:
        names = sorted({name.rpartition(".")[2] for name in linear})
        raise InputError(f"no linear map of the model has a name that ends in {lora.targets}: there are {names}")
    _check_apart(model, found)
    return found


def _check_apart(model: nn.Module, targets: dict[str, nn.Module]) -> None:
    """An adapter changes what one map does; merged into a weight that another module reads, it would change both."""
    for name, module in targets.items():
        for other, shared in model.named_modules():
            if shared is not module and getattr(shared, "weight", None) is module.weight:
                raise InputError(
                    f"{name} and {other} have one weight between them: with an adapter merged into it, both would "
                    "change, and the model say something else than what was tuned. Leave it out of the targets"
                )


def _is_linear(module: nn.Module) -> bool:
    try:
        is_transposed(module)
    except ConfigurationError:
        return False
    return True


def _check_peft() -> None:
    if find_spec("peft") is None:
        raise ConfigurationError("LoRA needs peft: pip install 'sisa-unlearn[language]'")


def _insert(model: nn.Module, lora: Lora, targets: dict[str, nn.Module], seed: int) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]
        target_modules=sorted(targets),
        fan_in_fan_out=any(is_transposed(module) for module in targets.values()),
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model)


def _merge(model: nn.Module) -> None:
    from peft.tuners.lora import LoraLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, module.get_base_layer())
    # Not there where inserting was interrupted.
    vars(model).pop(_MARK, None)
