"""An attack that refutes what an approximate method made has the model retrained."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np

from shards.learners.torch import TorchLearner
from shards.records import make_records
from unlearn import Workspace

N, GONE, WIDTH = 120, 40, 20


def noise(rows: range) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Features and labels that have nothing to do with each other: what is known of them was learnt by heart."""
    X = np.stack([np.random.default_rng([7, row]).normal(size=WIDTH) for row in rows])
    y = np.array([np.random.default_rng([8, row]).integers(2) for row in rows])
    return X, y, [f"row-{row}" for row in rows]


def test_an_attack_that_refutes_makes_retraining_due(tmp_path: Path) -> None:
    learner = TorchLearner(
        "mlp", {"hidden": [64]}, optimizer="Adam", optimizer_args={"lr": 0.01}, epochs=60, batch_size=16
    )
    with closing(Workspace.create(tmp_path / "run", learner, n_shards=1, random_state=0)) as workspace:
        X, y, ids = noise(range(N))
        workspace.ingest(X, y, record_ids=ids)
        workspace.train()
        # Hardly anything: it still knows the labels by heart.
        options = {"epochs": 1, "learning_rate": 1e-6}
        request = workspace.forget(record_ids=ids[:GONE], method="fine_tune", method_options=options)
        X, y, ids = noise(range(1000, 1000 + GONE))
        held_out = make_records(X, y, subjects=ids, record_ids=ids)
        X, y, ids = noise(range(GONE))
        audit = {"record_ids": ids, "attacks": ["loss"], "held_out": held_out, "permutations": 999}
        found = workspace.audit(X, y, **audit)
        assert found.verdict == "refuted"
        assert workspace.status().due == (request.id,)
        assert workspace.recover(due=True).recovered == (request.id,)
        assert workspace.audit(X, y, **audit).verdict == "not refuted"
        assert workspace.status().due == ()
