"""`unlearn audit`: what the served states still know of forgotten records that are presented again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unlearn.cli.arguments import AsJson, Columns, RecordId, RiskColumn, Run, Subject, Target, opened, split_names
from unlearn.cli.attack_output import list_attacks, say_attacks
from unlearn.cli.columns import declared_columns, text_columns
from unlearn.cli.output import counted, print_json, say

if TYPE_CHECKING:
    from shards.records import Records
    from unlearn.audit.attack_audit import AttackAudit
    from unlearn.audit.workspace_audit import AuditResult

EXAMPLE = """\b
Examples:
  unlearn audit runs/people --records gone.csv --target income --subject person --record-id row
  unlearn audit runs/people --records gone.npz --request req-0123456789abcdef --out audit.json
  unlearn audit --list-attacks
  unlearn audit runs/people --records gone.npz --held-out never_came.npz --attack loss --attack rmia --shadows 16"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        help="Test whether the model still knows forgotten records. The workspace does not have them any more: whoever "
        "holds them presents them again; they are read, and stored nowhere. The states are asked which shard each "
        "subject was in; or, with --attack, the model is attacked: who is in the data, and do forgotten subjects look "
        "like such as never came (--held-out)? Exit status 1 if it knows them.",
        epilog=EXAMPLE,
    )(audit)


def audit(
    run: Run,
    records: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="The forgotten records as they were ingested: .csv, .parquet, or .npz of X, y, subjects, record_ids. "
            "The declared columns are found by name, beside whatever others.",
        ),
    ],
    request: Annotated[
        str | None,
        typer.Option(
            metavar="REQUEST_ID", help="Test what this request forgot.", show_default="all that was forgotten"
        ),
    ] = None,
    target: Target = None,
    subject: Subject = None,
    record_id: RecordId = None,
    features: Columns = None,
    risk: RiskColumn = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the result here, signed as receipts are.")
    ] = None,
    alpha: Annotated[float, typer.Option(help="Probability of a false alarm.", min=0.0001, max=0.5)] = 0.05,
    look: Annotated[
        int | None,
        typer.Option(
            help="Number of this audit among several of the same claim, from 1: alpha is spent over them.", min=1
        ),
    ] = None,
    looks: Annotated[
        int | None, typer.Option(help="How many looks there will be.", min=1, show_default="no end is declared")
    ] = None,
    permutations: Annotated[int, typer.Option(help="Rearrangements to draw.", min=1)] = 9_999,
    seed: Annotated[int, typer.Option(help="They are drawn from it; choose it before you look.", min=0)] = 0,
    attack: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Attack the served model; repeatable.", show_default=False)
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="For attacks: records like the forgotten ones that never came, same columns."
        ),
    ] = None,
    primary: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The attack that counts.", show_default="all do, and share alpha (Holm)"),
    ] = None,
    shadows: Annotated[
        int, typer.Option(help="Shadow models to train for attacks that compare with some; even, 4 at least.", min=0)
    ] = 0,
    members: Annotated[
        int, typer.Option(help="For attacks: subjects of each shard to compare with, and to train shadows on.", min=1)
    ] = 100,
    coins: Annotated[
        bool,
        typer.Option(
            "--coins",
            help="For attacks: fair coins decided which of the presented and held-out subjects were ingested at all; "
            "bounds epsilon as well.",
        ),
    ] = False,
    list_all: Annotated[
        bool,
        typer.Option("--list-attacks", help="Print every attack, and end.", is_eager=True, callback=list_attacks),
    ] = False,
    *,
    json: AsJson = False,
) -> None:
    """Audit a workspace.

    Raises:
        BadParameter: If what is for attacks is given without any, or the result cannot be written where it should.
        Exit: With status 1 if the model was found to know forgotten records.
    """
    from shards.sources import from_file

    del list_all
    if not attack and (held_out is not None or primary is not None or shadows or coins):
        raise typer.BadParameter(
            "--held-out, --primary, --shadows and --coins are for attacks: name some with --attack"
        )
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise typer.BadParameter(f"--out {out}: give a file in a folder that is there; nothing was tested")

    with opened(run) as workspace:
        task = workspace.task

        def read(file: Path) -> Records:
            return from_file(
                file,
                target=target,
                subject=subject,
                record_id=record_id,
                features=split_names(features) or declared_columns(file, task),
                risk=risk,
                text=text_columns(task),
            )

        presented = read(records)
        batches = workspace.status().batches
        plan, others = None, None
        if attack:
            from unlearn.audit.attack_audit import AttackPlan

            plan = AttackPlan(tuple(attack), primary, shadows, members, tossed=coins)
            others = None if held_out is None else _strangers(read(held_out), batches + 1)
        found = workspace.audit(
            _without_numbers(presented, batches),
            request_id=request,
            attacks=plan,
            held_out=others,
            alpha=alpha,
            look=look,
            looks=looks,
            permutations=permutations,
            seed=seed,
            progress=None if not json else False,
        )
        if out is not None:
            out.write_bytes(workspace.sign_audit(found))
    _tell(found, out, json=json)
    if found.verdict == "refuted":
        raise typer.Exit(1)


