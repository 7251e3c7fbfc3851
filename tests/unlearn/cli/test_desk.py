"""The deletion desk on the command line: submit, process, deadlines, the register, receipts, keys, artefacts."""

from __future__ import annotations

import csv
import json
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.unlearn.cli.test_cli import document, people, refused, run, trained, unlearn
from unlearn.request import Request, RequestState
from unlearn.workspace import Workspace

__all__ = ["people", "run", "trained"]  # fixtures


def test_a_day_at_the_desk(run: Path, tmp_path: Path) -> None:
    request = document("submit", run, "--subject", "w3", "--reason", "case 7", "--deadline", "2099-01-31")
    assert request["state"] == "submitted"
    assert request["deadline"] == "2099-01-31T00:00:00+00:00"
    assert len(request["opening"]) == 64
    assert "accepted, submitted" in unlearn("submit", run, "--subject", "nobody").stdout
    told = unlearn("process", run)
    done = told.stdout.splitlines()
    assert told.exit_code == 1
    assert done[0] == f"{request['id']}: forgotten, 2 records of 1 shard"
    assert "failed, names a subject or record that is not here" in done[1]
    assert done[2] == f"next: unlearn recover {run}"
    assert unlearn("process", run).stdout == "no request was waiting\n"
    assert unlearn("recover", run).exit_code == 0

    found = document("receipts", run, request["id"])
    assert [item["stage"] for item in found] == ["forgotten", "recovered"]
    key = tmp_path / "key.pem"
    key.write_text(unlearn("key", run).stdout)
    verify = ("verify", found[1]["path"], "--public-key", key)
    told = unlearn(*verify, "--workspace", run, "--replay", "--shard", 0, "--opening", request["opening"],
                   "--subject", "w3", "--request", request["id"])  # fmt: skip
    assert told.exit_code == 0, told.stderr
    assert "17. trained again" in told.stdout
    assert "not proven by it:" in told.stdout
    assert document(*verify)["valid"] is True
    assert "the receipt of somebody else's request" in refused(*verify, "--request", "req-0")
    assert "did not name exactly these" in refused(*verify, "--opening", request["opening"], "--subject", "w4")
    assert "unlearn verify" in unlearn("verify", "--help").stdout


def test_changed_receipts_and_wrong_keys_fail_in_one_line(run: Path, tmp_path: Path) -> None:
    request = document("forget", run, "--subject", "w3")
    (receipt,) = (Path(path) for path in request["receipts"])
    key, other = tmp_path / "key.pem", tmp_path / "other.pem"
    key.write_text(unlearn("key", run).stdout)
    assert unlearn("verify", receipt, "--public-key", key).exit_code == 0
    text = receipt.read_text()
    middle = len(text) // 2
    receipt.write_text(text[:middle] + ("B" if text[middle] == "A" else "A") + text[middle + 1 :])
    assert "verification failed at step 2" in refused("verify", receipt, "--public-key", key)
    receipt.write_text(text)
    unlearn("key", run, "--rotate")
    other.write_text(unlearn("key", run).stdout)
    assert other.read_text() != key.read_text()
    told = refused("verify", receipt, "--public-key", other)
    assert "verification failed at step 2" in told
    assert "if that one replaced another, give the earlier one" in told
    assert "cannot be read" in refused("verify", receipt, "--public-key", tmp_path / "none.pem")
    assert unlearn("verify", receipt, "--public-key", key, "--replay").exit_code == 2
    assert unlearn("verify", receipt, "--public-key", key, "--shard", 1).exit_code == 2


def test_a_second_signature(run: Path, tmp_path: Path) -> None:
    from unlearn.receipt import create_key

    (receipt,) = document("forget", run, "--subject", "w3")["receipts"]
    officer = create_key(tmp_path / "officer")
    key = tmp_path / "key.pem"
    key.write_text(unlearn("key", run).stdout)
    both = ("verify", receipt, "--public-key", key, "--public-key", officer.with_suffix(".pub.pem"), "--threshold", 2)
    assert "step 2" in refused(*both)
    assert "also signed with" in unlearn("countersign", receipt, "--key", officer).stdout
    assert unlearn(*both).exit_code == 0
    officer.chmod(0o644)
    assert "is open to others" in refused("countersign", receipt, "--key", officer)


