"""README.md is run, not believed."""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import ray
from typer.testing import CliRunner

from tests.documents import blocks
from unlearn.cli.app import app

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parent.parent
BLOCKS = [(block.language, block.code) for block in blocks(ROOT / "README.md")]


@pytest.fixture
def _no_ray_afterwards() -> Iterator[None]:
    """A Ray that an example starts ends with it."""
    yield
    ray.shutdown()


@pytest.mark.usefixtures("_no_ray_afterwards")
def test_python_blocks_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    blocks = [code for language, code in BLOCKS if language == "python"]
    assert len(blocks) >= 3
    for code in blocks:
        exec(compile(code, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "forgotten" in printed
    assert "receipted" in printed
    assert names["clf"].score(names["X"][1500:], names["y"][1500:]) > 0.8
    assert names["found"].p_value > 0.0001  # of twenty such audits one refutes at 5 %


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = [line.split()[1] for _, code in BLOCKS for line in code.splitlines() if line.startswith("make ")]
    assert {"demo", "test"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.usefixtures("_no_ray_afterwards")
def test_command_lines_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = [f"r{i},p{i % 40},{a:.3f},{b:.3f},{int(a > b)}" for i, (a, b) in enumerate(rng.random((200, 2)))]
    Path("people.csv").write_text("\n".join(["row,person,a,b,label", *rows]) + "\n")
    Path("new_people.csv").write_text("a,b\n0.9,0.1\n0.1,0.9\n")
    lines = [line for _, code in BLOCKS for line in code.splitlines() if line.startswith("unlearn ")]
    assert len(lines) >= 7
    for line in lines:
        if line.startswith("unlearn audit ") and not Path("gone.csv").exists():
            forget_more(rows)
            strangers = [f"{i},s{i},{a:.3f},{b:.3f},{int(a > b)}" for i, (a, b) in enumerate(rng.random((40, 2)))]
            Path("never_came.csv").write_text("\n".join(["row,person,a,b,label", *strangers]) + "\n")
        found = next(Path("runs/people/receipts").glob("*-recovered.json"), None)
        request = "" if found is None else found.name.removesuffix("-recovered.json")
        result = CliRunner().invoke(app, shlex.split(line.replace("REQUEST", request))[1:])
        # One audit of twenty refutes an honest workspace: that is what its level means.
        fine = {0, 1} if line.startswith("unlearn audit ") else {0}
        assert result.exit_code in fine, (line, result.output)
        assert result.exit_code == 0 or "REFUTED, p = 0.0" in result.output, result.output
    assert len(Path("predictions.csv").read_text().splitlines()) == 3
    assert (
        "urn:sisa-unlearn:audit:v1" in base64.b64decode(json.loads(Path("audit.json").read_text())["payload"]).decode()
    )


def forget_more(rows: list[str]) -> None:
    """Forget as many people as an audit needs, recover, and present their records."""
    people = [f"p{number}" for number in range(20, 36)]
    for command in (["forget", "runs/people", *(f"--subject={name}" for name in people)], ["recover", "runs/people"]):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
    presented = [row for row in rows if row.split(",")[1] in people]
    Path("gone.csv").write_text("\n".join(["row,person,a,b,label", *presented]) + "\n")


def test_jobs_run_commands_of_ours() -> None:
    """That they do run, `tests/unlearn/cli/test_where.py` shows."""
    jobs = [line for _, code in BLOCKS for line in code.splitlines() if line.startswith("ray job submit ")]
    assert jobs
    for line in jobs:
        ours = shlex.split(line.partition(" -- ")[2])
        assert ours[0] == "unlearn"
        # Help asked for last: what stands before it is parsed.
        assert CliRunner().invoke(app, [*ours[1:], "--help"]).exit_code == 0, line
        options = CliRunner().invoke(app, [ours[1], "--help"], env={"COLUMNS": "200"}).stdout
        assert all(option in options for option in ours if option.startswith("--"))


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    assert "experiments/ray_cluster/README.md" in links
    for link in links:
        assert link.startswith("https://") or (ROOT / link).exists(), link
