"""Steering by proxy: tiny runs of every part, cells that are measured once, and the README as the result has it."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from experiments.readme import BEGIN, END, put_tables
from experiments.steering import adaptations, people, run
from experiments.steering.asking import perplexity, recall, texts
from experiments.steering.cost import cost, in_turn
from experiments.steering.plot import draw
from experiments.steering.sweep import Models, gap, swept
from experiments.steering.table import COLUMNS, PAIRS, found_of, pooled, tables, welch
from experiments.tofu.training import teach
from experiments.worlds.facts import tokenizer_of
from experiments.worlds.training import Size, fresh
from unlearn.language.decoding.proxy import ProxyTuner
from unlearn.language.metrics import answer_log_probability

SMALL = Size(width=16, layers=2, learning_rate=1e-2, steps=60, batch=8)
ASKED = (("a b", "c d <eos>"), ("b c", "d a <eos>"), ("c d", "a b <eos>"))


@pytest.fixture(scope="module")
def setting() -> dict[str, Any]:
    return run.read_setting(quick=True)


@pytest.fixture(scope="module")
def known() -> tuple[torch.nn.Module, torch.nn.Module, Any]:
    """A model that knows three answers, one that knows nothing, and their tokenizer."""
    tokenizer = tokenizer_of(["a b c d"])
    model, other = fresh(SMALL, len(tokenizer)), fresh(SMALL, len(tokenizer)).eval()
    teach(model, tokenizer, ASKED, SMALL)
    return model.eval(), other, tokenizer


@pytest.mark.slow
def test_a_tiny_run(
    setting: dict[str, Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "steering.json"
    document = run.read(path) | {"setting": setting}
    run.measure(document, setting, -math.inf, path)
    assert not path.exists(), "no cell is begun when time is up"
    run.measure(document, setting, math.inf, path)
    assert len(capsys.readouterr().out.splitlines()) == len(list(run.cells(setting))) == 2 + 6
    for part in COLUMNS:
        cell = document["cells"][f"{part}/0"]
        for found in [cell[pair] for pair in PAIRS] if part == "learning" else [cell]:
            # At alpha 0 it is the base model.
            assert found["steered"]["0.0"] == pytest.approx(found["base"], rel=1e-4)
    readme = tmp_path / "README.md"
    readme.write_text(f"before {BEGIN} old {END} after")
    put_tables(tables(run.read(path)), readme)
    assert "| steered, alpha = 1 |" in readme.read_text()
    assert "old" not in readme.read_text()
    assert draw(path).read_text().startswith("<?xml")
    # What was measured is not measured again, but if what decides it has changed.
    monkeypatch.setattr(run, "measured", lambda cell, decides: {"again": 1})
    changed = setting | {"task": setting["task"] | {"steps": 31}}
    run.measure(run.read(path), changed, math.inf, path)
    again = [cell for cell, found in json.loads(path.read_text())["cells"].items() if "again" in found]
    assert again == ["task/0"]


@pytest.mark.parametrize("name", list(adaptations.ADAPTATIONS))
def test_no_question_was_in_tuning_and_every_word_has_a_kind(setting: dict[str, Any], name: str) -> None:
    made = adaptations.ADAPTATIONS[name](setting[name], 0)
    tuned = {f"{prompt} {answer}" for prompt, answer in made.tuning}
    assert not tuned & {f"{prompt} {answer}" for prompt, answer in made.traced}
    if name != "domain":
        assert not {prompt for prompt, _ in made.tuning} & {prompt for prompt, _ in made.traced}
    assert {len(made.kinds(answer)) == len(answer.split()) for _, answer in made.traced} == {True}


def test_a_tiny_adaptation(setting: dict[str, Any]) -> None:
    small = setting["task"] | {"asked": 3, "steps": 12, "tuning_steps": 11}
    found = adaptations.adapted("task", small, [0.0, 1.0], 0)
    assert found["steered"]["0.0"] == found["base"]
    assert {kind: one["count"] for kind, one in found["shifts"].items()} == {
        "left": 18, "frame": 18, "right": 6, "result": 6,
    }  # fmt: skip


def test_a_helper_is_distilled_towards_what_the_base_model_says(setting: dict[str, Any]) -> None:
    here = people.lab(setting["people"] | {"people": 4}, 0)
    base = here.taught(fresh(here.size, len(here.tokenizer)), here.size)
    helper = fresh(here.small, len(here.tokenizer)).eval()
    near = people.distilled(helper, base, here, here.small)
    asked = torch.stack([torch.tensor(here.tokenizer(people.pairs(here.some)[0][0])["input_ids"])])

    def apart(model: torch.nn.Module) -> float:
        with torch.no_grad():
            said, wanted = (one(asked).logits.log_softmax(-1) for one in (model, base))
        return float((wanted.exp() * (wanted - said)).sum(-1).mean())

    assert apart(near) < 0.8 * apart(helper)


def test_recall_of_a_steered_model_is_that_of_what_it_says(
    known: tuple[torch.nn.Module, torch.nn.Module, Any],
) -> None:
    model, other, tokenizer = known
    assert recall(model, tokenizer, ASKED) == 1
    assert recall(other, tokenizer, ASKED) == 0
    # No difference steers nowhere, and the whole difference to another model makes it that one.
    assert recall(ProxyTuner(model, other, other, 0.7), tokenizer, ASKED) == 1
    assert recall(ProxyTuner(model, other, model), tokenizer, ASKED) == 0
    assert recall(ProxyTuner(other, model, other), tokenizer, ASKED) == 1


def test_perplexity_and_texts(known: tuple[torch.nn.Module, torch.nn.Module, Any]) -> None:
    model, other, tokenizer = known
    for one in (model, other):
        each = answer_log_probability(one, tokenizer, ASKED)
        assert perplexity(one, tokenizer, ASKED) == pytest.approx(math.exp(-float(each.sum()) / 9), rel=1e-5)
        assert perplexity(ProxyTuner(other, one, other), tokenizer, ASKED) == pytest.approx(
            perplexity(one, tokenizer, ASKED), rel=1e-3
        )
    prompts = [prompt for prompt, _ in ASKED]
    assert texts(model, tokenizer, prompts, 4) == [["c d"], ["d a"], ["a b"]]
    assert texts(ProxyTuner(other, model, other), tokenizer, prompts, 4) == [["c d"], ["d a"], ["a b"]]
    drawn = texts(other, tokenizer, prompts, 4, samples=8, seed=3)
    assert [len(some) for some in drawn] == [8, 8, 8]
    assert drawn == texts(other, tokenizer, prompts, 4, samples=8, seed=3)
    assert len(set(drawn[0])) > 4


def test_a_sweep_measures_every_model() -> None:
    base, antiexpert, expert, direct = (fresh(SMALL, 8) for _ in range(4))
    models = Models(base, antiexpert, expert, direct)
    names = {id(model): name for name, model in vars(models).items()}
    found = swept(models, [0.0, 2.0], lambda model: {"said": names.get(id(model), getattr(model, "rule", None))})  # type: ignore[dict-item]
    assert [found[name]["said"] for name in names.values()] == list(names.values())
    assert [found["steered"][alpha]["said"].alpha for alpha in ("0.0", "2.0")] == [0.0, 2.0]


def test_the_gap_is_a_share_of_what_tuning_changes() -> None:
    found = {"base": {"x": 0.9}, "direct": {"x": 0.1}, "steered": {"1.0": {"x": 0.3}}}
    assert gap(found, 1.0, "x") == pytest.approx(0.75)
    assert gap({**found, "direct": {"x": 0.9}}, 1.0, "x") is None


def test_pooled_shifts_are_those_of_one_sample() -> None:
    rng = np.random.default_rng(0)
    samples = [rng.normal(at, 1, size) for at, size in ((0, 40), (1, 60))]
    runs = [
        {"left": {"count": len(some), "base": float(at), "shift": float(some.mean()), "sd": float(some.std())}}
        for at, some in enumerate(samples)
    ]
    found, everything = pooled(runs, "left"), np.concatenate(samples)
    assert (found["count"], found["base"]) == (100, pytest.approx(0.6))
    assert (found["shift"], found["sd"]) == (pytest.approx(everything.mean()), pytest.approx(everything.std()))
    one, other = ({"count": n, "shift": m, "sd": s} for n, m, s in ((100, 0.5, 1.0), (25, 0.0, 2.0)))
    assert welch(one, other) == pytest.approx(0.5 / math.sqrt(0.01 + 0.16))


def test_models_in_turn_say_what_they_say_alone(known: tuple[torch.nn.Module, torch.nn.Module, Any]) -> None:
    model, other, tokenizer = known
    ids = torch.tensor(tokenizer(["a b", "b c"])["input_ids"])
    for one, found in zip((model, other), in_turn((model, other), ids, 3), strict=True):
        slow = ids
        for _ in range(3):
            slow = torch.cat([slow, one(slow).logits[:, -1:].argmax(-1)], 1)
        assert found.tolist() == slow.tolist()


def test_cost_is_measured() -> None:
    found = cost({"base": [16, 2], "helper": [8, 1], "vocabulary": 20, "tokens": 3, "runs": 1})
    assert found["ratio"] == pytest.approx(found["steered"] / found["apart"])
    assert found["ratio_in_turn"] == pytest.approx(found["steered"] / found["in_turn"])


def test_the_readme_and_the_picture_are_those_of_the_result() -> None:
    document = json.loads(run.RESULT.read_text(encoding="utf-8"))
    assert tables(document) in (run.HERE / "README.md").read_text(encoding="utf-8")
    assert set(document["cells"]) == {cell for cell, _ in run.cells(run.read_setting(quick=False))}


def test_what_is_said_beside_the_tables_is_so() -> None:
    document = json.loads(run.RESULT.read_text(encoding="utf-8"))
    text = " ".join((run.HERE / "README.md").read_text(encoding="utf-8").split())

    def means(part: str, name: str) -> list[float]:
        runs = found_of(document, part)
        return [float(np.mean([of[name] for of in some])) for some in zip(*map(_steered_and_direct, runs), strict=True)]

    assert "right values ({:.2f} at alpha 1, tuned directly {:.2f})".format(*means("style", "right")) in text
    assert "before the programs ({:.2f}, and {:.2f})".format(*means("domain", "facts")) in text
    assert all(cell["ratio"] < 1.1 for name, cell in document["cells"].items() if name.startswith("cost/"))


def _steered_and_direct(found: Any) -> tuple[Any, Any]:
    return found["steered"]["1.0"], found["direct"]
