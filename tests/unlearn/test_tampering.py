"""Attacks on a workspace and its receipts (`attacks`), each found by `unlearn.verify`, which says where and what."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

import unlearn
from shards import slicefile
from tests.unlearn import attacks
from tests.unlearn.helpers import canaries, create, flip, labels, names, raw
from tests.unlearn.victim import Victim, make_victim
from unlearn import Workspace
from unlearn.errors import DamageError, TombstoneError, VerificationError
from unlearn.ledger.rows import said_digest
from unlearn.ledger.uncovered import UNCOVERED


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Victim:
    return make_victim(tmp_path_factory.mktemp("victim"))


@pytest.fixture
def ws(victim: Victim, tmp_path: Path) -> Path:
    return victim.copy(tmp_path)


def caught(
    victim: Victim,
    ws: Path | None,
    step: int,
    message: str,
    *,
    receipt: bytes | None = None,
    key: str | None = None,
    request_id: str | None = None,
    replay: bool = False,
) -> None:
    """Expect the verification to fail at a step, saying so; by default of the second request's last receipt."""
    data = victim.latest if receipt is None else receipt
    before = {} if ws is None else raw(ws / "shards") | raw(ws / "receipts")
    with pytest.raises(VerificationError, match=message) as error:
        unlearn.verify(data, key or victim.key, workspace=ws, request_id=request_id, replay=replay)
    assert error.value.step == step
    assert ws is None or raw(ws / "shards") | raw(ws / "receipts") == before, "verifying changed something"


def passes(victim: Victim, ws: Path, receipt: bytes | None = None, *, replay: bool = False) -> None:
    """Expect the verification to find nothing."""
    unlearn.verify(receipt or victim.latest, victim.key, workspace=ws, replay=replay)


def test_what_nobody_tampered_with_stands_up_to_every_step(victim: Victim, ws: Path) -> None:
    for receipt in victim.receipts.values():
        passes(victim, ws, receipt)
    passes(victim, ws, replay=True)


# The log


def test_a_log_cut_off_is_found(victim: Victim, ws: Path) -> None:
    attacks.truncate(ws, victim.old)
    caught(
        victim, ws, 12, r"its log holds \d+ events, and the receipt was issued from one of \d+: .* older than the rec"
    )


def test_a_log_in_another_order_is_found(victim: Victim, ws: Path) -> None:
    first, second = attacks.places(attacks.events(ws), "built")[:2]
    attacks.swap_events(ws, first, second)
    caught(victim, ws, 12, r"its first \d+ events are not those the receipt was issued from: history was rewritten")


def test_later_events_in_another_order_are_found_with_an_older_receipt(victim: Victim, ws: Path) -> None:
    """The receipt given says nothing of them; those that were issued after it do."""
    first, second = attacks.places(attacks.events(ws), "built")[-2:]
    attacks.swap_events(ws, first, second)
    caught(
        victim,
        ws,
        16,
        r"events of the log are not those that the receipt .* was issued from: history was rewritten",
        receipt=victim.receipts[0, "forgotten"],
    )


def test_an_event_changed_with_its_tree_is_found(victim: Victim, ws: Path) -> None:
    number = attacks.places(attacks.events(ws), "withdrawn")[0]
    attacks.edit_event(ws, number, rebuild=True, n_records=0)
    caught(victim, ws, 12, "its first .* events are not those the receipt was issued from: history was rewritten")


def test_an_event_changed_after_the_receipt_without_its_tree_is_found(victim: Victim, ws: Path) -> None:
    attacks.edit_event(ws, len(attacks.events(ws)) - 1, rebuild=False, at="2020-01-01T00:00:00+00:00")
    caught(victim, ws, 12, "the stored tree over the events of .* is not theirs: an event was changed, or the tree was")


def test_a_rewritten_history_is_found(victim: Victim, ws: Path) -> None:
    attacks.rewrite_history(ws)
    caught(victim, ws, 12, "history was rewritten, or this is another copy of the workspace that went its own way")


def test_an_event_that_cannot_follow_is_found(victim: Victim, ws: Path) -> None:
    attacks.append_event(ws, "forgotten", request=victim.requests[0])
    caught(victim, ws, 13, r"entry \d+ of the log \(forgotten\) cannot follow those before it: a request cannot move")


def test_an_event_of_an_unknown_kind_is_found(victim: Victim, ws: Path) -> None:
    attacks.append_event(ws, "excused", request=victim.requests[0])
    caught(victim, ws, 13, "is of the kind 'excused', which this version does not know")


def test_a_workspace_restored_from_an_old_copy_is_found(victim: Victim, ws: Path) -> None:
    attacks.restore(ws, victim.old)
    assert victim.forgotten in {name for *_, f in attacks.record_files(ws) for name in slicefile.read(f).record_ids}
    caught(
        victim, ws, 12, "older than the receipt, as if restored from an old copy, and what was forgotten may be back"
    )


