"""A language model as a folder: is it one, what are its weights, and how it is copied with some of them changed.

Works on the bytes of safetensors files and needs no library of tensors: a file is the length of its header in eight
bytes, the header in JSON, and the tensors one after the other.

Source: https://huggingface.co/docs/safetensors, "Format".
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from shards.digest import Json, canonical_json, digest_parts
from shards.files import sync_path
from unlearn.errors import InputError

NOTE = "unlearn.json"
"""File in an edited folder: which request it was made for, and what salts the digests of its weights."""

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_COPIED = frozenset({".json", ".txt", ".jinja", ".model"})
"""Endings of the files beside the weights that belong to a model; nothing that could be code, and no pickle."""
_FOREIGN = ("adapter_config.json",)
_MAX_HEADER = 100 * 2**20
_BYTES = {
    "F64": 8,
    "I64": 8,
    "U64": 8,
    "F32": 4,
    "I32": 4,
    "U32": 4,
    "F16": 2,
    "BF16": 2,
    "I16": 2,
    "U16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
}
_CHUNK = 2**22


@dataclass(frozen=True)
class Stored:
    """A tensor in a file.

    Attributes:
        file: Name of the file.
        dtype: As safetensors writes it.
        shape: Its sizes.
        start: Where its bytes begin in the file.
        length: How many they are.
    """

    file: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    length: int


@dataclass(frozen=True)
class Note:
    """What an edited folder says of itself.

    Attributes:
        edit: The request it was made for.
        salt: What salts the digests of the weights, before and after.
    """

    edit: str
    salt: bytes


def check_folder(folder: Path) -> dict[str, Json]:
    """Refuse what is no language model that can be edited here, without loading it.

    Args:
        folder: The folder.

    Returns:
        Its configuration.

    Raises:
        InputError: If something is missing, damaged, quantised, or an adapter.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: a language model is one with config.json, tokenizer.json and weights")
    config = _object(folder / "config.json")
    if not isinstance(config.get("model_type"), str):
        raise InputError(f"{folder / 'config.json'} names no model_type, so nobody can tell what model it is")
    if "quantization_config" in config:
        raise InputError(f"the weights in {folder} are quantised: give the model they were made from")
    for name in _FOREIGN:
        if (folder / name).exists():
            raise InputError(f"{folder} holds an adapter ({name}): merge it into the model first")
    _object(folder / "tokenizer.json")
    if not stored(folder):
        raise InputError(f"{folder} holds no weights")
    return config


def stored(folder: Path) -> dict[str, Stored]:
    """Where each tensor of a model lies.

    Args:
        folder: The folder.

    Returns:
        Name to place.

    Raises:
        InputError: If files are missing or damaged, or a tensor is there twice.
    """
    found: dict[str, Stored] = {}
    for name in _files(folder):
        for tensor, place in _tensors(folder, name):
            if tensor in found:
                raise InputError(f"the tensor {tensor!r} is in two files of {folder}")
            found[tensor] = place
    return found


def folder_digest(folder: Path) -> str:
    """Digest of all that decides what a model says: its weights, configuration and tokenizer.

    Args:
        folder: The folder.

    Returns:
        Hex; equal wherever the tensors are, whatever the files are called, and however their JSON is laid out.

    Raises:
        InputError: If it is no language model.
    """
    total = hashlib.sha256()
    for name, place in sorted(stored(folder).items()):
        total.update(canonical_json([name, place.dtype, list(place.shape)]) + b"\n")
        with (folder / place.file).open("rb") as file:
            file.seek(place.start)
            left = place.length
            while left:
                part = file.read(min(left, _CHUNK))
                if not part:
                    raise InputError(f"{folder / place.file} ends too early")
                total.update(part)
                left -= len(part)
    parts = [_canonical(folder / name) for name in ("config.json", "tokenizer.json")]
    return digest_parts("language model", [total.digest(), *parts])


