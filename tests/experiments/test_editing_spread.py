"""How MEMIT's update is spread: resumed, and each setting as the editor itself would make it."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

from experiments.editing import run, spread
from experiments.editing.table import spread_table
from tests.experiments.test_editing import SETTING, SIZE
from unlearn.language.editing.base import Task
from unlearn.language.editing.memit import memit
from unlearn.language.metrics import accuracies

GRID = {"edits": 2, "layers": [[0, 1], [2]], "texts": [20], "ridge": [0.1], "moment_weight": [1, 50]}


def test_settings_are_those_of_the_editor(tmp_path: Path) -> None:
    here = run.lab(SETTING, SIZE, 0, None)
    path = tmp_path / "spread.json"
    document: dict[str, dict[str, float]] = {}
    spread.measure(document, here, "tiny", GRID, math.inf, path)
    assert json.loads(path.read_text()) == document
    # What the last block writes at the subject reaches nothing, so it is left out.
    assert [json.loads(name)["layers"] for name in document] == [[0, 1], [0, 1]]
    edits, probes = here.edits[:2], run.asked_after(here, (0, 1))
    config = dataclasses.replace(run.CONFIGS["memit"], moment_weight=50.0)
    task = Task(here.model, here.tokenizer, edits, here.texts)
    again = dict(document)
    spread.measure(again, here, "tiny", GRID, -math.inf, path)
    assert again == document
    grid = {**GRID, "texts": [len(here.texts)], "moment_weight": [50]}
    spread.measure(again, here, "tiny", grid, math.inf, path)
    (added,) = set(again) - set(document)
    with memit(task, config):
        expected = accuracies(here.model, here.tokenizer, edits, [one for one in probes if not one.needs])
    assert again[added] == expected
    assert "tiny, 2 edits at once: the best 3 of 3 settings" in spread_table(again)