def _tell(found: AuditResult | AttackAudit, out: Path | None, *, json: bool) -> None:
    from unlearn.audit.attack_audit import AttackAudit

    if json:
        print_json({"verdict": found.verdict, **found.to_json()})
        return
    if isinstance(found, AttackAudit):
        say_attacks(found)
    else:
        say_audit(found)
    if out is not None:
        say(f"signed statement written to {out}")


def _strangers(records: Records, batch: int) -> Records:
    """Held-out records that come without ids are given numbers that nobody has."""
    from shards.records import numbered_ids

    if records.record_ids != numbered_ids(len(records), 0):
        return records
    ids = numbered_ids(len(records), batch)
    return replace(
        records, record_ids=ids, subjects=ids if records.subjects == records.record_ids else records.subjects
    )


def _without_numbers(records: Records, batches: int) -> Records:
    """Where subjects are named and records are not, rows are found by their subjects: numbers nobody has stand in."""
    from shards.records import numbered_ids

    if records.record_ids != numbered_ids(len(records), 0) or records.subjects == records.record_ids:
        return records
    return replace(records, record_ids=numbered_ids(len(records), batches))


def say_audit(found: AuditResult) -> None:
    """Print an audit for people.

    Args:
        found: The audit.
    """
    test, facts, yardstick = found.test, found.facts, found.yardstick
    say(
        f"{counted(facts.n_records, 'forgotten record')} of {counted(test.n_subjects, 'subject')}, "
        f"{counted(len(facts.requests), 'request')}, under the states of {counted(found.n_shards, 'shard')}"
    )
    for reason, count in sorted(facts.set_aside.items()):
        say(f"  not tested: {counted(count, 'record')}: {reason}")
    low, high = test.interval
    say(f"they score {test.advantage:+.3f} ({low:+.3f} to {high:+.3f}) higher under their own shard than by chance")
    if yardstick is not None:
        say(f"  subjects that are in the data score {yardstick.advantage:+.3f} higher; the unit is the {found.score}")
    for item in test.statistics:
        say(f"  {item.name}: {item.value:+.2f} standard deviations, p = {item.p_value:.4f}")
    if test.verdict == "refuted":
        worst = max(test.shards, key=lambda shard: abs(test.shards[shard]))
        say(
            f"REFUTED, p = {test.p_value:.4f}: the states depend on what was forgotten (most in shard {worst}); no "
            f"unlearning of all of it together has an epsilon below {test.epsilon_lower:.2f}"
        )
    else:
        say(f"not refuted, p = {test.p_value:.4f}")
    if yardstick is not None:
        say(
            f"it would have found one shard that still knows its forgotten subjects in {yardstick.power_one_shard:.0%} "
            f"of cases, all shards in {yardstick.power_all_shards:.0%}"
        )
    least = found.detectable
    places = (("in all shards", least.everywhere), ("in one", least.one_shard))
    say(
        f"least advantage found with a probability of {least.power:.0%}: "
        + ", ".join(f"none {at} (too few subjects)" if value is None else f"{value:.3f} {at}" for at, value in places)
    )
    say(f"the largest epsilon it could have refuted: {test.epsilon_largest:.2f} (delta {test.delta:g})")
    say("not shown by it:")
    for limit in found.not_shown:
        say(f"  - {limit}")
