"""`unlearn demo`: the whole idea on real data in about half a minute."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unlearn.cli.arguments import AsJson, Options, make_learner, parse_options
from unlearn.cli.audit import say_audit
from unlearn.cli.output import as_duration, counted, print_json, print_table, say, to_plain

if TYPE_CHECKING:
    from rich.table import Table

    from unlearn.demo import DemoResult, Stage

EXAMPLE = """\b
Examples:
  unlearn demo
  unlearn demo --data people.csv --target income --forget 10 --workspace runs/demo"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        help="Train in shards, forget, recover, audit, verify the receipts, compare with a training without the data, "
        "and write a report on it all.",
        epilog=EXAMPLE,
    )(demo)


def demo(
    data: Annotated[
        str,
        typer.Option(help="mnist5k (5,000 digits, no download), mnist, cifar10 (downloaded), or a file as for ingest."),
    ] = "mnist5k",
    target: Annotated[str | None, typer.Option(help="Column of the labels, where the data are a table.")] = None,
    shards: Annotated[int, typer.Option(min=1, help="Isolated models the records are spread over.")] = 20,
    slices: Annotated[int, typer.Option(min=1, help="Increments of each shard's records.")] = 5,
    forget: Annotated[int, typer.Option(min=1, help="Records to forget together, after one alone.")] = 100,
    learner: Annotated[str | None, typer.Option(help="As for create.", show_default="a small torch network")] = None,
    option: Options = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides everything random.")] = 0,
    workspace: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the workspace; the report goes beside it.",
            show_default="runs/demo, or the next that is free",
        ),
    ] = None,
    *,
    json: AsJson = False,
) -> None:
    """Show the whole idea on real data."""
    options = parse_options(option)
    if options and learner is None:
        raise typer.BadParameter("options belong to a learner: name it with --learner", param_hint="--option")
    from unlearn import demo as story

    found = story.load(data, target=target, seed=seed)
    folder = _free() if workspace is None else workspace
    with tempfile.TemporaryDirectory(prefix="unlearn-demo-") as scratch:
        result = story.run(
            found,
            story.default_learner(found) if learner is None else make_learner(learner, options),
            story.DemoConfig(shards, slices, forget, seed),
            folder=folder,
            scratch=Path(scratch),
            tell=_ignore if json else _say_stage,
        )
    if json:
        print_json(_document(result, folder))
    else:
        _say_result(result, folder)
    if not result.exact:
        raise typer.Exit(1)


def _free() -> Path:
    """The first of `runs/demo`, `runs/demo-2`, … that does not exist."""
    first = Path("runs/demo")
    return next(
        path
        for number in count(1)
        if not (path := first if number == 1 else first.with_name(f"demo-{number}")).exists()
    )


def _ignore(stage: Stage) -> None:
    del stage


def _say_stage(stage: Stage) -> None:
    say(f"{stage.name:<11} {_what(stage)}: {as_duration(stage.seconds)}{_judgement(stage)}")


def _what(stage: Stage) -> str:
    if stage.name == "audit":
        presented = counted(stage.records or 0, "forgotten record")
        return f"{presented}, presented again, under {counted(stage.shards, 'state')}"
    if stage.name == "verify":
        return "every receipt, against the workspace and by training all steps again"
    shards = counted(stage.shards, "shard")
    if stage.steps is not None:
        steps, visits = counted(stage.steps, "step"), counted(stage.visits or 0, "record-visit")
        trained = "" if stage.records is None else f"{counted(stage.records, 'record')}, "
        return f"{trained}{steps} of {shards}, {visits}"
    return shards if stage.records is None else f"{counted(stage.records, 'record')} in {shards}"


def _judgement(stage: Stage) -> str:
    if stage.name in {"create", "ingest", "audit", "verify"}:
        return ""
    if stage.accuracy is None:
        return "; no shard can predict until recovery"
    serving = "" if stage.steps is not None else f" with {counted(stage.serving, 'shard')} serving"
    return f"; accuracy {stage.accuracy:.3f}{serving}"


def _say_result(result: DemoResult, folder: Path) -> None:
    say("")
    print_table(stages_table(result))
    say("")
    same = "equal" if result.exact else "DIFFERENT: the learner is not repeatable, or this is a defect"
    say(f"state digest after forgetting and recovering  {result.recovered_digest}")
    say(f"state digest of the training without them     {result.fresh_digest}")
    say(f"The two are {same}.")
    say("")
    say("Do the states still know what was forgotten?")
    if result.audit is None:
        say("Not audited: too few records were forgotten, or there is one shard alone: labels of shards tell nothing.")
    else:
        say_audit(result.audit)
    say("")
    proof = result.proof
    say(f"{counted(proof.receipts, 'receipt')} issued and verified; the last one, step by step:")
    for step in proof.steps:
        say(f"{step.number:>3}. {step.title}: {step.detail}")
    say(f"The same receipt with one letter changed: {proof.tampered}")
    say("")
    for sentence in sentences(result):
        say(sentence)
    say(f"The workspace is kept; to go on: unlearn status {folder}")
    say(f"A report on all of it, to open in a browser: {folder.with_name(result.report.name)}")


def stages_table(result: DemoResult) -> Table:
    """All stages, one a row."""
    from rich.table import Table

    table = Table("stage")
    for name in ("accuracy", "seconds", "record-visits"):
        table.add_column(name, justify="right")
    table.add_column("state digest")
    for stage in result.stages:
        table.add_row(
            stage.name,
            "" if stage.accuracy is None else f"{stage.accuracy:.3f}",
            f"{stage.seconds:.3f}",
            "" if stage.visits is None else f"{stage.visits:,}",
            (stage.digest or "")[:12],
        )
    return table


def sentences(result: DemoResult) -> tuple[str, str]:
    """What the numbers say and what they do not, in two sentences.

    Args:
        result: Of the demonstration.

    Returns:
        One on cost, one on the guarantee.
    """
    together = counted(result.forgotten - 1, "scattered request")
    almost = ", almost everything" if result.work_share > 0.9 else ""
    cost = (
        f"Cost: {together} hit {result.shards_hit} of {counted(result.n_shards, 'shard')}, and recovering from them "
        f"together rebuilt {result.work_share:.1%} of the record-visits of full training{almost} (the cost model "
        f"expects {result.work_expected:.1%})."
    )
    guarantee = (
        "Exact means: the recovered state is the one a training without the forgotten records gives, byte for byte "
        "in this numeric environment, and until recovery the state served never saw them; it does not mean that "
        "nothing about them can be inferred from other people's records, nor that copies outside the workspace or "
        "predictions already made are gone."
    )
    return cost, guarantee


def _document(result: DemoResult, folder: Path) -> dict[str, Any]:
    audit = None if result.audit is None else result.audit.to_json()
    return {
        **to_plain(replace(result, audit=None)),
        "audit": audit,
        "exact": result.exact,
        "workspace": folder.absolute(),
        "notes": list(sentences(result)),
    }
