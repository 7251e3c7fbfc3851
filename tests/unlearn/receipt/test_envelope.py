"""Envelopes: who signed, how many of them, and nothing but one envelope."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from securesystemslib.signer import SSlibKey

from shards.digest import canonical_json
from tests.unlearn.receipt.build import public, signer
from unlearn.errors import InputError
from unlearn.receipt import countersign, open_envelope, seal
from unlearn.receipt.strict import ReceiptError

STATEMENT = {"says": "something", "number": 7}
SEALED = seal(STATEMENT, [signer("a")])
KEYS = [public("a"), public("b"), public("c")]


def edited(edit: Callable[[dict[str, Any]], Any], data: bytes = SEALED) -> bytes:
    """An envelope with something changed in its JSON."""
    value = json.loads(data)
    edit(value)
    return json.dumps(value).encode()


def test_an_envelope_gives_back_the_bytes_that_were_signed() -> None:
    assert open_envelope(SEALED, [public("a")]) == canonical_json(STATEMENT)
    assert SEALED.endswith(b"}\n")
    assert seal(STATEMENT, [signer("a")]) == SEALED
    value = json.loads(SEALED)
    assert value["payloadType"] == "application/vnd.in-toto+json"
    assert set(value) == {"payload", "payloadType", "signatures"}


def test_what_is_signed_is_the_pre_authentication_encoding_of_dsse() -> None:
    """By the specification's own formula, without the library that made the signature."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    payload, kind = canonical_json(STATEMENT), b"application/vnd.in-toto+json"
    message = b"DSSEv1 " + b" ".join([str(len(kind)).encode(), kind, str(len(payload)).encode(), payload])
    (signature,) = json.loads(SEALED)["signatures"]
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public("a").keyval["public"]))
    key.verify(base64.b64decode(signature["sig"]), message)


def test_nobody_signs_nothing() -> None:
    with pytest.raises(InputError, match="at least one signature"):
        seal(STATEMENT, [])


def test_two_of_three() -> None:
    two = countersign(SEALED, signer("c"))
    assert two == seal(STATEMENT, [signer("a"), signer("c")])
    assert countersign(two, signer("c")) == two
    assert open_envelope(two, KEYS, 2) == canonical_json(STATEMENT)
    for data in (SEALED, seal(STATEMENT, [signer("a"), signer("stranger")])):
        with pytest.raises(ReceiptError, match="signatures of 2 different trusted keys are needed, it has 1 "):
            open_envelope(data, KEYS, 2)
    with pytest.raises(ReceiptError, match="signatures of 3 different trusted keys are needed, it has 2 "):
        open_envelope(two, KEYS, 3)


def test_a_key_under_two_ids_counts_once() -> None:
    key = public("a")
    again = SSlibKey("another id", key.keytype, key.scheme, key.keyval)
    with pytest.raises(InputError, match="2 signatures of 1 different public keys"):
        open_envelope(SEALED, [key, again], 2)

    def twice(value: dict[str, Any]) -> None:
        value["signatures"].append({**value["signatures"][0], "keyid": "another id"})

    with pytest.raises(ReceiptError, match="signatures of 2 different trusted keys are needed, it has 1 "):
        open_envelope(edited(twice), [key, again, public("b")], 2)


def test_a_false_key_id_does_not_help() -> None:
    """A signature by one trusted key in the name of another is no signature of either."""
    false = SSlibKey(public("b").keyid, "ed25519", "ed25519", public("a").keyval)
    data = edited(lambda value: value["signatures"][0].update(keyid=public("b").keyid))
    with pytest.raises(ReceiptError, match="no trusted key signed it"):
        open_envelope(data, [false])
    with pytest.raises(ReceiptError, match="does not fit the content"):
        open_envelope(data, KEYS)


def test_two_signatures_of_one_key_are_refused() -> None:
    with pytest.raises(ReceiptError, match=r"signature 2: there are two signatures of key '[0-9a-f]{20,}"):
        open_envelope(edited(lambda value: value["signatures"].append(value["signatures"][0])), KEYS)


