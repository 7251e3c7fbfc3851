"""`unlearn train` and `unlearn recover`: build what is missing."""

from __future__ import annotations

import typer

from unlearn.building import BuildReport
from unlearn.cli.arguments import AsJson, Run, Workers, opened
from unlearn.cli.output import as_duration, counted, print_json, say

TRAIN_EXAMPLE = """\b
Example:
  unlearn train runs/people --workers 2"""

RECOVER_EXAMPLE = """\b
Example:
  unlearn recover runs/people"""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        help="Train every step that is missing. After an interruption, run it again: what was built is kept.",
        epilog=TRAIN_EXAMPLE,
    )(train)
    app.command(help="Rebuild what forgetting removed, for all waiting requests together.", epilog=RECOVER_EXAMPLE)(
        recover
    )


def train(run: Run, workers: Workers = None, *, json: AsJson = False) -> None:
    """Train what is missing."""
    with opened(run, workers) as workspace:
        report = workspace.train()
    print_json(report) if json else say_built(report)


def recover(run: Run, workers: Workers = None, *, json: AsJson = False) -> None:
    """Rebuild what forgetting removed."""
    with opened(run, workers) as workspace:
        report = workspace.recover()
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
