"""Key files that are nobody else's, public keys that are public, and rotations that cannot be forged."""

from __future__ import annotations

import base64
import copy
import json
import os
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from shards.digest import Json, canonical_json
from tests.unlearn.receipt.build import START, WORKSPACE, make, public, signer
from unlearn.errors import InputError, StorageError, VerificationError
from unlearn.receipt import (
    create_key,
    load_signer,
    open_envelope,
    public_key_from_pem,
    public_pem,
    rotation,
    seal,
    trusted_keys,
    verify_offline,
)
from unlearn.receipt.strict import ReceiptError

PRIVATE_PEM = signer("a").private_bytes
SECRET = b"".join(PRIVATE_PEM.splitlines()[1:-1])


def mode(path: Path) -> int:
    """Permissions of a file."""
    return path.stat().st_mode & 0o777


def test_a_new_key_is_for_its_owner_alone_and_signs(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        private = create_key(tmp_path / "new" / "keys")
    finally:
        os.umask(before)
    made = load_signer(private)
    keyid = made.public_key.keyid
    assert private.name == f"{keyid}.pem"
    published = private.with_name(f"{keyid}.pub.pem")
    assert (mode(private), mode(published), mode(private.parent)) == (0o600, 0o644, 0o700)
    assert sorted(path.name for path in private.parent.iterdir()) == sorted([private.name, published.name])
    key = public_key_from_pem(published.read_bytes())
    assert key.keyid == keyid
    assert public_pem(key).encode() == published.read_bytes()
    assert open_envelope(seal({"a": 1}, [made]), [key]) == b'{"a":1}'
    assert create_key(private.parent) != private


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o660, 0o601])
def test_a_private_key_that_is_open_to_others_is_refused(tmp_path: Path, bits: int) -> None:
    private = create_key(tmp_path)
    private.chmod(bits)
    with pytest.raises(InputError, match=rf"is open to others .mode {bits:04o}.*chmod 600"):
        load_signer(private)
    private.chmod(0o400)
    load_signer(private)


def write(path: Path, data: bytes) -> Path:
    """A file that only its owner can read."""
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def test_what_is_no_private_key_is_refused_without_repeating_it(tmp_path: Path) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    curve = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for data, message in (
        (public_pem(public("a")).encode(), "holds no private key in PEM"),
        (b"", "holds no private key in PEM"),
        (PRIVATE_PEM[:-40], "holds no private key in PEM"),
        (locked, "has a passphrase, which is not supported"),
        (curve, "is not an Ed25519 key"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            load_signer(write(tmp_path / "key.pem", data))
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
        for line in data.splitlines()[1:-1]:
            assert line.decode() not in str(caught.value)
    with pytest.raises(InputError, match=r"cannot be read .No such file"):
        load_signer(tmp_path / "none.pem")
    with pytest.raises(InputError, match=r"cannot be read .Is a directory"):
        load_signer(tmp_path)


def test_a_folder_that_cannot_be_written_to_leaves_no_half_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_the_way = write(tmp_path / "file", b"")
    with pytest.raises(StorageError, match="there can be no folder for keys at"):
        create_key(in_the_way)
    folder = tmp_path / "keys"
    real = os.fsync
    calls = []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"no signing key could be written .*No space left on device"):
        create_key(folder)
    assert list(folder.iterdir()) == []


def test_a_private_key_given_as_public_is_refused_without_repeating_it() -> None:
    openssh = ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    for data in (PRIVATE_PEM, b"text before\n" + PRIVATE_PEM, openssh, public_pem(public("a")).encode() + PRIVATE_PEM):
        with pytest.raises(InputError, match="this is a private key, where a public one is needed") as caught:
            public_key_from_pem(data)
        assert SECRET.decode() not in str(caught.value)
        assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "this is no public key in PEM"),
        (b"\xff" * 40, "this is no public key in PEM"),
        (public_pem(public("a")).encode()[:-30], "this is no public key in PEM"),
        (public_pem(public("a")).encode() * 2, "more than one public key"),
        (b"x" * 70_000, "more than one public key"),
        (
            ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(
                Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
            ),
            "not an Ed25519 key",
        ),
    ],
)  # fmt: skip
def test_what_is_no_public_key_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        public_key_from_pem(data)


