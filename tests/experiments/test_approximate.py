"""The table of approximate methods, with almost no work: its cells, its choice of configurations, its tables."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments.approximate import cases, lab, run, table, tuning, ulira
from experiments.approximate.cases import Case
from experiments.approximate.lab import FIGURES, Lab, called_members
from experiments.approximate.orderings import ORDERINGS
from experiments.approximate.plot import draw
from experiments.approximate.run import REFERENCES, Results, read_setting
from experiments.approximate.table import COLUMNS, ELSEWHERE, tables, unmeasured
from unlearn.audit.metrics.roc import tpr_at_fpr
from unlearn.errors import InputError
from unlearn.methods import METHODS
from unlearn.methods.base import Examples

SUBJECTS, EACH = 30, 8

DATA = {"source": "made up", "kind": "subjects", "forgotten": 2, "hidden": 6, "training": {"epochs": 2}}

TINY: dict[str, Any] = {
    "seeds": [0, 1],
    "tuning_seed": 100,
    "trials": 2,
    "attacked": 30,
    "data": {"some": DATA},
    "successive": {"data": "some", "seed": 0, "each": 2, "requests": 3, "judged_after": [1, 3]},
    "ulira": {"data": "some", "pool": 0, "models": 4, "folds": 2, "fpr": 0.1, "resamples": 20},
    "fixed": {"batch_size": 32},
    "spaces": {
        "fine_tune": {"learning_rate": {"log": [0.01, 0.1]}, "epochs": {"among": [1, 2]}},
        "ssd": {"selection": {"even": [1.0, 1.1]}},
        "scrub_rewind": {"epochs": {"among": [3]}},
        "amnesiac": {"epochs": {"among": [1]}},
        "gradient_ascent": {"learning_rate": {"among": [1e30]}},  # every configuration of it fails
    },
}


def made_up(options: dict[str, Any]) -> Case:
    rng = np.random.default_rng(0)
    n = SUBJECTS * EACH
    y = np.arange(3 * n) % 3
    x = torch.from_numpy(rng.normal(size=(3 * n, 4)) + np.eye(3, 4)[y]).float()
    parts = [Examples(x[a * n : a * n + n], torch.from_numpy(y[a * n : a * n + n])) for a in range(3)]
    train = Examples(parts[0].inputs, parts[0].targets, tuple(range(n)))
    return Case(train, np.repeat(np.arange(SUBJECTS), EACH), parts[1], parts[2], 3, options)


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Measures what is missing in `result.json`, and tells which cells that were."""
    monkeypatch.setattr(run, "read", made_up)
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)

    def measure(setting: dict[str, Any] = TINY) -> list[str]:
        said: list[str] = []
        assert run.run(
            Results(tmp_path / "result.json", setting), setting, run.PARTS, said.append, data=list(setting["data"])
        )
        return [line.split()[-1] for line in said]

    return measure


