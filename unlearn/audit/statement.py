"""A signed statement of an audit: an in-toto statement about receipts, in the envelope that receipts have.

Its subjects are the receipts of the deletion requests whose records were tested, by the digests of what they signed, so
that it can be held beside them; its predicate is the audit's result. It says what was found, by whom, of which state;
whoever reads it learns no more of the forgotten records than how many there were.

Source: in-toto attestation framework, Statement v1, https://github.com/in-toto/attestation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from shards.digest import Json, canonical_json
from unlearn.receipt import strict
from unlearn.receipt.envelope import open_envelope, seal
from unlearn.receipt.keys import STATEMENT_TYPE
from unlearn.receipt.predicate import SOFTWARE
from unlearn.receipt.strict import ReceiptError

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]

    from unlearn.audit.attack_audit import AttackAudit
    from unlearn.audit.workspace_audit import AuditResult

AUDIT_TYPE = "urn:sisa-unlearn:audit:v1"

_MAX_NAME = 256


def sign_audit(result: AuditResult | AttackAudit, signer: CryptoSigner, software_version: str) -> bytes:
    """State an audit's result, signed.

    Args:
        result: The audit, of at least one receipt.
        signer: Who states it.
        software_version: Of the software that made the audit.

    Returns:
        The envelope.

    Raises:
        ReceiptError: If it is about no receipt.
    """
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": f"receipt/{name}", "digest": {"sha256": digest}}
            for name, digest in sorted(result.facts.receipts.items())
        ],
        "predicateType": AUDIT_TYPE,
        "predicate": {"audit": result.to_json(), "software": {"name": SOFTWARE, "version": software_version}},
    }
    _check(strict.parse(canonical_json(statement), "the statement"))
    return seal(statement, [signer])


def read_audit(data: bytes, keys: Sequence[SSlibKey]) -> dict[str, Any]:
    """The result of a signed audit, once its signature is checked.

    Args:
        data: The envelope.
        keys: Public keys that are trusted.

    Returns:
        What `to_json` of the result gave. It is as true as whoever signed it is trustworthy.

    Raises:
        InputError: If no key is given, or one of another kind.
        ReceiptError: If it is no such statement, or none of the keys signed it.
    """
    return _check(strict.parse(open_envelope(data, keys), "the statement"))


def _check(value: Json) -> dict[str, Any]:
    found = strict.fields(value, "the statement", ("_type", "subject", "predicateType", "predicate"))
    strict.constant(found["_type"], "_type", STATEMENT_TYPE)
    strict.constant(found["predicateType"], "predicateType", AUDIT_TYPE)
    listed = strict.items(found["subject"], "subject")
    about: dict[str, str] = {}
    for number, item in enumerate(listed):
        subject = strict.fields(item, f"subject {number}", ("name", "digest"))
        name = strict.text(subject["name"], f"subject {number}: name", _MAX_NAME)
        digests = strict.fields(subject["digest"], f"subject {number}: digest", ("sha256",))
        about[name] = strict.digest(digests["sha256"], f"subject {number}: digest: sha256")
    predicate = strict.fields(found["predicate"], "predicate", ("audit", "software"))
    audit = predicate["audit"]
    receipts = audit.get("facts", {}).get("receipts") if isinstance(audit, dict) else None
    if not about or not isinstance(receipts, dict) or {f"receipt/{k}": v for k, v in receipts.items()} != about:
        raise ReceiptError("the statement is not about the receipts that its audit names: it is no audit of ours")
    return dict(audit)