def chain(*names: str, workspace: str = WORKSPACE) -> list[Json]:
    """Rotations from each key to the next."""
    return [
        rotation(signer(old), signer(new), workspace, START + timedelta(days=number))
        for number, (old, new) in enumerate(pairwise(names))
    ]


def names_of(keys: Sequence[Any]) -> set[str]:
    """Which of the test's keys these are."""
    known = {public(name).keyid: name for name in ("a", "b", "c", "d", "x", "y")}
    return {known[key.keyid] for key in keys}


@pytest.mark.parametrize(
    ("pinned", "rotations", "trusted"),
    [
        (["a"], chain("a", "b", "c", "d"), {"a", "b", "c", "d"}),
        (["b"], chain("a", "b", "c", "d"), {"b", "c", "d"}),
        (["d"], chain("a", "b", "c", "d"), {"d"}),
        (["a"], [*chain("a", "b"), *chain("c", "d")], {"a", "b"}),
        (["a", "x"], [*chain("a", "b"), *chain("x", "y")], {"a", "b", "x", "y"}),
        (["a"], chain("b", "c"), {"a"}),
        (["a"], chain("a", "b", "c")[::-1], {"a", "b"}),
        (["a"], [], {"a"}),
    ],
)
def test_trust_follows_the_chain_forwards_from_pinned_keys(
    pinned: list[str], rotations: Any, trusted: set[str]
) -> None:
    assert names_of(trusted_keys([public(name) for name in pinned], rotations, WORKSPACE)) == trusted


@pytest.mark.parametrize("pinned", ["a", "b", "c"])
def test_any_key_of_the_chain_verifies_a_receipt_by_the_newest(pinned: str) -> None:
    made = make(rotations=chain("a", "b", "c", "current"))
    verified = verify_offline(made.recovered, [public(pinned)])
    assert verified.signers == (public("current").keyid,)
    assert f"which replaced {public(pinned).keyid[:16]}…" in verified.steps[1].detail


@pytest.mark.parametrize(
    "rotations",
    [[], chain("b", "current"), chain("a", "b"), [*chain("a", "b"), *chain("c", "current")], chain("current", "a")],
)
def test_a_receipt_by_a_key_that_no_chain_leads_to_is_refused(rotations: list[Json]) -> None:
    with pytest.raises(
        VerificationError, match=r"no trusted key signed it.*does not follow from the public key you"
    ) as caught:
        verify_offline(make(rotations=rotations).recovered, [public("a")])
    assert caught.value.step == 2


def forged(edit: Any, signers: Sequence[str] = ("a", "current")) -> Json:
    """A rotation from a to current with something changed, signed again."""
    statement = json.loads(base64.b64decode(chain("a", "current")[0]["payload"]))
    edit(statement)
    return json.loads(seal(statement, [signer(name) for name in signers]))


def resigned(signers: Sequence[str]) -> Json:
    return forged(lambda statement: None, signers)


def in_the_name_of(envelope: Json, place: int, name: str) -> Json:
    """A rotation one of whose signatures claims to be of another key."""
    made = copy.deepcopy(envelope)
    made["signatures"][place]["keyid"] = public(name).keyid
    return made


