"""Decisions about the nodes of a cluster: whether they agree, and what the end of a task means. No cluster is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from shards.digest import Json, digest_parts
from shards.errors import ClusterError, EnvironmentMismatchError
from shards.executors.base import Environment
from shards.executors.work import Loss

Failure = Literal["worker", "node", "memory", "setup", "unschedulable", "relay"]
"""What Ray says of a task that did not end by itself."""


@dataclass(frozen=True)
class NodeReport:
    """What one node says of itself.

    Attributes:
        host: Its name, for people.
        package: Digest of this package's files there.
        environment: The numeric environment of a worker there; None if none could start.
        trouble: Why not.
    """

    host: str
    package: str
    environment: Environment | None
    trouble: str = ""


def agreed(
    reports: Mapping[str, NodeReport], cores: Mapping[str, float], rule: Literal["same", "largest"]
) -> tuple[Environment, set[str]]:
    """Settle on one environment.

    Args:
        reports: Node id to what it says of itself.
        cores: Node id to cores.
        rule: `"same"`: all must have it; `"largest"`: that of the group with the most cores.

    Returns:
        The environment, and the nodes that have it.

    Raises:
        EnvironmentMismatchError: If the rule cannot be kept; names the nodes and what differs.
        ClusterError: If a node has other files of this package, or cannot start a worker.
    """
    mine = own_digest()
    for node, report in reports.items():
        if report.trouble:
            raise ClusterError(f"node {report.host} ({node[:8]}) cannot start a worker: {report.trouble}")
        if report.package != mine:
            raise ClusterError(
                f"node {report.host} ({node[:8]}) has another version of this package than the driver: install the "
                "same on all nodes, then begin again"
            )
    groups: dict[str, set[str]] = {}
    environments: dict[str, Environment] = {}
    for node, report in reports.items():
        assert report.environment is not None  # noqa: S101 - else there was trouble
        groups.setdefault(report.environment.digest, set()).add(node)
        environments[report.environment.digest] = report.environment
    if not groups:
        raise ClusterError("no node is left that has room for a task: look at `ray status`")
    best = max(groups, key=lambda digest: (sum(cores[node] for node in groups[digest]), digest))
    if rule == "same" and len(groups) > 1:
        others = "; ".join(
            f"{', '.join(sorted(reports[node].host + ' (' + node[:8] + ')' for node in nodes))}: "
            f"{differences(environments[best].description, environments[digest].description)}"
            for digest, nodes in sorted(groups.items())
            if digest != best
        )
        raise EnvironmentMismatchError(
            "the nodes differ in their numeric environment, so equal bytes cannot be promised. Most cores have one, "
            f"but {others}. Make them equal, take those out, or use RayExecutor(nodes='largest') (--nodes largest), "
            "which leaves them alone"
        )
    return environments[best], groups[best]


def differences(one: Json, other: Json, at: str = "") -> str:
    """What differs between two descriptions, for people."""
    if isinstance(one, dict) and isinstance(other, dict):
        parts = [
            differences(one.get(key), other.get(key), f"{at}.{key}" if at else key)
            for key in sorted(one.keys() | other.keys())
            if one.get(key) != other.get(key)
        ]
        return ", ".join(parts)
    return f"{at} is {other!r}, not {one!r}"


def judge(failure: Failure, *, is_node_alive: bool) -> Loss | None:
    """What a failed task means for its work.

    Args:
        failure: What Ray says.
        is_node_alive: Whether the node it ran on, or those it waited for, are still there.

    Returns:
        The loss, to be tried again; None: trying again would not help.
    """
    if failure == "memory":
        return Loss.MEMORY
    if failure == "node" or (failure in ("worker", "unschedulable") and not is_node_alive):
        return Loss.NODE
    return Loss.WORKER if failure == "worker" else None


@cache
def own_digest() -> str:
    """Digest of this package's own files, as they were when first asked; see `package_digest`."""
    return package_digest()


def package_digest() -> str:
    """Digest of this package's own files: nodes with other files might train otherwise under the same name."""
    home = Path(__file__).parents[1]
    parts: list[bytes] = []
    for path in sorted(home.rglob("*.py")):
        parts += [path.relative_to(home).as_posix().encode(), path.read_bytes()]
    return digest_parts("package", parts)
