"""The table of editors: a few cells on a tiny world, resumed, and the README as the result has it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from experiments.editing import run
from experiments.editing.table import tables
from experiments.readme import BEGIN, END, put_tables
from unlearn.language.editing.registry import EDITORS

SETTING = {
    "people": 8, "relations": 2, "width": 16, "layers": 3, "heads": 2, "learning_rate": 4e-3, "steps": 20, "batch": 4,
    "seeds": [0], "singles": 1, "trained_singles": 1, "batches": [2], "sequence": 2, "neighbours": 3,
}  # fmt: skip


def test_cells_are_measured_once_and_again_if_what_decides_them_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "ROWS", ("ft-m", run.VARIANT))
    path = tmp_path / "result.json"
    document = run.read(path)
    run.measure(document, SETTING, math.inf, path, None)
    assert set(document["cells"]) == {
        "ft-m/single/1/0", "ft-m/batch/2/0", "ft-m/sequence/2/0", "rome-kl/single/1/0", "rome-kl/sequence/2/0",
    }  # fmt: skip
    for cell in document["cells"].values():
        assert 0 <= cell["reliability"] <= 1
        assert cell["seconds"] > 0
    again = run.read(path)
    assert again == json.loads(json.dumps(document))
    monkeypatch.setattr(run, "lab", None)  # nothing is made again
    run.measure(again, SETTING, math.inf, path, None)
    with pytest.raises(TypeError):
        run.measure(again, {**SETTING, "neighbours": 4}, math.inf, path, None)
    readme = tmp_path / "README.md"
    readme.write_text(f"before {BEGIN} old {END} after")
    put_tables(tables(document), readme)
    assert "| `ft-m` |" in readme.read_text()
    assert "old" not in readme.read_text()


def test_every_editor_is_measured() -> None:
    assert set(run.CONFIGS) == set(EDITORS)


def test_the_readme_is_that_of_the_result() -> None:
    if run.RESULT.exists():
        text = (run.HERE / "README.md").read_text(encoding="utf-8")
        assert tables(json.loads(run.RESULT.read_text(encoding="utf-8"))) in text