@pytest.mark.parametrize(
    ("envelope", "message"),
    [
        (
            resigned(["current"]),
            f"key rotation 1 is not signed by the replaced key {public('a').keyid[:16]}; both keys",
        ),
        (
            resigned(["a"]),
            f"key rotation 1 is not signed by the new key {public('current').keyid[:16]}; both keys must",
        ),
        (
            in_the_name_of(resigned(["x", "current"]), 0, "a"),
            "key rotation 1 is forged or damaged: the signature of key",
        ),
        (
            in_the_name_of(resigned(["a", "x"]), 1, "current"),
            "key rotation 1 is forged or damaged: the signature of key",
        ),
        (chain("a", "current", workspace="ab" * 16)[0], "key rotation 1 is of another workspace"),
        (forged(lambda s: s["predicate"].update(to=public("x").keyid)), "key rotation 1: to must be"),
        (forged(lambda s: s["predicate"].update(public_key=public_pem(public("x")))), "key rotation 1: to must be"),
        (forged(lambda s: s["predicate"].update(public_key=PRIVATE_PEM.decode())), "public_key: this is a private key"),
        (forged(lambda s: s["predicate"].update(public_key="no key")), "public_key: this is no public key"),
        (forged(lambda s: s["predicate"].update({"from": public("current").keyid})), "replaces a key by itself"),
        (forged(lambda s: s["predicate"].update(workspace="Ab" * 16)), "workspace must be 32 hex digits"),
        (forged(lambda s: s["predicate"].update(at="now")), "key rotation 1: at must be a time"),
        (forged(lambda s: s["predicate"].update(more=1)), "key rotation 1: the field 'more' is unknown"),
        (forged(lambda s: s["predicate"].pop("at")), "key rotation 1: the field 'at' is missing"),
        (forged(lambda s: s.update(predicateType="urn:other")), "key rotation 1: predicateType must be"),
        (forged(lambda s: s.update(_type="urn:other")), "key rotation 1: _type must be"),
        (forged(lambda s: s["subject"][0].update(name="x")), "its subject is not the key it introduces"),
        (
            forged(lambda s: s["subject"][0]["digest"].update(sha256="ab" * 32)),
            "its subject is not the key it introduces",
        ),
        (json.loads(make().forgotten), "key rotation 1: predicateType must be"),
        ({}, "key rotation 1: the field 'payload' is missing"),
        (None, "key rotation 1 must be an object"),
    ],
)
def test_a_rotation_that_is_forged_is_refused_whoever_is_trusted(envelope: Json, message: str) -> None:
    for pinned in ("a", "current"):
        with pytest.raises(ReceiptError, match=message):
            trusted_keys([public("a"), public(pinned)], [envelope], WORKSPACE)
    made = make(rotations=[envelope])
    with pytest.raises(VerificationError, match=rf"step 2 .*{message}"):
        verify_offline(made.forgotten, [public("a")])


def test_a_rotation_given_twice_is_refused() -> None:
    with pytest.raises(ReceiptError, match="key rotation 2 is there twice"):
        trusted_keys([public("a")], chain("a", "b") * 2, WORKSPACE)


def test_the_middle_of_a_chain_is_checked_even_where_only_its_end_is_pinned() -> None:
    rotations = chain("a", "b", "current")
    rotations[1] = in_the_name_of(json.loads(seal(json.loads(base64.b64decode(rotations[1]["payload"])),
                                                  [signer("x"), signer("current")])), 0, "b")  # fmt: skip
    with pytest.raises(ReceiptError, match="key rotation 2 is forged"):
        trusted_keys([public("current")], rotations, WORKSPACE)


def test_rotating_does_not_make_one_holder_two() -> None:
    """Else who holds one key of three could meet any threshold, by replacing it by keys of their own."""
    mine = seal(
        make(rotations=chain("a", "b", "current")).statements["forgotten"],
        [signer("a"), signer("b"), signer("current")],
    )
    assert len(verify_offline(mine, [public("a")]).signers) == 3
    with pytest.raises(VerificationError, match="signatures of 2 different trusted keys are needed, it has 1 "):
        verify_offline(mine, [public("a"), public("x"), public("y")], 2)
    ours = seal(make(rotations=chain("a", "b")).statements["forgotten"], [signer("b"), signer("x")])
    assert len(verify_offline(ours, [public("a"), public("x"), public("y")], 2).signers) == 2


def test_pinning_old_and_new_key_is_still_one_holder() -> None:
    both = seal(make(rotations=chain("a", "b")).statements["forgotten"], [signer("a"), signer("b")])
    with pytest.raises(VerificationError, match="signatures of 2 different trusted keys are needed, it has 1 "):
        verify_offline(both, [public("a"), public("b")], 2)


def test_two_holders_that_meet_in_one_key_are_one_from_then_on() -> None:
    rotations = [*chain("b", "c"), *chain("a", "b")]
    both = seal(make(rotations=rotations).statements["forgotten"], [signer("a"), signer("c")])
    assert len(verify_offline(both, [public("a"), public("b")]).signers) == 2
    with pytest.raises(VerificationError, match="signatures of 2 different trusted keys are needed, it has 1 "):
        verify_offline(both, [public("a"), public("b")], 2)


def test_a_rotation_is_canonical_and_signed_by_both() -> None:
    (envelope,) = chain("a", "b")
    data = json.dumps(envelope).encode()
    payload = open_envelope(data, [public("a"), public("b")], 2)
    assert canonical_json(json.loads(payload)) == payload
    assert json.loads(payload)["predicate"]["from"] == public("a").keyid
