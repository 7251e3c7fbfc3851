"""`unlearn train` and `unlearn recover`: build what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from unlearn.cli.arguments import AsJson, Run, opened
from unlearn.cli.output import as_duration, counted, print_json, say
from unlearn.cli.where import trains

if TYPE_CHECKING:
    from shards.executors.base import Executor
    from unlearn.building import BuildReport
    from unlearn.workspace import Workspace

TRAIN_EXAMPLE = """\b
Examples:
  unlearn train runs/people --workers 2
  unlearn train /shared/runs/people --address auto --num-cpus 2"""

RECOVER_EXAMPLE = """\b
Examples:
  unlearn recover runs/people
  unlearn recover runs/one --due
  unlearn recover /shared/runs/people --address head-node:6379"""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        help="Train every step that is missing. After an interruption, run it again: what was built is kept.",
        epilog=TRAIN_EXAMPLE,
    )(trains(train))
    app.command(help="Rebuild what forgetting removed, for all waiting requests together.", epilog=RECOVER_EXAMPLE)(
        trains(recover)
    )


def train(run: Run, *, executor: Executor, json: AsJson = False) -> None:
    """Train what is missing."""
    with opened(run, executor) as workspace:
        report = workspace.train()
        if json:
            print_json(report)
            return
        say_built(report)
        say_empty(workspace)


def say_empty(workspace: Workspace) -> None:
    """Say so if there are more shards than the records fill; not of learners that lose nothing by it.

    Args:
        workspace: One that was just trained.
    """
    status = workspace.status()
    if status.serving < status.n_shards and not status.behind and workspace.declaration.aggregation != "sum":
        say(
            f"{status.n_shards - status.serving} of {status.n_shards} shards have no records and abstain: for "
            f"{counted(status.records, 'record')}, fewer shards learn more"
        )


def recover(
    run: Run,
    due: Annotated[
        bool,
        typer.Option(
            "--due",
            help="Only if the model is to be retrained by now: the time after an approximate method is up, it failed, "
            "or an audit refuted it.",
        ),
    ] = False,
    *,
    executor: Executor,
    json: AsJson = False,
) -> None:
    """Rebuild what forgetting removed."""
    with opened(run, executor) as workspace:
        if due and not json and not workspace.status().due:
            say("nothing is due to be retrained")
            return
        report = workspace.recover(due=due)
    print_json(report) if json else say_built(report)


def say_built(report: BuildReport) -> None:
    """Print what was built.

    Args:
        report: Of a training or recovery.
    """
    if report.steps == 0:
        say("nothing was missing")
    else:
        say(
            f"built {counted(report.steps, 'step')} of {counted(report.shards, 'shard')}: "
            f"{counted(report.visits, 'record-visit')} in {as_duration(report.seconds)}"
        )
    if report.recovered:
        say(f"recovered: {', '.join(report.recovered)}")
