"""Signing keys: files, public keys, and the replacement of one key by another.

A rotation is a statement, signed by the old key and by the new one, that the new key signs for a workspace from now
on. Receipts carry the rotations, so whoever was given the first key can verify a receipt that the latest one signed.
A rotation extends trust and takes none away: who fears that an old key was stolen must pin a newer one.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from shards.digest import Json
from unlearn.errors import InputError, StorageError
from unlearn.receipt import strict
from unlearn.receipt.envelope import Trusted, check_signatures, pinned, read_envelope, seal, short
from unlearn.receipt.strict import ReceiptError

if TYPE_CHECKING:
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
ROTATION_TYPE = "urn:sisa-unlearn:key-rotation:v1"
_WORKSPACE = re.compile("[0-9a-f]{32}")
_MAX_KEY_BYTES = 65_536
_PRIVATE_SUFFIX = ".pem"
_PUBLIC_SUFFIX = ".pub.pem"


class Rotation(NamedTuple):
    """The content of a rotation statement.

    Attributes:
        workspace: Id of the workspace it holds for.
        old: Id of the key that is replaced.
        new: The key that replaces it.
        at: When.
    """

    workspace: str
    old: str
    new: SSlibKey
    at: datetime


def create_key(folder: Path) -> Path:
    """Make a signing key: `<key id>.pem` for its owner's eyes only, and `<key id>.pub.pem` for everybody.

    Args:
        folder: Where to; it is made if there is none.

    Returns:
        Path of the private key.

    Raises:
        StorageError: If the files cannot be written.
    """
    from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]

    signer = CryptoSigner.generate_ed25519()
    keyid = signer.public_key.keyid
    private, public = folder / f"{keyid}{_PRIVATE_SUFFIX}", folder / f"{keyid}{_PUBLIC_SUFFIX}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"there can be no folder for keys at {folder} ({error.strerror}): choose another") from error
    try:
        # The public one first: where there is a private key, its public key is there as well.
        _write_new(public, public_pem(signer.public_key).encode(), 0o644)
        _write_new(private, signer.private_bytes, 0o600)
        _sync_folder(folder)
    except OSError as error:
        private.unlink(missing_ok=True)
        public.unlink(missing_ok=True)
        raise StorageError(
            f"no signing key could be written to {folder} ({error.strerror}): make room, or choose another folder"
        ) from error
    return private


def load_signer(path: Path) -> CryptoSigner:
    """Read a private key that only its owner can read.

    Args:
        path: PEM, PKCS 8, Ed25519, without passphrase.

    Returns:
        The signer.

    Raises:
        InputError: If there is no such file, others can read or change it, or it is no such key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]

    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise InputError(
                    f"the private key {path} is open to others (mode {mode:04o}), who may have copied it: "
                    "make a new key, or if you know that nobody did, run chmod 600 on it"
                )
            data = file.read(_MAX_KEY_BYTES + 1)
    except OSError as error:
        raise InputError(f"the private key {path} cannot be read ({error.strerror}): check the path") from error
    try:
        key = load_pem_private_key(data[:_MAX_KEY_BYTES], password=None)
    except TypeError:
        raise InputError(f"the private key {path} has a passphrase, which is not supported: store it without") from None
    except (ValueError, UnsupportedAlgorithm):
        # The library's message is not repeated: nothing of a private key belongs into a message.
        raise InputError(f"{path} holds no private key in PEM: give the file that ends in {_PRIVATE_SUFFIX}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"the private key {path} is not an Ed25519 key: make one for receipts")
    return CryptoSigner(key)


def public_key_from_pem(pem: bytes) -> SSlibKey:
    """Read a public key.

    Args:
        pem: One PEM block, Ed25519.

    Returns:
        The key, with the id computed from it.

    Raises:
        InputError: If it is no such key; a private key is refused, and not repeated in the message.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]

    if b"PRIVATE KEY" in pem:
        raise InputError(
            "this is a private key, where a public one is needed: keep it to yourself, give the file that ends in "
            f"{_PUBLIC_SUFFIX}, and if it was sent to anybody, replace it"
        )
    if len(pem) > _MAX_KEY_BYTES or pem.count(b"-----BEGIN") > 1:
        raise InputError("this is more than one public key: give a file with one PEM block")
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise InputError(f"this is no public key in PEM: give the file that ends in {_PUBLIC_SUFFIX}") from None
    if not isinstance(key, Ed25519PublicKey):
        raise InputError("this public key is not an Ed25519 key, with which receipts are signed: give the right one")
    return SSlibKey.from_crypto(key)


def public_pem(key: SSlibKey) -> str:
    """A public key as PEM text, a newline at its end."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    raw = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.keyval["public"]))
    return raw.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def rotation(old: CryptoSigner, new: CryptoSigner, workspace: str, at: datetime) -> Json:
    """State, with both keys, that one replaces the other.

    Args:
        old: The key that signed so far.
        new: The key that signs from now on.
        workspace: Id of the workspace.
        at: The time, UTC.

    Returns:
        The envelope, for `keys` of later receipts.
    """
    pem = public_pem(new.public_key)
    keyid = new.public_key.keyid
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": keyid, "digest": {"sha256": hashlib.sha256(pem.encode()).hexdigest()}}],
        "predicateType": ROTATION_TYPE,
        "predicate": {
            "workspace": workspace,
            "from": old.public_key.keyid,
            "to": keyid,
            "public_key": pem,
            "at": at.isoformat(),
        },
    }
    return strict.parse(seal(statement, [old, new]), "the key rotation")


