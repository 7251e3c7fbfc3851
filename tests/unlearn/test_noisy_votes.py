"""Labels published by noisy votes, on a budget that every process shares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from shards.private_votes import PrivateVotes
from tests.unlearn.helpers import canaries, create, labels, names, sgd
from unlearn import SISAClassifier, Workspace
from unlearn.errors import BudgetSpentError, ConfigurationError

PROBE = canaries(range(500, 520))


def voting(folder: Path, votes: PrivateVotes) -> Workspace:
    workspace = create(folder, sgd(), aggregation=votes, random_state=None, n_shards=5, n_slices=1)
    rows = range(60)
    workspace.ingest(canaries(rows), labels(rows), record_ids=names(rows))
    workspace.train()
    return workspace


def test_labels_only(tmp_path: Path) -> None:
    workspace = voting(tmp_path / "run", PrivateVotes(sigma=1e-6, max_epsilon=1e20, delta=1e-5))
    with pytest.raises(ConfigurationError, match="nothing else, since probabilities would tell more: use predict"):
        workspace.predict_proba(PROBE)
    said = workspace.predict(PROBE)
    # Next to no noise: the majority's label.
    site = workspace._site
    task = site.task()
    members = [
        site.learner.predictor(site.folder(step.shard).load(step.key).state, task) for step in site.ledger.served()[1]
    ]
    votes = np.stack([member({"x": PROBE}).argmax(axis=1) for member in members])
    assert said.tolist() == [int(np.bincount(column).argmax()) for column in votes.T]


def test_noise_is_fresh(tmp_path: Path) -> None:
    workspace = voting(tmp_path / "run", PrivateVotes(sigma=1e6, max_epsilon=1e9, delta=1e-5))
    many = np.repeat(PROBE, 20, axis=0)
    first, second = workspace.predict(many), workspace.predict(many)
    assert 0.3 < np.mean(first != second) < 0.7  # two classes, all noise


def test_the_budget_holds_across_processes_and_forgetting(tmp_path: Path) -> None:
    votes = PrivateVotes(sigma=10.0, max_epsilon=4.0, delta=1e-5)
    allowed = votes.queries_allowed()
    assert 20 < allowed < 1000
    workspace = voting(tmp_path / "run", votes)
    assert workspace.status().labels_left == allowed
    workspace.predict(PROBE)
    other = Workspace.open(tmp_path / "run")
    assert other.status().labels_left == allowed - 20
    workspace.forget(record_ids=names([4]))
    with pytest.raises(BudgetSpentError, match=r"would exceed the privacy budget"):
        other.predict(np.repeat(PROBE, allowed, axis=0))
    assert workspace.status().labels_left == allowed - 20  # a refusal costs nothing
    left = allowed - 20
    other.predict(np.resize(PROBE, (left, PROBE.shape[1])))
    with pytest.raises(BudgetSpentError, match="0 left"):
        workspace.predict(PROBE[:1])


def test_receipts_say_which_promise_applies(tmp_path: Path) -> None:
    workspace = voting(tmp_path / "run", PrivateVotes(sigma=10.0, max_epsilon=4.0, delta=1e-5))
    request = workspace.forget(record_ids=names([4]))
    said = workspace.receipt(request.id).statement["predicate"]["guarantee"]["adaptive_requests"]
    assert said["privacy"] == {"sigma": 10.0, "max_epsilon": 4.0, "delta": 1e-5}
    assert "differentially private" in said["statement"]
    plain = create(tmp_path / "plain", sgd())
    plain.ingest(canaries(range(9)), labels(range(9)), record_ids=names(range(9)))
    said = plain.receipt(plain.forget(record_ids=names([4])).id).statement["predicate"]["guarantee"]
    assert said["adaptive_requests"]["privacy"] is None
    assert said["adaptive_requests"]["statement"].startswith("Not covered")


def test_what_would_undo_the_promise_is_refused(tmp_path: Path) -> None:
    votes = PrivateVotes(sigma=10.0, max_epsilon=4.0, delta=1e-5)
    with pytest.raises(ConfigurationError, match="as secret as that number"):
        create(tmp_path / "run", sgd(), aggregation=votes)
    with pytest.raises(ConfigurationError, match="noisy votes are for classification"):
        Workspace.create(tmp_path / "other", Ridge(), n_shards=2, aggregation=votes)
    assert not (tmp_path / "run").exists()


def test_the_estimator_publishes_labels_only() -> None:
    votes = PrivateVotes(sigma=1e-6, max_epsilon=1e20, delta=1e-5)
    rows = range(60)
    names_of = np.where(labels(rows) == 1, "yes", "no")
    fitted = SISAClassifier(n_shards=3, aggregation=votes).fit(canaries(rows), names_of)
    assert fitted.score(canaries(rows), names_of) > 0.5
    with pytest.raises(ConfigurationError, match="use predict"):
        fitted.predict_proba(PROBE)