def test_a_signature_of_a_stranger_does_no_harm() -> None:
    strangers = [
        {"keyid": signer("stranger").public_key.keyid, "sig": base64.b64encode(b"\0" * 64).decode()},
        {"keyid": "not even a key id \x1b", "sig": base64.b64encode(b"\0" * 4000).decode()},
    ]
    data = edited(lambda value: value["signatures"].extend(strangers), countersign(SEALED, signer("b")))
    assert open_envelope(data, KEYS, 2) == canonical_json(STATEMENT)


@pytest.mark.parametrize("sig", [b"\0" * 64, b"\0", b"\0" * 65, b"\xff" * 64])
def test_a_false_signature_in_the_name_of_a_trusted_key_is_refused_whatever_else_there_is(sig: bytes) -> None:
    false = {"keyid": public("b").keyid, "sig": base64.b64encode(sig).decode()}
    with pytest.raises(
        ReceiptError, match="changed after it was signed, or was signed by somebody else in the name of"
    ):
        open_envelope(edited(lambda value: value["signatures"].append(false)), KEYS)
    assert open_envelope(edited(lambda value: value["signatures"].append(false)), [public("a")])


def test_another_payload_under_the_same_signature_is_refused() -> None:
    payload = base64.b64encode(canonical_json({**STATEMENT, "number": 8})).decode()
    with pytest.raises(ReceiptError, match="changed after it was signed"):
        open_envelope(edited(lambda value: value.update(payload=payload)), KEYS)


def test_another_type_of_payload_is_refused() -> None:
    with pytest.raises(ReceiptError, match=r"payloadType must be 'application/vnd.in-toto.json', not 'text/plain'"):
        open_envelope(edited(lambda value: value.update(payloadType="text/plain")), KEYS)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda v: v.update(more=1), "the field 'more' is unknown"),
        (lambda v: v.pop("payload"), "the field 'payload' is missing"),
        (lambda v: v.pop("payloadType"), "the field 'payloadType' is missing"),
        (lambda v: v.pop("signatures"), "the field 'signatures' is missing"),
        (lambda v: v.update(signatures=[]), "it must have 1 to 100 signatures, not 0"),
        (lambda v: v.update(signatures=v["signatures"] * 101), "it must have 1 to 100 signatures, not 101"),
        (lambda v: v.update(signatures={}), "signatures must be a list"),
        (lambda v: v.update(signatures=[7]), "signature 1 must be an object"),
        (lambda v: v["signatures"][0].pop("keyid"), "signature 1: the field 'keyid' is missing"),
        (lambda v: v["signatures"][0].pop("sig"), "signature 1: the field 'sig' is missing"),
        (lambda v: v["signatures"][0].update(cert="x"), "signature 1: the field 'cert' is unknown"),
        (lambda v: v["signatures"][0].update(keyid=""), "signature 1: keyid must be a text"),
        (lambda v: v["signatures"][0].update(keyid="k" * 257), "signature 1: keyid must have at most 256 characters"),
        (lambda v: v["signatures"][0].update(sig="!!!!"), "signature 1: sig is not base64"),
        (
            lambda v: v["signatures"][0].update(sig=v["signatures"][0]["sig"].rstrip("=")),
            "signature 1: sig is not base64",
        ),
        (lambda v: v["signatures"][0].update(sig="\u00fc"), "signature 1: sig is not base64"),
        (lambda v: v.update(payload=v["payload"] + "\n"), "payload is not base64"),
        (lambda v: v.update(payload="-_-_"), "payload is not base64"),
        (lambda v: v.update(payload="YR=="), "payload is not base64 in its one canonical form"),
        (lambda v: v.update(payload=7), "payload must be a text"),
    ],
)
def test_anything_but_one_envelope_is_refused(edit: Callable[[dict[str, Any]], Any], message: str) -> None:
    with pytest.raises(ReceiptError, match=f"^the envelope: {message}"):
        open_envelope(edited(edit), KEYS)


@pytest.mark.parametrize("value", [[], None, 7, "text"])
def test_other_json_is_no_envelope(value: Any) -> None:
    with pytest.raises(ReceiptError, match="the envelope must be an object with fields"):
        open_envelope(json.dumps(value).encode(), KEYS)


def test_only_ed25519_is_trusted() -> None:
    from securesystemslib.signer import CryptoSigner

    other = CryptoSigner.generate_ecdsa()
    with pytest.raises(InputError, match="signed with Ed25519, but a ecdsa key was given"):
        open_envelope(seal(STATEMENT, [other]), [other.public_key])
