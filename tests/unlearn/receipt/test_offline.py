"""Verification of true receipts, of what one expects of them, and of anything that is no receipt."""

from __future__ import annotations

import copy
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.digest import canonical_json
from tests.unlearn.receipt.build import (
    DEADLINE,
    OPENING,
    RECORD_IDS,
    REQUEST,
    START,
    SUBJECTS,
    WORKSPACE,
    make,
    public,
    signer,
)
from unlearn.errors import InputError, VerificationError
from unlearn.receipt import Verified, request_digest, seal, verify_offline
from unlearn.receipt.predicate import (
    ADAPTIVE_PRIVATE,
    FORGOTTEN_GUARANTEE,
    NOT_PROVEN,
    RECOVERED_GUARANTEE,
    Privacy,
    statement,
)

MADE = make()


def test_both_stages_verify_and_every_step_says_what_it_found() -> None:
    first = verify_offline(MADE.forgotten, [MADE.pinned])
    assert [step.number for step in first.steps] == list(range(1, 9))
    assert first.predicate.stage == "forgotten"
    assert first.predicate.guarantee == FORGOTTEN_GUARANTEE
    assert "reduced training set" in first.predicate.guarantee
    assert first.predicate.recovery is None
    second = verify_offline(
        MADE.recovered,
        [MADE.pinned],
        opening=OPENING,
        subjects=SUBJECTS,
        record_ids=RECORD_IDS,
        request_id=REQUEST,
        workspace_id=WORKSPACE,
        forgotten=MADE.forgotten,
    )
    assert [step.number for step in second.steps] == list(range(1, 11))
    assert second.predicate.guarantee == RECOVERED_GUARANTEE
    assert second.predicate.not_proven == NOT_PROVEN
    assert (
        second.predicate.previous
        == first.payload
        == hashlib.sha256(canonical_json(MADE.statements["forgotten"])).hexdigest()
    )
    assert second.signers == (MADE.current.public_key.keyid,)
    old, new = MADE.pinned.keyid[:16], MADE.current.public_key.keyid[:16]
    assert [step.detail for step in second.steps] == [
        f"A signed envelope, {len(MADE.recovered):,} bytes, 1 signature.",
        f"Signed with the trusted key {new}… (which replaced {old}…), and unchanged since.",
        "Complete and unambiguous, in the form and words of version 1, stage recovered.",
        f"Request '{REQUEST}' in workspace {WORKSPACE}, the request and workspace asked for.",
        (
            "All 4 events of this request (submitted, withdrawn, forgotten, recovered) are in the signed log of "
            "10 events, "
            f"in order, and agree with the receipt. The records were destroyed before the deadline of {DEADLINE}."
        ),
        "The accounts of the withdrawal and of the recovery are those whose digests the log holds.",
        (
            "3 records of 24 forgotten: shown to be there before, shown to be gone after, and no other of the "
            "21 that stay "
            "was touched. When the model was rebuilt, none of them was among its 22 records."
        ),
        (
            "Shards that had learned from the records: 2. States trained on them and destroyed, none of which "
            "is served "
            "any more: 3. Shards that went on serving, untouched or with an earlier state: 2. States rebuilt "
            "without the "
            "records, all different from those destroyed: 3. Shards that serve since: 3."
        ),
        "The request named exactly the 2 subjects and 1 single record given.",
        "It continues the receipt of stage forgotten that was given, which is genuine and says the same.",
    ]
    assert [step.title for step in second.steps] == [
        "the file", "the signature", "the form", "what it is about", "the log", "the evidence", "the forgotten records",
        "the states of the model", "the people and records named", "the receipt before it",
    ]  # fmt: skip


def test_a_log_that_went_on_before_the_receipt_was_issued_verifies() -> None:
    for later in (1, 2, 3, 30):
        made = make(later=later)
        for receipt in (made.forgotten, made.recovered):
            verify_offline(receipt, [made.pinned])
        verify_offline(made.recovered, [made.pinned], forgotten=made.forgotten)


def test_a_missed_deadline_is_said_and_refutes_nothing() -> None:
    late = START.isoformat()
    made = make(
        edit_events={"submitted": lambda event: event.update(deadline=late)},
        edit_request=lambda request: request.update(deadline=late),
    )
    detail = verify_offline(made.forgotten, [made.pinned]).steps[4].detail
    assert detail.endswith(f"The records were destroyed AFTER the deadline of {late}.")


