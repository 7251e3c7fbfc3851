"""The shell completes commands and options."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.unlearn.cli.test_cli import ROOT

SCRIPT = "from unlearn.cli import main; main()"


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("unlearn ex", ["extend", "export", "export-model"]), ("unlearn create runs/x --lea", ["--learner"])],
)
def test_bash_is_offered(typed: str, offered: list[str]) -> None:
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1), "_UNLEARN_COMPLETE": "complete_bash"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **words},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == offered
