"""An exported model predicts what is served, runs without this package, and is known to the ledger before it exists."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import unlearn.workspace
from shards.ensemble import Member, combine
from shards.learners.base import Learner
from shards.learners.mlp import MLPLearner
from shards.learners.ridge import RidgeLearner
from shards.learners.torch import TorchLearner
from shards.learners.torch_modules import ensemble_module
from shards.private_votes import PrivateVotes
from tests.shards.learners.joined_cases import inputs, task_of, trained
from tests.unlearn.helpers import canaries, create, filled, hoarding, labels, names, shard_of
from unlearn import Workspace
from unlearn.cli.app import app
from unlearn.errors import ConfigurationError, NotServingError, StorageError
from unlearn.exported import write_program

PROBE = canaries(range(10_000, 10_040))
ROUNDING = 1e-5


def mlp(**settings: Any) -> MLPLearner:
    return MLPLearner((5,), epochs=3, batch_size=4, **settings)


def run(path: Path, *features: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        found: np.ndarray = torch.export.load(path).module()(*map(torch.from_numpy, features)).numpy()
    return found


@pytest.mark.parametrize("aggregation", ["mean", "vote", "weighted"])
@pytest.mark.parametrize("target", [None, (), (2, 2)])
@pytest.mark.parametrize(
    ("learner", "shapes", "dtype"),
    [
        (MLPLearner((4, 3), batch_size=4), [(3,), (2, 2), ()], "<f8"),
        (MLPLearner((4,), activation="tanh", batch_size=4, standardize=True), [(3,), (2,)], "<i4"),
        (MLPLearner((), batch_size=4), [(3,)], "|u1"),
        (TorchLearner("mlp", {"input_scale": 0.5}, batch_size=4, standardize=True), [(3,)], "<f8"),
        (TorchLearner("mlp", batch_size=4, input_dtype=None), [(2, 2)], "<i4"),
        (TorchLearner("cnn", {"input_scale": 1 / 255, "channels": [2], "hidden": 4}, batch_size=4), [(4, 4)], "|u1"),
    ],
)
def test_the_module_is_the_ensemble(
    learner: Learner, shapes: list[tuple[int, ...]], dtype: str, target: tuple[int, ...] | None, aggregation: str
) -> None:
    """Every kind of input and of output, before torch exports it, against the members asked one by one."""
    if target is not None and aggregation == "vote":
        aggregation = "weighted"
    rng = np.random.default_rng(0)
    features = {f"f{k}": inputs(rng, 9, shape, 0.8, dtype) for k, shape in enumerate(shapes)}
    task = task_of(features, 0 if target is not None else 3, target or ())
    members = [Member(3 * k, 5 + k, predict) for k, predict in enumerate(trained(learner, task, 4, 3))]
    said = learner.as_module([member.predict for member in members], task)
    assert said is not None
    weights = [member.records if aggregation == "weighted" else 1 for member in members]
    module = ensemble_module(said, weights, vote=aggregation == "vote")
    with torch.no_grad():
        found = module(*map(torch.from_numpy, features.values()))
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), combine(members, aggregation, features), rtol=ROUNDING, atol=ROUNDING)


def test_ties_go_to_the_lowest_class() -> None:
    class Fixed(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tensor([[[0.4, 0.4, 0.2]], [[0.0, 0.5, 0.5]]], dtype=torch.float64) + 0 * x

    assert ensemble_module(Fixed(), [1, 3], vote=True)(torch.zeros(1)).tolist() == [[0.25, 0.75, 0.0]]


def test_it_runs_without_this_package(tmp_path: Path) -> None:
    workspace = filled(tmp_path / "ws", mlp(), aggregation="weighted")
    first = next(n for n in names(range(30)) if shard_of(workspace, n) == (1, 0))
    workspace.forget(record_ids=[first])  # its shard abstains
    artefact = workspace.export_model(tmp_path / "model.pt2", name="phone model")
    np.save(tmp_path / "X.npy", PROBE)
    script = (
        "import json, sys, numpy, torch\n"
        "files = {'unlearn.json': ''}\n"
        "model = torch.export.load('model.pt2', extra_files=files).module()\n"
        "numpy.save('said.npy', model(torch.from_numpy(numpy.load('X.npy'))).numpy())\n"
        "assert not {'shards', 'unlearn'} & set(sys.modules)\n"
        "print(files['unlearn.json'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], cwd=tmp_path, env={}, capture_output=True, text=True, check=True
    )
    np.testing.assert_allclose(
        np.load(tmp_path / "said.npy"), workspace.predict_proba(PROBE), rtol=ROUNDING, atol=ROUNDING
    )
    told = json.loads(done.stdout)
    assert told["artefact"] == artefact.id
    assert told["classes"] == [0, 1]
    assert (told["shards"], told["aggregation"]) == (2, "weighted")
    assert [name for name, _ in told["features"]] == ["x"]
    assert (artefact.name, artefact.location) == ("phone model", str(tmp_path / "model.pt2"))


def test_later_receipts_name_it_until_it_is_retired(tmp_path: Path) -> None:
    workspace = filled(tmp_path / "ws", mlp(), aggregation="vote")
    before = workspace.predict_proba(PROBE)
    artefact = workspace.export_model(tmp_path / "model.pt2")
    request = workspace.forget(record_ids=names([3]))
    named = workspace.receipt(request.id).statement["predicate"]["artefacts"]
    assert named == [
        {"name": "model.pt2", "kind": "exported model (torch.export)", "location": str(tmp_path / "model.pt2")}
    ]
    np.testing.assert_allclose(run(tmp_path / "model.pt2", PROBE), before)  # no request reaches it: hence the name
    workspace.retire(artefact.id)
    request = workspace.forget(record_ids=names([4]))
    assert workspace.receipt(request.id).statement["predicate"]["artefacts"] == []


def test_a_request_that_comes_meanwhile_makes_it_void(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgotten while the file is written: what was written is destroyed, and written again without it."""
    workspace = filled(tmp_path / "ws", mlp())
    file, rounds = tmp_path / "model.pt2", list[bool]()
    request = None

    def write(path: Path, *arguments: Any) -> None:
        nonlocal request
        assert workspace.artefacts()[-1].location == str(path), "registered before it exists"
        write_program(path, *arguments)
        rounds.append(path.exists())
        if len(rounds) == 1:
            request = workspace.forget(record_ids=names([3]))

    monkeypatch.setattr(unlearn.workspace, "write_program", write)
    artefact = workspace.export_model(file)
    assert rounds == [True, True]
    first, second = workspace.artefacts()
    assert request is not None
    assert first.retired_at is not None
    assert first.tainted_by == (request.id,)
    assert second.id == artefact.id
    assert second.tainted_by == ()
    np.testing.assert_allclose(run(file, PROBE), workspace.predict_proba(PROBE), rtol=ROUNDING, atol=ROUNDING)


