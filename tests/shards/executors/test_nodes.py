"""Whether nodes agree, and what the end of a task means, without a cluster."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shards import errors
from shards.errors import ClusterError, EnvironmentMismatchError
from shards.executors.base import Environment
from shards.executors.nodes import Failure, NodeReport, agreed, differences, judge, own_digest, package_digest
from shards.executors.work import Loss
from tests.shards.executors import rays  # noqa: F401 - sets what Ray reads when it loads

OLD = Environment("a" * 64, {"libraries": {"numpy": "1.26"}, "cpu": {"vendor": "x"}})
NEW = Environment("b" * 64, {"libraries": {"numpy": "2.0"}, "cpu": {"vendor": "x"}})


def report(environment: Environment | None = OLD, package: str = "", trouble: str = "") -> NodeReport:
    return NodeReport("host", package or own_digest(), environment, trouble)


def test_nodes_that_are_equal_agree() -> None:
    assert agreed({"n1": report(), "n2": report()}, {"n1": 1, "n2": 2}, "same") == (OLD, {"n1", "n2"})


def test_nodes_that_differ_are_refused_with_what_differs() -> None:
    with pytest.raises(EnvironmentMismatchError, match=r"libraries\.numpy is '1\.26', not '2\.0'") as caught:
        agreed({"node1": report(OLD), "node2": report(NEW)}, {"node1": 1, "node2": 2}, "same")
    assert "host (node1)" in str(caught.value)
    assert "nodes='largest'" in str(caught.value)


@pytest.mark.parametrize(
    ("cores", "environment", "nodes"),
    [
        ({"n1": 1, "n2": 4, "n3": 2}, NEW, {"n2"}),
        ({"n1": 2, "n2": 4, "n3": 3}, OLD, {"n1", "n3"}),
        ({"n1": 2, "n2": 4, "n3": 2}, NEW, {"n2"}),  # a tie is decided the same way everywhere
    ],
)
def test_the_group_with_the_most_cores_is_used(cores: dict[str, float], environment: Environment, nodes: set) -> None:
    found = agreed({"n1": report(OLD), "n2": report(NEW), "n3": report(OLD)}, cores, "largest")
    assert found == (environment, nodes)


@pytest.mark.parametrize("rule", ["same", "largest"])
def test_a_node_with_other_files_or_without_workers_is_refused(rule: str) -> None:
    with pytest.raises(ClusterError, match=r"host \(node2\) has another version of this package"):
        agreed({"node1": report(), "node2": report(package="other")}, {"node1": 1, "node2": 1}, rule)
    with pytest.raises(ClusterError, match=r"host \(node2\) cannot start a worker: no numpy"):
        agreed({"node1": report(), "node2": report(None, trouble="no numpy")}, {"node1": 1, "node2": 1}, rule)
    with pytest.raises(ClusterError, match="no node is left"):
        agreed({}, {}, rule)


def test_differences_are_named_where_they_are() -> None:
    one = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    assert differences(one, {"a": {"b": 2, "c": [1, 2]}, "d": 1}) == "a.b is 2, not 1"
    assert differences(one, {"a": {"b": 1, "c": [1, 3]}}) == "a.c is [1, 3], not [1, 2], d is None, not 1"


@pytest.mark.parametrize(
    ("failure", "alive", "loss"),
    [
        ("memory", True, Loss.MEMORY),
        ("memory", False, Loss.MEMORY),
        ("node", True, Loss.NODE),
        ("node", False, Loss.NODE),
        ("worker", True, Loss.WORKER),
        ("worker", False, Loss.NODE),
        ("setup", True, None),
        ("unschedulable", True, None),
        ("unschedulable", False, Loss.NODE),
        ("relay", True, None),
        ("relay", False, None),
    ],
)
def test_what_a_failure_means(failure: Failure, alive: bool, loss: Loss | None) -> None:
    assert judge(failure, is_node_alive=alive) is loss


def test_the_digest_of_the_package_is_that_of_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from shards.executors import nodes

    assert own_digest() == package_digest()
    home = tmp_path / "shards"
    (home / "executors").mkdir(parents=True)
    (home / "errors.py").write_bytes(Path(errors.__file__).read_bytes())
    monkeypatch.setattr(nodes, "__file__", str(home / "executors" / "nodes.py"))
    before = package_digest()
    assert before != own_digest()
    (home / "errors.py").write_text("x = 1")
    changed = package_digest()
    (home / "errors.py").rename(home / "other.py")
    assert len({before, changed, package_digest()}) == 3


# Ray's own errors, made as Ray makes them


def ray_errors() -> list[tuple[BaseException, Failure]]:
    import ray.exceptions as x

    told = x.RayTaskError("train", "Traceback: ModuleNotFoundError: No module named 'shards'", ValueError("v"))
    return [
        (x.OutOfMemoryError("Task was killed due to the node running low on memory."), "memory"),
        (x.NodeDiedError("the node died"), "node"),
        (x.LocalRayletDiedError(), "node"),
        (x.WorkerCrashedError(), "worker"),
        (x.TaskCancelledError(), "worker"),
        (x.ObjectLostError("00" * 28, "", ""), "node"),
        (x.OwnerDiedError("00" * 28, "", ""), "node"),
        (x.ObjectFetchTimedOutError("00" * 28, "", ""), "node"),
        (x.RuntimeEnvSetupError("pip failed"), "setup"),
        (x.TaskUnschedulableError("no such node"), "unschedulable"),
        (told, "relay"),
        (x.RaySystemError(ValueError("s")), "relay"),
    ]


def test_every_error_of_rays_has_a_kind() -> None:
    from shards.executors.ray import failure_of

    assert os.environ["RAY_AUTH_MODE"] == "disabled"
    for error, kind in ray_errors():
        assert failure_of(error) == kind, repr(error)


def test_errors_of_rays_are_explained_with_what_to_do() -> None:
    from shards.executors.ray import explain

    said = {kind: explain(error) for error, kind in reversed(ray_errors())}
    assert "`runtime_env`" in said["setup"]
    assert "pip failed" in said["setup"]
    assert "`ray status`" in said["unschedulable"]
    assert "Ray could not carry out a task" in explain(ValueError("s"))
    missing = next(error for error, kind in ray_errors() if "ModuleNotFoundError" in str(error))
    assert explain(missing).startswith("a node cannot load this package")
    long = explain(RuntimeError("x" * 100_000))
    assert len(long) < 3000
