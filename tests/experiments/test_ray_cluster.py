"""The cluster files: against their schemas, against each other, and against our own command line and versions.

Ray brings the schema of `ray up`. That of a RayJob is written down here, from KubeRay's types of version v1: all fields
of a RayJob's `spec`, and those of its parts that the file uses or might. No Kubernetes was asked.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement
from ray.autoscaler._private.util import prepare_config, validate_config
from typer.testing import CliRunner

from unlearn.cli.app import app

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "experiments" / "ray_cluster"
README = (FOLDER / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def part(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    """An object that has these fields and no others."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def many(items: Any, least: int = 0) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": least}


TEXT, COUNT, FLAG = {"type": "string", "minLength": 1}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
NUMBER = {"type": "number", "minimum": 0}
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
QUANTITY = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|[KMGT]i?)?$"}
QUANTITIES = {"type": "object", "additionalProperties": QUANTITY}
CONTAINER = part(
    ("name", "image"),
    name={"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"},
    image=TEXT,
    imagePullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
    env=many(part(("name",), name=TEXT, value={"type": "string"}, valueFrom={"type": "object"})),
    envFrom=many(part(secretRef=part(("name",), name=TEXT), configMapRef=part(("name",), name=TEXT))),
    resources=part(requests=QUANTITIES, limits=QUANTITIES),
    ports=many(
        part(
            ("containerPort",),
            name={"type": "string", "maxLength": 15},
            containerPort={"type": "integer", "minimum": 1, "maximum": 65535},
        )
    ),
    volumeMounts=many(part(("name", "mountPath"), name=TEXT, mountPath=TEXT, readOnly=FLAG)),
)
POD = part(
    ("spec",),
    metadata={"type": "object"},
    spec=part(
        ("containers",),
        containers=many(CONTAINER, least=1),
        nodeSelector=TEXTS,
        serviceAccountName=TEXT,
        tolerations=many({"type": "object"}),
        volumes=many(
            part(
                ("name",),
                name=TEXT,
                persistentVolumeClaim=part(("claimName",), claimName=TEXT, readOnly=FLAG),
                emptyDir={"type": "object"},
            )
        ),
    ),
)
CLUSTER = part(
    ("headGroupSpec",),
    rayVersion=TEXT,
    enableInTreeAutoscaling=FLAG,
    autoscalerOptions={"type": "object"},
    headGroupSpec=part(
        ("template",),
        rayStartParams=TEXTS,
        serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
        template=POD,
    ),
    workerGroupSpecs=many(
        part(
            ("groupName", "template"),
            groupName=TEXT,
            replicas=COUNT,
            minReplicas=COUNT,
            maxReplicas=COUNT,
            numOfHosts=COUNT,
            rayStartParams=TEXTS,
            template=POD,
        )
    ),
)
RAY_JOB = part(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=part(("name",), name=TEXT, namespace=TEXT, labels=TEXTS, annotations=TEXTS),
    spec=part(
        activeDeadlineSeconds=COUNT,
        backoffLimit=COUNT,
        clusterSelector=TEXTS,
        deletionStrategy={"type": "object"},
        entrypoint=TEXT,
        entrypointNumCpus=NUMBER,
        entrypointNumGpus=NUMBER,
        entrypointResources=TEXT,
        jobId=TEXT,
        managedBy=TEXT,
        metadata=TEXTS,
        rayClusterSpec=CLUSTER,
        runtimeEnvYAML=TEXT,
        shutdownAfterJobFinishes=FLAG,
        submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode"]},
        submitterConfig={"type": "object"},
        submitterPodTemplate=POD,
        suspend=FLAG,
        ttlSecondsAfterFinished=COUNT,
    ),
)