# Receipts


def drop_artefacts(statement: dict[str, dict[str, object]]) -> None:
    statement["predicate"]["artefacts"] = []


def test_a_receipt_signed_with_another_key_is_found(victim: Victim, tmp_path: Path) -> None:
    forged = attacks.reworded(victim.latest, drop_artefacts, [attacks.foreign_signer(tmp_path / "keys")])
    caught(victim, None, 2, "no trusted key signed it; .* issued by somebody else", receipt=forged)


def test_a_receipt_changed_under_its_signature_is_found(victim: Victim) -> None:
    forged = attacks.reworded_unsigned(victim.latest, drop_artefacts)
    caught(victim, None, 2, "the signature of key .* does not fit the content", receipt=forged)


def test_a_receipt_without_signatures_is_found(victim: Victim) -> None:
    forged = attacks.stripped(victim.latest)
    caught(victim, None, 1, "it must have 1 to 100 signatures, not 0", receipt=forged)


def test_contents_exchanged_between_receipts_are_found(victim: Victim) -> None:
    forged = attacks.crossed(victim.latest, victim.receipts[0, "recovered"])
    caught(victim, None, 2, "the signature of key .* does not fit the content", receipt=forged)


def test_a_receipt_signed_with_the_stolen_key_is_found(victim: Victim, ws: Path) -> None:
    forged = attacks.reworded(victim.receipts[0, "recovered"], drop_artefacts, [attacks.signer_of(ws)])
    unlearn.verify(forged, victim.key)  # alone, it stands up: the key vouches for it
    caught(victim, ws, 12, "signed with the right key, but not by this workspace", receipt=forged)


def test_a_receipt_signed_with_the_stolen_key_and_entered_in_the_table_is_found(victim: Victim, ws: Path) -> None:
    forged = attacks.reworded(victim.receipts[0, "recovered"], drop_artefacts, [attacks.signer_of(ws)])
    where = (victim.requests[0], "recovered")
    digest = unlearn.verify(forged, victim.key).receipt
    attacks.execute(ws, "UPDATE receipt SET digest = ? WHERE request = ? AND stage = ?", digest, *where)
    caught(victim, ws, 13, "the log tells of other receipts than the tables", receipt=forged)


def test_the_receipt_of_somebody_elses_request_is_found(victim: Victim, ws: Path) -> None:
    caught(
        victim,
        ws,
        4,
        f"not '{victim.requests[1]}': this is the receipt of somebody else's request",
        receipt=victim.receipts[0, "recovered"],
        request_id=victim.requests[1],
    )


def test_the_receipt_of_another_workspace_is_found(victim: Victim, ws: Path, tmp_path: Path) -> None:
    other = create(tmp_path / "other")
    other.ingest(canaries([0, 1]), labels([0, 1]), record_ids=names([0, 1]))
    receipt = other.receipt(other.forget(record_ids=names([0])).id).data
    caught(victim, ws, 11, "it was another model that forgot", receipt=receipt, key=other.public_key)
    # Even under the key of this one.
    receipt = attacks.reworded(receipt, lambda _: None, [attacks.signer_of(ws)])
    caught(victim, ws, 11, "it was another model that forgot", receipt=receipt)


def test_a_proof_that_hides_a_present_record_is_found(victim: Victim, ws: Path) -> None:
    receipt = attacks.deny_presence(victim.receipts[0, "forgotten"], attacks.signer_of(ws))
    caught(victim, None, 7, "withdrawal: absence: .*", receipt=receipt)


def test_a_receipt_that_was_deleted_is_found(victim: Victim, ws: Path) -> None:
    (ws / "receipts" / f"{victim.requests[0]}-forgotten.json").unlink()
    caught(victim, ws, 16, r"the receipt .*-forgotten\.json was issued and is missing")


def test_receipts_exchanged_in_the_folder_are_found(victim: Victim, ws: Path) -> None:
    one, two = (ws / "receipts" / f"{name}-forgotten.json" for name in victim.requests[:2])
    one.write_bytes(victim.receipts[1, "forgotten"])
    two.write_bytes(victim.receipts[0, "forgotten"])
    caught(victim, ws, 16, r"the receipt .*-forgotten\.json is not the one that was issued: it was exchanged")


def test_a_receipt_in_the_folder_without_its_signature_is_found(victim: Victim, ws: Path) -> None:
    path = ws / "receipts" / f"{victim.requests[0]}-forgotten.json"
    envelope = json.loads(path.read_bytes())
    envelope["signatures"][0]["keyid"] = "0" * 64
    path.write_text(json.dumps(envelope))
    caught(victim, ws, 16, r"the receipt .*-forgotten\.json is damaged: no trusted key signed it")


# Keys and constants


