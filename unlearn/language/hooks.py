"""Where things are inside a language model: blocks, the matrix that writes an MLP's output, the final norm, the head.

The layout is chosen by `model.config.model_type`, and can be given for any other module. Whether a weight is stored
`[out, in]` or `[in, out]` follows from the type of its module, never from its shape: a square matrix says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from unlearn.errors import ConfigurationError, InputError

Change = Callable[[torch.Tensor], torch.Tensor]
"""What is put in the place of a tensor."""


@dataclass(frozen=True)
class Architecture:
    """Names of modules, as in `model.get_submodule`.

    Attributes:
        blocks: The list of transformer blocks.
        up: In a block, the module whose input is what the MLP reads.
        down: In a block, the linear map that writes the MLP's output.
        norm: The norm before the head.
        head: Maps hidden states to logits.
    """

    blocks: str
    up: str
    down: str
    norm: str
    head: str


_LLAMA = Architecture("model.layers", "mlp.gate_proj", "mlp.down_proj", "model.norm", "lm_head")
_GPT2 = Architecture("transformer.h", "mlp.c_fc", "mlp.c_proj", "transformer.ln_f", "lm_head")

ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        "gpt2": _GPT2,
        "gpt_neo": _GPT2,
        "gptj": Architecture("transformer.h", "mlp.fc_in", "mlp.fc_out", "transformer.ln_f", "lm_head"),
        "gpt_neox": Architecture(
            "gpt_neox.layers", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h", "gpt_neox.final_layer_norm", "lm_head"
        ),
        "opt": Architecture("model.decoder.layers", "fc1", "fc2", "model.decoder.final_layer_norm", "lm_head"),
        "llama": _LLAMA,
        "mistral": _LLAMA,
        "qwen2": _LLAMA,
        "qwen3": _LLAMA,
        "phi": Architecture("model.layers", "mlp.fc1", "mlp.fc2", "model.final_layernorm", "lm_head"),
        "phi3": Architecture("model.layers", "mlp.gate_up_proj", "mlp.down_proj", "model.norm", "lm_head"),
        "gemma": _LLAMA,
        "smollm3": _LLAMA,
        "starcoder2": Architecture("model.layers", "mlp.c_fc", "mlp.c_proj", "model.norm", "lm_head"),
    }
)
"""Layouts by `model.config.model_type`. In all of them what an MLP writes is added to the hidden state as it is, which
MEMIT relies on; kinds that norm or scale it first, such as gemma2 and granite, are not among them."""


@dataclass(frozen=True, eq=False)
class Projection:
    """A linear map whatever way round its weight is stored.

    Attributes:
        name: Name of its weight, as in `model.named_parameters()`.
        module: It.
        transposed: Whether the weight is stored `[in, out]`.
    """

    name: str
    module: nn.Module
    transposed: bool

    @property
    def weight(self) -> torch.Tensor:
        """The parameter, as it is stored."""
        return torch.as_tensor(self.module.weight)

    @property
    def matrix(self) -> torch.Tensor:
        """A view `[out, in]` of the weight."""
        return self.weight.T if self.transposed else self.weight

    @property
    def sizes(self) -> tuple[int, int]:
        """How many numbers go out and in."""
        out, into = self.matrix.shape
        return int(out), int(into)


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A model with its layout.

    Attributes:
        model: It.
        layout: Where things are.
    """

    model: nn.Module
    layout: Architecture

    @property
    def n_blocks(self) -> int:
        """How many transformer blocks there are."""
        return len(self._blocks())

    def block(self, layer: int) -> nn.Module:
        """A transformer block.

        Args:
            layer: Its number, from 0; negative: from the end.

        Returns:
            The module.

        Raises:
            InputError: If there is no such block.
        """
        blocks = self._blocks()
        if not -len(blocks) <= layer < len(blocks):
            raise InputError(f"layer {layer} does not exist: the model has {len(blocks)} blocks, counted from 0")
        return blocks[layer]

    def up(self, layer: int) -> nn.Module:
        """The module whose input is what the MLP of a block reads.

        Args:
            layer: Number of the block.

        Returns:
            The module.
        """
        return self.block(layer).get_submodule(self.layout.up)

    def down(self, layer: int) -> Projection:
        """The map that writes the output of the MLP of a block.

        Args:
            layer: Number of the block.

        Returns:
            The map.

        Raises:
            ConfigurationError: If it is no linear map of a known kind.
        """
        module = self.block(layer).get_submodule(self.layout.down)
        name = next((name for name, value in self.model.named_parameters() if value is module.weight), None)
        if name is None:
            raise ConfigurationError(f"{self.layout.down} of block {layer} has no weight of its own to edit")
        return Projection(name, module, is_transposed(module))

    def head(self) -> nn.Module:
        """The module that maps hidden states to logits."""
        return self.model.get_submodule(self.layout.head)

    def norm(self) -> nn.Module:
        """The norm before the head."""
        return self.model.get_submodule(self.layout.norm)

    def _blocks(self) -> nn.ModuleList:
        found = self.model.get_submodule(self.layout.blocks)
        if not isinstance(found, nn.ModuleList):
            raise ConfigurationError(f"{self.layout.blocks} is a {type(found).__name__} instead of a list of blocks")
        return found


