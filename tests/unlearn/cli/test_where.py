"""Where commands train: what the options come to, misuse, and a Ray cluster, by address and as a job."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import typer
from sklearn.linear_model import SGDClassifier
from typer.testing import CliRunner

from shards.errors import ConfigurationError
from shards.executors.local import LocalExecutor
from shards.executors.ray import RayExecutor
from tests.ray_head import Head, ray_head
from unlearn import SISAClassifier, Workspace
from unlearn.cli.app import app
from unlearn.cli.where import Nodes, Place, choose_executor, parse_bytes

pytestmark = pytest.mark.ray

OWN_CODE = """
from sklearn.linear_model import SGDClassifier
from torch import nn

own = SGDClassifier(loss="log_loss", alpha=0.01)


class Failing(nn.Module):
    def __init__(self, input_shape, n_outputs):
        super().__init__()
        self.layer = nn.Linear(input_shape[0], n_outputs)

    def forward(self, x):
        if self.training and len(x) > 2:
            raise RuntimeError("it is not to be")
        return self.layer(x)
"""


def write_data(path: Path) -> Path:
    X = np.random.default_rng(0).normal(size=(80, 3))
    np.savez(path, X=X, y=(X[:, 0] > 0).astype(int))
    return path


def create(folder: Path, learner: str | SGDClassifier, data: Path) -> Workspace:
    found = np.load(data)
    workspace = Workspace.create(folder, learner, n_shards=3, n_slices=2, classes=[0, 1], random_state=0)
    workspace.ingest(found["X"], found["y"])
    return workspace


# --- what options come to ----------------------------------------------------------------------------------------


def test_this_machine_is_meant_unless_said_otherwise() -> None:
    assert isinstance(choose_executor(), LocalExecutor)
    chosen = choose_executor(workers=3)
    assert isinstance(chosen, LocalExecutor)
    assert chosen.n_workers == 3
    assert isinstance(choose_executor(where=Place.LOCAL), LocalExecutor)


def test_an_address_means_ray_and_options_reach_it(tmp_path: Path) -> None:
    plain = choose_executor(address="auto")
    assert isinstance(plain, RayExecutor)
    usual = RayExecutor("auto")
    assert vars(plain) == vars(usual)
    assert vars(choose_executor(where=Place.RAY)) == vars(RayExecutor())
    full = choose_executor(
        where=Place.RAY, address="h:1", num_cpus=2, num_gpus=0.5, memory=7, working_dir=tmp_path, nodes=Nodes.LARGEST
    )
    expected = RayExecutor(
        "h:1", num_cpus=2, num_gpus=0.5, memory=7, runtime_env={"working_dir": str(tmp_path)}, nodes="largest"
    )
    assert vars(full) == vars(expected)


@pytest.mark.parametrize(
    ("text", "amount"),
    [("7", 7), ("7B", 7), ("2K", 2000), ("500M", 5 * 10**8), ("4GiB", 2**32), ("1.5Gi", 3 * 2**29)],
)
def test_memory_has_units(text: str, amount: int) -> None:
    assert parse_bytes(text) == amount


@pytest.mark.parametrize("text", ["", "0", "-1", "4Q", "2k", "G", "1e9", "NaN"])
def test_what_is_no_memory_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="no amount of memory"):
        parse_bytes(text)


@pytest.mark.parametrize(
    "command", [("train", "r"), ("recover", "r"), ("process", "r"), ("forget", "r", "--subject", "a")]
)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--workers", "2", "--executor", "ray"), "--workers"),
        (("--workers", "2", "--address", "auto"), "--workers"),
        (("--address", "auto", "--executor", "local"), "belongs to --executor ray"),
        (("--num-cpus", "2"), "belongs to --executor ray"),
        (("--memory", "1G"), "belongs to --executor ray"),
        (("--working-dir", "."), "belongs to --executor ray"),
        (("--nodes", "largest"), "belongs to --executor ray"),
        (("--executor", "ray", "--num-cpus", "0"), "--num-cpus"),
        (("--executor", "ray", "--num-gpus", "-1"), "--num-gpus"),
        (("--executor", "ray", "--memory", "much"), "no amount of memory"),
        (("--executor", "ray", "--working-dir", "nowhere"), "nowhere"),
        (("--executor", "ray", "--nodes", "any"), "--nodes"),
        (("--executor", "cloud"), "--executor"),
    ],
)
def test_misuse_is_said(
    command: tuple[str, ...], options: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, [*command, *options], prog_name="unlearn", env={"COLUMNS": "300"})
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in re.sub(r"\s+", " ", result.stderr)


def test_without_ray_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    result = CliRunner().invoke(app, ["train", str(tmp_path), "--executor", "ray"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == 'error: this needs Ray: pip install "sisa-unlearn[ray]"\n'
    with pytest.raises(ConfigurationError, match="needs Ray"):
        Workspace.create(tmp_path / "run", SGDClassifier(), n_shards=2, executor="ray")


def test_nobody_at_the_address_is_one_line(tmp_path: Path) -> None:
    create(tmp_path / "run", SGDClassifier(loss="log_loss"), write_data(tmp_path / "data.npz"))
    result = CliRunner().invoke(app, ["train", str(tmp_path / "run"), "--address", "127.0.0.1:1"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: nobody answers at 127.0.0.1:1")
    assert result.stderr.count("\n") == 1


def test_ray_is_an_executor_by_name(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "run", SGDClassifier(), n_shards=2, executor="ray")
    assert isinstance(workspace.executor, RayExecutor)
    assert workspace.executor.address is None
    with pytest.raises(ConfigurationError, match="'local', 'ray' or an Executor"):
        Workspace.open(tmp_path / "run", executor="rays")


# --- a cluster ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """A cluster of one node."""
    with ray_head() as started:
        yield started


ESTIMATOR = """
import sys
import numpy as np
from sklearn.linear_model import SGDClassifier
from shards.executors.ray import RayExecutor
from unlearn import SISAClassifier
data = np.load(sys.argv[1])
for executor in ("ray", RayExecutor(sys.argv[2], num_cpus=2)):
    model = SISAClassifier(SGDClassifier(loss="log_loss"), n_shards=3, n_slices=2, executor=executor, random_state=0)
    print(model.fit(data["X"], data["y"]).workspace_.state_digest())
