"""`unlearn audit`, as it is typed."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from experiments.audit_planted.failures import served
from experiments.audit_planted.here import Here
from experiments.audit_planted.planting import plant
from shards.learners.neighbours import NeighboursLearner
from shards.sources import from_file
from unlearn import Workspace
from unlearn.audit.attacks import ATTACKS
from unlearn.audit.statement import read_audit
from unlearn.cli.app import app
from unlearn.receipt import public_key_from_pem

ROLES = ("--target", "buys", "--subject", "person", "--record-id", "row")
LEARNER = NeighboursLearner(1, {"map": "raw", "unit": 1 / 64, "limit": 8.0})
GONE = 50


def unlearn(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """A run that forgot the first of its people, their records, and the request."""
    folder = tmp_path_factory.mktemp("audit")
    rng = np.random.default_rng(0)
    rows = [[f"r{i}", f"w{i // 2}", *rng.normal(size=4).round(4), rng.choice(["no", "yes"])] for i in range(200)]
    for name, part in (("all.csv", rows), ("gone.csv", rows[:GONE])):
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["row", "person", "a", "b", "c", "d", "buys"], *part])
    workspace = Workspace.create(folder / "run", LEARNER, n_shards=4, random_state=1, executor=Here())
    workspace.ingest(from_file(folder / "all.csv", target="buys", subject="person", record_id="row"))
    workspace.train()
    request = workspace.forget([f"w{i}" for i in range(GONE // 2)])
    workspace.close()
    return folder / "run", folder / "gone.csv", request.id


def recovered(run: Path) -> Workspace:
    workspace = Workspace.open(run, executor=Here())
    workspace.recover()
    return workspace


def test_before_recovery_what_to_do_is_said(life: tuple[Path, Path, str]) -> None:
    run, gone, _ = life
    said = unlearn("audit", run, "--records", gone, *ROLES)
    assert said.exit_code == 1
    assert "run `unlearn recover`, then audit" in said.stderr
    assert said.stderr.count("\n") == 1


def test_an_honest_deletion(life: tuple[Path, Path, str], tmp_path: Path) -> None:
    run, gone, request = life
    workspace = recovered(run)
    out = tmp_path / "audit.json"
    said = unlearn("audit", run, "--records", gone, *ROLES, "--out", out, "--permutations", 999)
    assert (said.exit_code, said.stderr) == (0, "")
    for text in (
        "50 forgotten records of 25 subjects, 1 request",
        "not refuted, p = 0.",
        "it would have found one shard",
    ):
        assert text in said.stdout
    for word in ("verified", "proved", "confirmed"):
        assert word not in said.stdout
    signed = read_audit(out.read_bytes(), [public_key_from_pem(workspace.public_key.encode())])
    said = unlearn("audit", run, "--records", gone, *ROLES, "--request", request, "--json", "--permutations", 999)
    found = json.loads(said.stdout)
    assert (said.exit_code, found.pop("verdict")) == (0, "not refuted")
    for each in (found, signed):
        del each["facts"]["at"]
    assert found == signed
    assert found["facts"]["receipts"].keys() == {f"{request}/forgotten", f"{request}/recovered"}
    # By their subjects alone, beside a column that is no feature; and from another kind of file.
    by_subject = ("--target", "buys", "--subject", "person")
    said = unlearn("audit", run, "--records", gone, *by_subject, "--json", "--permutations", 999)
    assert json.loads(said.stdout)["test"] == found["test"]
    records = from_file(gone, target="buys", subject="person", record_id="row")
    np.savez(tmp_path / "gone.npz", X=records.features["x"], y=records.target, subjects=np.array(records.subjects))
    said = unlearn("audit", run, "--records", tmp_path / "gone.npz", "--json", "--permutations", 999)
    assert json.loads(said.stdout)["test"] == found["test"]
    workspace.close()


def never_came(folder: Path) -> Path:
    """A table of people who never came."""
    rng = np.random.default_rng(5)
    held = folder / "held.csv"
    with held.open("w", newline="", encoding="utf-8") as file:
        rows = [[f"h{i}", f"v{i // 2}", *rng.normal(size=4).round(4), rng.choice(["no", "yes"])] for i in range(GONE)]
        csv.writer(file).writerows([["row", "person", "a", "b", "c", "d", "buys"], *rows])
    return held


def test_attacks(life: tuple[Path, Path, str], tmp_path: Path) -> None:
    run, gone, _ = life
    workspace = recovered(run)
    twin = Workspace.create(tmp_path / "twin", LEARNER, n_shards=4, random_state=1, executor=Here())
    twin.ingest(from_file(run.parent / "all.csv", target="buys", subject="person", record_id="row"))
    twin.train()
    before = served(twin)
    twin.close()
    held = never_came(tmp_path)
    attack = ("audit", run, "--records", gone, *ROLES, "--permutations", 999, "--attack", "loss")
    both = (*attack, "--held-out", held, "--attack", "difficulty", "--shadows", 4)
    out = tmp_path / "audit.json"
    said = unlearn(*both, "--out", out)
    assert (said.exit_code, said.stderr) == (0, "")
    for text in (
        "75 subjects of the data, 25 forgotten by 1 request, 25 held out",
        "members of the data against all others: AUC 0.",
        "forgotten against held out: AUC 0.",
        "not refuted, p = ",
        "2 hypotheses, Holm",
    ):
        assert text in said.stdout
    signed = read_audit(out.read_bytes(), [public_key_from_pem(workspace.public_key.encode())])
    found = json.loads(unlearn(*both, "--json").stdout)
    assert found.pop("verdict") == "not refuted"
    for each in (found, signed):
        del each["facts"]["at"]
    assert found == signed
    assert [one["attack"] for one in found["findings"]] == ["loss", "difficulty"]
    said = unlearn(*attack)
    assert said.exit_code == 0
    assert "no verdict: nothing was held out" in said.stdout
    said = unlearn(*both, "--look", 2, "--looks", 2, "--coins", "--primary", "loss", "--json")
    found = json.loads(said.stdout)
    assert (found["alpha"], found["plan"]["tossed"], found["plan"]["primary"]) == (0.025, True, "loss")
    assert found["findings"][0]["canaries"]["guesses"] == 24
    plant(workspace, before)
    workspace.close()
    said = unlearn(*both)
    assert said.exit_code == 1
    assert "REFUTED, p = 0.00" in said.stdout


def test_a_model_that_still_knows_them(life: tuple[Path, Path, str]) -> None:
    run, gone, _ = life
    workspace = recovered(run)
    twin = Workspace.create(run.parent / "twin", LEARNER, n_shards=4, random_state=1, executor=Here())
    twin.ingest(from_file(run.parent / "all.csv", target="buys", subject="person", record_id="row"))
    twin.train()
    plant(workspace, served(twin))
    workspace.close()
    said = unlearn("audit", run, "--records", gone, *ROLES, "--permutations", 999)
    assert said.exit_code == 1
    assert "REFUTED, p = 0.00" in said.stdout


def test_held_out_people_need_no_ids(life: tuple[Path, Path, str], tmp_path: Path) -> None:
    run, gone, _ = life
    workspace = recovered(run)
    rng = np.random.default_rng(5)
    records = from_file(gone, target="buys", subject="person", record_id="row")
    np.savez(tmp_path / "gone.npz", X=records.features["x"], y=records.target, subjects=np.array(records.subjects))
    np.savez(tmp_path / "held.npz", X=rng.normal(size=(30, 4)), y=rng.choice(["no", "yes"], 30))
    workspace.close()
    files = ("--records", tmp_path / "gone.npz", "--held-out", tmp_path / "held.npz")
    found = json.loads(unlearn("audit", run, *files, "--attack", "loss", "--json", "--permutations", 99).stdout)
    assert (found["forgotten"], found["held_out"]) == (25, 30)


def test_attacks_that_cannot_be_made_say_what_to_give(life: tuple[Path, Path, str]) -> None:
    run, gone, _ = life
    attack = ("audit", run, "--records", gone, *ROLES, "--attack")
    said = unlearn(*attack, "lira_online", "--attack", "gradient_norm")
    assert said.exit_code == 1
    assert "lira_online needs" in said.stderr
    assert "gradient_norm needs a torch module" in said.stderr
    assert said.stderr.count("\n") == 1
    said = unlearn(*attack, "rmia")
    assert (said.exit_code, "give --shadows N" in said.stderr) == (1, True)
    said = unlearn("audit", run, "--records", gone, *ROLES, "--shadows", 4)
    assert (said.exit_code, "name some with --attack" in said.output) == (2, True)


def test_attacks_are_listed() -> None:
    said = unlearn("audit", "--list-attacks")
    assert said.exit_code == 0
    lines = {line.split()[0]: line for line in said.stdout.splitlines() if line.split()}
    assert set(ATTACKS) <= lines.keys()
    for name, where in {"loss": "--attack", "rmia": "with --shadows N", "u_lira": "from Python alone"}.items():
        assert where in lines[name]


def test_what_too_few_subjects_could_find_is_said(life: tuple[Path, Path, str], tmp_path: Path) -> None:
    run, gone, _ = life
    recovered(run).close()
    few = tmp_path / "few.csv"
    few.write_text("".join(gone.read_text().splitlines(keepends=True)[: 1 + 2 * 5]))
    said = unlearn("audit", run, "--records", few, *ROLES, "--permutations", 99)
    assert said.stderr == ""
    assert "least advantage found with a probability of 95%: " in said.stdout
    assert "none in one (too few subjects)" in said.stdout


def test_nothing_is_tested_where_the_result_could_not_be_written(life: tuple[Path, Path, str]) -> None:
    run, gone, _ = life
    for out in (run, run / "nowhere" / "audit.json"):
        said = unlearn("audit", run, "--records", gone, *ROLES, "--out", out)
        assert (said.exit_code, said.stdout) == (2, "")
        assert "give a file in a folder that is there" in " ".join(said.stderr.replace("│", " ").split())


def test_strangers_are_refused(life: tuple[Path, Path, str], tmp_path: Path) -> None:
    run, gone, _ = life
    strangers = tmp_path / "strangers.csv"
    head, *rows = gone.read_text().splitlines()
    strangers.write_text("\n".join([head, *(row.replace("r", "x", 1).replace("w", "v", 1) for row in rows)]))
    said = unlearn("audit", run, "--records", strangers, *ROLES)
    assert said.exit_code == 1
    assert "50 of the 50 presented records match no deletion request" in said.stderr
    said = unlearn("audit", run, "--records", gone, *ROLES, "--request", "req-0123456789abcdef")
    assert said.exit_code == 1
    assert "knows no request" in said.stderr
    said = unlearn("audit", run, "--records", tmp_path / "none.csv", *ROLES)
    assert said.exit_code == 1