def anatomy(model: nn.Module, layout: Architecture | None = None) -> Anatomy:
    """Find out how a model is built.

    Args:
        model: A causal language model.
        layout: Where things are; None: what `model.config.model_type` says.

    Returns:
        The model with its layout, whose modules all exist.

    Raises:
        ConfigurationError: If its kind is not known, or a module of the layout does not exist.
    """
    if layout is None:
        kind = str(getattr(getattr(model, "config", None), "model_type", None))
        if kind not in ARCHITECTURES:
            raise ConfigurationError(
                f"where things are in a {type(model).__name__} (model_type {kind!r}) is not known: give layout="
                f"Architecture(…); known are {', '.join(ARCHITECTURES)}"
            )
        layout = ARCHITECTURES[kind]
    found = Anatomy(model, layout)
    try:
        found.up(0), found.down(0), found.norm(), found.head()
    except AttributeError as error:
        raise ConfigurationError(
            f"the layout does not fit this {type(model).__name__}: {error}; give layout=Architecture(…), or, where "
            "there is no such module at all, take another model"
        ) from error
    return found


def logits_of(model: nn.Module, ids: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Run a causal language model.

    Args:
        model: It; returns logits, or an object or tuple that holds them.
        ids: `[n, T]` int64 token ids.
        mask: `[n, T]`, 0 where there is padding; None: nowhere. Where padding is on the left, positions count from
            the first token after it.

    Returns:
        `[n, T, vocabulary]`, in float32 at least.
    """
    if mask is None:
        said = model(ids)
    else:
        positions = (mask.long().cumsum(1) - 1).clamp(min=0)
        said = model(ids, attention_mask=mask, position_ids=positions)
    return read_logits(said)


def read_logits(said: Any) -> torch.Tensor:
    """Take the logits out of what a model returned.

    Args:
        said: A tensor, an object with `logits`, or a tuple whose first entry is that tensor.

    Returns:
        The logits, in float32 at least: logarithms of probabilities in 16 bits are off by several percent of a nat.

    Raises:
        ConfigurationError: If there are none.
    """
    found = getattr(said, "logits", said[0] if isinstance(said, tuple) else said)
    if not isinstance(found, torch.Tensor):
        raise ConfigurationError(f"the model returned a {type(said).__name__} without logits")
    return found.to(at_least_32_bits(found))


def at_least_32_bits(tensor: torch.Tensor) -> torch.dtype:
    """In which type to sum small steps, take logarithms, or divide by small numbers.

    Args:
        tensor: What a model is made of, or says.

    Returns:
        float32 for 16 bits, or else the type it has.
    """
    return torch.promote_types(tensor.dtype, torch.float32)


def by_text(values: torch.Tensor, texts: int) -> torch.Tensor:
    """Undo what some models do before their MLPs, which put the tokens of all texts into one row.

    Args:
        values: `[n, T, d]`, or `[n * T, d]`.
        texts: n.

    Returns:
        A view `[n, T, d]`.
    """
    return values.view(texts, -1, values.shape[-1])


@contextmanager
def inputs_seen(module: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Watch what goes into a module.

    Args:
        module: It.

    Yields:
        A list that grows by the input of each call.
    """
    seen: list[torch.Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def outputs_seen(module: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Watch what comes out of a module.

    Args:
        module: It; returns a tensor, or a tuple that begins with one.

    Yields:
        A list that grows by the output of each call.
    """
    seen: list[torch.Tensor] = []
    handle = module.register_forward_hook(lambda _, __, out: seen.append(_first(out)))
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def output_changed(module: nn.Module, change: Change) -> Iterator[None]:
    """Put something else in the place of what comes out of a module.

    Args:
        module: It; returns a tensor, or a tuple that begins with one.
        change: Given the output, returns what takes its place.

    Yields:
        Nothing.
    """

    def replaced(_: nn.Module, __: Any, out: Any) -> Any:
        return (change(out[0]), *out[1:]) if isinstance(out, tuple) else change(out)

    handle = module.register_forward_hook(replaced)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def input_changed(module: nn.Module, change: Change) -> Iterator[None]:
    """Put something else in the place of what goes into a module.

    Args:
        module: It; its first argument is a tensor.
        change: Given that, returns what takes its place.

    Yields:
        Nothing.
    """
    handle = module.register_forward_pre_hook(lambda _, arguments: (change(arguments[0]), *arguments[1:]))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Evaluate without dropout, and ask for no gradient of any parameter.

    Args:
        model: It; is as before afterwards.

    Yields:
        Nothing.
    """
    modes = {module: module.training for module in model.modules()}
    wanted = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.eval()
    model.requires_grad_(requires_grad=False)
    try:
        yield
    finally:
        for parameter, value in wanted.items():
            parameter.requires_grad_(value)
        for module, training in modes.items():
            module.training = training


def _first(out: Any) -> torch.Tensor:
    return torch.as_tensor(out[0] if isinstance(out, tuple) else out)


def is_transposed(module: nn.Module) -> bool:
    """Whether a linear map stores its weight `[in, out]`.

    Args:
        module: It.

    Returns:
        True for transformers' Conv1D, False for nn.Linear.

    Raises:
        ConfigurationError: If it is neither.
    """
    if isinstance(module, nn.Linear):
        return False
    if any(kind.__name__ == "Conv1D" and kind.__module__.startswith("transformers.") for kind in type(module).__mro__):
        return True
    raise ConfigurationError(
        f"how {type(module).__name__} stores its weight is not known: an edit needs nn.Linear or transformers' Conv1D"
    )
