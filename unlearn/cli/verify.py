"""`unlearn verify`, `receipts`, `key`, `countersign`: what proves that something was forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from unlearn.cli.arguments import AsJson, Run, opened
from unlearn.cli.facts import read_facts
from unlearn.cli.forget import IdsFrom, Records, Subjects, read_ids
from unlearn.cli.output import counted, print_json, say
from unlearn.cli.where import trains

if TYPE_CHECKING:
    from shards.executors.base import Executor
    from unlearn.receipt.offline import Step
    from unlearn.verification import Verification

VERIFY = """\b
Examples:
  unlearn verify receipt.json --public-key office.pub.pem
  unlearn verify receipt.json --public-key office.pub.pem --workspace runs/people --replay
  unlearn verify recovered.json --public-key office.pub.pem --forgotten forgotten.json
  unlearn verify edited.json --public-key office.pub.pem --model models/edited"""

RECEIPTS = """\b
Example:
  unlearn receipts runs/people req-0123456789abcdef"""

KEY = """\b
Examples:
  unlearn key runs/people --output office.pub.pem
  unlearn key runs/people --rotate"""

COUNTERSIGN = """\b
Example:
  unlearn countersign receipt.json --key officer.pem"""

Receipt: TypeAlias = Annotated[Path, typer.Argument(metavar="RECEIPT", help="The receipt's file.")]


_CHANGES = {"ingested": "batches taken in", "built": "steps trained", "withdrawn": "requests carried out"}
"""Kinds of events after which the model is another, and what to call them."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(help="Verify a receipt: alone, against its workspace, or by training again.", epilog=VERIFY)(
        trains(verify)
    )
    app.command(help="Say where the receipts of a request are.", epilog=RECEIPTS)(receipts)
    app.command(help="Print the public key that verifies a workspace's receipts, or replace the key.", epilog=KEY)(key)
    app.command(help="Add a signature to a receipt.", epilog=COUNTERSIGN)(countersign)


def verify(
    receipt: Receipt,
    public_key: Annotated[
        list[Path], typer.Option(metavar="FILE", help="Public key that is to have signed it, PEM; repeatable.")
    ],
    workspace: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Hold it against this workspace.", show_default="receipt alone")
    ] = None,
    replay: Annotated[
        bool, typer.Option("--replay", help="Train every step again in fresh processes, and compare.")
    ] = False,
    shard: Annotated[
        list[int] | None, typer.Option(min=0, help="Train only this shard again; repeatable.", show_default="all")
    ] = None,
    threshold: Annotated[int, typer.Option(min=1, help="How many of the keys must have signed.")] = 1,
    request: Annotated[
        str | None, typer.Option(metavar="REQUEST_ID", help="The request it is to be about.", show_default="any")
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="How far predictions may be apart where a step was built in another environment than this one.",
            show_default="0.001",
        ),
    ] = None,
    forgotten: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With a receipt of a recovery: the receipt of the forgetting before it."),
    ] = None,
    opening: Annotated[
        str | None, typer.Option(metavar="HEX", help="The submitter's secret: also check whom the request named.")
    ] = None,
    subject: Subjects = None,
    record: Records = None,
    ids_from: IdsFrom = None,
    model: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Of an edit: the edited model, to compare its weights.")
    ] = None,
    model_before: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Of an edit, with --model: the model before.")
    ] = None,
    fact: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PROMPT|SUBJECT|NEW",
            help="Of an edit, with --opening: a fact as it was given; with --model, it is asked. Repeatable: all.",
        ),
    ] = None,
    *,
    executor: Executor,
    json: AsJson = False,
) -> None:
    """Verify a receipt."""
    if replay and workspace is None:
        raise typer.BadParameter("to train again, the workspace is needed", param_hint="--replay")
    if shard and not replay:
        raise typer.BadParameter("shards are chosen for training again: add --replay", param_hint="--shard")
    if tolerance is not None and not replay:
        raise typer.BadParameter("it is for what is trained again: add --replay", param_hint="--tolerance")
    from unlearn.receipt.edit import is_edit
    from unlearn.verification import TOLERANCE, read_receipt
    from unlearn.verification import verify as check

    keys = _read_keys(public_key)
    of_edit = {"--model": model, "--model-before": model_before, "--fact": fact}
    if is_edit(read_receipt(receipt)):
        others = {"--replay": replay, "--forgotten": forgotten, "--subject": subject, "--record": record}
        _refuse({**others, "--ids-from": ids_from}, "this is the receipt of an edit, which forgot nothing")
        _verify_edit(receipt, keys, workspace, model, model_before, opening, fact, threshold, request, json)
        return
    _refuse(of_edit, "this is no receipt of an edit")
    found = check(
        receipt,
        keys,
        workspace=workspace,
        executor=executor,
        replay=replay,
        shards=shard,
        tolerance=TOLERANCE if tolerance is None else tolerance,
        threshold=threshold,
        request_id=request,
        opening=opening,
        subjects=[*(subject or ()), *(() if ids_from is None else read_ids(ids_from))],
        record_ids=record or (),
        forgotten=forgotten,
    )
    if json:
        said = found.predicate
        print_json(
            {
                "valid": True,
                "receipt": found.receipt,
                "stage": said.stage,
                "as_of": found.as_of,
                "steps": found.steps,
                "kind": said.kind,
                "guarantee": said.guarantee,
                "not_proven": said.not_proven,
                "not_looked_at": found.not_looked_at,
            }
        )
    else:
        say_verified(found)