@pytest.fixture
def job() -> Any:
    return yaml.safe_load((FOLDER / "rayjob.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def cluster() -> Any:
    return yaml.safe_load((FOLDER / "cluster.yaml").read_text(encoding="utf-8"))


def in_the_cloud(cluster: Any) -> Any:
    """The file as its comment says to change it."""
    text = (FOLDER / "cluster.yaml").read_text(encoding="utf-8")
    commented = text.split("instead", 1)[1].split("\n\n", 1)[0].split("\n", 1)[1]
    other = yaml.safe_load("\n".join(line.removeprefix("#").removeprefix(" ") for line in commented.splitlines()))
    return cluster | other


def test_ray_takes_the_cluster_file(cluster: Any) -> None:
    prepared = prepare_config(cluster)
    validate_config(prepared)
    (kind,) = prepared["available_node_types"].values()
    assert (kind["min_workers"], kind["max_workers"]) == (2, 2)


def test_ray_takes_the_cloud_of_the_comment(cluster: Any) -> None:
    changed = in_the_cloud(cluster)
    assert changed["provider"]["type"] == "aws"
    prepared = prepare_config(changed)
    validate_config(prepared)
    assert prepared["available_node_types"].keys() == {"head", "worker"}
    assert prepared["max_workers"] == 8


@pytest.mark.parametrize("wrong", [{"worker_ip": ["w"]}, {"max_workers": "two"}, {"auth": {"user": "u"}}])
def test_ray_refuses_mistakes_in_it(cluster: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        validate_config(cluster | wrong)


def test_the_job_keeps_to_its_schema(job: Any) -> None:
    jsonschema.Draft202012Validator.check_schema(RAY_JOB)
    jsonschema.validate(job, RAY_JOB)


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [
        ((), "apiVersion", "ray.io/v1alpha1"),
        (("spec",), "entryPoint", "unlearn train"),
        (("spec",), "ttlSecondsAfterFinished", "600"),
        (("spec", "rayClusterSpec"), "workerGroups", []),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0), "rayStartParams", {"num-cpus": 1}),
        (("spec", "rayClusterSpec", "headGroupSpec", "template", "spec"), "containers", []),
    ],
)
def test_mistakes_in_the_job_would_be_seen(job: Any, place: tuple[Any, ...], name: str, value: Any) -> None:
    at = job
    for step in place:
        at = at[step]
    at[name] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(job, RAY_JOB)


def test_what_the_job_mounts_is_there(job: Any) -> None:
    spec = job["spec"]["rayClusterSpec"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= {item["name"] for item in pod["volumes"]}
            assert all(float(much) > 0 for name, much in container["resources"]["limits"].items() if name == "cpu")
    run = Path(shlex.split(job["spec"]["entrypoint"])[2])
    assert run.is_absolute()
    assert any(run.is_relative_to(mount["mountPath"]) for mount in container["volumeMounts"])


def test_one_version_of_ray_is_named_everywhere_and_is_one_we_allow(cluster: Any, job: Any) -> None:
    (allowed,) = (Requirement(text) for text in PROJECT["optional-dependencies"]["ray"])
    spec = job["spec"]["rayClusterSpec"]
    images = {
        container["image"]
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])
        for container in group["template"]["spec"]["containers"]
    }
    named = {
        spec["rayVersion"],
        *(re.search(r"ray-([\d.]+)$", image)[1] for image in images),
        *re.findall(r"rayproject/ray:([\d.]+)-", README),
        *re.findall(r"ray\[default\]==([\d.]+)", str(cluster["setup_commands"])),
    }
    assert len(images) == len(named) == 1
    assert allowed.specifier.contains(named.pop())
    python = re.search(r"rayproject/ray:[\d.]+-py(\d)(\d+)", README)
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(f"{python[1]}.{python[2]}")


def test_extras_that_are_named_exist(cluster: Any) -> None:
    texts = README + str(cluster["setup_commands"])
    named = re.findall(r"(?:sisa-unlearn|/opt/unlearn)\[([\w,]+)\]", texts)
    assert len(named) >= 3
    for extras in named:
        assert set(extras.split(",")) <= PROJECT["optional-dependencies"].keys(), extras


def commands() -> list[str]:
    """Every command of ours in the files."""
    job = yaml.safe_load((FOLDER / "rayjob.yaml").read_text(encoding="utf-8"))
    blocks = re.findall(r"^    .*?(unlearn \w+ .*)$", README, re.MULTILINE)
    inline = re.findall(r"`(unlearn \w+ [^`]*--[^`]*)`", README)
    return [job["spec"]["entrypoint"], *(line.split("#")[0].replace("…", "").strip() for line in [*blocks, *inline])]


@pytest.mark.parametrize("command", commands())
def test_commands_are_ours(command: str) -> None:
    name, *arguments = shlex.split(command)[1:]
    known = {item.name or item.callback.__name__ for item in app.registered_commands}
    assert name in known
    # Help asked for last: what stands before it is parsed, and options that do not exist are refused.
    complete = [*arguments, "--learner", "sgd"] if name == "create" else arguments
    result = CliRunner().invoke(app, [name, *complete, "--help"], prog_name="unlearn")
    assert result.exit_code == 0
    help_text = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"}).stdout
    assert all(option in help_text for option in re.findall(r"--[a-z-]+", command))


def test_there_are_commands_to_look_at() -> None:
    assert len(commands()) >= 6
    assert any("--store" in command for command in commands())
    assert any("--ledger" in command for command in commands())