def test_a_request_between_reading_and_registering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger cannot taint what was registered after the request: it must not stand."""
    workspace = filled(tmp_path / "ws", mlp())
    real, rounds = Workspace._register, 0

    def register(self: Workspace, *arguments: Any) -> Any:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            workspace.forget(record_ids=names([3]))
        return real(self, *arguments)

    monkeypatch.setattr(Workspace, "_register", register)
    monkeypatch.setattr(unlearn.workspace, "write_program", lambda path, *_: path.touch())
    workspace.export_model(tmp_path / "model.pt2")
    assert rounds == 2
    assert [item.retired_at is None for item in workspace.artefacts()] == [False, True]


@pytest.mark.parametrize("learner", [hoarding, RidgeLearner])
def test_learners_that_are_no_torch_module(tmp_path: Path, learner: Callable[[], Learner]) -> None:
    workspace = filled(tmp_path / "ws", learner())
    with pytest.raises(ConfigurationError, match=r"has no torch module .* only MLPLearner and TorchLearner"):
        workspace.export_model(tmp_path / "model.pt2")
    assert workspace.artefacts() == []


def test_a_module_that_cannot_be_exported(tmp_path: Path) -> None:
    workspace = filled(tmp_path / "ws", TorchLearner("tests.unlearn.branching:make", batch_size=8, epochs=2))
    with pytest.raises(ConfigurationError, match=r"module cannot be exported: torch\.export says"):
        workspace.export_model(tmp_path / "model.pt2")
    assert not (tmp_path / "model.pt2").exists()
    (artefact,) = workspace.artefacts()
    assert artefact.retired_at is not None


def test_a_file_that_cannot_be_removed_stays_registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = filled(tmp_path / "ws", mlp())

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(torch.export, "load", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(StorageError, match="Permission denied"):
        workspace.export_model(tmp_path / "model.pt2")
    monkeypatch.undo()
    assert (tmp_path / "model.pt2").exists()
    assert workspace.artefacts()[0].retired_at is None


def test_what_predicts_something_else_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = filled(tmp_path / "ws", mlp())
    real = torch.export.load

    def load(path: Path) -> Any:
        class Wrong:
            def module(self) -> Any:
                program = real(path).module()
                return lambda *given: program(*given) + 1e-3

        return Wrong()

    monkeypatch.setattr(torch.export, "load", load)
    with pytest.raises(ConfigurationError, match="predicts something else once it is exported"):
        workspace.export_model(tmp_path / "model.pt2")
    assert not (tmp_path / "model.pt2").exists()
    assert workspace.artefacts()[0].retired_at is not None


def test_where_it_may_not_lie(tmp_path: Path) -> None:
    workspace = filled(tmp_path / "ws", mlp())
    there = tmp_path / "there.pt2"
    there.write_text("mine")
    for path, why in (
        (tmp_path / "model.onnx", r"let it end in \.pt2"),
        (workspace.path / "model.pt2", "inside the workspace"),
        (there, "already exists"),
        (tmp_path / "none" / "model.pt2", "there is no folder"),
    ):
        with pytest.raises(ConfigurationError, match=why):
            workspace.export_model(path)
    assert there.read_text() == "mine"
    assert workspace.artefacts() == []


def test_nothing_to_export(tmp_path: Path) -> None:
    workspace = create(tmp_path / "ws", mlp())
    with pytest.raises(NotServingError, match="holds no records"):
        workspace.export_model(tmp_path / "model.pt2")
    workspace.ingest(canaries(range(9)), labels(range(9)))
    with pytest.raises(NotServingError, match="train first"):
        workspace.export_model(tmp_path / "model.pt2")
    votes = PrivateVotes(sigma=10.0, max_epsilon=4.0, delta=1e-5)
    noisy = create(tmp_path / "noisy", mlp(), aggregation=votes, random_state=None)
    noisy.ingest(canaries(range(9)), labels(range(9)))
    with pytest.raises(ConfigurationError, match="noisy votes"):
        noisy.export_model(tmp_path / "model.pt2")


def test_from_the_command_line(tmp_path: Path) -> None:
    workspace = filled(tmp_path / "ws", mlp())
    file = tmp_path / "model.pt2"
    command = ["export-model", str(workspace.path), "--output", str(file)]
    done = CliRunner().invoke(app, [*command, "--name", "phone model", "--json"])
    assert done.exit_code == 0, done.stderr
    (artefact,) = workspace.artefacts()
    assert json.loads(done.stdout)["id"] == artefact.id
    assert (artefact.name, artefact.location) == ("phone model", str(file))
    np.testing.assert_allclose(run(file, PROBE), workspace.predict_proba(PROBE), rtol=ROUNDING, atol=ROUNDING)
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 1
    assert "already exists" in again.stderr