def test_without_a_deadline_nothing_is_said_of_it() -> None:
    made = make(
        edit_events={"submitted": lambda event: event.update(deadline=None)},
        edit_request=lambda request: request.update(deadline=None),
    )
    assert "deadline" not in verify_offline(made.forgotten, [made.pinned]).steps[4].detail


def test_an_extended_deadline_is_the_one_that_holds() -> None:
    moved = DEADLINE.replace("2025-06", "2025-07")
    extra = [("submitted", "extended", {"request": REQUEST, "deadline": moved})]
    made = make(extra=extra, edit_request=lambda request: request.update(deadline=moved))
    assert moved in verify_offline(made.recovered, [made.pinned]).steps[4].detail
    with pytest.raises(VerificationError, match="request: deadline is not what the event extended in the log says"):
        verify_offline(make(extra=extra).forgotten, [made.pinned])


def test_a_field_that_a_later_version_adds_to_an_event_does_no_harm() -> None:
    made = make(edit_events={"withdrawn": lambda event: event.update(more=[1, 2])})
    verify_offline(made.recovered, [made.pinned])


def test_the_receipt_of_another_request_or_workspace_is_refused() -> None:
    with pytest.raises(VerificationError, match=r"step 4 .*about the request 'r-0001', not 'r-0002'.*somebody else's"):
        verify_offline(MADE.forgotten, [MADE.pinned], request_id="r-0002")
    with pytest.raises(VerificationError, match=r"step 4 .*about the workspace 0f0f.*another model that forgot"):
        verify_offline(MADE.forgotten, [MADE.pinned], workspace_id="00" * 16)


def opened(**given: Any) -> Verified:
    """A verification with the opening, some of whose ids are changed."""
    ids: dict[str, Any] = {"opening": OPENING, "subjects": SUBJECTS, "record_ids": RECORD_IDS}
    return verify_offline(MADE.forgotten, [MADE.pinned], **{**ids, **given})


@pytest.mark.parametrize(
    "given",
    [
        {"subjects": SUBJECTS[:1]},
        {"subjects": (*SUBJECTS, "Somebody Else")},
        {"subjects": ("ada example", SUBJECTS[1])},
        {"record_ids": ()},
        {"subjects": RECORD_IDS, "record_ids": SUBJECTS},
        {"opening": bytes(32)},
    ],
)
def test_other_ids_than_the_request_named_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(
        VerificationError, match=r"did not name exactly these subjects and records \(request: digest\)"
    ) as caught:
        opened(**given)
    assert caught.value.step == 9
    assert "Ada" not in str(caught.value)