def test_deadlines_and_the_register(run: Path, tmp_path: Path) -> None:
    late = document("submit", run, "--subject", "w3", "--reason", "=cmd()", "--deadline", "2020-01-01")
    assert unlearn("status", run, "--overdue").exit_code == 1
    shown = unlearn("status", run, "--overdue", "--json")
    assert shown.exit_code == 1
    assert json.loads(shown.stdout) == [document("status", run, late["id"])]
    assert "OVERDUE" in unlearn("status", run, late["id"]).stdout
    assert "give a later one" in refused("extend", run, late["id"], "--until", "2019-01-01")
    assert unlearn("extend", run, late["id"], "--until", "2099-01-01").exit_code == 0
    assert unlearn("status", run, "--overdue").stdout == "no request is overdue\n"
    unlearn("process", run)
    assert "no deadline to extend" in refused("extend", run, late["id"], "--until", "2100-01-01")

    assert unlearn("export", run, "-o", tmp_path / "register.csv").exit_code == 0
    (row,) = csv.DictReader((tmp_path / "register.csv").open(newline=""))
    assert row["request"] == late["id"]
    assert row["state"] == "forgotten"
    assert row["reason"] == "'=cmd()"
    assert row["records_removed"] == "2"
    (row,) = json.loads(unlearn("export", run, "-o", "-", "--json").stdout)
    assert row["reason"] == "=cmd()"
    assert row["deadline"] == "2099-01-01T00:00:00+00:00"
    with Workspace.open(run)._site.ledger._database.read() as c:
        assert c.exec_driver_sql("SELECT count(*) FROM pending").scalar() == 0


@pytest.mark.parametrize("json_too", [(), ("--json",)])
def test_a_request_that_fails_is_named(run: Path, json_too: tuple[str, ...]) -> None:
    """On a line of its own, and in the exit status, so that no script takes it for done."""
    bad = document("submit", run, "--subject", "nobody")["id"]
    told = unlearn("process", run, *json_too)
    assert told.exit_code == 1
    (line,) = told.stderr.splitlines()
    assert line.startswith(f"1 request failed and changed nothing: {bad}; ")
    if json_too:
        assert [item["state"] for item in json.loads(told.stdout)] == ["failed"]
    document("submit", run, "--subject", "w3")
    again = unlearn("process", run, *json_too)
    assert (again.exit_code, again.stderr) == (0, "")


def test_a_request_that_is_repeated_is_told_what_became_of_it(run: Path) -> None:
    good, bad = (("--subject", who, "--idempotency-key", f"case {who}") for who in ("w3", "nobody"))
    waits = unlearn("submit", run, *good).stdout
    assert unlearn("submit", run, *good).stdout.startswith(waits.partition("\n")[0])
    unlearn("submit", run, *bad)
    unlearn("process", run)

    assert document("status", run, "case nobody")["failure"] == "names a subject or record that is not here"
    assert "knows no request 'case 9'" in refused("status", run, "case 9")
    done = unlearn("submit", run, *good)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "known already, and forgotten" in done.stdout
    assert "process" not in done.stdout
    again = unlearn("forget", run, *good).stdout.splitlines()[0]
    moment = document("status", run, again[:20])["forgotten_at"][:19].replace("T", " ")
    assert again[20:] == f": known already; it forgot 2 records of 1 shard at {moment} UTC"

    failed = unlearn("submit", run, *bad)
    assert (failed.exit_code, failed.stdout) == (1, "")
    assert "names a subject or record that is not here" in failed.stderr
    assert "under another idempotency key" in failed.stderr


def test_a_receipt_is_held_against_the_one_before_it(run: Path, tmp_path: Path) -> None:
    """And a tolerance is for what is trained again."""
    request = document("forget", run, "--subject", "w3")["request"]["id"]
    other = document("forget", run, "--subject", "w4")["request"]["id"]
    assert unlearn("recover", run).exit_code == 0
    first, last = (item["path"] for item in document("receipts", run, request))
    foreign = document("receipts", run, other)[0]["path"]
    key = tmp_path / "key.pem"
    key.write_text(unlearn("key", run).stdout)
    verify = ("verify", last, "--public-key", key)
    told = unlearn(*verify, "--forgotten", first)
    assert told.exit_code == 0, told.stderr
    assert "10. the receipt before it: It continues the receipt of stage forgotten" in told.stdout
    assert "not the digest of the receipt of stage forgotten" in refused(*verify, "--forgotten", foreign)
    assert unlearn(*verify, "--tolerance", 0.5).exit_code == 2
    told = unlearn(*verify, "--workspace", run, "--replay", "--shard", 0, "--tolerance", 0)
    assert told.exit_code == 0, told.stderr


