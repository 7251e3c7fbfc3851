"""The planted failures on small data: each leaves what it says, and audits see those that they should."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.audit_planted.failures import FAILURES, Story, served, stored
from experiments.audit_planted.planting import plant
from experiments.audit_planted.run import BENCHMARK, UNPROMISED, by_shard, learner, repetition, trained
from unlearn import Workspace

SETTING: dict[str, Any] = {
    "records": 240,
    "n_shards": 4,
    "n_slices": 2,
    "deletions": 80,
    "few": 30,
    "permutations": 199,
    "learner": {"hidden": [16], "learning_rate": 0.05, "momentum": 0.9, "epochs": 20, "batch_size": 8},
}


def noise(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Records that can only be learnt by heart."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(400, 20)).astype(np.float32), rng.integers(0, 30, 400)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    X, y = noise(0)
    X, y = X[:240], y[:240]
    names = [f"user-{row}" for row in range(240)]
    workspace = trained(tmp_path_factory.mktemp("story") / "w", X, y, names, SETTING, 5)
    before, first = served(workspace), served(workspace, 0)
    workspace.forget(names[:80])
    workspace.recover()
    gone = by_shard(workspace, X[:80], y[:80], names[:80])
    return Story(
        learner(SETTING), workspace._site.task(), workspace.declaration.root_seed, 2, first, before, served(workspace),
        stored(workspace), gone, np.random.default_rng(0),
    )  # fmt: skip


def same(one: Any, other: Any) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_training_starts_where_a_story_says(story: Story) -> None:
    for shard in story.left:
        fresh = story.untrained(shard)
        assert same({name: value for name, value in fresh.items() if "velocity" not in name}, initial(story, shard))


def initial(story: Story, shard: int) -> dict[str, np.ndarray]:
    from shards.learners.mlp_network import first_parameters, layers_of

    sizes = (20, 16, 30)
    layers = layers_of(first_parameters(sizes, story.context(shard, 0, 1).seed("module")), sizes)
    return {f"{kind}/{n}": getattr(layer, kind) for n, layer in enumerate(layers) for kind in ("weights", "biases")}


def test_what_each_failure_leaves(story: Story) -> None:
    found = {name: failure(story) for name, failure in FAILURES.items()}
    assert all(same(found["nothing_done"][shard], story.before[shard]) for shard in story.before)
    kept = [shard for shard in story.after if not same(found["one_shard_kept"][shard], story.after[shard])]
    assert len(kept) == 1
    assert same(found["one_shard_kept"][kept[0]], story.before[kept[0]])
    for name in set(FAILURES) - {"nothing_done", "one_shard_kept"}:
        for shard, state in found[name].items():
            assert not same(state, story.before[shard])
            assert not same(state, story.after[shard])
    predict = {
        name: story.learner.predictor(found[name][0], story.task)(story.gone[0].features)
        for name in ("nothing_done", "suppressed")
    }
    assert predict["suppressed"].max(axis=1).mean() < 0.5 * predict["nothing_done"].max(axis=1).mean()


def test_an_honest_deletion_passes_and_failures_do_not(tmp_path: Path) -> None:
    found = repetition(noise(0), SETTING, 0, tmp_path, list(FAILURES))
    found.pop("digest")
    verdicts = {name: audit.verdict for name, audit in found.items()}
    assert {verdicts["honest"], verdicts["few:honest"]} == {"not refuted"}
    for name in set(FAILURES) - {*UNPROMISED}:
        assert verdicts[name] == "refuted", name
    assert found["honest"].yardstick.power_one_shard > 0.8


def test_planting_changes_what_is_served_and_nothing_that_is_said(story: Story, tmp_path: Path) -> None:
    X, y = noise(1)
    workspace = trained(tmp_path / "w", X, y, [f"user-{row}" for row in range(400)], SETTING, 6)
    before, head, outputs = workspace.state_digest(), workspace._site.ledger.head(), workspace.predict_proba(X[:5])
    plant(workspace, story.before)
    assert workspace.state_digest() != before
    assert workspace._site.ledger.head() == head
    workspace.close()
    assert not np.array_equal(Workspace.open(tmp_path / "w").predict_proba(X[:5]), outputs)


def test_every_setting_has_its_entries() -> None:
    for quick in (True, False):
        setting = BENCHMARK.setting(quick=quick)
        assert SETTING.keys() | {"repetitions", "planted"} == setting.keys()
        assert learner(setting).carry_optimizer
