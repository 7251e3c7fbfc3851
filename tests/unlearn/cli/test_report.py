"""`unlearn report`: what it writes, what it refuses, and that the commands on the page work."""

from __future__ import annotations

import json
import shlex
import subprocess
from html import unescape
from pathlib import Path

import pytest

from tests.unlearn.cli.test_cli import document, refused, unlearn
from tests.unlearn.helpers import filled, names
from unlearn.report.html import MARK
from unlearn.workspace import Workspace


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a workspace in which something was forgotten and recovered."""
    folder = tmp_path_factory.mktemp("office")
    workspace = filled(folder / "the run")
    workspace.forget(record_ids=names([3]))
    workspace.recover(progress=False)
    workspace.close()
    return folder


def test_a_page(office: Path, tmp_path: Path) -> None:
    said = unlearn("report", office / "the run", "-o", tmp_path / "report.html")
    assert said.exit_code == 0
    first, last = said.stdout.splitlines()
    assert first.startswith("The one request has been carried out: 1 record forgotten")
    assert last == f"report written to {tmp_path / 'report.html'}"
    assert first in unescape((tmp_path / "report.html").read_text(encoding="utf-8"))
    # Once more, over itself.
    assert unlearn("report", office / "the run", "--output", tmp_path / "report.html").exit_code == 0


def test_the_data(office: Path, tmp_path: Path) -> None:
    found = document("report", office / "the run", "-o", tmp_path / "report.html")
    assert found["forgotten"]["records"] == 1
    assert found["status"]["level"] == "done"
    assert MARK in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert document("report", office / "the run")["workspace"] == found["workspace"]


def test_what_is_still_to_be_done_is_said(office: Path, tmp_path: Path) -> None:
    workspace = Workspace.open(office / "the run")
    workspace.submit(record_ids=["nobody"])
    workspace.process()
    workspace.close()
    said = unlearn("report", office / "the run", "-o", tmp_path / "report.html")
    assert said.exit_code == 0
    assert "  - 1 request failed and changed nothing" in said.stdout


def test_the_commands_on_the_page_work(office: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(office)
    found = document("report", "the run")["receipts"]
    commands = [shlex.split(item["text"]) for item in found["commands"]]
    assert [command[0] for command in commands] == ["unlearn", "sha256sum", "unlearn", "unlearn", "unlearn"]
    assert unlearn(*commands[0][1:]).exit_code == 0
    assert Path("office.pub.pem").read_text() == found["public_key"]
    printed = subprocess.run(commands[1], capture_output=True, text=True, check=True).stdout
    assert printed.split()[0] == found["key_sha256"]
    for command in commands[2:]:
        said = unlearn(*command[1:])
        assert said.exit_code == 0, said.stderr
    assert "trained again" in said.stdout


def test_measured_figures(office: Path, tmp_path: Path) -> None:
    (tmp_path / "measured.json").write_text('[{"when": "after", "accuracy": 0.875, "records": 40}]')
    arguments = ("report", office / "the run", "-o", tmp_path / "report.html", "--measured", tmp_path / "measured.json")
    assert document(*arguments)["cost"]["measured"] == [{"when": "after", "accuracy": 0.875, "records": 40}]
    assert "87.5%" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "text", ["", "{}x", "3", '[{"when": "x"}]', '[{"when": "x", "accuracy": 3, "records": 1}]', "[" * 9999]
)
def test_measured_figures_that_are_none(office: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "measured.json").write_text(text)
    said = refused("report", office / "the run", "--json", "--measured", tmp_path / "measured.json")
    assert "measured.json" in said or "no accuracy" in said


def test_what_is_refused(office: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.html").write_text("mine")
    assert "is not a report" in refused("report", office / "the run", "-o", tmp_path / "thesis.html")
    assert (tmp_path / "thesis.html").read_text() == "mine"
    assert "cannot be read" in refused("report", office / "the run", "--json", "--audit", "missing.json")
    assert "cannot be read" in refused("report", office / "the run", "--json", "--measured", "missing.json")
    assert "--output" in refused("report", office / "the run", status=2)
    assert "name a file" in refused("report", office / "the run", "--output", "-", status=2)


def test_json_is_one_document(office: Path) -> None:
    assert json.loads(unlearn("report", office / "the run", "--json").stdout)["name"] == "the run"