def test_every_cell_is_measured_once_and_what_changed_again(measured: Callable[..., list[str]], tmp_path: Path) -> None:
    first = measured()
    whole = ("fine_tune", "ssd", "scrub_rewind", "amnesiac")
    wanted = {f"some.{row}.{seed}" for row in (*REFERENCES, *whole) for seed in (0, 1)}
    wanted |= {f"some.{method}.tuning" for method in TINY["spaces"]}
    wanted |= {f"{part}.{row}" for part in ("successive", "ulira") for row in ("original", "retrain_again", *whole)}
    assert set(first) == wanted
    assert len(first) == len(wanted)
    cells = json.loads((tmp_path / "result.json").read_text())["cells"]
    for name in wanted - {name for name in wanted if name.split(".")[0] != "some" or "tuning" in name}:
        assert all(math.isfinite(cells[name][figure]) for figure in FIGURES)
    assert cells["some.retrain.0"]["gap"] == cells["some.retrain.0"]["kl"] == 0
    assert cells["some.gradient_ascent.tuning"]["chosen"] is None
    assert all("failed" in one for one in cells["some.gradient_ascent.tuning"]["tried"])
    tried = cells["some.fine_tune.tuning"]["tried"]
    assert cells["some.fine_tune.tuning"]["chosen"] == min(tried, key=lambda one: one["gap"])["values"]
    assert set(cells["successive.ssd"]["points"]) == {"1", "3"}

    assert measured() == []
    space = TINY["spaces"] | {"ssd": {"selection": {"even": [1.0, 1.05]}}}
    assert set(measured(TINY | {"spaces": space})) == {
        "some.ssd.tuning",
        "some.ssd.0",
        "some.ssd.1",
        "successive.ssd",
        "ulira.ssd",
    }

    picture = draw(tmp_path / "result.json")
    assert all(f"<!-- {row} -->".encode() in picture.read_bytes() for row in ("original", *whole))
    text = tables(json.loads((tmp_path / "result.json").read_text()))
    assert "| **retraining** |" in text
    assert "Failed in every configuration: gradient_ascent." in text
    # The mean over the two seeds, to one digit, beside its deviation.
    ua = [cells[f"some.fine_tune.{seed}"]["ua"] for seed in (0, 1)]
    assert f"| `fine_tune` | {np.mean(ua):.1f} ± {np.std(ua, ddof=1):.1f} |" in text


def test_what_is_tuned_on_is_judged_nowhere_and_seeds_share_nobody() -> None:
    case = made_up(DATA)
    blocks = [set(case.subject[case.forgotten(block)].tolist()) for block in (0, 1, 2, -1)]
    assert all(len(block) == 2 for block in blocks)
    assert len(set.union(*blocks)) == 8
    classes = made_up(DATA | {"kind": "class", "forgotten": 1})
    found = [
        classes.train.targets[torch.from_numpy(classes.forgotten(block))].unique().tolist() for block in (0, 1, -1)
    ]
    assert found == [[0], [1], [2]]


def test_labs_of_all_seeds_and_of_tuning_forget_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "read", made_up)
    labs = run.Labs(TINY)
    forgotten = [set(np.flatnonzero(labs.lab("some", seed).forgotten).tolist()) for seed in (0, 1, 100)]
    assert len(set.union(*forgotten)) == sum(map(len, forgotten)) == 3 * 2 * EACH


def test_a_model_that_remembers_is_found_out_by_the_attack() -> None:
    training = {"epochs": 150, "batch_size": 16, "learning_rate": 0.1}
    case = made_up(DATA | {"hidden": 64, "training": training})
    made = Lab(case, 0, case.forgotten(0), 200)
    figures = made.judge(made.original, 1.0)
    assert figures["mia"] < made.reference.mia * 100 - 20
    assert figures["ua"] < made.reference.ua * 100
    gaps = [abs(figures[name] - 100 * getattr(made.reference, name)) for name in ("ua", "ra", "ta", "mia")]
    assert figures["gap"] == pytest.approx(np.mean(gaps))
    assert figures["time"] == pytest.approx(1 / made.retrained[1])


def test_a_model_that_says_nothing_finite_has_failed() -> None:
    made = Lab(made_up(DATA), 0, made_up(DATA).forgotten(0), 30)
    broken = made.original
    with torch.no_grad():
        for name in ("0.weight", "2.weight"):
            broken.get_parameter(name).fill_(1e38)
    with pytest.raises(InputError, match="not finite"):
        made.judge(broken, 1.0)
    # Noise is added to such weights without a word; it is the judge who finds out.
    assert run.apply("fisher_forgetting", {"noise": 0.0}, made, {}, {}) == {
        "failed": "the outputs are not finite any more"
    }


