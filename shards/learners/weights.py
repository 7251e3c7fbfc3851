"""The weights of a public module, in a safetensors file that was declared with its digest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from shards.errors import ConfigurationError

if TYPE_CHECKING:
    import torch


def declared_digest(path: Path) -> str:
    """Hex SHA-256 of what a file holds now.

    Args:
        path: The file.

    Returns:
        64 hexadecimal digits.

    Raises:
        ConfigurationError: If it cannot be read.
    """
    return hashlib.sha256(_read(path)).hexdigest()


def load_weights(
    module: torch.nn.Module, path: Path, digest: str, name: str, optional: Callable[[str], bool] = lambda _: False
) -> None:
    """Load a module's state from a file, if it is the one that was declared.

    Args:
        module: Changed in place.
        path: A safetensors file.
        digest: Hex SHA-256 that was declared.
        name: What made the module, for messages.
        optional: Whether the file may lack a tensor of this name, which then stays as it was made.

    Raises:
        ConfigurationError: If the file cannot be read, is another one, or does not fit the module.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    data = _read(path)
    if hashlib.sha256(data).hexdigest() != digest:
        raise ConfigurationError(
            f"{path} is not the file that was declared: put the one with SHA-256 {digest} there, or create a new "
            "workspace"
        )
    try:
        state = load(data)
        kept = {key: value for key, value in module.state_dict().items() if key not in state and optional(key)}
        module.load_state_dict(kept | state)
    except (SafetensorError, RuntimeError) as error:
        raise ConfigurationError(f"{path} does not hold the state of {name}: {error}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"the weights {path} cannot be read: {error.strerror}") from error