@pytest.mark.parametrize("suffix", [".pem", ".pub.pem"])
def test_an_exchanged_signing_key_is_found(victim: Victim, ws: Path, tmp_path: Path, suffix: str) -> None:
    attacks.foreign_signer(tmp_path / "mine")
    mine = next(path for path in (tmp_path / "mine").iterdir() if path.name.endswith(".pub.pem") == (suffix != ".pem"))
    theirs = next(path for path in (ws / "keys").iterdir() if path.name.endswith(".pub.pem") == (suffix != ".pem"))
    shutil.copyfile(mine, theirs)
    caught(victim, ws, 16, r"the key in .* is not the one its name says: it was exchanged")


def test_a_signing_key_entered_in_the_table_is_found(victim: Victim, ws: Path) -> None:
    key = attacks.foreign_signer(ws / "keys").public_key.keyid
    attacks.execute(ws, "UPDATE key SET id = ?", key)
    caught(victim, ws, 13, "the log tells of other signing keys than the tables")


def test_a_signing_key_nobody_vouches_for_is_found(victim: Victim, ws: Path) -> None:
    key = attacks.foreign_signer(ws / "keys").public_key.keyid
    attacks.append_event(ws, "key-added", key=key)
    attacks.execute(ws, "INSERT INTO key VALUES (1, ?, '{}')", key)
    caught(victim, ws, 16, "key rotation 1: the field 'payload' is missing")


def test_an_edited_description_is_found(victim: Victim, ws: Path) -> None:
    description = json.loads((ws / "workspace.json").read_text())
    description["aggregation"] = "vote"
    (ws / "workspace.json").write_text(json.dumps(description))
    caught(victim, ws, 11, r"\(workspace.json\) is not the one the receipt was issued under: it was changed since")


@pytest.mark.parametrize("name", ["placement", "pseudonyms"])
def test_exchanged_secrets_are_found(victim: Victim, ws: Path, name: str) -> None:
    secrets = json.loads((ws / "secrets.json").read_text())
    secrets[name] = "0" * 64
    (ws / "secrets.json").write_text(json.dumps(secrets))
    said = {
        "placement": r"the placement key in .*secrets\.json is not the one",
        "pseudonyms": "hold other records than",
    }
    caught(victim, ws, 14, said[name])


# The tables beside the log


LATER = (datetime.now(UTC) + timedelta(days=900)).isoformat()

