"""READMEs of experiments state what their result files hold."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from experiments.readme import HERE, fill, listed, made, measured, prose, put_tables, reported, source, table, values

GOAL = {"at_least": None, "at_most": 2000, "passed": True}
DOCUMENT = {
    "command": "python -m experiments.why",
    "seconds": 119.0,
    "load_before": [3.2, 1.0, 1.0],
    "load_after": [1.1, 1.0, 1.0],
    "machine": {"cores": 2},
    "figures": [
        {"name": "a", "what": "p(x|y)", "value": 1234.4, "unit": "ms", **GOAL},
        {"name": "b", "what": "a share", "value": 0.12345, "unit": "share", **GOAL, "at_most": None, "passed": None},
    ],
}

STATED: dict[str, str] = {
    "audit_planted": "honest deletions are refuted in {honest|.0%} of audits at a nominal 5 %, and one shard of ten "
    "that was not retrained was found in {one_shard_kept|.0%} of {trials|.0f} trials with {deletions|.0f} deletions",
    "audit_calibration": "our bounds raise false alarms in {ours least|.0f} to {ours most|.0%} of audits of exact "
    "unlearning, where best-in-hindsight rules raise them in {theirs least|.0f} to {theirs most|.0%}",
    "influence": "took {least|.0f} to {most|.0f} times less processor time than retraining it by L-BFGS",
    "forget_exact": "With public features of images ridge reaches {accuracy|.0%} on MNIST",
    "frozen_heads": "20 shards of heads lose {heads|.1f} points on MNIST's writers against one model, where networks "
    "lose {networks|.1f}",
}
"""What the repository's README states of experiments."""

BESIDE = {
    ("adapters", "frozen_heads"): "features that fit the task lose {heads|.1f} points in 20 shards",
    ("emulation", "emulation"): "{below|.0f} points below the data at epsilon 1",
    ("attack_strength", "attack_strength"): "LiRA finds {times|.0f} times more people there",
}
"""What a README (the first) states of an experiment (the second) beside what is made."""


def stated(name: str, result: Mapping[str, Any]) -> dict[str, float]:
    """The figures that the statement is made of, by the names it has for them."""
    if name == "audit_calibration":
        rates: dict[str, list[float]] = {"ours": [], "theirs": []}
        for row in result["rates"]:
            # A test of exactness bounds nothing, and a score that is never 0 is a rule of another kind.
            if row["setting"] == "exact unlearning" and row["rule"] not in (
                "exact, permutation test",
                "NeurIPS 2023 score's epsilon",
            ):
                rates["ours" if row["group"] == "ours" else "theirs"].append(row["rate"])
        least = {f"{whose} least": 100 * min(found) for whose, found in rates.items()}
        return least | {f"{whose} most": max(found) for whose, found in rates.items()}
    found = values(result)
    if name == "audit_planted":
        interval = next(one["what"] for one in result["figures"] if one["name"] == "honest")
        found["trials"] = float(re.findall(r"(\d+) of them", interval)[0])
        found["deletions"] = result["setting"]["deletions"]
    if name == "influence":
        times = [found[f"speed.{m}.ratio_cold"] for m in result["setting"]["speed"]["sizes"]]
        found |= {"least": round(min(times), -2), "most": round(max(times), -2)}
    if name == "frozen_heads":
        found |= {kind: 100 * found[f"writers.{kind}.slices_1.lost"] for kind in ("heads", "networks")}
    return found


@pytest.mark.parametrize("name", STATED)
def test_the_repositorys_readme_states_what_was_measured(name: str) -> None:
    result = json.loads((HERE / name / "result.json").read_text(encoding="utf-8"))
    text = " ".join((HERE.parent / "README.md").read_text(encoding="utf-8").split())
    assert fill(STATED[name], stated(name, result)) in text
    assert f"experiments.{name}" in text or f"experiments/{name}" in text


@pytest.mark.parametrize(("readme", "name"), BESIDE, ids="-".join)
def test_what_is_said_beside_the_tables_is_so(readme: str, name: str) -> None:
    result = json.loads((HERE / name / "result.json").read_text(encoding="utf-8"))
    figures = stated(name, result)
    if name == "emulation":
        figures["below"] = 100 * (figures["real"] - figures["image.1"])
    if name == "attack_strength":
        figures["times"] = round(figures["location.lira_online.tpr_0.1"] / figures["location.loss.tpr_0.1"], -1)
    text = " ".join((HERE / readme / "README.md").read_text(encoding="utf-8").split())
    assert fill(BESIDE[readme, name], figures) in text


@pytest.mark.parametrize("name", reported())
def test_the_readme_is_current(name: str) -> None:
    """If not: python -m experiments.readme."""
    assert measured(HERE / name / "README.md") == made(name).strip()


def test_every_result_is_told_by_its_readme_but_the_picture() -> None:
    results = {path.parent.name for path in HERE.glob("*/result.json")}
    assert results - set(reported()) == {"bench_growth"}
    assert "](result.svg)" in (HERE / "bench_growth" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", reported())
def test_no_table_of_decimals_stands_beside_what_is_made(name: str) -> None:
    """A table by hand has words, settings and goals; two decimal fractions in a row are measured."""
    text = (HERE / name / "README.md").read_text(encoding="utf-8").replace(measured(HERE / name / "README.md"), "")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert [row for row in rows if len(re.findall(r"\| +[0-9]+\.[0-9]+\b", row)) > 1] == []


def test_tables_are_put_between_the_marks(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("# Why?\n\n<!-- measured: begin -->\nold\n<!-- measured: end -->\nafter\n")
    put_tables("new", readme)
    assert readme.read_text() == "# Why?\n\n<!-- measured: begin -->\n\nnew\n\n<!-- measured: end -->\nafter\n"
    readme.write_text("# Why?\n")
    with pytest.raises(ValueError, match="both marks"):
        put_tables("new", readme)
    assert readme.read_text() == "# Why?\n"


def test_figures_are_filled_in() -> None:
    assert fill("{a.b 1|.1%} of {c|,.0f}", {"a.b 1": 0.125, "c": 1234.4}) == "12.5 % of 1,234"
    with pytest.raises(KeyError):
        fill("{a|.1f}", {})


def test_lines_are_broken_anew_and_lists_kept() -> None:
    words = "word " * 30
    lines = prose(f"{words}\n\n- {{a|.2f}}\n  {words}\n- two", {"a": 0.5}).split("\n")
    assert lines[2:4] == ["", f"- 0.50 {words[:110].strip()}"]
    assert lines[-1] == "- two"
    assert max(map(len, lines)) <= 120
    assert lines[4].startswith("  word")


def test_columns_of_numbers_stand_right() -> None:
    made_ = table(("who", "how", "none"), [["`a`", "0.5 s", ""], ["b", "", ""]])
    assert made_ == "| who |   how | none |\n| --- | ----: | ---- |\n| `a` | 0.5 s |      |\n| b   |       |      |"


def test_figures_are_listed_with_their_source() -> None:
    assert source(DOCUMENT) == "`python -m experiments.why`, 2 minutes on 2 cores at a load of 1 to 3 (`result.json`)"
    found = listed(DOCUMENT)
    assert "| `a`    | p(x/y)  |    1,234 ms | ≤ 2,000 | reached |" in found
    assert "| `b`    | a share | 0.123 share |         |         |" in found
