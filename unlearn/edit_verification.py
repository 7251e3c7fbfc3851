"""Verify the receipt of an edit: alone, against the edited folder, by asking the model, against the workspace.

Steps 1 to 7 need nothing but the receipt and a public key (`unlearn.receipt.edit`). With the model's folder:

8. it holds the weights that the receipt commits to; the folder from before as well, if it is given;
9. with the opening and the facts: the model gives every new answer.

With the workspace:

11. it is the workspace the receipt is about;
12. its log begins with the log the receipt was issued from, and holds the receipt;
13. its log tells the very state its tables hold;
16. every receipt ever issued is there and unchanged.

The numbers are those of `unlearn.verification`. The first step that fails raises `VerificationError`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from unlearn.errors import DamageError, InputError, UnlearnError, VerificationError
from unlearn.facts import Fact
from unlearn.issuing import Receipt
from unlearn.model_folder import folder_digest, read_note, weights_commitment
from unlearn.receipt.edit import EditPredicate, verify_edit_offline
from unlearn.receipt.offline import Step
from unlearn.verification import (
    TITLES,
    check_log,
    check_receipts,
    check_story,
    numbered,
    opened_to_look,
    read_public_keys,
    read_receipt,
    unhex,
)
from unlearn.workspace import Workspace

MODEL_TITLES = {8: "the edited model", 9: "what it says"}
"""What the steps look at that need the model."""


@dataclass(frozen=True)
class EditVerification:
    """A receipt of an edit that stood up to every step.

    Attributes:
        predicate: What it says, its limits included (`not_proven`).
        steps: The steps that were passed, in order, with what each found.
        receipt: SHA-256 of what was signed, hex.
        signers: Ids of the trusted keys that signed it.
        not_looked_at: What no step looked at.
    """

    predicate: EditPredicate
    steps: tuple[Step, ...]
    receipt: str
    signers: tuple[str, ...]
    not_looked_at: tuple[str, ...]


def verify_edit(
    receipt: Receipt | bytes | str | Path,
    public_key: str | bytes | Path | Sequence[str | bytes | Path],
    *,
    workspace: Workspace | str | Path | None = None,
    model: str | Path | None = None,
    model_before: str | Path | None = None,
    opening: str | None = None,
    facts: Sequence[Fact] = (),
    threshold: int = 1,
    request_id: str | None = None,
) -> EditVerification:
    """Verify the receipt of an edit.

    Args:
        receipt: A receipt, its file, or its bytes.
        public_key: The key that is to have signed it, in PEM, or its file; or several.
        workspace: The workspace it speaks of, to be held against it; nothing is changed there. None: not held.
        model: The edited model's folder; None: its weights are not looked at.
        model_before: With it: the folder of the model before.
        opening: The secret the submitter was given (`EditRequest.opening`), hex, to check which facts it named.
        facts: With the opening: exactly the facts it named, in order; with the model too, it is asked.
        threshold: How many of the keys must have signed.
        request_id: The request it is to be about; None: any.

    Returns:
        What it says and what was found.

    Raises:
        InputError: If the arguments make no sense; nothing was verified.
        VerificationError: If a step fails; says which, and what that means.
        LockedError: If another process is writing to the workspace.
    """
    if (opening is None) != (not facts):
        raise InputError("facts can be compared only with the opening that the submitter was given: give both")
    if model_before is not None and model is None:
        raise InputError("what salts the weights lies in the folder of the edited model: give that as well")
    found = verify_edit_offline(
        read_receipt(receipt),
        read_public_keys(public_key),
        threshold,
        opening=None if opening is None else unhex(opening),
        facts=facts,
        request_id=request_id,
    )
    steps = list(found.steps)
    if model is not None:
        with _model_step(8):
            steps.append(Step(8, MODEL_TITLES[8], _check_weights(found.predicate, Path(model), model_before)))
        if facts:
            with _model_step(9):
                steps.append(Step(9, MODEL_TITLES[9], _ask(Path(model), facts)))
    if workspace is not None:
        opened = workspace if isinstance(workspace, Workspace) else opened_to_look(workspace, "local")
        try:
            steps += _check_workspace(opened, found.predicate, found.payload)
        finally:
            if opened is not workspace:
                opened.close()
    left = _not_looked_at(model is not None, bool(facts), workspace is not None)
    return EditVerification(found.predicate, tuple(steps), found.payload, found.signers, left)


def _not_looked_at(model: bool, facts: bool, workspace: bool) -> tuple[str, ...]:
    return (
        *(() if model else ("the edited model: whether its weights are those the receipt commits to",)),
        *(() if model and facts else ("what the edited model says: with its folder, the opening and the facts",)),
        *(() if workspace else ("the workspace: whether its log is the one the receipt was issued from",)),
        "whether making the edit again gives these weights",
    )


@contextmanager
def _model_step(number: int) -> Iterator[None]:
    """Give what goes wrong inside the number of a step."""
    try:
        yield
    except VerificationError:
        raise
    except UnlearnError as error:
        raise VerificationError(number, MODEL_TITLES[number], str(error)) from error


def _check_weights(predicate: EditPredicate, folder: Path, before: str | Path | None) -> str:
    note = read_note(folder)
    if note is None or note.edit != predicate.request:
        raise DamageError(
            f"{folder} does not say that it was made for {predicate.request} (unlearn.json): it is another model, or "
            "the file was left behind when it was copied"
        )
    if weights_commitment(note.salt, folder_digest(folder)) != predicate.after.weights:
        raise DamageError(
            f"the weights, configuration or tokenizer in {folder} are not those the receipt commits to (after: "
            "weights): they were changed since"
        )
    detail = f"{folder} holds the weights, configuration and tokenizer that the receipt commits to."
    if before is None:
        return detail
    if weights_commitment(note.salt, folder_digest(Path(before))) != predicate.before.weights:
        raise DamageError(f"{before} is not the model from before that the receipt commits to (before: weights)")
    return f"{detail} {before} holds those from before, which still say the old answers."


def _ask(folder: Path, facts: Sequence[Fact]) -> str:
    from unlearn.language.requested import gives, load

    model, tokenizer = load(folder)
    answers = gives(model, tokenizer, [(fact.prompt, fact.new) for fact in facts])
    if answers.given != answers.asked:
        raise DamageError(
            f"{folder} gives {answers.given:,} of the {answers.asked:,} new answers when it is asked: the receipt says "
            "that it gave all"
        )
    others = gives(model, tokenizer, [(prompt, fact.new) for fact in facts for prompt in fact.rephrasings])
    return (
        f"Asked again, it gives all {answers.asked:,} new answers, and {others.given:,} of {others.asked:,} after "
        "other wordings."
    )


def _check_workspace(workspace: Workspace, predicate: EditPredicate, payload: str) -> list[Step]:
    details = {}
    with workspace.unchanging() as site:
        with numbered(11):
            if (site.declaration.id, site.declaration.digest) != (predicate.workspace, predicate.description):
                raise DamageError(
                    f"{site.path} is not the workspace the receipt is about, or its description (workspace.json) was "
                    "changed since"
                )
            details[11] = f"{site.path} is the workspace of the receipt, and its description is unchanged."
        with numbered(12):
            issued = site.ledger.receipt_digests(predicate.request).get(predicate.stage)
            details[12] = check_log(site.ledger, predicate.log, issued, payload)
        with numbered(13):
            story, details[13] = check_story(site)
        with numbered(16):
            details[16] = check_receipts(site, story)
    return [Step(number, TITLES[number], detail) for number, detail in details.items()]