def test_a_receipt_speaks_of_its_own_time(run: Path, tmp_path: Path) -> None:
    """Not of the present: what came after it is counted, and nothing is said of it."""
    request = document("forget", run, "--subject", "w3")["request"]["id"]
    unlearn("recover", run)
    receipt = document("receipts", run, request)[1]["path"]
    key = tmp_path / "key.pem"
    key.write_text(unlearn("key", run).stdout)
    verify = ("verify", receipt, "--public-key", key)
    with closing(Workspace.open(run)) as workspace:
        entries = list(workspace._site.ledger.entries())
        last = next(entry for entry in entries if entry.event.kind == "recovered")
    # The receipt of its forgetting was there before, so that only that of the recovery is noted after it.
    assert [entry.event.kind for entry in entries[last.number + 1 :]] == ["receipted"]
    as_of = f"verified, as of event {last.number + 1} of the log ({last.event.at:%Y-%m-%d %H:%M:%S} UTC): Exact."
    alone = unlearn(*verify).stdout
    assert as_of in alone
    assert "what happened after that only the workspace can tell" in alone
    told = unlearn(*verify, "--workspace", run).stdout
    assert as_of in told
    said = "after that the log holds 1 event (batches taken in: 0, steps trained: 0, requests carried out: 0), of which"
    assert said in told
    other = document("forget", run, "--subject", "w4")["request"]
    assert other["state"] == "forgotten"
    built = document("recover", run)["steps"]
    told = unlearn(*verify, "--workspace", run).stdout
    assert as_of in told
    assert f"(batches taken in: 0, steps trained: {built}, requests carried out: 1), of which it says nothing" in told
    found = document(*verify, "--workspace", run)["as_of"]
    assert (found["event"], found["since"]["built"], found["since"]["withdrawn"]) == (last.number + 1, built, 1)
    assert document(*verify)["as_of"]["since"] is None


def test_a_late_deletion_stays_late(run: Path, tmp_path: Path) -> None:
    """It is not overdue any more once it is done; but the register goes on to say that it was late, and by how much."""
    day = datetime.now(UTC) - timedelta(days=2, hours=5)
    deadline = day.strftime("%Y-%m-%dT%H:%M:%S")
    late = document("submit", run, "--subject", "w3", "--deadline", deadline)
    early = document("forget", run, "--subject", "w4")["request"]
    (before, _) = json.loads(unlearn("export", run, "-o", "-", "--json").stdout)
    assert (before["request"], before["overdue"], before["late"], before["days_late"]) == (late["id"], False, True, 3)
    waits = document("submit", run, "--subject", "w5", "--deadline", deadline)
    rows = json.loads(unlearn("export", run, "-o", "-", "--json").stdout)
    assert [(row["request"], row["overdue"], row["late"], row["days_late"]) for row in rows] == [
        (late["id"], False, True, 3),
        (early["id"], False, False, 0),
        (waits["id"], True, None, None),
    ]
    assert unlearn("export", run, "-o", tmp_path / "register.csv").exit_code == 0
    table = list(csv.DictReader((tmp_path / "register.csv").open(newline="")))
    assert [(row["late"], row["days_late"]) for row in table] == [("True", "3"), ("False", "0"), ("", "")]
    assert document("status", run)["late"] == [late["id"]]
    assert [item["days_late"] for item in document("status", run)["request_list"]] == [3, 0, None]
    assert document("status", run, late["id"])["days_late"] == 3
    assert "(3 days LATE)" in unlearn("status", run, late["id"]).stdout
    assert unlearn("status", run).stdout.count("LATE") == 1
    assert "LATE" not in unlearn("status", run, early["id"]).stdout


@pytest.mark.parametrize(
    ("after", "days"),
    [(-timedelta(days=9), 0), (timedelta(0), 0), (timedelta(microseconds=1), 1), (timedelta(days=1), 1),
     (timedelta(days=1, microseconds=1), 2), (timedelta(days=30), 30)],
)  # fmt: skip
def test_days_begun_are_counted_whole(after: timedelta, days: int) -> None:
    deadline = datetime(2026, 2, 28, 12, tzinfo=UTC)
    request = Request(
        "r", RequestState.FORGOTTEN, "", None, "d", 0, 1, {}, deadline, deadline, forgotten_at=deadline + after
    )
    assert request.days_late == days
    assert replace(request, forgotten_at=None).days_late is None
    assert replace(request, deadline=None).days_late is None


def test_artefacts(run: Path) -> None:
    noted = document("register", run, "--name", "student", "--kind", "distilled model", "--location", "s3://there")
    assert "clean" in unlearn("artefacts", run).stdout
    request = document("forget", run, "--subject", "w3")["request"]
    assert f"TAINTED by {request['id']}" in unlearn("artefacts", run).stdout
    assert unlearn("retire", run, noted["id"]).exit_code == 0
    assert document("artefacts", run)[0]["retired_at"] is not None
    assert "knows no artefact" in refused("retire", run, noted["id"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--aggregation", "noisy-vote"), "noisy votes need --noise and --max-epsilon"),
        (("--noise", 3), "noise and budget belong to --aggregation noisy-vote"),
    ],
)
def test_noisy_votes_are_whole_or_not_at_all(tmp_path: Path, arguments: tuple[object, ...], said: str) -> None:
    told = refused("create", tmp_path / "run", "--learner", "sgd", *arguments, status=2)
    assert said in " ".join(told.replace("│", " ").split())


def test_a_workspace_with_noisy_votes(tmp_path: Path) -> None:
    made = document("create", tmp_path / "run", "--learner", "sgd", "--aggregation", "noisy-vote", "--noise", 40,
                    "--max-epsilon", 8)  # fmt: skip
    assert made["aggregation"] == {"sigma": 40.0, "max_epsilon": 8.0, "delta": 1e-05, "votes": 1}