def test_ids_in_any_order_and_twice_are_the_same_ids() -> None:
    step = opened(subjects=[*reversed(SUBJECTS), SUBJECTS[0]], record_ids=iter(RECORD_IDS)).steps[-1]
    assert (step.number, step.detail) == (9, "The request named exactly the 2 subjects and 1 single record given.")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"opening": None}, "only with the opening"),
        ({"opening": b"short"}, "opening of a request has 32 bytes, not 5"),
        ({"subjects": [7]}, "subjects must be texts"),
        ({"record_ids": ["\ud800"]}, "lone surrogate"),
    ],
)
def test_ids_that_cannot_be_compared_are_the_callers_mistake(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        opened(**given)


def test_the_digest_of_a_request_keeps_subjects_and_records_apart() -> None:
    digests = {
        request_digest(OPENING, ["a", "b"], ["c"]),
        request_digest(OPENING, ["a"], ["b", "c"]),
        request_digest(OPENING, ["ab"], ["c"]),
        request_digest(bytes(32), ["a", "b"], ["c"]),
    }
    assert len(digests) == 4
    assert request_digest(OPENING, ["b", "a", "a"], ["c"]) in digests


def test_the_receipt_before_must_be_the_one() -> None:
    other = make(later=1)
    with pytest.raises(
        VerificationError, match=r"step 10 .*previous is not the digest of the receipt of stage forgotten"
    ):
        verify_offline(MADE.recovered, [MADE.pinned], forgotten=other.forgotten)
    with pytest.raises(VerificationError, match=r"step 10 .*does not stand up: verification failed at step 1 "):
        verify_offline(MADE.recovered, [MADE.pinned], forgotten=MADE.forgotten[:-9])
    with pytest.raises(VerificationError, match=r"step 10 .*itself of stage forgotten"):
        verify_offline(MADE.forgotten, [MADE.pinned], forgotten=MADE.forgotten)
    with pytest.raises(VerificationError, match=r"step 10 .*previous is not the digest"):
        verify_offline(make(previous="ab" * 32).recovered, [MADE.pinned], forgotten=MADE.forgotten)


def test_the_receipt_before_must_say_the_same() -> None:
    first = make(edit_withdrawal=lambda taken: taken["states"]["before"][2].__setitem__(4, 7)
                 or taken["states"]["after"][1].__setitem__(4, 7))  # fmt: skip
    payload = verify_offline(first.forgotten, [first.pinned]).payload
    second = make(previous=payload)
    verify_offline(second.recovered, [second.pinned])
    with pytest.raises(VerificationError, match=r"step 10 .*says something else of this \(withdrawal\)"):
        verify_offline(second.recovered, [second.pinned], forgotten=first.forgotten)
    grown = make(later=9)
    shrunk = make(previous=verify_offline(grown.forgotten, [grown.pinned]).payload)
    with pytest.raises(
        VerificationError, match=r"step 10 .*says something else of this \(log: size, which never falls\)"
    ):
        verify_offline(shrunk.recovered, [shrunk.pinned], forgotten=grown.forgotten)


@pytest.mark.parametrize(
    ("keys", "threshold", "message"),
    [
        ([], 1, "without a public key"),
        ([public("old")], 0, "0 signatures of 1 "),
        ([public("old")], 2, "2 signatures of 1 "),
        ([public("old"), public("old")], 2, "2 signatures of 1 "),
    ],
)
def test_a_threshold_that_makes_no_sense_is_the_callers_mistake(keys: Any, threshold: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        verify_offline(MADE.forgotten, keys, threshold)


def test_the_wrong_key_is_refused() -> None:
    with pytest.raises(VerificationError, match=r"step 2 .*no trusted key signed it.*issued by somebody else"):
        verify_offline(MADE.forgotten, [public("somebody else")])


@pytest.mark.parametrize(
    "payload", [b"", b"no JSON", b"[]", b"{}", b'{"predicateType":"urn:other","predicate":{}}', b"\xff"]
)
def test_something_else_signed_with_the_right_key_is_no_receipt(payload: bytes) -> None:
    from securesystemslib.dsse import Envelope

    envelope = Envelope(payload, "application/vnd.in-toto+json", {})
    envelope.sign(signer("old"))
    with pytest.raises(VerificationError) as caught:
        verify_offline(json.dumps(envelope.to_dict()).encode(), [public("old")])
    assert caught.value.step == (3 if payload else 1)


def test_a_statement_written_in_another_way_is_refused() -> None:
    from securesystemslib.dsse import Envelope

    envelope = Envelope(json.dumps(MADE.statements["forgotten"]).encode(), "application/vnd.in-toto+json", {})
    envelope.sign(MADE.current)
    with pytest.raises(VerificationError, match=r"step 3 .*not written in canonical JSON"):
        verify_offline(json.dumps(envelope.to_dict()).encode(), [MADE.pinned])


def test_the_envelope_itself_may_be_written_in_any_way() -> None:
    compact = json.dumps(dict(reversed(json.loads(MADE.forgotten).items()))).encode()
    assert verify_offline(compact, [MADE.pinned]).payload == verify_offline(MADE.forgotten, [MADE.pinned]).payload


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200) | VALUES.map(canonical_json))
def test_whatever_the_file_holds_there_is_one_error(data: bytes) -> None:
    with pytest.raises(VerificationError, match="step 1 "):
        verify_offline(data, [MADE.pinned])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_is_signed_there_is_one_error_or_a_receipt(data: st.DataObject) -> None:
    from tests.unlearn.receipt.build import changed, get, places

    made = MADE.statements[data.draw(st.sampled_from(["forgotten", "recovered"]))]
    path, _ = data.draw(st.sampled_from(list(places(made))))
    value = data.draw(VALUES)
    try:
        verify_offline(seal(changed(made, path, value), [MADE.current]), [MADE.pinned])
    except VerificationError:
        return
    # Accepted: the same as before, or one of the few things that nothing else repeats.
    same = type(get(made, path)) is type(value) and get(made, path) == value
    assert same or {"artefacts", "software"} & set(map(str, path)), path