TABLES = {
    "deadline": ("UPDATE request SET deadline = ?", [LATER], "facts about requests"),
    "submission": ("UPDATE request SET submitted_at = ?", [LATER], "facts about requests"),
    "digest": ("UPDATE request SET digest = ?", ["0" * 64], "facts about requests"),
    "state": ("UPDATE request SET state = 'failed' WHERE number = 0", [], "requests"),
    "shards": ("DELETE FROM request_shard", [], "facts about requests"),
    "lost request": ("DELETE FROM request WHERE number = 2", [], "requests"),
    "weights": ("UPDATE step SET records = records + 100 WHERE shard = 0", [], "built steps"),
    "environment": ("UPDATE step SET environment = ?", ["0" * 64], "built steps"),
    "key of a step": ("UPDATE step SET key = ? WHERE shard = 0 AND position = 0", ["0" * 64], "built steps"),
    "lost step": ("DELETE FROM step WHERE shard = 0", [], "built steps"),
    "batches": ("UPDATE meta SET value = '0' WHERE name = 'batches'", [], "batches"),
    "tree of records": ("UPDATE bucket SET count = count + 1 WHERE node = 1", [], "records"),
    "artefact": ("DELETE FROM taint", [], "artefacts"),
    "migrations": ("UPDATE migration SET at = ?", [LATER], "migrations"),
    "order": ("UPDATE request SET number = 7 - number", [], "requests"),
    "failure": ("UPDATE request SET failure = 'was refused' WHERE number = 0", [], "facts about requests"),
    "sources": ("UPDATE artefact_source SET position = 9", [], "artefacts"),
    "lost sources": ("DELETE FROM artefact_source", [], "artefacts"),
    "lost receipt": ("DELETE FROM receipt WHERE stage = 'recovered'", [], "receipts"),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_changed_beside_the_log_are_found(victim: Victim, ws: Path, name: str) -> None:
    statement, values, what = TABLES[name]
    attacks.execute(ws, statement, *values)
    # With a receipt whose own entries are untouched, where that is what was changed.
    receipt = victim.receipts[1, "forgotten"]
    caught(victim, ws, 13, f"the log tells of other {what} than the tables of the ledger hold", receipt=receipt)


SAID = {
    "reason": ("UPDATE request SET reason = 'withdrew the request' WHERE number = 1", []),
    "idempotency key": ("UPDATE request SET idempotency_key = 'another' WHERE number = 1", []),
    "fingerprint": ("UPDATE request SET fingerprint = ? WHERE number = 1", ["0" * 64]),
    "salt": ("UPDATE request_salt SET salt = zeroblob(32)", []),
    "lost salt": ("DELETE FROM request_salt", []),
}


@pytest.mark.parametrize("name", SAID)
def test_a_register_that_says_something_else_is_found(victim: Victim, ws: Path, name: str) -> None:
    statement, values = SAID[name]
    attacks.execute(ws, statement, *values)
    caught(victim, ws, 13, r"the reason of request req-\w+, its idempotency key or what it names .* is not what it was")


def test_the_log_says_nothing_of_a_reason_to_whoever_guesses_it(victim: Victim, ws: Path) -> None:
    """Every request was asked for by letter, and none has the digest of another, or one without its salt."""
    said = [body["said"] for body in map(json.loads, attacks.events(ws)) if body["kind"] == "submitted"]
    assert len(set(said)) == len(said) == 3
    assert not any(b"letter" in body for body in attacks.events(ws))
    with closing(Workspace.open(ws)) as workspace:
        (known, fingerprint), salt = workspace._site.ledger.request_by_key(victim.forgotten[-7:])[:2], bytes(32)
        assert said_digest(salt, known, fingerprint) not in said
        assert set(workspace._site.ledger.said_digests().values()) == set(said)


@pytest.fixture
def waiting(victim: Victim, ws: Path) -> str:
    """A request that waits to be carried out, in the workspace that is attacked, beside one that failed."""
    with closing(Workspace.open(ws)) as workspace:
        workspace.submit(record_ids=["canary-of-nobody"])
        assert [item.failure for item in workspace.process()] == ["names a subject or record that is not here"]
        request = workspace.submit(record_ids=names([29]), reason="by telephone").id
    passes(victim, ws)
    return request


WAITING = {
    "ids": "UPDATE pending SET sealed = randomblob(length(sealed))",
    "key": "UPDATE pending SET epoch = '0123456789abcdef'",
    "lost": "DELETE FROM pending",
}


@pytest.mark.parametrize("name", WAITING)
def test_a_waiting_request_that_was_destroyed_is_found(victim: Victim, ws: Path, waiting: str, name: str) -> None:
    attacks.execute(ws, WAITING[name])
    caught(victim, ws, 13, f"the encrypted ids of request {waiting}, which waits .*, are not those that were accepted")


def test_a_waiting_request_that_was_destroyed_is_not_blamed_on_its_key(ws: Path, waiting: str) -> None:
    attacks.execute(ws, WAITING["ids"])
    with closing(Workspace.open(ws)) as workspace, pytest.raises(DamageError) as error:
        workspace.process()
    assert f"the encrypted ids of request {waiting} in " in str(error.value)
    assert "the key is not to blame" in str(error.value)
    assert ".key" not in str(error.value)


def test_a_waiting_request_whose_key_is_another_is(ws: Path, waiting: str) -> None:
    (key,) = (ws / "inbox").glob("*.key")
    flip(key, 0)
    with (
        closing(Workspace.open(ws)) as workspace,
        pytest.raises(DamageError, match=rf"{key.name} is missing or is not"),
    ):
        workspace.process()


def test_a_waiting_request_that_says_other_numbers_is_found(victim: Victim, ws: Path, waiting: str) -> None:
    attacks.execute(ws, "UPDATE request SET n_records = 7 WHERE id = ?", waiting)
    caught(victim, ws, 13, "the log tells of other facts about requests")


def test_a_failure_that_is_another_is_found(victim: Victim, ws: Path, waiting: str) -> None:
    attacks.execute(ws, "UPDATE request SET failure = 'the person changed their mind' WHERE state = 'failed'")
    caught(victim, ws, 13, "the log tells of other facts about requests")


def test_a_failure_of_which_the_log_gives_another_reason_is_found(victim: Victim, ws: Path, waiting: str) -> None:
    attacks.append_event(ws, "failed", request=waiting, why="bad weather")
    caught(victim, ws, 13, "cannot follow .*: this version does not know why it failed")


def test_ids_encrypted_anew_are_vouched_for(victim: Victim, ws: Path, waiting: str) -> None:
    """A request that has to wait on, because a file is damaged, is encrypted under another key."""
    with closing(Workspace.open(ws)) as workspace:
        ledger = workspace._site.ledger
        before = ledger.sealed_digests()
        ledger.reseal({waiting: (ledger.epoch(), workspace._site.inbox.seal(ledger.epoch(), waiting, (), names([29])))})
        assert ledger.sealed_digests() != before
    passes(victim, ws)
    attacks.execute(ws, WAITING["ids"])
    caught(victim, ws, 13, f"the encrypted ids of request {waiting}")
    attacks.append_event(ws, "resealed", request=victim.requests[0], sealed="0" * 64)
    caught(victim, ws, 13, "cannot follow .*: the request does not wait")


def test_what_is_not_looked_at_is_said(victim: Victim, ws: Path) -> None:
    """In one list: to whoever verifies, and in the decision that says who is trusted with what."""
    said = unlearn.verify(victim.latest, victim.key, workspace=ws).not_looked_at
    assert [item for item in said if "training again" not in item] == [item.what for item in UNCOVERED]
    assert len(said) == len(UNCOVERED) + 1
    (whole,) = unlearn.verify(victim.latest, victim.key).not_looked_at
    assert "the workspace" in whole
    (page,) = Path(unlearn.__file__).parent.joinpath("decisions").glob("0011-*.md")
    text = page.read_text(encoding="utf-8")
    section = text.split("**What verification of a workspace does not look at.**")[1].split("\n\n**")[0]
    points = [" ".join(point.split()) for point in section.split("\n- ")[1:]]
    assert points == [f"{item.what}." for item in UNCOVERED]


def test_an_exchanged_description_of_an_environment_is_found(victim: Victim, ws: Path) -> None:
    attacks.execute(ws, """UPDATE environment SET description = replace(description, '"python":"3', '"python":"4')""")
    caught(victim, ws, 13, "the description of the environment .* is that of another one: exchanged")


def test_a_lost_description_of_an_environment_is_found(victim: Victim, ws: Path) -> None:
    attacks.execute(ws, "DELETE FROM environment")
    caught(victim, ws, 13, "the environment .* that steps were built in is not described any more")


def test_exchanged_evidence_of_a_receipt_to_come_is_found(victim: Victim, ws: Path) -> None:
    attacks.execute(
        ws, """UPDATE evidence SET body = CAST(replace(body, '"destroyed":[[2', '"destroyed":[[1') AS BLOB)"""
    )
    caught(
        victim, ws, 13, f"the withdrawal of {victim.requests[2]}, of which a receipt is still to tell, is not the one"
    )


def test_an_edited_task_is_found(victim: Victim, ws: Path) -> None:
    attacks.execute(ws, "UPDATE meta SET value = replace(value, '[0,1]', '[1,0]') WHERE name = 'task'")
    caught(victim, ws, 15, "was not built from the records and constants that are there now")


# Records


EDITS: dict[str, Callable[[slicefile.SliceRecords], slicefile.SliceRecords]] = {
    "one byte of a feature": attacks.nudged,
    "a record removed": lambda data: slicefile.keep(data, np.arange(len(data)) > 0),
    "salts exchanged": attacks.salts_exchanged,
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_record_file_is_found(victim: Victim, ws: Path, name: str) -> None:
    shard, _, file = attacks.record_files(ws)[0]
    attacks.edit_records(ws, file, EDITS[name])
    message = (
        rf"{file.name} of shard {shard} is not the one that was recorded: a record in it was changed, added or taken"
    )
    caught(victim, ws, 14, message)


def test_a_record_added_to_a_file_is_found(victim: Victim, ws: Path) -> None:
    data = victim.kept
    extra = slicefile.keep(data, np.array([name == victim.forgotten for name in data.record_ids]))
    file = next(file for *at, file in attacks.record_files(ws) if tuple(at) == victim.home)
    attacks.edit_records(ws, file, lambda kept: attacks.joined(kept, extra))
    caught(victim, ws, 14, "is not the one that was recorded: a record in it was changed, added or taken out")


def test_a_record_moved_to_another_shard_is_found(victim: Victim, ws: Path) -> None:
    """Where its subject's other records, and a request for them, would not be."""
    (_, _, here), (_, _, there) = (item for item in attacks.record_files(ws) if item[1] == 0 and item[0] < 2)
    one, other = slicefile.read(here), slicefile.read(there)
    moved = slicefile.keep(one, np.arange(len(one)) == 0)
    attacks.write_slice(ws, there, attacks.joined(slicefile.keep(other, np.ones(len(other), dtype=bool)), moved))
    attacks.write_slice(ws, here, slicefile.keep(one, np.arange(len(one)) > 0))
    commitment = slicefile.commitments(moved)[0].tobytes()
    attacks.execute(ws, "UPDATE record SET shard = 1 WHERE commitment = ?", commitment)
    caught(victim, ws, 14, "holds records that do not belong there: .* or somebody moved them")


def test_records_the_ledger_does_not_list_are_found(victim: Victim, ws: Path) -> None:
    attacks.execute(ws, "DELETE FROM record WHERE token = (SELECT min(token) FROM record)")
    caught(victim, ws, 13, "the stored tree over the records of .* is not theirs")


def test_records_listed_under_another_name_are_found(victim: Victim, ws: Path) -> None:
    attacks.execute(ws, "UPDATE record SET token = ? WHERE token = (SELECT min(token) FROM record)", bytes(16))
    caught(victim, ws, 14, r"the record files hold other records than the ledger says, in shard \d, position \d")


def test_a_record_slipped_back_in_is_found(victim: Victim, ws: Path) -> None:
    attacks.slip_back(ws, victim.kept, victim.forgotten)
    caught(victim, ws, 13, "the log tells of other records than the tables of the ledger hold")


def slip_back_with_event(victim: Victim, ws: Path, *, consent: bool = False, salt: bytes | None = None) -> None:
    """Bring the forgotten record back, and let the log tell of a new batch; with the consent of nobody."""
    root, count = attacks.slip_back(ws, victim.kept, victim.forgotten, salt=salt)
    before = after = attacks.write_graves(ws)
    if consent:
        attacks.execute(ws, "DELETE FROM tombstone WHERE request = ?", victim.requests[1])
        after = attacks.write_graves(ws)
    lifted = before[1] - after[1]
    graves = {"tombstones": [before[0], after[0]], "buried": [before[1], after[1]]}
    attacks.append_event(ws, "ingested", batch=1, records=root, count=count, lifted=lifted, **graves)
    attacks.execute(ws, "UPDATE meta SET value = '2' WHERE name = 'batches'")


def test_a_record_slipped_back_in_with_an_event_is_found(victim: Victim, ws: Path) -> None:
    slip_back_with_event(victim, ws)
    caught(victim, ws, 14, "a record is there that was forgotten, .* it was slipped back in")


def test_a_record_slipped_back_in_without_its_tombstone_is_found(victim: Victim, ws: Path) -> None:
    slip_back_with_event(victim, ws)
    attacks.execute(ws, "DELETE FROM tombstone WHERE request = ?", victim.requests[1])
    caught(victim, ws, 13, "has forgotten which records must not return: 1 tombstones are missing")


def test_a_record_slipped_back_in_with_a_feigned_consent_is_found(victim: Victim, ws: Path) -> None:
    slip_back_with_event(victim, ws, consent=True)
    caught(victim, ws, 14, "a record that the receipt says is forgotten is there")


def test_a_record_slipped_back_in_under_a_new_salt_is_found(victim: Victim, ws: Path) -> None:
    """So that nobody can tell it from a new one that came with a consent; but no state was trained on it."""
    slip_back_with_event(victim, ws, consent=True, salt=bytes(32))
    caught(victim, ws, 15, "was not built from the records and constants that are there now")


# Tombstones


NOT_THEIRS = (
    "does not hold the tombstones any more that the log vouches for, so what was forgotten could return unnotic"
)
OBSCURED = "UPDATE tombstone SET token = randomblob(length(token))"


def test_tombstones_taken_away_are_found(victim: Victim, ws: Path) -> None:
    attacks.execute(ws, "DELETE FROM tombstone")
    caught(victim, ws, 13, "has forgotten which records must not return: 3 tombstones are missing, and 0 were lifted")


def test_tombstones_of_nobody_are_found(victim: Victim, ws: Path) -> None:
    attacks.execute(ws, OBSCURED)
    caught(victim, ws, 13, NOT_THEIRS)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE tombstone SET token = zeroblob(16) WHERE request = ?",
        "UPDATE tombstone SET kind = 'subject' WHERE request = ?",
        "UPDATE tombstone SET request = 'req-0000000000000000' WHERE request = ?",
        "UPDATE tombstone SET token = CAST(substr(hex(token), 1, 16) AS TEXT) WHERE request = ?",
    ],
)
def test_a_tombstone_that_is_another_is_found(victim: Victim, ws: Path, change: str) -> None:
    attacks.execute(ws, change, victim.requests[0])
    caught(victim, ws, 13, f"{NOT_THEIRS}|has forgotten which records|table tombstone holds something that does not")


