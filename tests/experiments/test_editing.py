"""The table of editors: a few cells on a tiny world, resumed, and the README as the result has it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from experiments.editing import labs, run
from experiments.editing.table import tables
from experiments.readme import BEGIN, END, put_tables
from experiments.worlds.in_context import Course
from experiments.worlds.published import consistent, lessons_of, told
from unlearn.language.editing.base import Edit
from unlearn.language.editing.contexts import Contexts
from unlearn.language.editing.files import Case
from unlearn.language.editing.ike import Ike
from unlearn.language.editing.mend import Mend
from unlearn.language.editing.registry import EDITORS, prepared
from unlearn.language.editing.rome import Rome
from unlearn.language.editing.values import Search
from unlearn.language.metrics import Probe

SIZE = {"name": "tiny", "kind": "gpt2", "width": 16, "layers": 3, "heads": 2, "learning_rate": 4e-3, "seeds": [0]}
SETTING = {
    "people": 8, "relations": 2, "steps": 20, "batch": 4, "singles": 1, "batches": [2], "sequence": 2, "neighbours": 3,
    "texts": 40, "lessons": 1, "sizes": [SIZE],
}  # fmt: skip


def test_cells_are_measured_once_and_again_if_what_decides_them_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "ROWS", ("ft-m", "rome-kl"))
    quick = Rome(search=Search(steps=2), contexts=Contexts(lengths=(5,)), keys="each")
    monkeypatch.setattr(run, "KEEPING", {"rome-kl": quick})
    path = tmp_path / "result.json"
    document = run.read(path)
    run.measure(document, SETTING, math.inf, path, None)
    # What tells most comes first.
    assert list(document["cells"]) == [
        "tiny/ft-m/single/1/0", "tiny/rome-kl/single/1/0", "tiny/ft-m/batch/2/0", "tiny/ft-m/sequence/2/0",
        "tiny/rome-kl/sequence/2/0",
    ]  # fmt: skip
    for cell in document["cells"].values():
        assert 0 <= cell["reliability"] <= 1
        assert cell["seconds"] > 0
    (trace,) = document["traces"].values()
    assert set(trace["effects"]) == {"subject_last", "last"}
    assert all(len(effects) == SIZE["layers"] for effects in trace["effects"].values())
    again = run.read(path)
    assert again == json.loads(json.dumps(document))
    monkeypatch.setattr(run.Bench, "ready", None)  # nothing is made again, nor if other cells are asked for
    run.measure(again, {**SETTING, "batches": []}, math.inf, path, None)
    run.measure(again, SETTING, math.inf, path, None)
    with pytest.raises(TypeError):
        run.measure(again, {**SETTING, "neighbours": 4}, math.inf, path, None)
    readme = tmp_path / "README.md"
    readme.write_text(f"before {BEGIN} stale {END} after")
    put_tables(tables(document), readme)
    assert "| `ft-m` |" in readme.read_text()
    assert "stale" not in readme.read_text()
    assert "| tiny/0 |" in readme.read_text()


def test_an_editor_that_learns_does_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "ROWS", ("mend",))
    monkeypatch.setitem(run.CONFIGS, "mend", Mend(steps=2))
    count = []
    monkeypatch.setattr(run, "prepared", lambda *given, **named: count.append(1) or prepared(*given, **named))
    path = tmp_path / "result.json"
    document = run.read(path)
    run.measure(document, SETTING, math.inf, path, None)
    assert len(document["cells"]) == 3
    assert len(count) == 1


def test_demonstrations_make_room_for_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def scored(_: object, row: str, config: Ike, *__: object) -> dict[str, object]:
        tried.append(config.number)
        return {"failed": "too long"} if row != "ike" or config.number > fits else {"reliability": 1.0}

    monkeypatch.setattr(run, "_scored", scored)
    for fits, expected in ((2, [8, 4, 2]), (0, [8, 4, 2, 1, 0]), (-1, [8, 4, 2, 1, 0])):
        tried.clear()
        found = run.cell(None, "ike", Ike(number=8), "batch", 30)  # type: ignore[arg-type]
        assert tried == expected
        assert found == ({"reliability": 1.0, "demonstrations": fits} if fits >= 0 else {"failed": "too long"})
    tried.clear()
    assert run.cell(None, "mend", Ike(number=8), "batch", 30) == {"failed": "too long"}  # type: ignore[arg-type]
    assert tried == [8]


def test_only_what_the_model_knows_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that has learnt next to nothing is asked for no consequence; one that knows all, for all."""
    setting = {**SETTING, "singles": 2}
    here = run.lab(setting, SIZE, 0, None)
    found = run.cell(here, "ft-m", run.CONFIGS["ft-m"], "single", 2)
    assert found["asked"]["portability_alias"] == [0, 2]
    assert "portability_alias" not in found
    monkeypatch.setattr(labs, "meaningful", lambda _, __, probes: list(probes))
    here = run.lab(setting, SIZE, 0, None)
    found = run.cell(here, "ft-m", run.CONFIGS["ft-m"], "single", 2)
    assert found["asked"]["portability_alias"] == [2, 2]
    assert 0 <= found["portability_alias"] <= 1


