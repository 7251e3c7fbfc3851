"""Adapters over a public base in a workspace: exact with respect to what they were tuned on, small, and exported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from shards.executors.local import LocalExecutor
from shards.learners.adapters import AdapterLearner
from unlearn import Workspace
from unlearn.errors import ConfigurationError

N = 120
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)
NAMES = [f"r{row}" for row in range(N)]
LEARNER = AdapterLearner(
    "mlp", {"hidden": [200]}, adapt=["0"], train=["2"], rank=2, epochs=6, optimizer_args={"lr": 0.5}
)
EXECUTOR = LocalExecutor(1)
"""One, so that its worker is started once."""


def trained(path: Path, rows: np.ndarray) -> Workspace:
    made = Workspace.create(path, LEARNER, n_shards=3, n_slices=2, classes=[0, 1], random_state=0, executor=EXECUTOR)
    made.ingest(X[rows], Y[rows], record_ids=[NAMES[row] for row in rows])
    made.train()
    return made


def test_after_recovery_adapters_are_those_of_training_without_the_records(tmp_path: Path) -> None:
    workspace = trained(tmp_path / "w", np.arange(N))
    assert (workspace.predict(X) == Y).mean() > 0.9
    gone = [3, 14, 15, 92]
    workspace.forget(record_ids=[NAMES[row] for row in gone])
    workspace.recover()
    fresh = trained(tmp_path / "fresh", np.setdiff1d(np.arange(N), gone))
    assert workspace.state_digest() == fresh.state_digest()
    workspace.close()
    fresh.close()


def test_an_exported_program_says_the_same(tmp_path: Path) -> None:
    workspace = trained(tmp_path / "w", np.arange(N))
    workspace.export_model(tmp_path / "model.pt2")
    with torch.no_grad():
        said = torch.export.load(tmp_path / "model.pt2").module()(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(said, workspace.predict_proba(X), atol=1e-5)
    workspace.close()


def test_approximate_methods_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="an AdapterLearner keeps its base away"):
        Workspace.create(tmp_path / "w", LEARNER, n_shards=1, n_slices=1, classes=[0, 1], method="scrub")
