"""Receipts: signed statements of what was forgotten, and their verification with nothing but a public key."""

from unlearn.receipt.envelope import countersign, open_envelope, seal
from unlearn.receipt.keys import create_key, load_signer, public_key_from_pem, public_pem, rotation, trusted_keys
from unlearn.receipt.offline import Step, Verified, verify_offline
from unlearn.receipt.predicate import Predicate, recovery_digest, request_digest, statement, withdrawal_digest
from unlearn.receipt.strict import ReceiptError

__all__ = [
    "Predicate",
    "ReceiptError",
    "Step",
    "Verified",
    "countersign",
    "create_key",
    "load_signer",
    "open_envelope",
    "public_key_from_pem",
    "public_pem",
    "recovery_digest",
    "request_digest",
    "rotation",
    "seal",
    "statement",
    "trusted_keys",
    "verify_offline",
    "withdrawal_digest",
]