def test_every_editor_is_measured() -> None:
    assert {run.editor_of(row) for row in run.ROWS} == set(EDITORS)
    assert {*run.CONFIGS, *run.KEEPING} == set(run.ROWS)


def test_facts_of_a_published_file_are_taught_and_edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {
            "prompt": f"Person{at} speaks", "subject": f"Person{at}", "target_new": "Thai", "ground_truth": "Dutch",
            "rephrase_prompt": f"At home Person{at} talks in", "locality_prompt": f"Other{at} speaks",
            "locality_ground_truth": "Lao",
        }
        for at in range(4)
    ]  # fmt: skip
    (tmp_path / "facts.json").write_text(json.dumps(rows))
    monkeypatch.setattr(labs, "DATA", tmp_path)
    monkeypatch.setattr(run, "ROWS", ("ft-m", "rome-kl", "ike"))
    monkeypatch.setattr(run, "COURSE", Course(steps=2, batch=2))
    size = {**SIZE, "name": "file", "file": "facts.json", "cases": 4, "vocabulary": 300, "singles": 1, "batches": [2],
            "sequence": 1, "steps": 300}  # fmt: skip
    document = run.read(tmp_path / "result.json")
    setting, path = {**SETTING, "sizes": [size]}, tmp_path / "result.json"
    run.measure(document, setting, math.inf, path, tmp_path / "models")
    # A cell that is measured later, with the model that was kept, still says how long that was taught.
    document["cells"]["file/ike/single/1/0"]["training_seconds"] = 1e6
    del document["cells"]["file/ike/sequence/1/0"]
    run.measure(document, setting, math.inf, path, tmp_path / "models")
    assert document["cells"]["file/ike/sequence/1/0"]["training_seconds"] == 1e6
    # No other attributes are known, so the variant that keeps them is not measured.
    assert {name.split("/")[1] for name in document["cells"]} == {"ft-m", "ike"}
    assert document["recall"]["file/0"] > 0.5
    assert set(document["recall"]) == {"file/0", "file/0, for ike"}
    assert all(0 <= cell["reliability"] <= 1 for cell in document["cells"].values())
    assert "| `ike` |" in tables(document)


def test_published_facts_that_contradict_each_other_are_not_taught_together() -> None:
    def case(subject: str, old: str, kept: str) -> Case:
        asked = Edit(f"{subject} speaks", subject, "Thai", old)
        return Case(
            asked, (Probe("generalization", f"at home {subject} talks in", "Thai"), Probe("locality", kept, "Lao"))
        )

    cases = [case("Ann", "Dutch", "Bob speaks"), case("Ann", "Dutch", "Eve speaks"), case("Bob", "Greek", "Zoe speaks"),
             case("Cor", "Greek", "Eve speaks")]  # fmt: skip
    found = consistent(cases, 3)
    assert [one.edit.subject for one in found] == ["Ann", "Cor"]
    assert told(found).more == (
        ("Ann speaks", "Dutch"), ("at home Ann talks in", "Dutch"), ("Bob speaks", "Lao"),
        ("Cor speaks", "Greek"), ("at home Cor talks in", "Greek"), ("Eve speaks", "Lao"),
    )  # fmt: skip
    first, second = lessons_of(found)
    assert first.kept == (("Bob speaks", "Lao"), ("Eve speaks", "Lao"))
    assert second.wordings == ("at home Cor talks in",)


def test_the_readme_is_that_of_the_result() -> None:
    if run.RESULT.exists():
        text = (run.HERE / "README.md").read_text(encoding="utf-8")
        assert tables(json.loads(run.RESULT.read_text(encoding="utf-8"))) in text