def test_a_tree_over_the_tombstones_that_is_another_is_found(victim: Victim, ws: Path) -> None:
    attacks.execute(ws, "UPDATE tombstone_bucket SET count = count + 1 WHERE node != 1")
    caught(victim, ws, 13, NOT_THEIRS)
    attacks.execute(ws, OBSCURED)
    attacks.write_graves(ws)
    caught(victim, ws, 13, "the log tells of other tombstones than the tables of the ledger hold")


def test_a_forgotten_person_taken_in_again_is_found(victim: Victim, ws: Path) -> None:
    """Through the front door, after the tombstones were made those of nobody; everything is trained and served."""
    row = int(victim.forgotten[len("canary-record-") :][:4])
    with closing(Workspace.open(ws)) as workspace, pytest.raises(TombstoneError):
        workspace.ingest(canaries([row]), labels([row]), record_ids=names([row]))
    attacks.execute(ws, OBSCURED)
    with closing(Workspace.open(ws)) as workspace:
        workspace.ingest(canaries([row]), labels([row]), record_ids=names([row]))
        workspace.recover()
    for receipt in victim.receipts.values():
        caught(victim, ws, 13, NOT_THEIRS, receipt=receipt)


@pytest.mark.parametrize("agree", [False, True], ids=["table alone", "with its tree"])
def test_tombstones_changed_before_an_honest_deletion_are_found(victim: Victim, ws: Path, agree: bool) -> None:
    """The next withdrawal does not vouch for what it finds: what was there before it contradicts the log for good."""
    with closing(Workspace.open(ws)) as workspace:
        left = [name for name in names(range(30)) if workspace._site.ledger.locations(
            workspace._site.tokens("record", [name]))]  # fmt: skip
        token = workspace._site.tokens("record", left[:1])[0]
    # Into the very subtree that the withdrawal computes anew.
    attacks.execute(
        ws,
        "UPDATE tombstone SET token = ? WHERE request = ? AND kind = 'record'",
        token[:4] + bytes(12),
        victim.requests[1],
    )
    if agree:
        attacks.write_graves(ws)
    with closing(Workspace.open(ws)) as workspace:
        workspace.forget(record_ids=left[:1])
    attacks.write_graves(ws)
    caught(
        victim, ws, 13, r"entry \d+ of the log \(withdrawn\) cannot follow .*: what must not return, before it, is not"
    )


