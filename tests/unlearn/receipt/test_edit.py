"""The receipt of an edit with one thing changed, signed again with the right key, is refused by a step."""

from __future__ import annotations

import json
import random
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]

from shards.digest import Json
from tests.unlearn.receipt.build import mutations
from unlearn.errors import InputError, VerificationError
from unlearn.facts import Fact
from unlearn.ledger import merkle
from unlearn.ledger.events import encode
from unlearn.ledger.rows import editor_digest
from unlearn.receipt import countersign, create_key, load_signer, seal, verify_offline
from unlearn.receipt.edit import EDIT_TYPE, GUARANTEE, edit_statement, is_edit, verify_edit_offline

OPENING = bytes(range(32))
FACTS = (Fact("Ada lives in", "Ada", "Paris"), Fact("Bob lives in", "Bob", "Rome", ("where is Bob?",)))
FREE = (
    r"changed predicate/artefacts/0/(name|kind|location)",
    r"removed predicate/artefacts/0",
    r"changed predicate/workspace/(id|description)",
    r"changed predicate/software/version",
)
"""What nothing else in a receipt repeats: whoever holds the key may say it so; with the workspace, most is compared."""


def at(minute: int) -> datetime:
    return datetime(2025, 1, 1, 12, minute, tzinfo=UTC)


def stated() -> Json:
    """A statement, with a log of five events around the two that it shows."""
    commitments = [fact.commitment(OPENING) for fact in FACTS]
    name, config = "edit-0123456789abcdef", {"layer": 1}
    measured = {"reliability": [2, 2], "generalization": [0, 1], "locality": [7, 9]}
    bodies = [
        encode("artefact-registered", at(0), artefact="art-0", sources=[]),
        encode(
            "fact-submitted",
            at(1),
            request=name,
            facts=commitments,
            texts="1" * 64,
            artefact="art-0",
            weights="2" * 64,
            editor="rome",
            config=editor_digest("rome", config),
            said="3" * 64,
            sealed="4" * 64,
        ),
        encode("artefact-registered", at(2), artefact="art-1", sources=[]),
        encode("artefact-tainted", at(2), artefact="art-0", request=name),
        encode("edited", at(2), request=name, artefact="art-1", weights="5" * 64, **measured),
    ]
    leaves = [merkle.leaf_hash(body) for body in bodies]
    return edit_statement(
        workspace={"id": "a" * 32, "description": "b" * 64},
        request={
            "id": name,
            "facts": commitments,
            "texts": "1" * 64,
            "submitted_at": at(1).isoformat(),
            "edited_at": at(2).isoformat(),
        },
        before={"artefact": "art-0", "weights": "2" * 64},
        after={"artefact": "art-1", "weights": "5" * 64},
        editor={"name": "rome", "config": config},
        measured=measured,
        artefacts=[{"name": "assistant", "kind": "language model", "location": "models/1"}],
        log={
            "size": len(leaves),
            "root": merkle.root(leaves).hex(),
            "events": [
                {"index": index, "body": bodies[index].decode(), "proof": [item.hex() for item in proof(leaves, index)]}
                for index in (1, 4)
            ],
        },
        keys=[],
        software_version="1",
    )


def proof(leaves: list[bytes], index: int) -> list[bytes]:
    nodes: dict[tuple[int, int], bytes] = {}
    appender = merkle.Appender(0, lambda level, at: nodes[level, at])
    for leaf in leaves:
        nodes |= {(level, place): value for level, place, value in appender.append(leaf)}
    return merkle.inclusion_proof(index, len(leaves), lambda level, place: nodes[level, place])


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> CryptoSigner:
    return load_signer(create_key(tmp_path_factory.mktemp("keys")))


def test_it_stands_up(signer: CryptoSigner) -> None:
    receipt = seal(stated(), [signer])
    found = verify_edit_offline(receipt, [signer.public_key], opening=OPENING, facts=FACTS)
    assert [step.number for step in found.steps] == [1, 2, 3, 4, 5, 6, 7]
    assert "EDIT of a language model, and of no deletion" in found.steps[2].detail
    assert (found.predicate.kind, found.predicate.guarantee) == ("empirical", GUARANTEE)
    assert "0 of 1 after other wordings" in found.steps[5].detail
    assert is_edit(receipt)
    assert not is_edit(b"{}")


