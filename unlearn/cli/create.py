"""`unlearn create`: declare a workspace."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from unlearn.cli.arguments import (
    AsJson,
    MethodOptions,
    Options,
    RiskClasses,
    Run,
    make_learner,
    parse_classes,
    parse_options,
    parse_risk_classes,
)
from unlearn.cli.output import counted, print_json, say

if TYPE_CHECKING:
    from shards.private_votes import PrivateVotes

EXAMPLE = """\b
Examples:
  unlearn create runs/people --learner logistic --shards 20 --slices 5
  unlearn create runs/cluster --learner logistic --store s3://bucket/prefix --ledger postgresql://me@host/db
  unlearn create runs/digits --learner mlp --option 'hidden=[64]'
  unlearn create runs/one --learner cnn --method scrub --escalate-after 7
  unlearn create runs/linear --learner unlearn.methods.certified_learner:CertifiedLearner --method certified_removal
  unlearn create runs/members --learner logistic --risk-class guest:16-19:* --risk-class member:0-15:*
  unlearn create runs/visits --learner lda --option shrinkage=0.1 --option 'features={"map":"raw","limit":100}'"""


class TaskKind(StrEnum):
    """What is predicted."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"


class Aggregation(StrEnum):
    """How the shards' outputs are joined."""

    MEAN = "mean"
    VOTE = "vote"
    NOISY_VOTE = "noisy-vote"
    WEIGHTED = "weighted"
    SUM = "sum"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(help="Create a workspace: its learner, shards and slices never change.", epilog=EXAMPLE)(create)


def create(
    run: Run,
    learner: Annotated[
        str,
        typer.Option(
            help="mlp, cnn (torch), logistic, sgd (scikit-learn), ridge, lda, gaussian_nb, multinomial_nb, knn, "
            "random_trees (one exact model of all shards), or package.module:name of a module factory, a learner or an "
            "estimator, found in the current directory or installed."
        ),
    ],
    shards: Annotated[
        int | None,
        typer.Option(min=1, help="Isolated models the records are spread over.", show_default="20; 1 with a method"),
    ] = None,
    slices: Annotated[
        int | None,
        typer.Option(min=1, help="Increments of each shard's part of a batch.", show_default="5; 1 with a method"),
    ] = None,
    option: Options = None,
    task: Annotated[
        TaskKind | None, typer.Option(help="What is predicted.", show_default="as the learner says")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,…", help="All labels there may ever be; or a JSON list.", show_default="the first batch's"
        ),
    ] = None,
    aggregation: Annotated[
        Aggregation | None,
        typer.Option(help="How the shards' outputs are joined.", show_default="mean; sum where states are sums"),
    ] = None,
    noise: Annotated[float | None, typer.Option(help="Of noisy votes: standard deviation, in votes.")] = None,
    max_epsilon: Annotated[
        float | None, typer.Option(help="Of noisy votes: the epsilon that all labels together may reach.")
    ] = None,
    delta: Annotated[float, typer.Option(help="Of noisy votes: the delta it is stated for.")] = 1e-5,
    risk_class: RiskClasses = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="Method that `forget` applies to the one model until it is recovered. Of torch models: scrub, "
            "fine_tune, gradient_ascent, …; their guarantee is empirical. Of unlearn.methods.certified_learner:"
            "CertifiedLearner: certified_removal.",
            show_default="none: forgetting withdraws, and is exact",
        ),
    ] = None,
    method_option: MethodOptions = None,
    escalate_after: Annotated[
        float | None,
        typer.Option(
            metavar="DAYS",
            min=0,
            help="Until how long after a request the model is to be retrained.",
            show_default="no limit",
        ),
    ] = None,
    method_time_limit: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="How long the method may take; then it is stopped, and the model is to be retrained.",
            show_default="no limit",
        ),
    ] = None,
    random_state: Annotated[
        int | None,
        typer.Option(help="Makes placement and training repeatable, for experiments.", show_default="fresh, secret"),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where records and checkpoints lie: a path, s3://bucket/prefix or gs://bucket/prefix; credentials "
            "come from the environment.",
            show_default="the folder",
        ),
    ] = None,
    ledger: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where the log of requests lies: postgresql://user@host/database; its password comes from PGPASSWORD "
            "or ~/.pgpass.",
            show_default="a file in the folder",
        ),
    ] = None,
    *,
    json: AsJson = False,
) -> None:
    """Create a workspace."""
    options, labels = parse_options(option), parse_classes(classes)
    method_options = parse_options(method_option, "--method-option") or None
    shards = (20 if method is None else 1) if shards is None else shards
    slices = (5 if method is None else 1) if slices is None else slices
    within = None if escalate_after is None else _time(escalate_after, "days", "--escalate-after")
    limit = None if method_time_limit is None else _time(method_time_limit, "seconds", "--method-time-limit")
    from unlearn.request import CERTIFIED
    from unlearn.workspace import Workspace

    workspace = Workspace.create(
        run,
        make_learner(learner, options),
        n_shards=shards,
        n_slices=slices,
        task=None if task is None else task.value,
        classes=labels,
        aggregation=_rule(aggregation, noise, max_epsilon, delta),
        random_state=random_state,
        store=store,
        ledger=ledger,
        risk_classes=parse_risk_classes(risk_class),
        method=method,
        method_options=method_options,
        escalate_within=within,
        method_time_limit=limit,
    )
    declared = workspace.declaration
    if json:
        print_json(
            {
                "workspace": workspace.path,
                "n_shards": declared.n_shards,
                "n_slices": declared.n_slices,
                "learner": declared.learner,
                "task": declared.task,
                "classes": declared.classes,
                "aggregation": declared.aggregation,
                "store": declared.store,
                "risk_classes": declared.risk_classes,
                "method": declared.method,
            }
        )
        return
    say(f"created {run}: {counted(shards, 'shard')} of {counted(slices, 'slice')}, {declared.task} by {learner}")
    if declared.method is not None:
        kind = "certified" if declared.method["name"] == CERTIFIED else "empirical"
        say(f"requests are answered by the approximate method {method} until the model is recovered: {kind}, NOT exact")
    say(f"next: unlearn ingest {run} FILE")


def _time(number: float, unit: str, option: str) -> timedelta:
    """So many days or seconds, of which none is meant that no date could tell."""
    try:
        return timedelta(**{unit: number})
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(f"{number:g} is no number of {unit}", param_hint=option) from error


def _rule(
    aggregation: Aggregation | None, noise: float | None, max_epsilon: float | None, delta: float
) -> str | PrivateVotes | None:
    """The rule that joins the shards, with noise and budget where it has them."""
    if aggregation is not Aggregation.NOISY_VOTE:
        if noise is not None or max_epsilon is not None:
            raise typer.BadParameter("noise and budget belong to --aggregation noisy-vote", param_hint="--noise")
        return None if aggregation is None else aggregation.value
    if noise is None or max_epsilon is None:
        raise typer.BadParameter("noisy votes need --noise and --max-epsilon", param_hint="--aggregation")
    from shards.private_votes import PrivateVotes

    return PrivateVotes(noise, max_epsilon, delta)
