"""Where a command trains: the options that say so, and the executor they come to."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, get_type_hints

import typer

if TYPE_CHECKING:
    from shards.executors.base import Executor

PANEL = "Where to train"

_UNITS = {"": 1} | {
    letter + i: (1024 if i else 1000) ** power for power, letter in enumerate("KMGT", 1) for i in ("", "i")
}


class Place(StrEnum):
    """Kinds of places."""

    LOCAL = "local"
    RAY = "ray"


class Nodes(StrEnum):
    """What to do where nodes differ."""

    SAME = "same"
    LARGEST = "largest"


def parse_bytes(text: str) -> int:
    """Read an amount of memory.

    Args:
        text: A number of bytes, or one with a unit: K, M, G, T count in thousands, Ki, Mi, Gi, Ti in 1,024s; a B after
            it changes nothing.

    Returns:
        Bytes.

    Raises:
        BadParameter: If it is none, or nothing.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]i?)?B?", text.strip())
    amount = round(float(found[1]) * _UNITS[found[2] or ""]) if found else 0
    if amount <= 0:
        raise typer.BadParameter(f"{text!r} is no amount of memory: give bytes, or for example 500M or 4Gi")
    return amount


Workers: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=1, help="On this machine: processes at most.", show_default="one for each core", rich_help_panel=PANEL
    ),
]
Where: TypeAlias = Annotated[
    Place | None,
    typer.Option(
        "--executor",
        help="This machine, or a Ray cluster.",
        show_default="local; ray with --address",
        rich_help_panel=PANEL,
    ),
]
Address: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Of the Ray cluster: auto, HOST:PORT or ray://HOST:PORT.",
        show_default="RAY_ADDRESS, else a Ray on this machine for the while",
        rich_help_panel=PANEL,
    ),
]
NumCpus: TypeAlias = Annotated[
    float | None,
    typer.Option(min=0.001, help="Cores reserved on Ray for each shard.", show_default="1", rich_help_panel=PANEL),
]
NumGpus: TypeAlias = Annotated[
    float | None,
    typer.Option(min=0, help="GPUs reserved on Ray for each shard.", show_default="0", rich_help_panel=PANEL),
]
Memory: TypeAlias = Annotated[
    int | None,
    typer.Option(
        parser=parse_bytes,
        metavar="BYTES",
        help="Memory reserved on Ray for each shard: 500M, 4Gi, …",
        show_default="none",
        rich_help_panel=PANEL,
    ),
]
WorkingDir: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        file_okay=False,
        resolve_path=True,
        metavar="DIR",
        help="Folder with your code, which Ray is to copy to the nodes.",
        show_default="they have it",
        rich_help_panel=PANEL,
    ),
]
NodesRule: TypeAlias = Annotated[
    Nodes | None,
    typer.Option(
        help="Where Ray's nodes differ in numeric environment: refuse, or use the largest equal group.",
        show_default="same",
        rich_help_panel=PANEL,
    ),
]


def choose_executor(
    workers: Workers = None,
    where: Where = None,
    address: Address = None,
    num_cpus: NumCpus = None,
    num_gpus: NumGpus = None,
    memory: Memory = None,
    working_dir: WorkingDir = None,
    nodes: NodesRule = None,
) -> Executor:
    """The executor that a command line asks for; nothing is started or connected to yet.

    Args:
        workers: Processes at most, on this machine.
        where: The place.
        address: Of the Ray cluster.
        num_cpus: Cores reserved for each shard.
        num_gpus: Accelerators reserved for each shard.
        memory: Bytes reserved for each shard.
        working_dir: Folder with code, copied to the nodes.
        nodes: What to do where nodes differ.

    Returns:
        The executor.

    Raises:
        BadParameter: If options do not belong together.
        ConfigurationError: If Ray is not installed.
    """
    place = where or (Place.LOCAL if address is None else Place.RAY)
    of_ray = {
        "--address": address,
        "--num-cpus": num_cpus,
        "--num-gpus": num_gpus,
        "--memory": memory,
        "--working-dir": working_dir,
        "--nodes": nodes,
    }
    if place is Place.LOCAL:
        misplaced = [name for name, value in of_ray.items() if value is not None]
        if misplaced:
            raise typer.BadParameter(f"belongs to --executor ray, and the executor is {place}", param_hint=misplaced[0])
        from shards.executors.local import LocalExecutor

        return LocalExecutor(workers)
    if workers is not None:
        raise typer.BadParameter(
            "counts processes on this machine; on Ray, as many shards train as there is room for: --num-cpus and "
            "--memory say how much each needs",
            param_hint="--workers",
        )
    from shards.executors.ray import RayExecutor

    rule: Literal["same", "largest"] = "largest" if nodes is Nodes.LARGEST else "same"
    return RayExecutor(
        address,
        num_cpus=1.0 if num_cpus is None else num_cpus,
        num_gpus=num_gpus or 0.0,
        memory=memory,
        runtime_env=None if working_dir is None else {"working_dir": str(working_dir)},
        nodes=rule,
    )


def trains(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say where to train.

    Args:
        command: Takes what they come to as `executor`.

    Returns:
        The command as the command line is to see it.
    """
    hints = _hints(command) | _hints(choose_executor)
    own = [item for name, item in inspect.signature(command).parameters.items() if name != "executor"]
    added = inspect.signature(choose_executor).parameters

    @wraps(command)
    def run(**given: Any) -> None:
        executor = choose_executor(**{name: given.pop(name) for name in added})
        command(**given, executor=executor)

    parameters = [*own, *(item.replace(kind=inspect.Parameter.KEYWORD_ONLY) for item in added.values())]
    # What typer looks at: one signature, whose annotations need no names of other modules any more.
    del run.__dict__["__wrapped__"]
    run.__annotations__ = {item.name: hints[item.name] for item in parameters} | {"return": None}
    run.__dict__["__signature__"] = inspect.Signature(
        [item.replace(annotation=hints[item.name]) for item in parameters], return_annotation=None
    )
    return run


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Annotations of a function's parameters; the executor is what no option gives, so its class is not loaded."""
    return get_type_hints(function, localns={"Executor": object}, include_extras=True)