def trusted_keys(keys: Sequence[SSlibKey], rotations: Sequence[Json], workspace: str) -> list[SSlibKey]:
    """The keys whose signature counts: those given, and those they were replaced by.

    Args:
        keys: Pinned keys.
        rotations: Envelopes, oldest first.
        workspace: Id of the workspace whose rotations count.

    Returns:
        The keys, those given first.

    Raises:
        InputError: If no key is given, or one is not Ed25519.
        ReceiptError: If a rotation is malformed, forged, repeated, or of another workspace.
    """
    return [found.key for found in follow(pinned(keys), rotations, workspace).values()]


def follow(start: dict[str, Trusted], rotations: Sequence[Json], workspace: str) -> dict[str, Trusted]:
    """Extend trust along rotations.

    Every rotation must stand up by itself, also where nothing depends on it. Only the signature of an old key that is
    neither pinned nor introduced by a rotation cannot be checked; such a rotation extends no trust.

    Args:
        start: Pinned keys by id.
        rotations: Envelopes, oldest first.
        workspace: Id of the workspace whose rotations count.

    Returns:
        Key id to key and holder.

    Raises:
        ReceiptError: If a rotation is malformed, forged, repeated, or of another workspace.
    """
    trusted = dict(start)
    known = dict(start)  # also those nobody vouches for: their signatures can be checked all the same
    seen: set[tuple[str, str]] = set()
    for number, value in enumerate(rotations, 1):
        where = f"key rotation {number}"
        envelope = read_envelope(value, where)
        found = _read_rotation(bytes(envelope.payload), where)
        if found.workspace != workspace:
            raise ReceiptError(f"{where} is of another workspace ({strict.shown(found.workspace)})")
        if (found.old, found.new.keyid) in seen:
            raise ReceiptError(f"{where} is there twice")
        seen.add((found.old, found.new.keyid))
        known.setdefault(found.new.keyid, Trusted(found.new, found.new.keyid))
        _check_both(envelope, found, known, where)
        if found.old in trusted:
            trusted = _extended(trusted, found)
    return trusted


def _check_both(envelope: Envelope, found: Rotation, known: dict[str, Trusted], where: str) -> None:
    """Check the signatures of both keys of a rotation, of the old one as far as it is known."""
    for keyid, side in ((found.old, "replaced"), (found.new.keyid, "new")):
        if keyid not in envelope.signatures:
            raise ReceiptError(f"{where} is not signed by the {side} key {short(keyid)}; both keys must sign")
    both = {keyid: known[keyid] for keyid in (found.old, found.new.keyid) if keyid in known}
    try:
        check_signatures(envelope, both, 1)
    except ReceiptError as error:
        raise ReceiptError(f"{where} is forged or damaged: {error}") from error


def _extended(trusted: dict[str, Trusted], found: Rotation) -> dict[str, Trusted]:
    """Trust with the new key; where two holders meet in one key, they are one from then on."""
    holder = trusted[found.old].holder
    other = trusted.get(found.new.keyid)
    if other is not None:
        trusted = {
            keyid: Trusted(item.key, holder if item.holder == other.holder else item.holder)
            for keyid, item in trusted.items()
        }
    return {**trusted, found.new.keyid: Trusted(found.new, holder)}


def _read_rotation(payload: bytes, where: str) -> Rotation:
    """The content of a rotation, with every field checked against the others."""
    statement = strict.fields(strict.parse(payload, where), where, ("_type", "subject", "predicateType", "predicate"))
    strict.constant(statement["_type"], f"{where}: _type", STATEMENT_TYPE)
    strict.constant(statement["predicateType"], f"{where}: predicateType", ROTATION_TYPE)
    predicate = strict.fields(statement["predicate"], where, ("workspace", "from", "to", "public_key", "at"))
    workspace = strict.text(predicate["workspace"], f"{where}: workspace")
    if _WORKSPACE.fullmatch(workspace) is None:
        raise ReceiptError(f"{where}: workspace must be 32 hex digits, not {strict.shown(workspace)}")
    pem = strict.text(predicate["public_key"], f"{where}: public_key")
    try:
        new = public_key_from_pem(pem.encode())
    except InputError as error:
        raise ReceiptError(f"{where}: public_key: {error}") from error
    old = strict.digest(predicate["from"], f"{where}: from")
    strict.constant(predicate["to"], f"{where}: to", new.keyid)
    if old == new.keyid:
        raise ReceiptError(f"{where} replaces a key by itself")
    subject = [{"name": new.keyid, "digest": {"sha256": hashlib.sha256(pem.encode()).hexdigest()}}]
    if statement["subject"] != subject:
        raise ReceiptError(f"{where}: its subject is not the key it introduces")
    return Rotation(workspace, old, new, strict.time(predicate["at"], f"{where}: at"))


def _write_new(path: Path, data: bytes, mode: int) -> None:
    """Write a file that must not exist yet, and sync it."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