def test_the_tombstone_of_a_subject_taken_away_is_found(tmp_path: Path) -> None:
    """Of a subject the log tells no number that one could count: there may have been a tombstone before."""
    with closing(create(tmp_path / "people")) as workspace:
        workspace.ingest(canaries(range(6)), labels(range(6)), subjects=["a", "a", "b", "b", "c", "c"])
        receipt = workspace.receipt(workspace.forget(subjects=["a"]).id).data
        key = workspace.public_key
    unlearn.verify(receipt, key, workspace=tmp_path / "people")
    attacks.execute(tmp_path / "people", "DELETE FROM tombstone WHERE kind = 'subject'")
    with pytest.raises(VerificationError, match=NOT_THEIRS) as error:
        unlearn.verify(receipt, key, workspace=tmp_path / "people")
    assert error.value.step == 13


def test_an_event_that_lifts_other_tombstones_than_it_says_is_found(victim: Victim, ws: Path) -> None:
    root, count = attacks.write_buckets(ws)
    before = attacks.write_graves(ws)
    attacks.execute(ws, "DELETE FROM tombstone WHERE request = ?", victim.requests[0])
    after = attacks.write_graves(ws)
    graves = {"tombstones": [before[0], after[0]], "buried": [before[1], after[1]]}
    attacks.append_event(ws, "ingested", batch=1, records=root, count=count, lifted=0, **graves)
    caught(victim, ws, 13, "cannot follow .*: other tombstones were added or lifted than it says")