def test_everything_that_is_changed_and_signed_again_is_refused(signer: CryptoSigner) -> None:
    free, refused = 0, 0
    for what, path, statement in mutations(stated()):
        case = f"{what} {'/'.join(map(str, path))}"
        receipt = seal(statement, [signer])
        if any(re.fullmatch(item, case) for item in FREE):
            verify_edit_offline(receipt, [signer.public_key])
            free += 1
            continue
        with pytest.raises(VerificationError) as caught:
            verify_edit_offline(receipt, [signer.public_key])
        assert caught.value.step in {2, 3, 5, 6}, (case, str(caught.value))
        refused += 1
    assert free == 7
    assert refused > 150


@pytest.mark.parametrize(
    ("name", "pair", "step"),
    [("reliability", [1, 2], 6), ("reliability", [1, 1], 6), ("locality", [10, 9], 6), ("locality", [-1, 9], 3)],
)
def test_an_edit_that_is_not_reliable_has_no_receipt(
    signer: CryptoSigner, name: str, pair: list[int], step: int
) -> None:
    """Also if the log says the same."""
    statement = stated()
    statement["predicate"]["measured"][name] = pair
    events = statement["predicate"]["log"]["events"]
    told = {**json.loads(events[1]["body"]), name: pair}
    body = json.dumps(told, sort_keys=True, separators=(",", ":"))
    statement["predicate"]["log"] = one_after_the_other(events[0]["body"], body)
    with pytest.raises(VerificationError, match=name) as caught:
        verify_edit_offline(seal(statement, [signer]), [signer.public_key])
    assert caught.value.step == step


def one_after_the_other(*bodies: str) -> dict[str, Any]:
    leaves = [merkle.leaf_hash(body.encode()) for body in bodies]
    shown = [
        {"index": index, "body": body, "proof": [item.hex() for item in proof(leaves, index)]}
        for index, body in enumerate(bodies)
    ]
    return {"size": len(leaves), "root": merkle.root(leaves).hex(), "events": shown}


def test_a_flipped_bit_is_noticed(signer: CryptoSigner) -> None:
    receipt, chance = seal(stated(), [signer]), random.Random(0)
    for position in range(0, len(receipt), 7):
        damaged = bytearray(receipt)
        damaged[position] ^= 1 << chance.randrange(8)
        with pytest.raises(VerificationError) as caught:
            verify_edit_offline(bytes(damaged), [signer.public_key])
        assert caught.value.step in {1, 2}


def test_who_signed_it_counts(signer: CryptoSigner, tmp_path: Path) -> None:
    other = load_signer(create_key(tmp_path))
    receipt = seal(stated(), [signer])
    with pytest.raises(VerificationError, match="no trusted key signed it"):
        verify_edit_offline(receipt, [other.public_key])
    with pytest.raises(InputError, match="2 signatures of 1 different"):
        verify_edit_offline(receipt, [signer.public_key], 2)
    both = countersign(receipt, other)
    assert len(verify_edit_offline(both, [signer.public_key, other.public_key], 2).signers) == 2


def test_each_kind_of_receipt_is_refused_by_the_verifier_of_the_other(signer: CryptoSigner) -> None:
    with pytest.raises(VerificationError, match="predicateType must be 'urn:sisa-unlearn:receipt:v1'") as caught:
        verify_offline(seal(stated(), [signer]), [signer.public_key])
    assert caught.value.step == 3
    posing = {**stated(), "predicateType": "urn:sisa-unlearn:receipt:v1"}
    with pytest.raises(VerificationError, match="the field"):
        verify_offline(seal(posing, [signer]), [signer.public_key])
    with pytest.raises(VerificationError, match=f"predicateType must be '{EDIT_TYPE}'"):
        verify_edit_offline(seal(posing, [signer]), [signer.public_key])
