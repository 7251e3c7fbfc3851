"""Audits by attacks: p-values that hold, planted failures found, and refusals that say what to give."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.audit_planted.failures import served
from experiments.audit_planted.here import Here
from experiments.audit_planted.planting import plant
from shards.ensemble import Member, combine
from shards.learners.base import StepContext, StepData
from shards.learners.neighbours import NeighboursLearner
from shards.learners.ridge import RidgeLearner
from shards.placement import Region, place_subjects
from shards.records import Records, make_records
from shards.task import FieldSchema, Task
from unlearn import Workspace
from unlearn.audit import AttackAudit, AttackPlan, holm
from unlearn.audit.attack_audit import rearranged, spread
from unlearn.audit.attacks import ATTACKS
from unlearn.audit.attacks.ensemble import shard_lira
from unlearn.audit.attacks.loss import loss_score
from unlearn.audit.shadow_ensembles import Recipe, shadow_outputs, shadow_places
from unlearn.audit.shadows import half_splits, model_seed
from unlearn.audit.shown import SERVED
from unlearn.audit.statement import read_audit
from unlearn.errors import ConfigurationError, InputError
from unlearn.receipt import public_key_from_pem

S, N, GONE, HELD = 4, 300, 60, 60
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 6)).astype(np.float32)
Y = RNG.integers(0, 3, N)
PEOPLE = [f"person-{i // 2}" for i in range(N)]
IDS = [f"row-{i}" for i in range(N)]
HERE, THERE = range(N - HELD), range(N - HELD, N)
KNN = NeighboursLearner(1, {"map": "raw", "unit": 1 / 64, "limit": 8.0})


def records(rows: Sequence[int]) -> Records:
    chosen = list(rows)
    return make_records(X[chosen], Y[chosen], subjects=[PEOPLE[i] for i in chosen], record_ids=[IDS[i] for i in chosen])


def make(folder: Path, **options: Any) -> Workspace:
    settings: dict[str, Any] = {"n_shards": S, "classes": [0, 1, 2], "random_state": 3, "executor": Here(), **options}
    workspace = Workspace.create(folder, settings.pop("learner", KNN), **settings)
    workspace.ingest(records(HERE))
    workspace.train()
    return workspace


def forget(workspace: Workspace) -> None:
    workspace.forget(sorted({PEOPLE[i] for i in range(GONE)}))
    workspace.recover()


def attacked(workspace: Workspace, *attacks: str, **options: Any) -> AttackAudit:
    plan = AttackPlan(
        attacks or ("loss",), **{k: options.pop(k) for k in ("primary", "shadows", "tossed") & options.keys()}
    )
    settings: dict[str, Any] = {"held_out": records(THERE), "permutations": 999, **options}
    return workspace.audit(settings.pop("presented", records(range(GONE))), attacks=plan, **settings)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    workspace = make(tmp_path_factory.mktemp("honest") / "w")
    forget(workspace)
    yield workspace
    workspace.close()


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """It forgot, says its log; it serves the states from before."""
    workspace = make(tmp_path_factory.mktemp("failed") / "w")
    before = served(workspace)
    forget(workspace)
    plant(workspace, before)
    yield workspace
    workspace.close()


@pytest.mark.parametrize("ties", [False, True])
def test_the_p_value_is_that_of_all_rearrangements(ties: bool) -> None:
    rng = np.random.default_rng(1)
    values = rng.integers(0, 3, 8).astype(float) if ties else rng.normal(size=8)
    a = 4

    def distance(chosen: Sequence[int]) -> float:
        others = np.setdiff1d(np.arange(8), chosen)
        pairs = values[list(chosen)][:, None] - values[others]
        return abs(float((np.sign(pairs) + 1).mean() / 2) - 0.5)

    observed = distance(range(a))
    exact = np.mean([distance(chosen) >= observed - 1e-12 for chosen in combinations(range(8), a)])
    assert rearranged(values[:a], values[a:], 20_000, rng) == pytest.approx(exact, abs=0.01)


def test_without_a_difference_few_p_values_are_small() -> None:
    rng = np.random.default_rng(2)
    for draw in (rng.normal, lambda size: rng.integers(0, 4, size).astype(float)):
        p = np.array([rearranged(draw(size=25), draw(size=40), 99, rng) for _ in range(1000)])
        assert (p <= 0.05).mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000)
    areas = [np.mean(rng.normal(size=25)[:, None] > rng.normal(size=40)) for _ in range(2000)]
    assert np.std(areas) == pytest.approx(spread(25, 40), rel=0.05)


def test_an_honest_deletion_by_every_attack(honest: Workspace) -> None:
    found = attacked(honest, *SERVED, shadows=4)
    assert found.verdict == "not refuted"
    assert (found.members, found.forgotten, found.held_out) == (90, 30, 30)
    assert [finding.attack for finding in found.findings] == list(SERVED)
    by_name = {finding.attack: finding for finding in found.findings}
    # Half of the labels are noise, so that members are known and others are not.
    for name in ("loss", "label_gap", "shard_lira", "lira_offline_fixed", "difficulty"):
        assert by_name[name].exposure.auc.low > 0.6, name
        assert by_name[name].power_if_kept > 0.9, name
    p_values = {name: finding.p_value for name, finding in by_name.items()}
    assert {name: one.adjusted for name, one in holm(p_values).items()} == {
        name: finding.adjusted for name, finding in by_name.items()
    }
    assert found.multiplicity == f"{len(SERVED)} hypotheses, Holm"
    text = json.dumps(found.to_json(), allow_nan=False)
    assert "person-" not in text
    assert "row-" not in text
    again = attacked(honest, *SERVED, shadows=4)
    assert again.findings == found.findings


def test_scores_are_those_of_the_served_model(honest: Workspace) -> None:
    found = attacked(honest)
    p = honest.predict_proba(X)
    direct = loss_score(p, Y)
    sample = found.samples["loss"]
    scores = dict(zip(sample.records, sample.scores, strict=True))
    for person in (0, 29, 120, 149):
        rows = [2 * person, 2 * person + 1]
        assert scores[f"person-{person}"] == pytest.approx(direct[rows].mean())
    assert set(np.array(sample.records)[sample.is_member]) == set(PEOPLE[:GONE])
    # Members are those of the data alone.
    assert found.findings[0].exposure.members == (N - HELD - GONE) // 2
    assert found.findings[0].exposure.non_members == (GONE + HELD) // 2


def test_each_subject_is_compared_with_those_that_never_came(failed: Workspace) -> None:
    found = attacked(failed)
    results = {one.subject: one for one in found.by_subject("loss")}
    sample = found.samples["loss"]
    score = dict(zip(sample.records, sample.scores, strict=True))["person-7"]
    assert results.keys() == set(PEOPLE[:GONE])
    assert results["person-7"].p_value == (1 + (sample.non_members >= score).sum()) / 31
    with pytest.raises(InputError, match="not of 'rmia'"):
        found.by_subject("rmia")


@pytest.mark.parametrize(
    "attack", ["loss", "label_gap", "shard_lira", "ensemble_jackknife", "lira_offline_fixed", "rmia"]
)
def test_a_model_that_still_knows_them_is_found(failed: Workspace, attack: str) -> None:
    found = attacked(failed, attack, shadows=4)
    assert (found.verdict, found.findings[0].verdict) == ("refuted", "refuted")
    assert found.findings[0].forgetting.auc.low > 0.5


def test_a_model_that_knows_too_little_is_found(tmp_path: Path) -> None:
    """Wrong labels for the forgotten: their scores are below those of strangers, which a one-sided test would pass."""
    workspace = make(tmp_path / "w")
    forget(workspace)
    wrong = Workspace.create(tmp_path / "x", KNN, n_shards=S, classes=[0, 1, 2], random_state=3, executor=Here())
    wrong.ingest(
        X[: N - HELD],
        np.where(np.arange(N - HELD) < GONE, (Y[: N - HELD] + 1) % 3, Y[: N - HELD]),
        subjects=PEOPLE[: N - HELD],
    )
    wrong.train()
    plant(workspace, served(wrong))
    found = attacked(workspace)
    assert found.verdict == "refuted"
    assert found.findings[0].forgetting.auc.high < 0.5


def test_coins(failed: Workspace, honest: Workspace) -> None:
    found = attacked(failed, "shard_lira", "loss", tossed=True)
    assert found.multiplicity == "4 hypotheses, Holm"
    coins = found.findings[0].canaries
    sample = found.samples["shard_lira"]
    lowest, highest = np.sort(sample.scores)[[14, -15]]
    sure = (sample.scores < lowest) | (sample.scores > highest)
    right = ((sample.scores > highest) == sample.is_member)[sure].sum()
    assert right <= coins.correct <= right + (30 - sure.sum())
    assert (coins.n_canaries, coins.guesses, coins.confidence) == (60, 30, 1 - 0.05 / 4)
    assert found.epsilon_lower == max(one.canaries.epsilon_lower for one in found.findings) > 1
    assert attacked(failed, "loss").epsilon_lower is None
    # Where every score is the same, its place in the file must not tell the coins.
    same = attacked(honest, "entropy", tossed=True).findings[0].canaries
    assert 3 <= same.correct <= 27


def test_one_attack_may_be_declared_primary(failed: Workspace) -> None:
    found = attacked(failed, "entropy", "loss", primary="entropy")
    assert [one.verdict for one in found.findings] == ["not refuted", "inapplicable"]
    assert (found.verdict, found.findings[1].adjusted) == ("not refuted", None)
    assert found.findings[1].p_value == 1 / 1000
    assert "entropy declared primary beforehand, 1 others not counted" in found.multiplicity
    with pytest.raises(InputError, match="'rmia' is not among loss"):
        AttackPlan(("loss",), primary="rmia")


def test_looks_share_alpha(honest: Workspace) -> None:
    assert attacked(honest, look=2, looks=5).alpha == pytest.approx(0.01)
    assert attacked(honest, look=2).alpha == pytest.approx(0.05 * 6 / (np.pi * 2) ** 2)
    assert honest.audit(records(range(GONE)), look=3, looks=4).test.alpha == pytest.approx(0.0125)
    with pytest.raises(ConfigurationError, match="alpha is spent"):
        attacked(honest, look=3, looks=2)


def test_without_anything_held_out_there_is_no_verdict(honest: Workspace) -> None:
    found = attacked(honest, held_out=None)
    assert (found.verdict, found.p_value, found.findings[0].forgetting) == ("inapplicable", None, None)
    assert found.findings[0].exposure.non_members == GONE // 2


def test_a_signed_statement(honest: Workspace) -> None:
    found = attacked(honest)
    signed = read_audit(honest.sign_audit(found), [public_key_from_pem(honest.public_key.encode())])
    assert signed == json.loads(json.dumps(found.to_json()))


@pytest.mark.parametrize(
    ("attacks", "options", "message"),
    [
        (("lozz",), {}, r"there is no attack .lozz.; did you mean .loss.\?; there are loss, "),
        ((), {}, "got none"),
        (("loss", "loss"), {}, "each once, got loss, loss"),
        (("lira_offline", "rmia"), {}, r"lira_offline, rmia compare with shadow models.*give --shadows N"),
        (("rmia",), {"shadows": 5}, "even and at least 4.*got 5"),
        (("loss",), {"members": 0}, "at least 1 a shard"),
    ],
)
def test_plans_that_cannot_be_are_refused(attacks: tuple[str, ...], options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AttackPlan(attacks, **options)


def test_what_a_workspace_cannot_give_is_named_at_once() -> None:
    beyond = [name for name in ATTACKS if name not in SERVED]
    with pytest.raises(InputError) as caught:
        AttackPlan(("loss", *beyond))
    for name in beyond:
        assert f"{name} needs {ATTACKS[name].card.needs[0]}" in str(caught.value)
    assert "unlearn.audit.attacks.gradient_norm.gradient_norm_score" in str(caught.value)
    assert "loss needs" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"held_out": records([*THERE, 100])}, "1 of the 61 held-out records .'row-100'. are in .* never came"),
        ({"held_out": records([*THERE, 5])}, "1 of the 61 held-out records .'row-5'. are in .*"),
        ({"held_out": records(range(N - 6, N))}, "3 held-out subjects are too few"),
        ({"presented": records(range(12))}, "6 forgotten subjects are too few"),
        ({"permutations": 19, "tossed": True}, "2 hypotheses at alpha 0.05 need p-values of 0.025: draw at least 39"),
    ],
)
def test_what_cannot_be_tested_is_refused(honest: Workspace, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        attacked(honest, **options)


def test_held_out_records_without_attacks_are_refused(honest: Workspace) -> None:
    with pytest.raises(InputError, match="held-out records are for attacks"):
        honest.audit(records(range(GONE)), held_out=records(THERE))


def test_before_recovery_nothing_is_attacked(tmp_path: Path) -> None:
    workspace = make(tmp_path / "w")
    workspace.forget(PEOPLE[:GONE])
    with pytest.raises(InputError, match=r"not recovered.*run `unlearn recover`"):
        attacked(workspace)


def test_numbers_are_not_attacked(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "w", RidgeLearner(), n_shards=2, task="regression", executor=Here())
    workspace.ingest(X[:40], Y[:40].astype(float), subjects=PEOPLE[:40])
    workspace.train()
    with pytest.raises(InputError, match="predicts numbers"):
        workspace.audit(X[:40], Y[:40].astype(float), subjects=PEOPLE[:40], attacks=["loss"])


def test_merged_states_and_votes_are_served_as_they_are(tmp_path: Path) -> None:
    for name, options in {"merged": {"learner": RidgeLearner()}, "votes": {"aggregation": "vote"}}.items():
        workspace = make(tmp_path / name, **options)
        forget(workspace)
        found = attacked(workspace, "loss", "lira_offline_fixed", shadows=4)
        direct = loss_score(workspace.predict_proba(X[THERE.start :]), Y[THERE.start :])
        assert found.samples["loss"].non_members.mean() == pytest.approx(direct.mean())
        workspace.close()


def test_shadow_models_are_ensembles_of_halves() -> None:
    """Each is what training by hand on its half, shard by shard, gives."""
    n, models, seed = 40, 4, 9
    task = Task("classification", {"x": FieldSchema((6,), "<f4")}, FieldSchema((), "<i8"), (0, 1, 2))
    subjects = np.arange(n) // 2
    tokens = np.arange(16 * n, dtype=np.int64).astype(np.uint8).reshape(n, 16)
    told: list[tuple[int, int]] = []
    asked = KNN.prepare({"x": X[: 2 * n]}, task)
    said, membership = shadow_outputs(
        Recipe(KNN, task, "mean", 3),
        StepData({"x": X[:n]}, Y[:n], tokens),
        subjects,
        models,
        seed,
        asked,
        lambda done, of: told.append((done, of)),
    )
    assert (membership == half_splits(models, n // 2, seed)[:, subjects]).all()
    assert told[-1] == (3 * models, 3 * models)
    for number in range(models):
        places = shadow_places(3, n // 2, seed, number)[subjects]
        members = []
        for shard in range(3):
            rows = np.flatnonzero(membership[number] & (places == shard))
            if not len(rows):
                continue  # it abstains
            data = StepData({"x": X[rows]}, Y[rows], tokens[rows])
            context = StepContext(task, model_seed(seed, number), shard, 0, KNN.visits(len(rows), 1))
            members.append(Member(shard, len(rows), KNN.predictor(KNN.train_step(None, data, context), task)))
        assert (said[number] == combine(members, "mean", asked)).all()
    assert not (said[0] == said[1]).all()


def test_held_out_subjects_go_where_their_risk_class_would_have_put_them(tmp_path: Path) -> None:
    """Shards 0 and 1 are of the first class, 2 and 3 of the second: attacks on shards look there."""
    regions = {"often": Region(shards=range(2)), "seldom": Region(shards=range(2, S))}
    risk = np.where(np.arange(N) // 2 % 2 == 0, "often", "seldom").tolist()
    workspace = Workspace.create(
        tmp_path / "w", KNN, n_shards=S, classes=[0, 1, 2], random_state=3, risk_classes=regions, executor=Here()
    )

    def classed(rows: Sequence[int]) -> Records:
        return replace(records(rows), risks=tuple(risk[i] for i in rows))

    workspace.ingest(classed(HERE))
    workspace.train()
    forget(workspace)
    found = attacked(workspace, "shard_lira", presented=classed(range(GONE)), held_out=classed(THERE))
    assert found.verdict == "not refuted"
    site = workspace._site
    names = [PEOPLE[i] for i in THERE]
    shards, _ = place_subjects(site.keys.placement, names, S, 1, [regions[risk[i]] for i in THERE])
    parts = np.stack(
        [
            site.learner.predictor(site.folder(step.shard).load(step.key).state, site.task())({"x": X[THERE.start :]})
            for step in sorted(site.ledger.served()[1], key=lambda step: step.shard)
        ]
    )
    scores = shard_lira(parts, Y[THERE.start :], shards)
    assert np.sort(found.samples["shard_lira"].non_members) == pytest.approx(
        np.sort(scores.reshape(-1, 2).mean(axis=1))
    )
    with pytest.raises(InputError, match="risk class"):
        attacked(workspace, "loss", presented=classed(range(GONE)))