def test_an_event_that_is_silent_about_the_tombstones_is_found(victim: Victim, ws: Path) -> None:
    root, count = attacks.write_buckets(ws)
    attacks.append_event(ws, "ingested", batch=1, records=root, count=count, lifted=0)
    caught(victim, ws, 13, "cannot follow .*: it does not say what must not return any more")


# The database


def test_a_damaged_index_is_found(victim: Victim, ws: Path) -> None:
    """Every answer still fits the log, until somebody asks by way of the index."""
    with attacks.ledger(ws) as c:
        page, size = c.execute(
            "SELECT rootpage, (SELECT page_size FROM pragma_page_size) FROM sqlite_master "
            "WHERE name = 'ix_record_commitment'"
        ).fetchone()
    data = (ws / "ledger.db").read_bytes()
    commitment = slicefile.commitments(slicefile.read(attacks.record_files(ws)[0][2]))[0].tobytes()
    flip(ws / "ledger.db", data.index(commitment, (page - 1) * size), 1)
    caught(victim, ws, 12, "contradicts itself .*: the database was changed by something else than this program")


def test_a_trigger_that_undoes_forgetting_is_found(victim: Victim, ws: Path) -> None:
    with attacks.ledger(ws) as c:
        c.execute("CREATE TRIGGER undo AFTER INSERT ON tombstone BEGIN DELETE FROM tombstone; END")
    caught(victim, ws, 12, r"has other tables, indices or triggers than a ledger \(undo\)")


def test_a_log_that_is_not_append_only_any_more_is_found(victim: Victim, ws: Path) -> None:
    with closing(sqlite3.connect(ws / "ledger.db")) as c:
        c.execute("DROP TRIGGER event_no_delete")
        c.commit()
    caught(victim, ws, 12, r"has other tables, indices or triggers than a ledger \(event_no_delete\)")