def _read_keys(paths: Sequence[Path]) -> list[bytes]:
    from unlearn.errors import InputError

    try:
        return [path.read_bytes() for path in paths]
    except OSError as error:
        raise InputError(
            f"the public key {error.filename} cannot be read ({error.strerror}): check the path"
        ) from error


def _refuse(options: Mapping[str, object], why: str) -> None:
    """Refuse options that are for the other kind of receipt."""
    from unlearn.errors import InputError

    given = [name for name, value in options.items() if value]
    if given:
        raise InputError(f"{why}: leave {given[0]} out")


def _verify_edit(
    receipt: Path,
    keys: Sequence[bytes],
    workspace: Path | None,
    model: Path | None,
    model_before: Path | None,
    opening: str | None,
    facts: Sequence[str] | None,
    threshold: int,
    request: str | None,
    json: bool,
) -> None:
    """Verify the receipt of an edit."""
    from unlearn.edit_verification import verify_edit

    found = verify_edit(
        receipt,
        keys,
        workspace=workspace,
        model=model,
        model_before=model_before,
        opening=opening,
        facts=read_facts(facts),
        threshold=threshold,
        request_id=request,
    )
    said = found.predicate
    if json:
        print_json(
            {
                "valid": True,
                "receipt": found.receipt,
                "stage": said.stage,
                "steps": found.steps,
                "kind": said.kind,
                "guarantee": said.guarantee,
                "measured": said.measured.to_json(),
                "not_proven": said.not_proven,
                "not_looked_at": found.not_looked_at,
            }
        )
        return
    _say_steps(found.steps)
    say(f"verified, an EDIT and no deletion: {said.guarantee}")
    _say_limits(said.not_proven, found.not_looked_at)


def _say_steps(steps: Sequence[Step]) -> None:
    for step in steps:
        say(f"{step.number:>2}. {step.title}: {step.detail}")
    say("")


def _say_limits(not_proven: Sequence[str], not_looked_at: Sequence[str]) -> None:
    say("not proven by it:")
    for limit in not_proven:
        say(f"  - {limit}")
    say("not looked at:")
    for limit in not_looked_at:
        say(f"  - {limit}")


def say_verified(found: Verification) -> None:
    """Print what was verified, and what no receipt can show.

    Args:
        found: The verification.
    """
    _say_steps(found.steps)
    say(f"verified, {found.as_of}: {found.predicate.guarantee}")
    say(_since(found.as_of.since))
    _say_limits(found.predicate.not_proven, found.not_looked_at)


def _since(events: Mapping[str, int] | None) -> str:
    if events is None:
        return "what happened after that only the workspace can tell: hold the receipt against it"
    if not events:
        return "nothing happened after that"
    changes = ", ".join(f"{name}: {events.get(kind, 0):,}" for kind, name in _CHANGES.items())
    return f"after that the log holds {counted(sum(events.values()), 'event')} ({changes}), of which it says nothing"


def receipts(
    run: Run,
    request_id: Annotated[str, typer.Argument(metavar="REQUEST_ID", help="The request.")],
    *,
    json: AsJson = False,
) -> None:
    """Say where receipts are."""
    with opened(run) as workspace:
        found = workspace.receipts(request_id)
        if json:
            print_json([{"stage": item.stage, "path": item.path, "digest": item.digest} for item in found])
            return
        for item in found:
            say(str(item.path))
        if not found:
            say(
                "none yet: a receipt is issued when the request is forgotten, and one when it is recovered; of an "
                "edit, when it is made"
            )


def key(
    run: Run,
    rotate: Annotated[bool, typer.Option("--rotate", help="Make a new key first; the old one vouches for it.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write it to.", show_default="the screen")
    ] = None,
    *,
    json: AsJson = False,
) -> None:
    """Print the public key."""
    with opened(run) as workspace:
        if rotate:
            workspace.rotate_key()
        pem = workspace.public_key
    if output is not None:
        output.write_text(pem, encoding="ascii")
    if json:
        print_json({"public_key": pem})
    elif output is None:
        typer.echo(pem, nl=False)
    else:
        say(f"public key written to {output}")


def countersign(
    receipt: Receipt,
    key: Annotated[Path, typer.Option(metavar="FILE", help="Private key, PEM, Ed25519, readable by you alone.")],
    *,
    json: AsJson = False,
) -> None:
    """Add a signature."""
    from unlearn.receipt import countersign as sign
    from unlearn.receipt import load_signer
    from unlearn.verification import read_receipt

    signer = load_signer(key)
    data = sign(read_receipt(receipt), signer)
    draft = receipt.with_name(f".{receipt.name}.draft")
    draft.write_bytes(data)
    draft.replace(receipt)
    keyid = signer.public_key.keyid
    print_json({"receipt": receipt, "key": keyid}) if json else say(f"{receipt}: also signed with {keyid[:16]}…")
