"""`--quiet` says nothing that was not asked for; `--verbose` tells what the log notes, and nobody's name."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

import unlearn
from unlearn.cli.app import app


@pytest.fixture
def run(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = [f"r{row},somebody-{row},{rng.normal():.3f},{row % 2}" for row in range(40)]
    (tmp_path / "people.csv").write_text("\n".join(["row,person,a,label", *rows]) + "\n", encoding="utf-8")
    return tmp_path / "run"


def call(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(item) for item in arguments])
    assert result.exit_code == 0, result.output
    return result


def everything(run: Path, *options: str) -> list[Result]:
    table = run.with_name("people.csv")
    return [
        call(*options, "create", run, "--learner", "gaussian_nb", "--shards", 2, "--slices", 1),
        call(*options, "ingest", run, table, "--target", "label", "--subject", "person", "--record-id", "row"),
        call(*options, "train", run),
        call(*options, "forget", run, "--subject", "somebody-3", "--reason", "a reason of theirs"),
        call(*options, "recover", run),
    ]


def test_quiet_says_nothing_but_what_was_asked_for(run: Path) -> None:
    for result in everything(run, "--quiet"):
        assert (result.stdout, result.stderr) == ("", "")
    assert "2 of 1 slice a batch" in call("-q", "status", run).stdout
    assert json.loads(call("-q", "status", run, "--json").stdout)["records"] == 39


def test_what_the_guide_has_cron_mail_is_nothing_on_a_good_day(run: Path) -> None:
    everything(run)
    guide = (Path(unlearn.__file__).parent / "docs/pages/guides/deletion_desk.md").read_text(encoding="utf-8")
    jobs = guide.partition("```cron\n")[2].partition("```")[0].splitlines()
    mailed = [job.partition("unlearn ")[2].split() for job in jobs if "unlearn " in job and "/dev/null" not in job]
    assert [job[-1] for job in mailed] == ["--overdue"]
    for job in mailed:
        result = call(*(run if word == "runs/people" else word for word in job))
        assert (result.stdout, result.stderr) == ("", "")


def test_quiet_keeps_errors(run: Path) -> None:
    result = CliRunner().invoke(app, ["-q", "train", str(run)])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")


def test_verbose_tells_what_the_log_notes_and_nobodys_name(run: Path) -> None:
    told = [result.stderr for result in everything(run, "-v")]
    for lines, kind in zip(told, ("created", "ingested", "built", "withdrawn", "recovered"), strict=True):
        assert kind in lines
    text = "".join(told)
    assert "n_records 1" in text
    assert "somebody-3" not in text
    assert "a reason of theirs" not in text
    assert call("status", run).stderr == ""


def test_a_program_hears_it_by_its_own_logging(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    everything(run)
    assert not caplog.records
    with caplog.at_level(logging.INFO, logger="unlearn.ledger"):
        call("forget", run, "--subject", "somebody-5")
    assert any("withdrawn" in record.getMessage() for record in caplog.records)
