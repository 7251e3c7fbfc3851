"""DSSE envelopes: a statement as bytes, and who signed them.

The signature is over the payload's bytes and its type, so nothing has to be parsed before it is checked, and nothing
is left to how a parser reads it. Key ids in an envelope are hints that nobody signed: they say which key to try.

Source: Dead Simple Signing Envelope, https://github.com/secure-systems-lab/dsse.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shards.digest import Json, canonical_json
from unlearn.errors import InputError, some
from unlearn.receipt import strict
from unlearn.receipt.strict import ReceiptError

if TYPE_CHECKING:
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]

PAYLOAD_TYPE = "application/vnd.in-toto+json"
MAX_SIGNATURES = 100

_MAX_KEYID = 256
_MAX_SIGNATURE = 16_384
"""Bytes in base64; room for signatures of other kinds, which do no harm."""


@dataclass(frozen=True)
class Trusted:
    """A key that may vouch for something.

    Attributes:
        key: The public key.
        holder: Id of a pinned key this one follows from: all keys of one holder count as one signature, or else a
            holder could meet any threshold alone, by rotating often.
    """

    key: SSlibKey
    holder: str


def seal(statement: Json, signers: Iterable[CryptoSigner]) -> bytes:
    """Sign a statement.

    Args:
        statement: JSON; what is signed are its canonical bytes.
        signers: Who signs, at least one.

    Returns:
        The envelope: JSON, indented, with a newline at its end.

    Raises:
        InputError: If nobody signs.
    """
    from securesystemslib.dsse import Envelope

    envelope = Envelope(canonical_json(statement), PAYLOAD_TYPE, {})
    for signer in signers:
        envelope.sign(signer)
    if not envelope.signatures:
        raise InputError("a receipt needs at least one signature: give a signing key")
    return to_bytes(envelope)


def countersign(data: bytes, signer: CryptoSigner) -> bytes:
    """Add a signature to an envelope. Does not check the others: verify before you vouch for something.

    Args:
        data: The envelope.
        signer: Who signs as well; signing again changes nothing.

    Returns:
        The envelope with one signature more.

    Raises:
        ReceiptError: If `data` is no envelope.
    """
    envelope = parse_envelope(data)
    envelope.sign(signer)
    return to_bytes(envelope)


def to_bytes(envelope: Envelope) -> bytes:
    """An envelope as it is written to a file."""
    return json.dumps(envelope.to_dict(), indent=2).encode() + b"\n"


def parse_envelope(data: bytes) -> Envelope:
    """Read an envelope; signatures are not looked at yet.

    Args:
        data: JSON.

    Returns:
        The envelope.

    Raises:
        ReceiptError: If it is anything but one envelope of an in-toto statement.
    """
    return read_envelope(strict.parse(data, "the envelope"), "the envelope")


def read_envelope(value: Json, where: str) -> Envelope:
    """An envelope from JSON that was parsed already.

    Args:
        value: The JSON.
        where: Its place, for messages.

    Returns:
        The envelope.

    Raises:
        ReceiptError: If it is anything but one envelope of an in-toto statement.
    """
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import Signature  # type: ignore[attr-defined]

    found = strict.fields(value, where, ("payload", "payloadType", "signatures"))
    strict.constant(found["payloadType"], f"{where}: payloadType", PAYLOAD_TYPE)
    payload = _base64(strict.text(found["payload"], f"{where}: payload", strict.MAX_BYTES), f"{where}: payload")
    signatures: dict[str, Signature] = {}
    listed = strict.items(found["signatures"], f"{where}: signatures")
    if not 1 <= len(listed) <= MAX_SIGNATURES:
        raise ReceiptError(f"{where}: it must have 1 to {MAX_SIGNATURES} signatures, not {len(listed)}")
    for number, item in enumerate(listed, 1):
        place = f"{where}: signature {number}"
        strict.fields(item, place, ("keyid", "sig"))
        keyid = strict.text(item["keyid"], f"{place}: keyid", _MAX_KEYID)
        if keyid in signatures:
            raise ReceiptError(f"{place}: there are two signatures of key {strict.shown(keyid)}; each signs once")
        sig = _base64(strict.text(item["sig"], f"{place}: sig", _MAX_SIGNATURE), f"{place}: sig")
        signatures[keyid] = Signature(keyid, sig.hex())
    return Envelope(payload, PAYLOAD_TYPE, signatures)


def pinned(keys: Sequence[SSlibKey]) -> dict[str, Trusted]:
    """What trust starts from: keys the verifier was given by a way that can be relied on.

    Args:
        keys: Ed25519 keys; one given twice, under whatever id, counts once.

    Returns:
        Key id, computed anew, to the key.

    Raises:
        InputError: If there is none, or one is of another kind.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]

    if not keys:
        raise InputError("without a public key nothing can be verified: give the key of whoever issued the receipt")
    found: dict[str, Trusted] = {}
    for key in keys:
        if (key.keytype, key.scheme) != ("ed25519", "ed25519"):
            raise InputError(f"receipts are signed with Ed25519, but a {key.keytype} key was given: give the right key")
        # Ids are computed, never believed: one key under two ids would meet a threshold of two.
        fresh = SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.keyval["public"])))
        found[fresh.keyid] = Trusted(fresh, fresh.keyid)
    return found


