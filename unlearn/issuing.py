"""Issue receipts: after everything a receipt states has been done, and before anybody is told that it has.

A receipt is written under its final name before the log says that it was issued. A crash in between has it issued
again, over the first: both are true.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from shards.digest import Json
from shards.files import sync_path
from unlearn.errors import DamageError, InputError, UnsignedError
from unlearn.facts import EDIT_ID, STAGE
from unlearn.ledger import now
from unlearn.receipt.edit import edit_statement
from unlearn.receipt.envelope import parse_envelope, seal
from unlearn.receipt.keys import create_key, load_signer, public_pem, rotation
from unlearn.receipt.predicate import SOFTWARE, Stage, statement
from unlearn.request import REQUEST_ID, Request
from unlearn.site import Site

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]

    from unlearn.ledger import Artefact
    from unlearn.ledger.chain import Entry, Head

GROUP = 100
"""Receipts recorded in one transaction."""


@dataclass(frozen=True)
class Receipt:
    """A receipt as a file.

    Attributes:
        path: The file.
    """

    path: Path

    @cached_property
    def data(self) -> bytes:
        """The file's bytes: a DSSE envelope."""
        return self.path.read_bytes()

    @cached_property
    def statement(self) -> dict[str, Any]:
        """What it says, unverified: an in-toto statement. `unlearn.verify` says whether to believe it."""
        return cast(dict[str, Any], json.loads(parse_envelope(self.data).payload))

    @property
    def stage(self) -> str:
        """`"forgotten"`, `"recovered"`, or, of an edit, `"edited"`."""
        return str(self.statement["predicate"]["stage"])

    @property
    def digest(self) -> str:
        """SHA-256 of what was signed, hex."""
        return hashlib.sha256(parse_envelope(self.data).payload).hexdigest()


def issue_due(site: Site) -> None:
    """Issue every receipt that is due.

    Args:
        site: The workspace, whose lock the caller holds.

    Raises:
        UnsignedError: If there is no key to sign with; what the receipts would state has been done all the same.
    """
    with site.ledger.at_one_moment():
        due, keys, environments = site.ledger.receipts_due(), site.ledger.signing_keys(), site.ledger.environments()
    if not due:
        return
    try:
        signer = _signer(site, keys)
    except (InputError, DamageError) as error:
        raise UnsignedError(
            f"what was asked for is done, but {len(due)} receipts could not be signed: {error}. Restore the key, then "
            "run `unlearn recover`, which issues them"
        ) from error
    for stage in ("forgotten", "recovered"):
        names = [name for name, wanted in due if wanted == stage]
        for start in range(0, len(names), GROUP):
            _issue(site, names[start : start + GROUP], stage, signer, environments)
    _issue_edits(site, [name for name, wanted in due if wanted == STAGE], signer)


def _issue(
    site: Site, requests: Sequence[str], stage: Stage, signer: CryptoSigner, environments: dict[str, Json]
) -> None:
    _publish_all(site, requests, stage, signer, lambda name: _state(site, name, stage, environments))


def _issue_edits(site: Site, requests: Sequence[str], signer: CryptoSigner) -> None:
    if requests:
        _publish_all(site, requests, STAGE, signer, lambda name: _state_edit(site, name))


def _publish_all(
    site: Site, requests: Sequence[str], stage: str, signer: CryptoSigner, state: Callable[[str], Json]
) -> None:
    site.receipts_folder.mkdir(mode=0o700, exist_ok=True)
    digests = []
    for name in requests:
        data = seal(state(name), [signer])
        _publish(receipt_path(site, name, stage), data)
        digests.append((name, stage, hashlib.sha256(parse_envelope(data).payload).hexdigest()))
    sync_path(site.receipts_folder)
    sync_path(site.path)
    site.ledger.record_receipts(digests)


def _state(site: Site, name: str, stage: Stage, environments: dict[str, Json]) -> Json:
    evidence = site.ledger.evidence(name)
    votes = site.declaration.votes
    recovery = evidence.recovery if stage == "recovered" else None
    approximation = evidence.approximation
    used = {} if recovery is None else {item[3]: environments.get(item[3]) for item in recovery["rebuilt"]}
    if approximation is not None:
        used[approximation["environment"]] = environments.get(approximation["environment"])
    kinds = {"submitted", "extended", "withdrawn", "forgotten"} | (set() if recovery is None else {"recovered"})
    events = [(entry, proof) for entry, proof in evidence.entries if entry.event.kind in kinds]
    return statement(
        stage=stage,
        workspace={"id": site.declaration.id, "description": site.declaration.digest},
        request=_describe(evidence.request, stage),
        withdrawal=evidence.withdrawal,
        recovery=recovery,
        environments=used,
        artefacts=_artefacts(evidence.artefacts),
        log=_log(evidence.head, events),
        previous=evidence.previous if stage == "recovered" else None,
        keys=evidence.rotations,
        software_version=software_version(),
        privacy=None
        if votes is None
        else {"sigma": votes.sigma, "max_epsilon": votes.max_epsilon, "delta": votes.delta},
        reproducible=site.learner.reproducible,
        approximation=approximation,
    )