def weights_commitment(salt: bytes, digest: str) -> str:
    """Salted digest of a model: without the salt, which lies in the edited folder, it says nothing.

    Args:
        salt: Random bytes.
        digest: What `folder_digest` returned.

    Returns:
        Hex.
    """
    return digest_parts("weights", [salt, bytes.fromhex(digest)])


def copy_changed(source: Path, target: Path, changed: Mapping[str, bytes], note: Note) -> None:
    """Copy a model with some tensors changed, durably; everything else stays to the byte.

    Args:
        source: The model.
        target: A folder that does not exist.
        changed: Name of a stored tensor to its new bytes, as many as it has.
        note: What the new folder says of itself.

    Raises:
        InputError: If a tensor is not there, or has another size.
    """
    places = stored(source)
    target.mkdir()
    for path in sorted(source.iterdir()):
        if path.is_file() and path.suffix in _COPIED and path.name != NOTE:
            shutil.copyfile(path, target / path.name)
    for name in _files(source):
        shutil.copyfile(source / name, target / name)
    for tensor, data in changed.items():
        place = places.get(tensor)
        if place is None or place.length != len(data):
            raise InputError(f"the weights in {source} do not hold {tensor!r} as the model does")
        with (target / place.file).open("r+b") as file:
            file.seek(place.start)
            file.write(data)
    said = {"edit": note.edit, "salt": note.salt.hex()}
    (target / NOTE).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    for path in target.iterdir():
        sync_path(path)
    sync_path(target)


def read_note(folder: Path) -> Note | None:
    """What a folder says of itself.

    Args:
        folder: The folder.

    Returns:
        The note; None if there is none that can be read.
    """
    try:
        said = json.loads((folder / NOTE).read_bytes())
        return Note(str(said["edit"]), bytes.fromhex(said["salt"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _files(folder: Path) -> list[str]:
    """The files with weights, as transformers looks for them."""
    if (folder / _WEIGHTS).is_file():
        return [_WEIGHTS]
    if not (folder / _INDEX).is_file():
        raise InputError(
            f"{folder} holds neither {_WEIGHTS} nor {_INDEX}: save the model with safetensors, since nothing is "
            "unpickled here"
        )
    listed = _object(folder / _INDEX).get("weight_map")
    names = sorted({str(name) for name in listed.values()}) if isinstance(listed, dict) else []
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise InputError(f"{folder / _INDEX} names the file {name!r}, which is not in the folder")
    return names


def _tensors(folder: Path, name: str) -> Iterator[tuple[str, Stored]]:
    path = folder / name
    size = Path(path).stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= length <= min(size - 8, _MAX_HEADER):
            raise InputError(f"{path} is no safetensors file, or is damaged")
        header = _parsed(file.read(length), path)
    begin = 8 + length
    for tensor, said in header.items():
        if tensor == "__metadata__":
            continue
        try:
            first, last = (int(at) for at in said["data_offsets"])
            dtype, shape = str(said["dtype"]), tuple(int(number) for number in said["shape"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: the tensor {tensor!r} is not described as in a safetensors file") from error
        if dtype not in _BYTES or last - first != prod(shape) * _BYTES[dtype] or not 0 <= first <= last <= size - begin:
            raise InputError(f"{path}: the tensor {tensor!r} does not lie where its header says")
        yield tensor, Stored(name, dtype, shape, begin + first, last - first)


def _object(path: Path) -> dict[str, Json]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}): a language model is a folder with config.json, tokenizer.json "
            "and weights in safetensors"
        ) from error
    return _parsed(data, path)


def _canonical(path: Path) -> bytes:
    try:
        return canonical_json(_object(path))
    except ValueError as error:  # numbers that are not finite, halves of characters
        raise InputError(f"{path} holds what is no JSON text: {error}") from error


def _parsed(data: bytes, path: Path) -> dict[str, Json]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON, or is damaged") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} holds no JSON object")
    return value
