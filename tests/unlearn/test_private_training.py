"""A workspace whose learner adds fresh secret noise: exact as a distribution, and said to be no more than that."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shards.executors.local import LocalExecutor
from shards.learners.private_torch import PrivateTorchLearner
from unlearn import Workspace, verify
from unlearn.errors import ConfigurationError, VerificationError
from unlearn.receipt.predicate import FORGOTTEN_GUARANTEE, RECOVERED_NOISY_GUARANTEE
from unlearn.verification import NOT_COMPARABLE

N = 120
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)
LEARNER = PrivateTorchLearner(
    "mlp",
    {"hidden": []},
    noise_multiplier=1.0,
    clip_norm=1.0,
    records=N // 2,
    batch_size=20,
    steps=40,
    delta=1e-3,
    optimizer_args={"lr": 0.5},
)


EXECUTOR = LocalExecutor(1)
"""One, so that its worker is started once."""


def trained(path: Path) -> Workspace:
    made = Workspace.create(path, LEARNER, n_shards=2, n_slices=1, classes=[0, 1], random_state=0, executor=EXECUTOR)
    made.ingest(X, Y, record_ids=[f"r{row}" for row in range(N)])
    made.train()
    return made


def test_two_workspaces_of_one_seed_differ_and_both_forget(tmp_path: Path) -> None:
    digests = []
    for name in ("first", "second"):
        workspace = trained(tmp_path / name)
        digests.append(workspace.state_digest())
        request = workspace.forget(record_ids=["r3"])
        workspace.recover()
        digests.append(workspace.state_digest())
        assert (workspace.predict(X) == Y).mean() > 0.75
        forgotten, recovered = workspace.receipts(request.id)
        assert verify(forgotten, workspace.public_key).predicate.guarantee == FORGOTTEN_GUARANTEE
        assert verify(recovered, workspace.public_key).predicate.guarantee == RECOVERED_NOISY_GUARANTEE
        workspace.close()
    assert len(set(digests)) == 4


def test_replay_says_that_there_is_nothing_to_compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = trained(tmp_path / "workspace")
    request = workspace.forget(record_ids=["r3"])
    workspace.recover()
    receipt = workspace.receipt(request.id)
    found = verify(receipt, workspace.public_key, workspace=workspace, replay=True)
    assert found.steps[-1].number == 17
    assert found.steps[-1].detail == NOT_COMPARABLE
    assert any("training again" in words for words in found.not_looked_at)
    # A learner that says it repeats is found out: the receipt's words are not the ones that stand for it.
    monkeypatch.setattr(PrivateTorchLearner, "reproducible", True)
    with pytest.raises(VerificationError, match="where training adds fresh noise") as caught:
        verify(receipt, workspace.public_key, workspace=workspace)
    assert caught.value.step == 11
    workspace.close()


def test_a_module_that_mixes_records_is_refused_before_anything_is_kept(tmp_path: Path) -> None:
    learner = PrivateTorchLearner(
        "torch.nn:BatchNorm1d",
        {"num_features": 4},
        noise_multiplier=1.0,
        clip_norm=1.0,
        records=N,
        batch_size=20,
        steps=40,
        delta=1e-3,
    )
    workspace = Workspace.create(tmp_path / "workspace", learner, n_shards=1, classes=[0, 1, 2, 3], executor=EXECUTOR)
    with pytest.raises(ConfigurationError, match="Replace batch normalisation"):
        workspace.ingest(X, Y)
    workspace.close()
