"""`unlearn create --method`, `forget --method` and what comes after, from end to end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unlearn.cli.test_cli import ROLES, document, refused, unlearn, write_people
from unlearn.request import NOT_APPLIED

MLP = ("--learner", "shards.learners.modules:mlp")
CREATE = (*MLP, "--option", 'module_args={"hidden":[4]}', "--option", "standardize=true", "--random-state", 0)


@pytest.fixture
def people(tmp_path: Path) -> Path:
    return write_people(tmp_path / "people.csv")


def made(folder: Path, people: Path, *more: object) -> Path:
    """A trained workspace of one model."""
    assert unlearn("create", folder, *CREATE, *more).exit_code == 0
    assert unlearn("ingest", folder, people, *ROLES).exit_code == 0
    assert unlearn("train", folder).exit_code == 0
    return folder


def test_a_life_with_a_method(tmp_path: Path, people: Path) -> None:
    run = tmp_path / "run"
    said = unlearn(
        "create", run, *CREATE, "--method", "fine_tune", "--method-option", "epochs=2", "--escalate-after", 7
    )
    assert "1 shard of 1 slice" in said.stdout
    assert "by the approximate method fine_tune until the model is recovered: empirical, NOT exact" in said.stdout
    for command in (("ingest", run, people, *ROLES), ("train", run)):
        assert unlearn(*command).exit_code == 0
    said = unlearn("forget", run, "--subject", "w3")
    assert said.exit_code == 0, said.stderr
    assert "unlearnt by fine_tune: empirical; the served model is NOT the one that retraining gives" in said.stdout
    assert "to be retrained by " in said.stdout
    assert "an approximately unlearnt model is served; next, to be exact: unlearn recover" in said.stdout
    request = said.stdout.split(":")[0]
    shown = unlearn("status", run).stdout
    assert "serving an approximately unlearnt model: fine_tune, empirical, 1 application" in " ".join(shown.split())
    assert "none is due" in shown
    shown = " ".join(unlearn("status", run, request).stdout.split())
    assert "empirical, not exact, until it is recovered" in shown
    assert unlearn("recover", run, "--due").stdout == "nothing is due to be retrained\n"
    assert document("recover", run, "--due")["steps"] == 0
    options = ("--record", "r0", "--method", "scrub", "--escalate-by", "2020-01-01", "--method-option", "ascents=1")
    found = document("forget", run, *options)["request"]
    assert (found["method"], found["method_config"]["ascents"], found["not_applied"]) == ("scrub", 1, "")
    status = document("status", run)
    assert status["due"] == [found["id"]]
    (state,) = status["approximate"]
    assert (state["method"], state["applications"], state["guarantee"]) == ("scrub", 2, "empirical")
    assert state["methods"] == ["fine_tune", "scrub"]
    shown = " ".join(unlearn("status", run).stdout.split())
    assert "approximately unlearnt model: fine_tune and scrub, empirical, 2 applications" in shown
    assert "(DUE)" in unlearn("status", run, found["id"]).stdout
    key = tmp_path / "key.pem"
    key.write_text(unlearn("key", run).stdout)
    receipt = unlearn("receipts", run, found["id"]).stdout.split()[-1]
    verified = unlearn("verify", receipt, "--public-key", key, "--workspace", run)
    assert verified.exit_code == 0, verified.stderr
    assert "NOT" in verified.stdout
    assert f"recovered: {request}, {found['id']}" in unlearn("recover", run, "--due").stdout
    assert "APPROXIMATE" not in unlearn("status", run).stdout
    assert document("forget", run, "--subject", "w5", "--method", "none")["request"]["method"] is None


def test_a_method_for_one_request(tmp_path: Path, people: Path) -> None:
    run = made(tmp_path / "run", people, "--shards", 1, "--slices", 1)
    bad = ("forget", run, "--subject", "w3", "--method", "gradient_ascent", "--method-option", "learning_rate=1e30")
    said = unlearn(*bad)
    assert said.exit_code == 0, said.stderr
    assert f"gradient_ascent was not applied: {NOT_APPLIED['failed']}" in said.stdout
    assert unlearn("recover", run).exit_code == 0
    submit = ("submit", run, "--subject", "w4", "--method", "fine_tune", "--escalate-by", "2020-01-31")
    assert unlearn(*submit).exit_code == 0
    said = unlearn("process", run)
    assert "unlearnt by fine_tune: empirical" in said.stdout
    assert "to be retrained by 2020-01-31 00:00:00 UTC, which has passed" in said.stdout


def test_what_does_not_fit_is_one_line(tmp_path: Path, people: Path) -> None:
    sharded = made(tmp_path / "sharded", people, "--shards", 2, "--slices", 1)
    forget = ("forget", sharded, "--subject", "w3", "--method")
    assert "for a workspace of one model" in refused(*forget, "scrub")
    assert "did you mean 'scrub'?" in refused(*forget, "scrab")
    assert "must be a whole number, got 'many'" in refused(*forget, "scrub", "--method-option", "epochs=many")
    assert "--method-option" in refused(*forget, "scrub", "--method-option", "epochs", status=2)
    assert "2 shards of 5 slices" in refused(
        "create", tmp_path / "x", *MLP, "--method", "scrub", "--shards", 2, "--slices", 5
    )
    assert "belong to a method" in refused("create", tmp_path / "x", *MLP, "--escalate-after", 7)
    for number in ("nan", "inf", "1e300"):
        said = refused("create", tmp_path / "x", *MLP, "--method", "scrub", "--escalate-after", number, status=2)
        assert "--escalate-after" in said
    assert document("status", sharded)["requests"]["forgotten"] == 0


def test_a_life_with_a_certificate(tmp_path: Path, people: Path) -> None:
    run = tmp_path / "run"
    learner = ("--learner", "unlearn.methods.certified_learner:CertifiedLearner", "--option", "scale=0.1")
    scant = ("--option", "regularisation=0.01", "--option", "tolerance=0.00015")  # for one removal
    said = unlearn("create", run, *learner, *scant, "--method", "certified_removal", "--method-time-limit", 600)
    assert "until the model is recovered: certified, NOT exact" in said.stdout
    for command in (("ingest", run, people, *ROLES), ("train", run)):
        assert unlearn(*command).exit_code == 0
    said = unlearn("forget", run, "--subject", "w3")
    assert said.exit_code == 0, said.stderr
    assert "removed by certified_removal: certified, epsilon 1, delta 0.0001" in said.stdout
    assert "a model with a certificate is served; to be exact: unlearn recover" in said.stdout
    shown = " ".join(unlearn("status", run).stdout.split())
    assert "serving a model after certified_removal: epsilon 1, delta 0.0001; of epsilon 0.9" in shown
    assert "is spent, 0 removals left" in shown
    request = said.stdout.split(":")[0]
    assert "certified, not exact, until it is recovered" in " ".join(unlearn("status", run, request).stdout.split())
    (state,) = document("status", run)["approximate"]
    assert (state["guarantee"], state["certificate"]["left"]) == ("certified", 0)
    refuse = ("--method", "certified_removal", "--method-option", "when_spent=refuse")
    assert "its 1 removals were made" in refused("forget", run, "--subject", "w4", *refuse)
    said = unlearn("forget", run, "--subject", "w4")
    assert f"certified_removal was not applied: {NOT_APPLIED['budget spent']}" in said.stdout
    assert document("status", run)["requests"]["receipted"] == 2
    key = tmp_path / "key.pem"
    key.write_text(unlearn("key", run).stdout)
    receipt = unlearn("receipts", run, request).stdout.split()[-1]
    verified = unlearn("verify", receipt, "--public-key", key, "--workspace", run)
    assert verified.exit_code == 0, verified.stderr
    assert "In a workspace: `unlearn create" in unlearn("methods", "certified_removal").stdout
    for number in ("nan", "1e300"):
        said = refused("create", tmp_path / "x", *learner, "--method-time-limit", number, status=2)
        assert "--method-time-limit" in said