def check_threshold(trusted: Mapping[str, Trusted], threshold: int) -> None:
    """Refuse a threshold that no receipt could fail, or none could meet.

    Args:
        trusted: The pinned keys.
        threshold: How many of them must have signed.

    Raises:
        InputError: If it is below 1 or above the number of keys.
    """
    if not 1 <= threshold <= len(trusted):
        raise InputError(
            f"{threshold} signatures of {len(trusted)} different public keys were asked for; ask for 1 to all"
        )


def check_signatures(envelope: Envelope, trusted: Mapping[str, Trusted], threshold: int) -> list[str]:
    """Check that enough trusted keys signed an envelope.

    Signatures of other keys are no reason to trust or to distrust. One that claims to be of a trusted key and is not
    is a reason to distrust, however many others there are.

    Args:
        envelope: The envelope.
        trusted: Key id to key and holder.
        threshold: Of how many different holders signatures are needed.

    Returns:
        Ids of the trusted keys that signed, in the envelope's order.

    Raises:
        ReceiptError: If there are too few signatures, or one of them does not fit the content.
    """
    from securesystemslib.exceptions import Error

    signed: list[str] = []
    message = envelope.pae()
    for keyid, signature in envelope.signatures.items():
        if keyid not in trusted:
            continue
        try:
            trusted[keyid].key.verify_signature(signature, message)
        except Error as error:
            raise ReceiptError(
                f"the signature of key {short(keyid)} does not fit the content: "
                "it was changed after it was signed, or was signed by somebody else in the name of this key"
            ) from error
        signed.append(keyid)
    holders = {trusted[keyid].holder for keyid in signed}
    if not signed:
        raise ReceiptError(
            f"no trusted key signed it; it names {some([short(keyid) for keyid in envelope.signatures])}: it was "
            "issued by somebody else, or with a key that does not follow from the public key you gave; if that one "
            "replaced another, give the earlier one, which stands for both"
        )
    if len(holders) < threshold:
        raise ReceiptError(
            f"signatures of {threshold} different trusted keys are needed, it has {len(holders)} "
            "(a key and those it was replaced by count once)"
        )
    return signed


def open_envelope(data: bytes, keys: Sequence[SSlibKey], threshold: int = 1) -> bytes:
    """The payload of an envelope that enough keys signed.

    Args:
        data: The envelope.
        keys: Public keys that are trusted.
        threshold: How many different ones must have signed.

    Returns:
        The bytes that were signed.

    Raises:
        InputError: If the keys or the threshold make no sense.
        ReceiptError: If it is no envelope, or not signed so.
    """
    trusted = pinned(keys)
    check_threshold(trusted, threshold)
    envelope = parse_envelope(data)
    check_signatures(envelope, trusted, threshold)
    return bytes(envelope.payload)


def short(keyid: str) -> str:
    """The first digits of a key id, to show."""
    return keyid[:16].encode("ascii", "replace").decode()


def _base64(value: str, where: str) -> bytes:
    """Base64 with padding, in the one way its bytes are written."""
    try:
        data = base64.b64decode(value.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ReceiptError(f"{where} is not base64") from error
    if base64.b64encode(data).decode() != value:
        raise ReceiptError(f"{where} is not base64 in its one canonical form")
    return data
