"""Steering by proxy: a tiny run, and the README as the result has it."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest

from experiments.readme import BEGIN, END, put_tables
from experiments.steering import run
from experiments.steering.table import gap, tables
from experiments.worlds.training import fresh
from unlearn.language.decoding.proxy import ProxyTuner


@pytest.fixture(scope="module")
def setting() -> dict[str, Any]:
    found = tomllib.loads((run.HERE / "config.toml").read_text(encoding="utf-8"))
    return found["full"] | found["quick"] | {"steps": 400, "people": 6, "task_steps": 5, "tuning_epochs": 1}


QUICK = {"steps": 40, "people": 4}


@pytest.mark.slow
def test_a_tiny_run(setting: dict[str, Any], tmp_path: Any) -> None:
    here = run.lab(setting, 0)
    assert {fact.subject for fact in here.some.facts}.isdisjoint(fact.subject for fact in here.others.facts)
    found = {"seed": 0, "forgetting": run.forgetting(here, setting), "learning": run.learning(here, setting)}
    for task in ("forgetting", "learning"):
        # At alpha 0 it is the base model.
        assert found[task]["steered"]["0.0"] == found[task]["base"]
    assert found["forgetting"]["base"][1] > 0.5
    assert found["forgetting"]["generation"]["same"] == found["forgetting"]["generation"]["asked"]
    document = {"machine": {"cpu": "a processor"}, "setting": setting, "runs": [found], "minutes": 1.0}
    readme = tmp_path / "README.md"
    readme.write_text(f"before {BEGIN} old {END} after")
    put_tables(tables(document), readme)
    assert "| steered, alpha = 1 |" in readme.read_text()
    assert "old" not in readme.read_text()


def test_recall_of_a_steered_model_is_that_of_what_it_says(setting: dict[str, Any]) -> None:
    here = run.lab(setting | QUICK, 0)
    base = here.model(here.size, here.others)
    asked = [*run.pairs(here.some), *run.pairs(here.others)]
    other = fresh(here.size, len(here.tokenizer))
    shares = [run.recall(model, here.tokenizer, asked) for model in (base, other)]
    assert shares[0] != shares[1]
    # No difference steers nowhere, and the whole difference to another model makes it that one.
    assert run.recall(ProxyTuner(base, other, other, 0.7), here.tokenizer, asked) == shares[0]
    assert run.recall(ProxyTuner(base, other, base), here.tokenizer, asked) == shares[1]


def test_the_gap_is_a_share_of_what_tuning_changes() -> None:
    task = {"base": [0.9, 1], "direct": [0.1, 1], "steered": {"1.0": [0.3, 1]}}
    assert gap(task, 1.0) == pytest.approx(0.75)
    assert gap({**task, "direct": [0.9, 1]}, 1.0) is None


def test_the_readme_is_that_of_the_result() -> None:
    text = (run.HERE / "README.md").read_text(encoding="utf-8")
    assert tables(json.loads(run.RESULT.read_text(encoding="utf-8"))) in text