def test_a_statement_that_would_not_verify_is_never_made() -> None:
    from unlearn.receipt.strict import ReceiptError

    parts = MADE.statements["forgotten"]["predicate"]
    names = "stage workspace request withdrawal recovery environments artefacts log previous keys"
    given = {name: parts[name] for name in names.split()}
    assert statement(**given, software_version="0.1.0") == MADE.statements["forgotten"]
    with pytest.raises(ReceiptError, match="stage must be"):
        statement(**{**given, "stage": "halfway"}, software_version="0.1.0")
    with pytest.raises(ReceiptError, match="previous must be null"):
        statement(**{**given, "previous": "ab" * 32}, software_version="0.1.0")
    with pytest.raises(ReceiptError, match="software: version must be a text"):
        statement(**given, software_version="")


@pytest.mark.parametrize("value", [0, -1.5, True, None, "1", 10**400])
@pytest.mark.parametrize("name", ["sigma", "max_epsilon", "delta"])
def test_a_promise_of_privacy_is_made_in_numbers(name: str, value: Any) -> None:
    made = copy.deepcopy(MADE.statements["forgotten"])
    promise = {"sigma": 40.0, "max_epsilon": 1, "delta": 1e-6}
    made["predicate"]["guarantee"]["adaptive_requests"] = {"statement": ADAPTIVE_PRIVATE, "privacy": promise}
    found = verify_offline(seal(made, [MADE.current]), [MADE.pinned]).predicate.privacy
    assert found == Privacy(40.0, 1.0, 1e-6)
    promise[name] = value
    with pytest.raises(VerificationError, match=f"step 3 .*adaptive_requests: privacy: {name} must be a number from"):
        verify_offline(seal(made, [MADE.current]), [MADE.pinned])


@pytest.mark.parametrize("name", ["recovery", "previous"])
def test_a_stage_must_have_what_belongs_to_it(name: str) -> None:
    made = copy.deepcopy(MADE.statements["recovered"])
    made["predicate"][name] = None
    with pytest.raises(VerificationError, match=f"step 3 .*{name} is missing, which a receipt at stage recovered must"):
        verify_offline(seal(made, [MADE.current]), [MADE.pinned])


@pytest.mark.parametrize(
    ("entries", "name"),
    [
        (lambda p: p["withdrawal"]["removed"], "withdrawal: removed"),
        (lambda p: p["withdrawal"]["destroyed"], "withdrawal: destroyed"),
        (lambda p: p["withdrawal"]["states"]["before"], "withdrawal: states: before"),
        (lambda p: p["withdrawal"]["states"]["after"], "withdrawal: states: after"),
        (lambda p: p["recovery"]["states"], "recovery: states"),
        (lambda p: p["recovery"]["rebuilt"], "recovery: rebuilt"),
    ],
)
def test_entries_are_in_order(entries: Callable[[Any], list[Any]], name: str) -> None:
    made = copy.deepcopy(MADE.statements["recovered"])
    entries(made["predicate"]).reverse()
    with pytest.raises(VerificationError, match=f"step 3 .*{name}: the entries must be in ascending order"):
        verify_offline(seal(made, [MADE.current]), [MADE.pinned])


def test_a_withdrawal_with_numbers_for_keys_has_the_digest_of_what_a_verifier_reads() -> None:
    from unlearn.receipt import withdrawal_digest

    taken = MADE.statements["forgotten"]["predicate"]["withdrawal"]
    numbers = {**taken, "shards": {2: 0, 10: 1}}
    assert withdrawal_digest(numbers) == withdrawal_digest({**taken, "shards": {"10": 1, "2": 0}})


def test_signing_libraries_are_imported_only_when_something_is_signed_or_verified() -> None:
    heavy = ("securesystemslib", "cryptography")
    code = f"import sys, unlearn, unlearn.receipt; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
