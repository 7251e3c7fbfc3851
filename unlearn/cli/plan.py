"""`unlearn plan`: how many shards, slices and hours, and whether sharding pays at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from unlearn.cli.arguments import AsJson, RiskClasses, parse_risk_classes
from unlearn.cli.explained import say_explained
from unlearn.cli.output import cell, print_json, print_table, say
from unlearn.disgorgement import Access, Reason, Situation, Target, Trained
from unlearn.methods.guarantee import Guarantee

if TYPE_CHECKING:
    from rich.table import Table

    from unlearn.desk import Simulated
    from unlearn.plan import Option, Plan

EXAMPLE = """\b
Examples:
  unlearn plan --records 50000 --subjects 5000 --requests-per-day 3 --visits-per-second 40000 --deadline-hours 24
  unlearn plan --records 50000 --requests-per-day 3 --visits-per-second 40000 \\
    --accuracy 1:0.95,20:0.93,100:0.88 --worst-accuracy 0.92 --simulate 90
  unlearn plan --records 50000 --requests-per-day 3 --visits-per-second 40000 --risk 0.05:0.8 \\
    --current 20x5 --risk-class guest:19:* --risk-class member:0-18:*
  unlearn plan --records 1e9 --requests-per-day 1e6 --visits-per-second 1e6 --cores 64 --sums --json
  unlearn plan --records 50000 --requests-per-day 3 --visits-per-second 40000 --explain --access weights \\
    --target fact --reason security --least suppression --unknown-records"""


def whole(text: str) -> int:
    """A whole number, also as `1e9`.

    Args:
        text: As given on the command line.

    Returns:
        The number.

    Raises:
        BadParameter: If it is none.
    """
    try:
        value = float(text)
        if value == int(value):
            return int(text) if text.isdigit() else int(value)
    except (ValueError, OverflowError):
        pass
    raise typer.BadParameter(f"{text!r} is not a whole number")


def pairs(text: str | None, option: str) -> list[tuple[float, float]]:
    """Pairs of numbers, `A:B,C:D`.

    Args:
        text: As given on the command line; None: no pairs.
        option: Name of the option, for the error.

    Returns:
        The pairs, in order.

    Raises:
        BadParameter: If one is no pair of numbers.
    """
    found = []
    for item in () if text is None else text.split(","):
        first, _, second = item.partition(":")
        try:
            found.append((float(first), float(second)))
        except ValueError as error:
            raise typer.BadParameter(f"{item!r} is not two numbers as in 20:0.93", param_hint=option) from error
    return found


def design(text: str | None) -> tuple[int, int] | None:
    """Shards and slices, `20x5`.

    Args:
        text: As given on the command line; None: there are none.

    Returns:
        Both numbers.

    Raises:
        BadParameter: If they are not two numbers of at least 1.
    """
    if text is None:
        return None
    shards, _, slices = text.partition("x")
    if not (shards.isdecimal() and slices.isdecimal() and int(shards) and int(slices)):
        raise typer.BadParameter(f"{text!r} is not shards and slices as in 20x5", param_hint="--current")
    return int(shards), int(slices)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        help="Choose shards, slices and window by the cost model, or learn that sharding does not pay. Looks at no "
        "workspace, changes nothing; ends with status 1 if nothing exact keeps the constraints.",
        epilog=EXAMPLE,
    )(plan)


def plan(
    records: Annotated[int, typer.Option(parser=whole, metavar="N", help="Records to train on.")],
    requests_per_day: Annotated[float, typer.Option(help="Subjects who ask to be forgotten, a day.")],
    visits_per_second: Annotated[
        float, typer.Option(help="Of one core: visits by training_seconds, as `unlearn train --json` reports them.")
    ],
    subjects: Annotated[
        int | None,
        typer.Option(parser=whole, metavar="N", help="Whoever may ask.", show_default="every record is its own"),
    ] = None,
    risk: Annotated[
        str | None,
        typer.Option(
            metavar="A:B,…",
            help="Classes of subjects: share of the subjects, share of the requests; who is left is one. Designs that "
            "keep them apart are tried as well.",
        ),
    ] = None,
    deadline_hours: Annotated[float, typer.Option(help="Until when a request must be recovered.")] = 720.0,
    effect_hours: Annotated[
        float | None,
        typer.Option(
            help="Until when it must be out of all predictions; in shards it is at once.", show_default="the deadline"
        ),
    ] = None,
    most_behind: Annotated[
        float, typer.Option(help="Share of the shards that may, on average, serve less than all of their records.")
    ] = 0.5,
    accuracy: Annotated[
        str | None, typer.Option(metavar="S:A,…", help="Accuracy A as measured with S shards; needs --worst-accuracy.")
    ] = None,
    worst_accuracy: Annotated[float | None, typer.Option(help="The least accuracy that is tolerated.")] = None,
    cores: Annotated[int, typer.Option(min=1, help="Workers that train a shard each.")] = 1,
    epochs: Annotated[float, typer.Option(help="Passes over the data.")] = 10.0,
    seconds_per_step: Annotated[float, typer.Option(help="Of a step, besides its visits.")] = 0.05,
    record_bytes: Annotated[float, typer.Option(help="Of one record.")] = 0.0,
    checkpoint_bytes: Annotated[float, typer.Option(help="Of one state of the learner.")] = 0.0,
    store_bytes: Annotated[
        float | None, typer.Option(help="What records and checkpoints may take.", show_default="any")
    ] = None,
    memory_bytes: Annotated[
        float | None, typer.Option(help="What the records in all workers may take.", show_default="any")
    ] = None,
    current: Annotated[
        str | None, typer.Option(metavar="SxR", help="Shards and slices of the workspace there is, to compare.")
    ] = None,
    risk_class: RiskClasses = None,
    simulate: Annotated[
        float | None, typer.Option(metavar="DAYS", help="Play the recommendation on a simulated desk.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the simulation.")] = 0,
    trained: Annotated[Trained, typer.Option(help="How the model was trained. Of --explain, as all below.")] = (
        Trained.ONE_MODEL
    ),
    access: Annotated[
        str, typer.Option(metavar="A,…", help="What there is to work on: data, weights, logits.")
    ] = "data,weights,logits",
    least: Annotated[Guarantee, typer.Option(help="What must be claimed at least.")] = Guarantee.EMPIRICAL,
    target: Annotated[Target, typer.Option(help="What is to go.")] = Target.SUBJECT,
    reason: Annotated[Reason, typer.Option(help="Why it is to go.")] = Reason.PRIVACY,
    epsilon: Annotated[
        float | None, typer.Option(help="The ε that may be paid for in accuracy, or was.", show_default="none")
    ] = None,
    *,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Which family of model disgorgement fits, also those that are not exact: what each may claim, takes "
            "and leaves undone. Ends with status 1 if none fits.",
        ),
    ] = False,
    convex: Annotated[bool, typer.Option("--convex", help="The training loss is strongly convex.")] = False,
    released: Annotated[bool, typer.Option("--released", help="Others have the weights.")] = False,
    unknown_records: Annotated[
        bool, typer.Option("--unknown-records", help="Nobody can name the records that hold the target.")
    ] = False,
    sums: Annotated[bool, typer.Option("--sums", help="A learner of exact sums fits the task (as ridge).")] = False,
    refits: Annotated[
        bool, typer.Option("--refits", help="Each step trains from nothing (scikit-learn without partial_fit).")
    ] = False,
    json: AsJson = False,
) -> None:
    """Plan a design."""
    from unlearn.plan import Constraints, Risk
    from unlearn.plan import plan as planned

    points = pairs(accuracy, "--accuracy")
    if any(count != int(count) for count, _ in points):
        raise typer.BadParameter(f"{accuracy!r} names a number of shards that is not whole", param_hint="--accuracy")
    constraints = Constraints(
        records=records,
        requests_per_day=requests_per_day,
        visits_per_second=visits_per_second,
        subjects=subjects,
        risks=tuple(Risk(*item) for item in pairs(risk, "--risk")),
        deadline_hours=deadline_hours,
        effect_hours=effect_hours,
        most_behind=most_behind,
        accuracy=tuple((int(count), value) for count, value in points),
        worst_accuracy=worst_accuracy,
        cores=cores,
        epochs=epochs,
        seconds_per_step=seconds_per_step,
        sums=sums,
        refits=refits,
        record_bytes=record_bytes,
        checkpoint_bytes=checkpoint_bytes,
        store_bytes=store_bytes,
        memory_bytes=memory_bytes,
        current=design(current),
        current_regions=tuple((parse_risk_classes(risk_class) or {}).values()),
    )
    situation = Situation(
        trained, accesses(access), least, target, reason, not unknown_records, convex, epsilon, released
    )
    if not explain and situation != Situation():
        raise typer.BadParameter("what was trained, and what is to go and why, is looked at with --explain alone")
    if explain and simulate is not None:
        raise typer.BadParameter("--explain compares families, --simulate plays a design: ask for one of them")
    found = planned(constraints)
    if explain:
        _explain(situation, found, json=json)
        return
    rehearsed = None
    if simulate is not None and found.chosen is not None:
        from unlearn.plan import rehearse

        rehearsed = rehearse(constraints, found.chosen, days=simulate, seed=seed)
    print_json({"constraints": constraints, "plan": found, "simulated": rehearsed}) if json else say_plan(
        found, rehearsed
    )
    if found.chosen is None:
        typer.echo("error: nothing that is exact keeps the constraints", err=True)
        raise typer.Exit(1)


def accesses(text: str) -> frozenset[Access]:
    """What there is to work on, `data,weights`.

    Args:
        text: As given on the command line.

    Returns:
        What was named.

    Raises:
        BadParameter: If something is no kind of access.
    """
    try:
        return frozenset(Access(item) for item in text.split(",") if item)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} names something else than {', '.join(Access)}", param_hint="--access"
        ) from (error)


def _explain(situation: Situation, found: Plan, *, json: bool) -> None:
    from unlearn.disgorgement import disgorge

    explained = disgorge(situation, found)
    if json:
        fields = {name: getattr(situation, name) for name in situation.__dataclass_fields__}
        print_json({"situation": fields | {"access": sorted(situation.access)}, "explained": explained})
    else:
        say_explained(explained)
    if explained.recommended is None:
        typer.echo("error: no family keeps the situation", err=True)
        raise typer.Exit(1)


def say_plan(found: Plan, rehearsed: Simulated | None) -> None:
    """Print a plan for people.

    Args:
        found: The plan.
        rehearsed: The recommendation, simulated; or None.
    """
    from unlearn.plan import spelled

    if found.chosen is not None:
        say(f"recommended: {named(found.chosen)}")
    for reason in found.reasons:
        say(reason)
    print_table(options_table(found))
    print_table(shards_table(found))
    for option in found.options:
        if option.unmet:
            say(f"{named(option)} does not fit: {'; '.join(option.unmet)}")
        say(f"{option.family}, {option.guarantee}: {option.note}")
    for other in found.alternatives:
        say(f"{other.family}, {other.guarantee}: {other.note} Not priced here.")
    if rehearsed is not None:
        say(
            f"simulated {rehearsed.days:.0f} days: {rehearsed.requests:,} requests in {rehearsed.recoveries:,} "
            f"recoveries, recovered after {spelled(rehearsed.median_hours)} (median) and "
            f"{spelled(rehearsed.p99_hours)} (99 of 100), {rehearsed.late:.1%} after the deadline; "
            f"{rehearsed.behind:.1%} of the shards behind, "
            f"cores {rehearsed.utilisation:.2%} busy, {rehearsed.of_retraining:.1%} of the work of training everything "
            "again each time"
        )
    if found.switching:
        say(f"To switch: {found.switching}")
    say("Left undone:")
    for line in found.left_undone:
        say(f"- {line}")


def named(option: Option) -> str:
    """What an option is, in a few words."""
    from unlearn.plan import spelled

    shards, slices, hours = option.design.shards, option.design.slices, option.design.window_hours
    apart = ", risk classes apart" if option.design.regions else ""
    return f"{option.family}, {shards:,} x {slices} (shards x slices){apart}, recovering every {spelled(hours)}"


def options_table(found: Plan) -> Table:
    """The best of every family, one a row; the recommendation and the design there is are marked."""
    table = _table("options")
    for option in found.options:
        table.add_row("*" if option is found.chosen else "", *_figures(option))
    if found.current is not None:
        table.add_row("now", *_figures(found.current))
    return table


def shards_table(found: Plan) -> Table:
    """The best design of each number of shards, one a row."""
    table = _table("sharded training, by number of shards")
    for option in found.by_shards:
        table.add_row("*" if option == found.chosen else "", *_figures(option))
    return table


def _table(title: str) -> Table:
    from rich.table import Table

    table = Table("", "family", "guarantee", title=title, title_justify="left")
    for name in (
        "shards",
        "slices",
        "window",
        "core-time a day",
        "of retraining",
        "recovery",
        "at the latest",
        "behind",
    ):
        table.add_column(name, justify="right")
    table.add_column("accuracy", justify="right")
    table.add_column("fits")
    return table


def _figures(option: Option) -> list[str]:
    from unlearn.plan import spelled

    predicted = option.predicted
    return [
        cell(option.family.value),
        cell(option.guarantee),
        f"{option.design.shards:,}",
        str(option.design.slices),
        spelled(option.design.window_hours),
        spelled(predicted.compute_hours_per_day),
        f"{predicted.of_retraining:.1%}",
        spelled(predicted.recovery_hours),
        spelled(predicted.latest_hours),
        f"{predicted.behind:.0%}",
        "" if option.accuracy is None else f"{option.accuracy:.3f}",
        "yes" if option.fits else "no",
    ]