def test_making_the_original_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    for name in ("train", "timed"):
        plain = getattr(lab, name)
        for module in (lab, run):
            if hasattr(module, name):
                monkeypatch.setattr(
                    module, name, lambda *given, name=name, plain=plain: steps.append(name) or plain(*given)
                )
    made = Lab(made_up(DATA), 0, made_up(DATA).forgotten(0), 30)
    run.apply("fine_tune", {}, made, {}, {})
    # The original, the method, and then the retrained model that it is judged by.
    assert steps == ["train", "timed", "timed", "train"]


def test_recording_changes_nothing_of_a_training() -> None:
    made = Lab(made_up(DATA), 0, made_up(DATA).forgotten(0), 30)
    recorder = made.recorded()
    assert recorder._model is not made.original
    for ours, theirs in zip(recorder._model.parameters(), made.original.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_class_that_is_forgotten_is_not_tested() -> None:
    case = made_up(DATA | {"kind": "class", "forgotten": 1})
    made = Lab(case, 0, case.forgotten(1), 30)
    assert set(made.forget.targets.tolist()) == {1}
    assert set(made.test.targets.tolist()) == set(made.retain.targets.tolist()) == {0, 2}


def test_models_of_u_lira_share_who_is_forgotten_and_draw_the_others() -> None:
    case = made_up(DATA)
    forgotten = case.forgotten(0)
    setting = {"models": 2, "folds": 2, "fpr": 0.1, "resamples": 10}
    population = ulira.Population(case, forgotten, 60, setting)
    labs = [population.lab(number) for number in range(6)]
    whose = [set(made.case.train.ids or ()) for made in labs]
    assert all(set(np.flatnonzero(forgotten).tolist()) <= rows and len(rows) == 60 + forgotten.sum() for rows in whose)
    assert len({frozenset(rows) for rows in whose}) == len({made.seed for made in labs}) == 6
    assert set(labs[0].forget.ids or ()) == set(np.flatnonzero(forgotten).tolist())
    # Who is compared with was never shown what is forgotten, and is nobody's original.
    assert population.retrained().shape == (2, forgotten.sum())
    assert set(population._retrained) == {2, 3}
    population.confidences("retrain_again", {}, {})
    assert set(population._retrained) == {2, 3, 4, 5}


def test_u_lira_judges_each_model_by_distributions_of_the_others() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(1, 1, (6, 5)), rng.normal(0, 2, (6, 5))
    inside, outside = ulira.scores(ours, theirs, 3)

    def density(value: float, sample: np.ndarray) -> float:
        return -math.log(sample.std()) - (value - sample.mean()) ** 2 / (2 * sample.var())

    rest = [0, 1, 4, 5]  # models 2 and 3 are the second fold
    for found, of in ((inside, ours), (outside, theirs)):
        for record in range(5):
            value = of[3, record]
            wanted = density(value, ours[rest, record]) - density(value, theirs[rest, record])
            assert found[3, record] == pytest.approx(wanted)


def test_u_lira_finds_what_differs_and_nothing_where_nothing_does() -> None:
    rng = np.random.default_rng(1)
    theirs = rng.normal(size=(40, 50))
    for shift, low, high in ((0.0, 0.001, 0.03), (3.0, 0.5, 0.95)):
        inside, outside = ulira.scores(shift + rng.normal(size=(40, 50)), theirs, 8)
        value = tpr_at_fpr(ulira._sample(inside, outside), 0.01).value
        least, most = ulira.interval(inside, outside, 0.01, 300)
        assert value is not None
        assert low < least < value < most < high


def test_the_interval_of_u_lira_is_around_the_point_that_the_auditor_reads() -> None:
    scores = np.random.default_rng(2).normal(size=(2, 1, 300))
    inside, outside = scores[0] + 1, scores[1]
    value = tpr_at_fpr(ulira._sample(inside, outside), 0.01).value
    assert ulira.interval(inside, outside, 0.01, 5) == (value, value)  # one model can only be drawn as it is


def test_the_attack_calls_members_who_are_as_sure_as_members() -> None:
    rng = np.random.default_rng(0)
    retain, test = rng.uniform(0.8, 1, 200), rng.uniform(0.1, 0.5, 150)
    forget = np.array([0.9, 0.95, 0.2, 0.3])
    assert called_members(forget, retain, test, 100).tolist() == [True, True, False, False]


def test_configurations_are_drawn_within_their_ranges_and_always_the_same() -> None:
    space = {"a": {"log": [1e-4, 1.0]}, "b": {"even": [2.0, 3.0]}, "c": {"among": [5, 7]}}
    drawn = [tuning.draw(space, np.random.default_rng(seed)) for seed in range(200)]
    a = np.array([one["a"] for one in drawn])
    assert ((a >= 1e-4) & (a <= 1)).all()
    assert 0.35 < (a < 1e-2).mean() < 0.65  # half of the range of logarithms
    assert all(2 <= one["b"] <= 3 for one in drawn)
    assert {one["c"] for one in drawn} == {5, 7}
    setting = read_setting(quick=False)
    assert tuning.trials("ssd", setting) == tuning.trials("ssd", setting)
    assert tuning.trials("ssd", setting)[0] != tuning.trials("jit", setting)[0]


def test_every_method_may_try_as_many_configurations_and_all_are_valid() -> None:
    setting = read_setting(quick=False)
    assert set(unmeasured(setting)) == {"retrain", *ELSEWHERE}  # the reference, and what is for other models
    for method in setting["spaces"]:
        tried = tuning.trials(method, setting)
        assert len(tried) == setting["trials"] == 8
        for values in tried:
            config = tuning.configuration(method, values, setting["fixed"], 1)
            assert isinstance(config, METHODS[method].config)
            assert hash(config) == hash(tuning.configuration(method, values, setting["fixed"], 1))  # no lists in it


def test_orderings_are_of_rows_that_are_measured() -> None:
    setting = read_setting(quick=False)
    rows = {*setting["spaces"], *REFERENCES}
    assert {ordering.method for ordering in ORDERINGS} == set(setting["spaces"])
    for ordering in ORDERINGS:
        assert {ordering.less, ordering.more} <= rows


def test_methods_without_an_ordering_that_holds_are_named() -> None:
    setting = read_setting(quick=False)
    rows = [*setting["spaces"], *REFERENCES]
    # Each row has more of everything than the one before it, and all orderings are judged by that.
    means = {row: dict.fromkeys(COLUMNS, float(place)) for place, row in enumerate(rows)}
    failing = {one.method for one in ORDERINGS} - {
        one.method for one in ORDERINGS if rows.index(one.less) < rows.index(one.more)
    }
    said = table._unconfirmed([means, {}])
    assert {name for name in METHODS if f"`{name}`" in said} == failing
    assert failing


def test_the_networks_fit_their_data() -> None:
    """Otherwise nothing tells what was learnt from what was not."""
    cells = json.loads((Path(run.__file__).parent / "result.json").read_text(encoding="utf-8"))["cells"]
    setting = read_setting(quick=False)
    for name in setting["data"]:
        assert all(cells[f"{name}.original.{seed}"]["ra"] >= 95 for seed in setting["seeds"])


def test_the_readme_is_that_of_the_result() -> None:
    here = Path(run.__file__).parent
    text = (here / "README.md").read_text(encoding="utf-8")
    if (here / "result.json").exists():
        document = json.loads((here / "result.json").read_text(encoding="utf-8"))
        assert tables(document) in text


def test_the_real_data_is_as_described() -> None:
    if not (cases.location30.__globals__["DATA"] / "location30").is_dir():
        pytest.skip("needs the data: UNLEARN_DATA/location30")
    case = cases.read(read_setting(quick=False)["data"]["location"])
    assert case.train.inputs.shape == (2000, 446)
    assert (len(case.test), len(case.held_out), case.n_classes) == (1500, 600, 30)
    assert lab.probabilities(case.network(0), case.test).shape == (1500, 30)
