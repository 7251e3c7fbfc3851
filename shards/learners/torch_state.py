"""A module's weights and an optimiser's memory, to and from the named arrays of a state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from shards.errors import ConfigurationError
from shards.learners.base import State

if TYPE_CHECKING:
    import torch


def module_arrays(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """The module's state dict as arrays: parameters and persistent buffers.

    Args:
        module: Any module on the CPU.

    Returns:
        `"module/name"`, or `"module:bfloat16/name"` for bits as uint16, to a copy.

    Raises:
        ConfigurationError: If a value is not a tensor that numpy can hold.
    """
    return _arrays("module", module.state_dict())


def load_module(module: torch.nn.Module, state: State) -> None:
    """Load a state's weights into a module.

    Args:
        module: Built as the one whose weights the state holds; changed in place.
        state: With what `module_arrays` gave.

    Raises:
        ConfigurationError: If names or shapes do not fit.
    """
    try:
        module.load_state_dict(dict(_values("module", state)), strict=True)
    except RuntimeError as error:
        raise ConfigurationError(
            f"TorchLearner: the state does not fit {type(module).__qualname__}: {error}; use the code and "
            "module_args that trained it, or train anew"
        ) from error


def optimizer_arrays(module: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, np.ndarray]:
    """What an optimiser remembers of each parameter, as arrays; what is None is left out.

    Args:
        module: Gives the parameters their names.
        optimizer: Over the module's parameters.

    Returns:
        `"optimizer/parameter/key"` to a copy, with `:bfloat16` after `optimizer` for bits as uint16 and `:int`,
        `:float` or `:bool` for a Python number.

    Raises:
        ConfigurationError: If a value is neither number nor a tensor that numpy can hold.
    """
    values = {
        f"{name}/{key}": value
        for name, parameter in module.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if value is not None
    }
    return _arrays("optimizer", values)


def load_optimizer(module: torch.nn.Module, optimizer: torch.optim.Optimizer, state: State) -> None:
    """Give an optimiser the memory a state holds.

    Set directly: `Optimizer.load_state_dict` would cast it to the dtype of the parameters.

    Args:
        module: Gives the parameters their names.
        optimizer: Over the module's parameters; changed in place.
        state: With what `optimizer_arrays` gave.
    """
    parameters = dict(module.named_parameters())
    for path, value in _values("optimizer", state):
        name, _, key = path.rpartition("/")
        optimizer.state[parameters[name]][key] = value


def _arrays(group: str, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Turn tensors and numbers into arrays that a state may hold, copied.

    Args:
        group: `"module"` or `"optimizer"`.
        values: Name to tensor or Python number.

    Returns:
        `"group/name"`, or `"group:kind/name"` for what numpy has no dtype for, to array.

    Raises:
        ConfigurationError: If a value is neither tensor nor number, or of a dtype numpy cannot hold.
    """
    import torch

    arrays: dict[str, np.ndarray] = {}
    for name, value in values.items():
        if isinstance(value, torch.Tensor):
            plain, kind = value.detach(), ""
            if plain.dtype == torch.bfloat16:
                plain, kind = plain.contiguous().view(torch.int16), ":bfloat16"
            try:
                array = np.array(plain.numpy(), order="C")
            except (TypeError, RuntimeError) as error:
                raise ConfigurationError(
                    f"TorchLearner: {group} tensor {name!r} ({value.dtype}, {value.layout}, {value.device}) cannot be "
                    "kept as an array: use dense tensors on the CPU, of a dtype numpy knows or bfloat16"
                ) from error
            arrays[f"{group}{kind}/{name}"] = array.view(np.uint16) if kind else array
        elif isinstance(value, bool | int | float):
            arrays[f"{group}:{type(value).__name__}/{name}"] = np.array(value)
        else:
            hint = ", or set carry_optimizer=False" if group == "optimizer" else " buffer"
            raise ConfigurationError(
                f"TorchLearner: {group} value {name!r} is a {type(value).__qualname__}, which a state cannot hold: "
                f"keep it in a tensor{hint}"
            )
    return arrays


def _values(group: str, state: State) -> Iterator[tuple[str, Any]]:
    """Undo `_arrays`: yield the names and values of one group of a state, as tensors of their own."""
    import torch

    for key in sorted(state):
        head, _, name = key.partition("/")
        owner, _, kind = head.partition(":")
        if owner != group:
            continue
        # Copied, since arrays read from a file may be read-only, which torch cannot express.
        array = np.array(state[key])
        if kind == "bfloat16":
            yield name, torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        elif kind:
            yield name, array.item()
        else:
            yield name, torch.from_numpy(array)