def _state_edit(site: Site, name: str) -> Json:
    evidence = site.ledger.edit_evidence(name)
    request = evidence.request
    assert request.edited_at is not None  # noqa: S101 - it has no receipt before
    assert request.measured is not None  # noqa: S101
    kinds = {"fact-submitted", "edited"}
    return edit_statement(
        workspace={"id": site.declaration.id, "description": site.declaration.digest},
        request={
            "id": request.id,
            "facts": list(request.facts),
            "texts": request.texts,
            "submitted_at": request.submitted_at.isoformat(),
            "edited_at": request.edited_at.isoformat(),
        },
        before={"artefact": request.artefact, "weights": request.weights},
        after={"artefact": request.made, "weights": request.weights_after},
        editor={"name": request.editor, "config": dict(request.config)},
        measured=request.measured.to_json(),
        artefacts=_artefacts(evidence.artefacts),
        log=_log(evidence.head, [item for item in evidence.entries if item[0].event.kind in kinds]),
        keys=evidence.rotations,
        software_version=software_version(),
    )


def _artefacts(artefacts: Sequence[Artefact]) -> list[dict[str, Json]]:
    # What was registered twice under the same words is named once: a receipt has no other name for it.
    named = dict.fromkeys((item.name, item.kind, item.location) for item in artefacts)
    return [{"name": name, "kind": kind, "location": location} for name, kind, location in named]


def _log(head: Head, events: Sequence[tuple[Entry, list[bytes]]]) -> dict[str, Json]:
    return {
        "size": head.size,
        "root": head.root.hex(),
        "events": [
            {"index": entry.number, "body": entry.body.decode(), "proof": [item.hex() for item in proof]}
            for entry, proof in events
        ],
    }


def _describe(request: Request, stage: Stage) -> Json:
    def text(name: str) -> str | None:
        value = getattr(request, name)
        return None if value is None else value.isoformat()

    return {
        "id": request.id,
        "digest": request.digest,
        "n_subjects": request.n_subjects,
        "n_records": request.n_records,
        "submitted_at": text("submitted_at"),
        "deadline": text("deadline"),
        "withdrawn_at": text("withdrawn_at"),
        "forgotten_at": text("forgotten_at"),
        "recovered_at": text("recovered_at") if stage == "recovered" else None,
    }


def _publish(path: Path, data: bytes) -> None:
    draft = path.with_suffix(".draft")
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def receipt_path(site: Site, request_id: str, stage: str) -> Path:
    """Where a receipt lies.

    Args:
        site: The workspace.
        request_id: The request, as the ledger names it.
        stage: `"forgotten"`, `"recovered"` or `"edited"`.

    Returns:
        The path, below the folder of receipts.

    Raises:
        DamageError: If it is no request's name.
    """
    if not (EDIT_ID if stage == STAGE else REQUEST_ID).fullmatch(request_id):
        raise DamageError(f"{request_id[:80]!r} is no name of a request: the ledger is damaged, restore it from a copy")
    return site.receipts_folder / f"{request_id}-{stage}.json"


def receipts_of(site: Site, request_id: str) -> list[Receipt]:
    """The receipts issued for a request.

    Args:
        site: The workspace.
        request_id: The request.

    Returns:
        The one of its being forgotten, then the one of its recovery, as far as they are issued; of an edit, its one.

    Raises:
        DamageError: If one was issued and its file is missing.
    """
    issued = site.ledger.receipt_digests(request_id)
    found = []
    for stage in (STAGE,) if EDIT_ID.fullmatch(request_id) else ("forgotten", "recovered"):
        path = receipt_path(site, request_id, stage)
        if stage in issued:
            if not path.is_file():
                raise DamageError(f"the receipt {path} was issued and is missing: restore it from a copy")
            found.append(Receipt(path))
    return found


def key_path(site: Site, key_id: str) -> Path:
    """Where a private key lies."""
    return site.keys_folder / f"{key_id}.pem"


def current_signer(site: Site) -> CryptoSigner:
    """The key that receipts are signed with now.

    Args:
        site: The workspace.

    Returns:
        The signer.

    Raises:
        DamageError: If the ledger names no key.
    """
    return _signer(site, site.ledger.signing_keys())


def _signer(site: Site, keys: Sequence[tuple[str, str]]) -> CryptoSigner:
    if not keys:
        raise DamageError(f"the ledger {site.ledger.name} names no signing key: restore it from a copy")
    return load_signer(key_path(site, keys[-1][0]))


def public_key(site: Site) -> str:
    """The current public key, PEM."""
    return public_pem(current_signer(site).public_key)


def rotate_key(site: Site) -> str:
    """Sign with a new key from here on; the old one vouches for it.

    Args:
        site: The workspace, whose lock the caller holds.

    Returns:
        The new key's id.
    """
    old = current_signer(site)
    new = load_signer(create_key(site.keys_folder))
    statement = rotation(old, new, site.declaration.id, now())
    site.ledger.add_key(new.public_key.keyid, json.dumps(statement))
    return str(new.public_key.keyid)


@cache
def software_version() -> str:
    """Version of this program."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(SOFTWARE)
    except PackageNotFoundError:
        return "not installed"
