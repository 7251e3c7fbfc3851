"""Edits of language models that lie outside of the workspace, as requests in its ledger (decision 0034).

The order, whatever crashes in between:

1. the request is durable, with its facts and texts encrypted under a key of their own;
2. in a worker, the edited model is written to a folder beside the one it is to have, read back, and asked;
3. that folder gets its name, and one transaction registers the edited model, taints the one before, and drops the
   facts;
4. the key of the facts is destroyed, then the receipt is issued.

A crash before the transaction leaves folders that nobody was told of, which are removed when the workspace is opened,
and a request that waits: for `process`, or for the next edit. It waits for no other command, since an edit may take
long, and one that cannot be made must keep nobody from being forgotten.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from shards.digest import Json, canonical_json, digest_parts
from shards.executors.local import LocalExecutor
from shards.files import sync_path
from unlearn.errors import (
    CallError,
    CodeError,
    ConfigurationError,
    DamageError,
    EnvironmentMismatchError,
    InputError,
    StorageError,
    UnknownIdError,
    WorkerLostError,
)
from unlearn.facts import LANGUAGE_MODEL, NOT_MADE, EditRequest, EditState, Fact, Measured, texts_commitment
from unlearn.ledger import EDITING, Artefact, Edited, EditSubmission, now
from unlearn.model_folder import check_folder, folder_digest, read_note, weights_commitment
from unlearn.receipt.predicate import OPENING_BYTES
from unlearn.receipt.strict import MAX_NAME
from unlearn.site import Site

MAKE = "unlearn.language.requested:make"
"""What a worker is told to call."""

MAX_TEXTS = 64 * 2**20
"""Bytes of all texts together: they wait in the database, encrypted."""

_FAILURES = (
    CallError,
    CodeError,
    ConfigurationError,
    EnvironmentMismatchError,
    InputError,
    WorkerLostError,
)
"""What ends a request as not applied, since it would happen again."""


@dataclass(frozen=True)
class EditDraft:
    """An edit as somebody asks for it.

    Attributes:
        request: The request, in state submitted, with its opening.
        fingerprint: Keyed digest of all that it asks for.
        facts: What is to be said.
        texts: What the editor is given.
        salt: Of the weights.
    """

    request: EditRequest
    fingerprint: str
    facts: tuple[Fact, ...]
    texts: tuple[str, ...]
    salt: bytes


def draft_edit(
    site: Site,
    facts: Sequence[Fact],
    *,
    model: str,
    editor: str,
    options: Mapping[str, Json],
    output: str | Path,
    texts: Sequence[str],
    reason: str,
    idempotency_key: str | None,
) -> EditDraft:
    """Write an edit down, and refuse what can be seen not to work.

    Args:
        site: The workspace.
        facts: What is to be said.
        model: Id of the artefact to edit.
        editor: Name of the editor.
        options: Of its configuration.
        output: Folder for the edited model.
        texts: Sentences of the kind the model is used on.
        reason: Why.
        idempotency_key: The submitter's own key, or None.

    Returns:
        The edit. Of one that repeats another under its key, neither model nor output are looked at.

    Raises:
        InputError: If facts, texts, model or output make no sense.
        ConfigurationError: If the editor or its configuration do not.
        UnknownIdError: If there is no such model.
    """
    for library in ("torch", "transformers"):
        if find_spec(library) is None:
            raise ConfigurationError(
                f"an edit needs {library}: pip install 'sisa-unlearn[language]'; nothing was changed"
            )
    from unlearn.language.editing.options import config_of, described, find_editor

    _check_facts(facts)
    _check_texts(texts)
    config = described(config_of(find_editor(editor), options))
    target = Path(output).resolve()
    salt, opening = secrets.token_bytes(OPENING_BYTES), secrets.token_bytes(OPENING_BYTES)
    asked = [[fact.to_json() for fact in facts], list(texts), model, editor, config, str(target)]
    fingerprint = digest_parts("edit", [site.keys.pseudonyms, canonical_json(asked)])
    known = None if idempotency_key is None else site.ledger.edit_by_key(idempotency_key)
    weights = "" if known is not None else _weights(site, model, target, salt)
    request = EditRequest(
        id=f"edit-{secrets.token_hex(8)}",
        state=EditState.SUBMITTED,
        reason=reason,
        idempotency_key=idempotency_key,
        facts=tuple(fact.commitment(opening) for fact in facts),
        texts=texts_commitment(opening, texts),
        artefact=model,
        output=str(target),
        editor=editor,
        config=config,
        weights=weights,
        submitted_at=now(),
        opening=opening.hex(),
    )
    return EditDraft(request, fingerprint, tuple(facts), tuple(texts), salt)


def accept_edit(site: Site, draft: EditDraft) -> EditRequest:
    """Make an edit durable.

    Args:
        site: The workspace, whose lock the caller holds.
        draft: The edit.

    Returns:
        The request, or the one it repeats.

    Raises:
        IdempotencyError: If its key was used for something else.
    """
    request = draft.request
    epoch = site.edit_keys.begin_epoch()
    kept = {
        "facts": [fact.to_json() for fact in draft.facts],
        "texts": list(draft.texts),
        "salt": draft.salt.hex(),
    }
    sealed = site.edit_keys.seal_json(epoch, request.id, kept)
    try:
        return site.ledger.submit_edit(EditSubmission(request, draft.fingerprint, epoch, sealed))
    finally:
        # Also of one that was refused, or repeats another.
        end_keys(site)


def end_keys(site: Site) -> None:
    """Destroy the key of every edit that does not wait."""
    site.edit_keys.end_epochs_but(item.epoch for item in site.ledger.edits_pending())


def has_stale_keys(site: Site) -> bool:
    """Whether the key of an edit is there that does not wait any more."""
    there = site.edit_keys.epochs()
    return bool(there) and bool(there - {item.epoch for item in site.ledger.edits_pending()})


def remove_unnoted(site: Site) -> None:
    """Remove the folders of edits that nobody noted: those that wait were not made, whatever lies there."""
    for item in site.ledger.edits_pending():
        _remove(item.request)


@dataclass(frozen=True)
class Outcome:
    """What came of the edits that waited.

    Attributes:
        failures: Request to why it was not made, in words, with what is kept nowhere.
        damaged: What keeps requests waiting: the key of their facts is missing.
    """

    failures: Mapping[str, str]
    damaged: Sequence[DamageError]


def make_pending(site: Site) -> Outcome:
    """Make every edit that waits, in order, on this machine, where the models are. The caller issues receipts.

    Args:
        site: The workspace, whose lock the caller holds.

    Returns:
        What came of them.

    Raises:
        StorageError: If the disk refuses; the edit waits on.
    """
    failures: dict[str, str] = {}
    damaged: list[DamageError] = []
    for item in site.ledger.edits_pending():
        try:
            kept = site.edit_keys.open_json(item.epoch, item.request.id, item.sealed)
        except DamageError as error:
            damaged.append(error)
            continue
        site.ledger.begin_operation(EDITING)
        try:
            code, detail = _make(site, item.request, kept)
        except BaseException:
            _remove(item.request)
            site.ledger.end_operation()
            raise
        if code:
            _remove(item.request)
            site.ledger.fail_edit(item.request.id, code)
            failures[item.request.id] = NOT_MADE[code] + (f" ({detail})" if detail else "")
        end_keys(site)
    return Outcome(failures, damaged)


def _make(site: Site, request: EditRequest, kept: Json) -> tuple[str, str]:
    """Make one edit.

    Args:
        site: The workspace.
        request: The request.
        kept: Its facts, texts and salt.

    Returns:
        Why it was not made, one of `NOT_MADE`, and more; or two empty texts.

    Raises:
        StorageError: If the disk refuses.
    """
    _remove(request)
    output = Path(request.output)
    draft = output.with_name(f".{output.name}.{request.id}.{secrets.token_hex(4)}")
    before = next((item for item in site.ledger.artefacts() if item.id == request.artefact), None)
    if before is None or before.retired_at is not None:
        return "retired", ""
    if output.exists():
        return "there already", str(output)
    order = {
        "source": before.location,
        "target": str(draft),
        "edit": request.id,
        "weights": request.weights,
        "editor": request.editor,
        "config": dict(request.config),
        **kept,
    }
    try:
        (answer,) = LocalExecutor().map(MAKE, [order], None, libraries=("torch",))
    except _FAILURES as error:
        # The first line says what; what follows of a call is the worker's traceback.
        return "failed", str(error).partition("\n")[0].removeprefix(f"{MAKE}, item 0 failed: ")
    if "disk" in answer:
        raise StorageError(answer["disk"])
    if "not_made" in answer:
        return answer["not_made"], answer["detail"]
    site.ledger.check_writer()
    draft.rename(output)
    sync_path(output.parent)
    name = f"{before.name}, edited"
    if len(name) > MAX_NAME:  # after hundreds of edits of edits; receipts must be able to name it
        name = before.name
    artefact = Artefact(f"art-{secrets.token_hex(8)}", name, before.kind, str(output), now())
    site.ledger.finish_edit(request.id, Edited(artefact, answer["weights"], Measured.from_json(answer["measured"])))
    return "", ""


def _drafts(request: EditRequest) -> list[Path]:
    """What attempts at an edit have written, each under a name of its own: a worker may outlive its driver a moment."""
    output = Path(request.output)
    begin = f".{output.name}.{request.id}."
    there = sorted(output.parent.iterdir()) if output.parent.is_dir() else []
    return [path for path in there if path.name.startswith(begin) and path.is_dir() and not path.is_symlink()]


def _remove(request: EditRequest) -> None:
    """Remove what was written for an edit that is not noted, and nothing that somebody else wrote."""
    output, ours = Path(request.output), _drafts(request)
    note = read_note(output)
    if note is not None and note.edit == request.id and not output.is_symlink():
        ours.append(output)
    for folder in ours:
        shutil.rmtree(folder)
    if ours:
        sync_path(output.parent)


def _check_facts(facts: Sequence[Fact]) -> None:
    if not facts:
        raise InputError("nothing to edit: give at least one fact; nothing was changed")
    for fact in facts:
        if not isinstance(fact, Fact):
            raise InputError(f"a fact is an unlearn.facts.Fact, got a {type(fact).__name__}; nothing was changed")
    prompts = [fact.prompt for fact in facts]
    twice = next((prompt for prompt in prompts if prompts.count(prompt) > 1), None)
    if twice is not None:
        raise InputError(f"two facts have the prompt {twice!r}, and a model gives one answer; nothing was changed")


def _check_texts(texts: Sequence[str]) -> None:
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise InputError("texts are a list of texts; nothing was changed")
    try:
        size = sum(len(text.encode()) for text in texts)
    except UnicodeEncodeError as error:
        raise InputError("texts must be such that can be written as UTF-8; nothing was changed") from error
    if not any(text.strip() for text in texts):
        raise InputError(
            "no texts are given: an editor learns from sentences of the kind the model is used on what is to stay; "
            "nothing was changed"
        )
    if size > MAX_TEXTS:
        raise InputError(
            f"the texts have {size:,} bytes, and at most {MAX_TEXTS:,} are taken: give a sample; nothing was changed"
        )


def _weights(site: Site, model: str, output: Path, salt: bytes) -> str:
    """Salted digest of the model to edit, which can be edited as far as can be seen."""
    found = next((item for item in site.ledger.artefacts() if item.id == model), None)
    if found is None or found.kind != LANGUAGE_MODEL or found.retired_at is not None:
        there = [item for item in site.ledger.artefacts() if item.kind == LANGUAGE_MODEL and item.retired_at is None]
        known = f"there are {', '.join(item.id for item in there)}" if there else "there is none"
        raise UnknownIdError(
            f"{site.path} knows no language model {model!r}, and {known}: note it with `unlearn register --kind "
            "'language model'`, which says its id; nothing was changed"
        )
    folder = Path(found.location)
    try:
        check_folder(folder)
        digest = folder_digest(folder)
    except InputError as error:
        raise InputError(f"{error}; nothing was changed") from error
    for place, why in ((site.path.resolve(), "the workspace"), (folder.resolve(), "the model's folder")):
        if output == place or place in output.parents:
            raise InputError(f"{output} lies in {why}: choose a folder outside of it; nothing was changed")
    if output.exists() or output.is_symlink():
        raise InputError(f"there is something at {output} already: choose another folder; nothing was changed")
    if not output.parent.is_dir():
        raise InputError(f"{output.parent} is no folder: make it first; nothing was changed")
    return weights_commitment(salt, digest)