def test_an_event_filed_under_another_request_is_found(victim: Victim, ws: Path) -> None:
    attacks.execute(ws, "UPDATE event SET request = ? WHERE request = ?", victim.requests[0], victim.requests[2])
    caught(victim, ws, 12, r"entry \d+ of the log is filed under another request than it is about")


def test_records_exchanged_on_the_list_for_a_receipt_to_come_are_found(victim: Victim, ws: Path) -> None:
    attacks.execute(ws, "UPDATE removed SET commitment = ?", bytes(32))
    caught(victim, ws, 13, f"what {victim.requests[2]} removed is not what the evidence of it says")


# Files


@pytest.mark.parametrize("part", ["records", "staging", "checkpoints", "."])
def test_a_file_nobody_knows_is_found(victim: Victim, ws: Path, part: str) -> None:
    name, data = "p000000-v9.arrow", (victim.old / "shards/0000/records")
    shutil.copyfile(next(iter(data.iterdir())), ws / "shards/0000" / part / name)
    caught(victim, ws, 14, rf"{name} is a file the ledger does not know: it may hold records that were forgotten")


def test_a_shard_nobody_knows_is_found(victim: Victim, ws: Path) -> None:
    shutil.copytree(victim.old / "shards/0000", ws / "shards/0009")
    caught(victim, ws, 14, "0009.* is a file the ledger does not know")


def destroyed(victim: Victim) -> Path:
    """The file of a checkpoint that the second request destroyed, out of the old copy."""
    predicate = attacks.statement_of(victim.latest)["predicate"]
    shard, _, key = predicate["withdrawal"]["destroyed"][-1]
    return victim.old / f"shards/{shard:04d}/checkpoints/{key}.safetensors"


def test_a_destroyed_checkpoint_put_back_is_found(victim: Victim, ws: Path) -> None:
    path = destroyed(victim)
    shutil.copyfile(path, ws / path.relative_to(victim.old))
    caught(victim, ws, 15, "a checkpoint of shard 0 that the receipt says is destroyed is on the disk")
    caught(victim, ws, 15, "shard 0 has a checkpoint the log does not know", receipt=victim.receipts[2, "forgotten"])


def test_a_destroyed_checkpoint_put_back_under_another_name_is_found(victim: Victim, ws: Path) -> None:
    path = destroyed(victim)
    shutil.copyfile(path, (ws / path.relative_to(victim.old)).with_suffix(".bak"))
    caught(victim, ws, 14, r"\.bak is a file the ledger does not know")


# Checkpoints


def test_the_file_of_another_step_is_found(victim: Victim, ws: Path) -> None:
    attacks.other_states_file(ws, 0)
    caught(victim, ws, 15, "is damaged: it holds another step than its name says")


def test_a_byte_of_a_checkpoint_is_found(victim: Victim, ws: Path) -> None:
    path = next((ws / "shards/0000/checkpoints").iterdir())
    flip(path, path.stat().st_size - 20)
    caught(victim, ws, 15, rf"the checkpoint .*{path.name} is damaged: its content does not match its digest")


def test_a_lost_checkpoint_is_found(victim: Victim, ws: Path) -> None:
    next((ws / "shards/0000/checkpoints").iterdir()).unlink()
    caught(victim, ws, 15, r"a checkpoint of shard 0 is missing")


def test_a_state_trained_on_other_data_is_found(victim: Victim, ws: Path) -> None:
    attacks.other_state(ws, 0)
    caught(victim, ws, 15, "the checkpoint of shard 0, position 1 is not the one that was recorded: it was exchanged")


def test_a_state_trained_on_other_data_and_entered_in_the_table_is_found(victim: Victim, ws: Path) -> None:
    key, commitment = attacks.other_state(ws, 0)
    attacks.execute(ws, "UPDATE step SET commitment = ? WHERE key = ?", commitment, key)
    caught(victim, ws, 13, "the log tells of other built steps than the tables of the ledger hold")


def test_a_state_trained_on_other_data_and_entered_in_the_log_is_found_by_training_again(
    victim: Victim, ws: Path
) -> None:
    key, commitment = attacks.other_state(ws, 0)
    attacks.execute(ws, "UPDATE step SET commitment = ? WHERE key = ?", commitment, key)
    body = next(item for item in map(json.loads, attacks.events(ws)) if item.get("key") == key)
    fields = {name: body[name] for name in ("shard", "position", "key", "environment", "records", "visits")}
    attacks.append_event(ws, "built", state=commitment, **fields)
    passes(victim, ws)  # nothing contradicts it: a hash binds no weights to data
    caught(
        victim,
        ws,
        17,
        "shard 0, position 1: trained again from its records, it gives another state than the stored one",
        replay=True,
    )


def test_a_state_that_claims_more_weight_is_found(victim: Victim, ws: Path) -> None:
    attacks.heavier_state(ws, 0)
    caught(victim, ws, 15, "is not the one that was recorded: it was exchanged")
