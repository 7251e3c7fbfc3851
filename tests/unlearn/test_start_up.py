"""What a fresh interpreter loads before anything is asked of it: nothing heavy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

HEAVY = {
    "cryptography",
    "fsspec",
    "jinja2",
    "matplotlib",
    "mlxtend",
    "pandas",
    "pyarrow",
    "psycopg",
    "ray",
    "safetensors",
    "scipy",
    "securesystemslib",
    "sklearn",
    "skops",
    "sqlalchemy",
    "sqlite3",
    "torch",
    "torchvision",
    "transformers",
}
"""What nobody waits for who does not use it."""

HELP = """
import sys
sys.argv = ["unlearn", {arguments}]
from unlearn.cli import main
try:
    main()
except SystemExit as end:
    assert end.code == 0
"""


def loaded(script: str, heavy: set[str]) -> set[str]:
    """Those of the modules that a fresh interpreter has loaded after a script."""
    script += f"\nimport sys\nprint()\nprint(*sys.modules.keys() & {heavy!r})\n"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment, cwd=ROOT
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("script", "besides"),
    [
        ("import unlearn, unlearn.errors, unlearn.ledger", {"numpy", "typer", "rich"}),
        ("import shards, shards.errors", {"numpy"}),
        ("import unlearn; unlearn.Workspace", {"typer", "rich"}),
        ("import unlearn.receipt", {"typer", "rich"}),
        ("import shards.learners, shards.executors.local, shards.store, shards.train, shards.placement", set()),
        (HELP.format(arguments='"--help"'), {"numpy"}),
        (HELP.format(arguments='"train", "--help"'), {"numpy"}),
        (HELP.format(arguments='"plan", "--help"'), {"numpy"}),
        (HELP.format(arguments='"methods", "--help"'), {"numpy"}),
        (HELP.format(arguments='"report", "--help"'), {"numpy"}),
        ("import unlearn; unlearn.report.describe, unlearn.report.render, unlearn.report.Measured", {"typer", "rich"}),
        ("import unlearn; len(unlearn.methods.METHODS); dir(unlearn.methods)", {"typer", "rich", "numpy"}),
        ("import unlearn; dir(unlearn.language)", {"typer", "rich", "numpy"}),
    ],
)
def test_nothing_heavy_is_loaded_before_it_is_used(script: str, besides: set[str]) -> None:
    assert loaded(script, HEAVY | besides) == set()


def test_what_is_loaded_is_seen() -> None:
    """That the test above can fail."""
    assert loaded("import unlearn; unlearn.verify", HEAVY) >= {"sqlalchemy"}
    assert loaded("import shards.sources, shards.records", HEAVY | {"numpy"}) == {"numpy", "pyarrow"}