"""


def test_estimators_train_on_ray_as_here(head: Head, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data.npz")
    found = np.load(data)
    here = SISAClassifier(SGDClassifier(loss="log_loss"), n_shards=3, n_slices=2, random_state=0)
    expected = here.fit(found["X"], found["y"]).workspace_.state_digest()
    variables = {**head.variables, "RAY_ADDRESS": head.address}
    command = [sys.executable, "-c", ESTIMATOR, str(data), head.address]
    done = subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, [expected, expected]), done.stderr


@pytest.mark.slow
def test_every_command_trains_on_the_cluster(head: Head, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data.npz")
    local = create(tmp_path / "local", SGDClassifier(loss="log_loss"), data)
    local.train()
    run = create(tmp_path / "run", SGDClassifier(loss="log_loss"), data).path

    def document(*arguments: object) -> dict[str, object] | list[dict[str, object]]:
        done = head.run("unlearn", *arguments, "--address", head.address, "--json", folder=tmp_path)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    assert document("train", run, "--num-cpus", 0.5, "--memory", "1Mi")["steps"] == 6
    assert Workspace.open(run).state_digest() == local.state_digest()
    waiting = Workspace.open(run).submit(record_ids=[3])
    said = document("process", run, "--recover")
    assert [item["state"] for item in said["requests"]] == ["receipted"]
    assert said["recover"]["recovered"] == [waiting.id]
    local.forget(record_ids=[3])
    local.recover()
    assert Workspace.open(run).state_digest() == local.state_digest()
    again = document("forget", run, "--record", "4", "--recover")
    assert again["request"]["state"] == "receipted"
    document("recover", run, "--nodes", "largest")
    (tmp_path / "key.pem").write_text(Workspace.open(run).public_key)
    receipt = Workspace.open(run).receipt(waiting.id).path
    verify = ("verify", receipt, "--public-key", tmp_path / "key.pem", "--workspace", run, "--replay")
    assert document(*verify)["steps"][-1]["number"] == 17
    # It is there that they are trained again: where nobody answers, they are not.
    done = head.run("unlearn", *verify, "--address", "127.0.0.1:1", folder=tmp_path)
    assert (done.returncode, "nobody answers" in done.stderr) == (1, True)


@pytest.mark.slow
def test_progress_on_the_cluster_is_seen_here(head: Head, tmp_path: Path) -> None:
    learner = SGDClassifier(loss="log_loss")
    run = create(tmp_path / "run", learner, write_data(tmp_path / "data.npz")).path
    ours, theirs = pty.openpty()
    seen: list[bytes] = []
    with subprocess.Popen(
        ["unlearn", "train", str(run), "--address", head.address], env=head.variables, stderr=theirs, stdout=theirs
    ) as process:
        os.close(theirs)
        reader = threading.Thread(target=lambda: seen.extend(_until_closed(ours)))
        reader.start()
        assert process.wait(timeout=120) == 0
        reader.join()
    os.close(ours)
    shown = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", b"".join(seen).decode())
    total = re.search(r"built 6 steps of 3 shards: (\d+) record-visits", shown)
    assert total is not None, shown
    made = [int(now) for now, of in re.findall(r"(\d+)/(\d+) record-visits", shown) if of == total[1]]
    assert made[0] == 0
    assert any(0 < now <= int(total[1]) for now in made), shown


def _until_closed(terminal: int) -> Iterator[bytes]:
    while True:
        try:
            said = os.read(terminal, 65536)
        except OSError:  # how a terminal says that nobody writes any more
            return
        yield said


@pytest.mark.slow
def test_a_job_trains_with_code_that_only_its_working_folder_has(head: Head, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "own_code.py").write_text(OWN_CODE)
    data = write_data(tmp_path / "data.npz")

    def submit(*arguments: object) -> subprocess.CompletedProcess[str]:
        job = ("ray", "job", "submit", "--address", head.dashboard, "--working-dir", ".", "--", "unlearn", *arguments)
        return head.run(*job, folder=tmp_path / "code")

    for name, learner in (("run", "own"), ("failing", "Failing")):
        made = ("--learner", f"own_code:{learner}", "--shards", 3, "--slices", 2, "--classes", "0,1")
        for command in (("create", tmp_path / name, *made, "--random-state", 0), ("ingest", tmp_path / name, data)):
            done = head.run("unlearn", *command, folder=tmp_path / "code")
            assert done.returncode == 0, done.stderr
    shutil.copytree(tmp_path / "run", tmp_path / "here")
    assert head.run("unlearn", "train", tmp_path / "here", folder=tmp_path / "code").returncode == 0

    done = submit("train", tmp_path / "run", "--executor", "ray", "--address", "auto")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "built 6 steps of 3 shards" in done.stdout
    assert "succeeded" in done.stdout
    digests = [
        json.loads(head.run("unlearn", "status", tmp_path / name, "--json", folder=tmp_path / "code").stdout)[
            "state_digest"
        ]
        for name in ("run", "here")
    ]
    assert digests[0] == digests[1]

    done = submit("train", tmp_path / "failing", "--executor", "ray", "--address", "auto")
    assert done.returncode == 1
    logs = done.stdout.partition("Status message")[0]  # after which Ray's client repeats the end of them
    lines = [line for line in logs.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stdout
    assert re.match(r"error: training shard \d, step 0 failed: RuntimeError: it is not to be", lines[0])
    assert "Traceback" not in done.stdout
