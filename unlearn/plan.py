"""Which design fits: shards, slices, window and family of learner, under stated constraints, by the cost model.

`plan` compares three exact ways to forget, each over a grid of designs: sharded training, exact sums (where the model
is one of sums), and training everything again once a window. It chooses the cheapest one that keeps the constraints,
says so where sharding does not pay, and names what else there is and what is left undone. Pure: it looks at no
workspace.

The predictions are those of `shards.cost_expected`; `rehearse` plays a design with `unlearn.desk`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate, groupby, pairwise, product

import numpy as np

from shards.cost_expected import Chain, RiskClass, Spread, Work, blind, expected_recovery, spread_over
from shards.placement import Region
from unlearn.desk import DAY, Desk, Simulated, simulate
from unlearn.errors import ConfigurationError

PAYS = 0.8
"""Sharding pays if its work is at most this share of the cheapest retraining's: less is not worth the accuracy."""

SAME = 1.02
"""Costs within this factor are taken for equal: then fewer shards, fewer slices and a shorter window are better."""

APART = 0.9
"""Risk classes are kept apart if the work is at most this share of what it is otherwise: somebody has to know them."""

SLICES = (1, 2, 3, 5, 10, 20, 50)
WINDOWS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 12.0, 24.0, 48.0, 72.0, 168.0, 336.0)
MOST_SHARDS = 100_000


class Family(StrEnum):
    """Ways to make a model forget.

    Attributes:
        SHARDED: Shards and slices, retrained from where they saw the data.
        SUMS: Models out of exact sums over the records, summed again.
        RETRAINING: One model, trained again on what is left.
        CERTIFIED: A bounded update of one model, with noise that hides what is left of the data.
        APPROXIMATE: Further training of one model, which makes it behave as if it had never seen the data.
    """

    SHARDED = "sharded training"
    SUMS = "exact sums"
    RETRAINING = "retraining"
    CERTIFIED = "certified removal"
    APPROXIMATE = "approximate unlearning"


@dataclass(frozen=True)
class Risk:
    """A class of subjects that ask more often, or less, than others.

    Attributes:
        subjects: Its share of the subjects.
        requests: Its share of the requests.
    """

    subjects: float
    requests: float


@dataclass(frozen=True)
class Constraints:
    """What is to be planned for.

    Attributes:
        records: N, records in one batch.
        requests_per_day: Subjects that ask to be forgotten, a day.
        visits_per_second: Record-visits that one core makes: `visits` by `training_seconds` of a `BuildReport`.
        subjects: Whoever may ask; None: every record is its own.
        risks: Classes of subjects; who is left is a class of its own.
        deadline_hours: Until when a request must be recovered.
        effect_hours: Until when what is asked for must be out of all predictions; None: as `deadline_hours`.
        most_behind: Share of the shards that may, on average, serve less than all of their records.
        accuracy: `(S, accuracy)` as measured with S shards, in any order.
        worst_accuracy: The least that is tolerated.
        cores: Workers that train a chain each.
        epochs: E, nominal passes of a training.
        seconds_per_step: Time of a step besides its visits: reading, writing a checkpoint, the log.
        sums: Whether a learner of exact sums fits the task, such as `RidgeLearner`.
        refits: Whether each step trains from nothing, as scikit-learn estimators without `partial_fit` do: slices then
            cost more than they save, and there are no epochs.
        record_bytes: Of one record, in a worker's memory and in the store.
        checkpoint_bytes: Of one state.
        store_bytes: What records and checkpoints may take; None: as much as there is.
        memory_bytes: What all workers' records may take together; None: as much as there is.
        current: S and R of the workspace there is, or None.
        current_regions: Where it places subjects of each risk class and, last, of all others; empty: anywhere.
    """

    records: int
    requests_per_day: float
    visits_per_second: float
    subjects: int | None = None
    risks: tuple[Risk, ...] = ()
    deadline_hours: float = 30 * DAY
    effect_hours: float | None = None
    most_behind: float = 0.5
    accuracy: tuple[tuple[int, float], ...] = ()
    worst_accuracy: float | None = None
    cores: int = 1
    epochs: float = 10.0
    seconds_per_step: float = 0.05
    sums: bool = False
    refits: bool = False
    record_bytes: float = 0.0
    checkpoint_bytes: float = 0.0
    store_bytes: float | None = None
    memory_bytes: float | None = None
    current: tuple[int, int] | None = None
    current_regions: tuple[Region, ...] = ()

    def __post_init__(self) -> None:
        positive = {
            "records": self.records,
            "visits_per_second": self.visits_per_second,
            "deadline_hours": self.deadline_hours,
            "epochs": self.epochs,
            "cores": self.cores,
            "requests_per_day": self.requests_per_day,
            "effect_hours": 1 if self.effect_hours is None else self.effect_hours,
        }
        for name, value in positive.items():
            if not (value > 0 and math.isfinite(value)):
                raise ConfigurationError(f"{name} must be a number above 0, got {value!r}")
        for name, value in {"records": self.records, "subjects": self.people, "cores": self.cores}.items():
            if value % 1:
                raise ConfigurationError(f"{name} must be a whole number, got {value!r}")
        amounts = {
            "seconds_per_step": self.seconds_per_step,
            "record_bytes": self.record_bytes,
            "checkpoint_bytes": self.checkpoint_bytes,
            "store_bytes": 0 if self.store_bytes is None else self.store_bytes,
            "memory_bytes": 0 if self.memory_bytes is None else self.memory_bytes,
        }
        for name, value in amounts.items():
            if not (value >= 0 and math.isfinite(value)):
                raise ConfigurationError(f"{name} must be a number of 0 or more, got {value!r}")
        if self.records < 2:
            raise ConfigurationError("a single record cannot be spread over anything: records must be at least 2")
        if not 1 <= self.people <= self.records:
            raise ConfigurationError(f"subjects must be from 1 to the {self.records:,} records, got {self.people:,}")
        if not 0 < self.most_behind <= 1:
            raise ConfigurationError(f"most_behind must be a share above 0, at most 1, got {self.most_behind!r}")
        if self.requests_per_day > self.people:
            raise ConfigurationError(
                f"{self.people:,} subjects cannot make {self.requests_per_day:,.0f} requests a day: each asks once"
            )
        self._check_accuracy()
        self._check_risks()
        if self.current_regions and (self.current is None or len(self.current_regions) != len(risk_classes(self))):
            raise ConfigurationError(
                f"a workspace that places {len(self.current_regions)} risk classes needs its shards and slices, and "
                "the shares of as many classes; who is left over is the last one"
            )

    @property
    def people(self) -> int:
        """Whoever may ask."""
        return self.records if self.subjects is None else self.subjects

    def _check_accuracy(self) -> None:
        if bool(self.accuracy) != (self.worst_accuracy is not None):
            raise ConfigurationError(
                "measured accuracies and the worst accuracy tolerated belong together: give both or neither"
            )
        scores = [
            *(score for _, score in self.accuracy),
            *([] if self.worst_accuracy is None else [self.worst_accuracy]),
        ]
        if not all(map(math.isfinite, scores)):
            raise ConfigurationError(f"accuracies must be numbers, got {scores}")
        counts = [count for count, _ in self.accuracy]
        if len(set(counts)) < len(counts) or any(count < 1 or count % 1 for count in counts):
            raise ConfigurationError(f"accuracies are given for distinct numbers of shards from 1 on, got {counts}")
        if counts and min(counts) > self.people:
            raise ConfigurationError(
                f"accuracies are given for {min(counts):,} shards and more, and there are {self.people:,} subjects: "
                "measure one with fewer"
            )

    def _check_risks(self) -> None:
        shares = [(risk.subjects, risk.requests) for risk in self.risks]
        for which, total in zip(("subjects", "requests"), map(sum, zip(*shares, strict=True)), strict=False):
            if total > 1 + 1e-9:
                raise ConfigurationError(f"the shares of {which} of all risk classes sum to {total:g}, more than 1")
        for risk in self.risks:
            if not (0 < risk.subjects <= 1 and 0 <= risk.requests <= 1):
                raise ConfigurationError(
                    "a risk class is a share of the subjects above 0 and a share of the requests, got "
                    f"{risk.subjects:g} and {risk.requests:g}"
                )
        if (
            self.risks
            and sum(r.subjects for r in self.risks) > 1 - 1e-9
            and sum(r.requests for r in self.risks) < 1 - 1e-9
        ):
            raise ConfigurationError(
                "the risk classes hold all subjects but not all requests: make the shares sum to 1"
            )


@dataclass(frozen=True)
class Design:
    """Shards, slices of a batch, the hours whose requests are recovered together, and where risk classes go.

    Attributes:
        shards: S.
        slices: R.
        window_hours: Hours.
        regions: Where subjects of each risk class go, all others last; empty: anywhere.
    """

    shards: int
    slices: int
    window_hours: float
    regions: tuple[Region, ...] = ()

    def spread(self, n_classes: int) -> Spread:
        """Where subjects of each of so many classes may lie."""
        if self.regions:
            return spread_over(self.regions, self.shards, self.slices)
        return blind(self.shards, self.slices, n_classes)


@dataclass(frozen=True)
class Predicted:
    """What a design is expected to cost.

    Attributes:
        requests: Of one window.
        shards_hit: Of one window.
        visits_per_day: Record-visits.
        compute_hours_per_day: Hours of work, over all cores.
        utilisation: Share of the cores' time that is work.
        recovering: Share of the time in which a recovery is under way; an upper bound of the mean.
        recovery_hours: Of one window with a request, by the clock; likewise.
        latest_hours: From a request to the end of its recovery, at the latest, if each recovery takes so long.
        of_retraining: Record-visits as a share of those of training everything again each such window.
        behind: Share of the shards that, on average, serve less than all of their records; an upper bound.
        training_hours: Of training everything from nothing, by the clock.
        store_bytes: Records and checkpoints; 0 where sizes were not given.
        memory_bytes: Records in all workers together; likewise.
    """

    requests: float
    shards_hit: float
    visits_per_day: float
    compute_hours_per_day: float
    utilisation: float
    recovering: float
    recovery_hours: float
    latest_hours: float
    of_retraining: float
    behind: float
    training_hours: float
    store_bytes: float
    memory_bytes: float


@dataclass(frozen=True)
class Option:
    """One exact way to forget, in the best design of its kind.

    Attributes:
        family: What kind of way.
        guarantee: What can be claimed for it.
        design: The design.
        predicted: What it is expected to cost.
        accuracy: Interpolated between what was measured; None where nothing was, or it does not apply.
        unmet: The constraints it breaks, in words; none: it fits.
        note: What it takes, and what it does not do.
    """

    family: Family
    guarantee: str
    design: Design
    predicted: Predicted
    accuracy: float | None
    unmet: tuple[str, ...]
    note: str

    @property
    def fits(self) -> bool:
        """Whether it keeps every constraint that the cost model can judge."""
        return not self.unmet

    @property
    def cost(self) -> float:
        """Core-hours a day."""
        return self.predicted.compute_hours_per_day

    @property
    def size(self) -> tuple[int, int, float, bool]:
        """Shards, slices, window, and whether classes are placed: what is preferred small, in this order."""
        return self.design.shards, self.design.slices, self.design.window_hours, bool(self.design.regions)


@dataclass(frozen=True)
class Alternative:
    """A way to forget that the cost model knows no price of.

    Attributes:
        family: What kind of way.
        guarantee: The most that can be claimed for it.
        note: What it takes, and what it does not do.
    """

    family: Family
    guarantee: str
    note: str


@dataclass(frozen=True)
class Plan:
    """What is recommended, and why.

    Attributes:
        chosen: The recommendation, one of the options; None if nothing that is exact keeps the constraints.
        sharding_pays: Whether the best sharded design fits and saves enough work.
        options: The best of every exact family.
        by_shards: The best sharded design of each number of shards, whether it fits or not.
        current: The design there is, with its best window; None if none was named.
        alternatives: Families that are not exact.
        reasons: Why.
        switching: What changing an existing workspace takes; empty without a recommendation.
        left_undone: What none of this does.
    """

    chosen: Option | None
    sharding_pays: bool
    options: tuple[Option, ...]
    by_shards: tuple[Option, ...]
    current: Option | None
    alternatives: tuple[Alternative, ...]
    reasons: tuple[str, ...]
    switching: str
    left_undone: tuple[str, ...]


def plan(constraints: Constraints) -> Plan:
    """Choose a design.

    Args:
        constraints: What is to be planned for.

    Returns:
        The recommendation, the alternatives, and the reasons.
    """
    designs = _assess_all(constraints, Family.SHARDED)
    sharded = _best(designs, constraints)
    sums = _best(_assess_all(constraints, Family.SUMS), constraints) if constraints.sums else None
    retrained = _best(_assess_all(constraints, Family.RETRAINING), constraints)
    pays = sharded.fits and (not retrained.fits or sharded.cost <= PAYS * retrained.cost)
    chosen, reasons = _choose(sharded, sums, retrained, pays)
    if not constraints.accuracy and chosen is sharded:
        reasons.append(
            "No accuracies were given, so these are the fewest shards that keep the other constraints and pay: each "
            "shard learns from a part of the data; measure the accuracy with so many before you rely on it."
        )
    if constraints.risks:
        blind_ones = _best([option for option in designs if not option.design.regions], constraints)
        reasons.append(_on_risks(sharded, blind_ones))
    return Plan(
        chosen=chosen,
        sharding_pays=pays,
        options=tuple(option for option in (sharded, sums, retrained) if option is not None),
        by_shards=tuple(
            _best(list(same), constraints) for _, same in groupby(designs, lambda item: item.design.shards)
        ),
        current=None if constraints.current is None else _current(constraints, *constraints.current),
        alternatives=ALTERNATIVES,
        reasons=tuple(reasons),
        switching="" if chosen is None else _switching(constraints, chosen),
        left_undone=LEFT_UNDONE,
    )


def rehearse(constraints: Constraints, option: Option, *, days: float, seed: int = 0) -> Simulated:
    """Play a design for some days on a simulated desk.

    Args:
        constraints: What was planned for.
        option: One of the plan's.
        days: How long.
        seed: Of the random numbers.

    Returns:
        What happened.
    """
    classes, design = risk_classes(constraints), option.design
    spread = design.spread(len(classes))
    desk = Desk(design.window_hours, constraints.cores, constraints.deadline_hours)
    return simulate(spread, classes, desk, work_of(constraints, option.family), days=days, seed=seed)


def risk_classes(constraints: Constraints) -> tuple[RiskClass, ...]:
    """The declared classes in numbers, and one of all others.

    Args:
        constraints: What is to be planned for.

    Returns:
        The classes, at least one.
    """
    people = constraints.people
    shares = [(risk.subjects, risk.requests) for risk in constraints.risks]
    rest = 1 - sum(subjects for subjects, _ in shares)
    if rest > 1e-9:
        shares.append((rest, max(1 - sum(requests for _, requests in shares), 0.0)))
    owned = constraints.records / people
    found = []
    for subjects, requests in shares:
        count = max(round(subjects * people), 1)
        found.append(RiskClass(count, requests * constraints.requests_per_day / DAY / count, owned))
    return tuple(found)


def work_of(constraints: Constraints, family: Family) -> Work:
    """What a family's steps cost.

    Args:
        constraints: What is to be planned for.
        family: One that the cost model knows.

    Returns:
        The work.
    """
    seconds = 1 / constraints.visits_per_second
    if family is Family.SUMS:
        return Work(Chain.SUMS, 1.0, seconds, constraints.seconds_per_step)
    if constraints.refits:
        return Work(Chain.REFITS, 1.0, seconds, constraints.seconds_per_step)
    return Work(Chain.EPOCHS, constraints.epochs, seconds, constraints.seconds_per_step)


def spelled(hours: float) -> str:
    """Hours in the unit that suits them."""
    for limit, unit, each in ((2 / 60, "s", 3600.0), (2.0, "min", 60.0), (48.0, "h", 1.0)):
        if hours < limit:
            return f"{hours * each:.3g} {unit}"
    return f"{hours / DAY:,.0f} days" if hours >= 1000 * DAY else f"{hours / DAY:.3g} days"


def interpolated_accuracy(points: Sequence[tuple[int, float]], shards: int) -> float:
    """Accuracy with so many shards, on a line between the two points beside it, over the logarithm of S.

    Args:
        points: `(S, accuracy)`, at least one.
        shards: S, within what was measured.

    Returns:
        The accuracy.

    Raises:
        ConfigurationError: If S lies outside of what was measured.
    """
    ordered = sorted(points)
    if not ordered or not ordered[0][0] <= shards <= ordered[-1][0]:
        measured = ", ".join(str(count) for count, _ in ordered) or "none"
        raise ConfigurationError(
            f"the accuracy of {shards} shards lies outside of what was measured ({measured}): measure it too"
        )
    for (low, worse), (high, better) in pairwise(ordered):
        if low <= shards <= high:
            at = math.log(shards / low) / math.log(high / low)
            return worse + at * (better - worse)
    return ordered[0][1]


def predict(constraints: Constraints, family: Family, design: Design) -> Predicted:
    """What a design is expected to cost.

    Args:
        constraints: What is to be planned for.
        family: One that the cost model knows.
        design: The design.

    Returns:
        The expectation.
    """
    classes = risk_classes(constraints)
    work, cores = work_of(constraints, family), constraints.cores
    spread = design.spread(len(classes))
    found = expected_recovery(spread, classes, design.window_hours, work, cores)
    a_day = DAY / design.window_hours
    # A deadline is kept for whoever asks: windows without a request make no recovery shorter.
    recovery = found.most_seconds / 3600 / found.anybody if found.anybody else 0.0
    each = (
        _largest(spread, classes)
        if design.regions
        else np.full(design.slices, constraints.records / design.shards / design.slices)
    )
    chain = float(work.visited(each).sum()) * work.seconds_per_visit + design.slices * work.seconds_per_step
    return Predicted(
        requests=found.requests,
        shards_hit=found.shards,
        visits_per_day=found.visits * a_day,
        compute_hours_per_day=found.compute_seconds / 3600 * a_day,
        utilisation=found.compute_seconds / 3600 / design.window_hours / cores,
        recovering=found.most_seconds / 3600 / design.window_hours,
        recovery_hours=recovery,
        # A request waits for its window's end, or for a longer recovery that was under way, and then for its own.
        latest_hours=max(design.window_hours, recovery) + recovery,
        # Training everything again is needed in windows with a request only.
        of_retraining=found.of_training / found.anybody if found.anybody else 0.0,
        behind=found.behind,
        training_hours=chain * math.ceil(design.shards / cores) / 3600,
        store_bytes=constraints.records * constraints.record_bytes
        + design.shards * design.slices * constraints.checkpoint_bytes,
        memory_bytes=constraints.record_bytes * float(each.sum()) * min(cores, design.shards),
    )


def _largest(spread: Spread, classes: Sequence[RiskClass]) -> np.ndarray:
    """Records of each slice of the largest shard, `[R]`."""
    records = np.array([group.subjects * group.records for group in classes])
    within: np.ndarray = np.einsum("c,cgr->gr", records, spread.chance)
    return np.asarray(within[within.sum(axis=1).argmax()])


def _shard_counts(constraints: Constraints, family: Family) -> list[int]:
    if family is Family.RETRAINING:
        return [1]
    grid = {digit * 10**power for digit in (1, 2, 5) for power in range(5)} | {MOST_SHARDS}
    measured = [count for count, _ in constraints.accuracy]
    if family is Family.SHARDED and measured:
        # Never beyond what was measured: an accuracy that is not known is not promised.
        grid = {count for count in grid if min(measured) <= count <= max(measured)} | set(measured)
    return sorted(count for count in grid if count <= constraints.people)


def _windows(constraints: Constraints) -> list[float]:
    """Round ones, and one that leaves a twentieth of the deadline for recovering."""
    longest = 0.95 * constraints.deadline_hours
    return sorted({hours for hours in WINDOWS if hours < longest} | {math.floor(longest) or longest})


def _designs(constraints: Constraints, family: Family) -> Iterator[Design]:
    slices = SLICES if family is Family.SHARDED else (1,)
    windows = _windows(constraints)
    for shards, pieces, hours in product(_shard_counts(constraints, family), slices, windows):
        if family is Family.SHARDED and shards * pieces == 1:
            continue  # that is retraining
        if shards * pieces <= constraints.records:
            yield Design(shards, pieces, hours)
            if family is Family.SHARDED and constraints.risks:
                yield from (
                    Design(shards, pieces, hours, regions) for regions in placements(constraints, shards, pieces)
                )


def placements(constraints: Constraints, n_shards: int, n_slices: int) -> list[tuple[Region, ...]]:
    """Ways to keep risk classes apart: in shards of their own, or in slices, who asks most in the last.

    Args:
        constraints: What is to be planned for.
        n_shards: S.
        n_slices: R.

    Returns:
        Of each way that there is room for, the region of every class; each has as large a part as its share of the
        records, but at least one.
    """
    classes = risk_classes(constraints)
    records = [group.subjects * group.records for group in classes]
    shards, slices = _parts(records, n_shards), None
    rising = sorted(range(len(classes)), key=lambda index: classes[index].rate)
    in_turn = _parts([records[index] for index in rising], n_slices)
    if in_turn is not None:
        slices = [in_turn[rising.index(index)] for index in range(len(classes))]
    return [
        *([] if shards is None or len(classes) < 2 else [tuple(Region(part) for part in shards)]),
        *([] if slices is None or len(classes) < 2 else [tuple(Region(None, part) for part in slices)]),
    ]


def _parts(weights: Sequence[float], count: int) -> list[range] | None:
    """Numbers below `count`, divided as the weights are, at least one each; None where there are too few."""
    if len(weights) > count:
        return None
    spare, total = count - len(weights), sum(weights)
    exact = [max(weight / total * count - 1, 0.0) for weight in weights]
    scale = spare / sum(exact) if sum(exact) else 0.0
    sizes = [1 + math.floor(share * scale + 1e-9) for share in exact]
    rest = sorted(range(len(weights)), key=lambda index: -(exact[index] * scale % 1))
    for index in rest[: count - sum(sizes)]:
        sizes[index] += 1
    return [range(end - size, end) for size, end in zip(sizes, accumulate(sizes), strict=True)]


def _assess_all(constraints: Constraints, family: Family) -> list[Option]:
    return [_assess(constraints, family, design) for design in _designs(constraints, family)]


def _assess(constraints: Constraints, family: Family, design: Design) -> Option:
    predicted = predict(constraints, family, design)
    accuracy = None
    if family is not Family.SUMS and constraints.accuracy and _measured(constraints, design.shards):
        accuracy = interpolated_accuracy(constraints.accuracy, design.shards)
    unmet = tuple(_unmet(constraints, family, predicted, design, accuracy))
    return Option(family, "exact", design, predicted, accuracy, unmet, NOTES[family])


def _measured(constraints: Constraints, shards: int) -> bool:
    counts = [count for count, _ in constraints.accuracy]
    return min(counts) <= shards <= max(counts)


def _unmet(
    constraints: Constraints, family: Family, predicted: Predicted, design: Design, accuracy: float | None
) -> Iterator[str]:
    worst, store, memory = constraints.worst_accuracy, constraints.store_bytes, constraints.memory_bytes
    if accuracy is not None and worst is not None and accuracy < worst:
        yield f"accuracy {accuracy:.3f} is below {worst:.3f}"
    if predicted.latest_hours > constraints.deadline_hours:
        deadline = spelled(constraints.deadline_hours)
        yield f"recovered after up to {spelled(predicted.latest_hours)}, the deadline is {deadline}"
    if predicted.recovering > 1:
        window = spelled(design.window_hours)
        yield f"a recovery takes {spelled(predicted.recovery_hours)}, longer than its window of {window}"
    if family is Family.RETRAINING:
        effect = constraints.effect_hours
        if effect is not None and predicted.latest_hours > effect:
            yield f"in effect after up to {spelled(predicted.latest_hours)}, {spelled(effect)} are allowed"
    elif predicted.behind > constraints.most_behind:
        yield f"{predicted.behind:.0%} of the shards are behind, {constraints.most_behind:.0%} are allowed"
    if store is not None and predicted.store_bytes > store:
        yield f"records and checkpoints take {predicted.store_bytes:,.0f} bytes, there are {store:,.0f}"
    if memory is not None and predicted.memory_bytes > memory:
        yield f"workers need {predicted.memory_bytes:,.0f} bytes for records, there are {memory:,.0f}"


def _best(options: Sequence[Option], constraints: Constraints) -> Option:
    """The cheapest that fits, or the one that breaks the fewest constraints, the most accurate of such."""
    fitting = [option for option in options if option.fits]
    if not fitting:
        return min(options, key=lambda option: (len(option.unmet), -(option.accuracy or 0), option.cost, option.size))
    if fitting[0].family is Family.SHARDED and not constraints.accuracy:
        fitting = _fewest_that_pay(fitting, constraints)
    fitting = _apart_for_a_reason(fitting)
    limit = SAME * min(option.cost for option in fitting)
    return min((option for option in fitting if option.cost <= limit), key=lambda option: option.size)


def _apart_for_a_reason(fitting: list[Option]) -> list[Option]:
    """All of them, or those that are blind to risk classes where the others save next to nothing."""
    blind_ones = [option for option in fitting if not option.design.regions]
    if blind_ones and min(option.cost for option in fitting) > APART * min(option.cost for option in blind_ones):
        return blind_ones
    return fitting


def _fewest_that_pay(fitting: Sequence[Option], constraints: Constraints) -> list[Option]:
    """Accuracy falls with the number of shards; where nobody says how far, few are better than cheap."""
    retrained = _best(_assess_all(constraints, Family.RETRAINING), constraints)
    bound = PAYS * retrained.cost if retrained.fits else math.inf
    paying = [option for option in fitting if option.cost <= bound] or fitting
    fewest = min(option.design.shards for option in paying)
    return [option for option in paying if option.design.shards == fewest]


def _choose(sharded: Option, sums: Option | None, retrained: Option, pays: bool) -> tuple[Option | None, list[str]]:
    """The recommendation, and why it is one."""
    reasons = [_on_sharding(sharded, retrained, pays)]
    if sums is not None and sums.fits:
        better = not pays or sums.cost <= sharded.cost
        reasons.append(_on_sums(sums, retrained, better))
        if better:
            return sums, reasons
    if pays:
        return sharded, reasons
    if retrained.fits:
        reasons.append(
            f"Train everything again every {spelled(retrained.design.window_hours)}: {_work(retrained)}. Until such a "
            "training ends, what is served still holds the data of those who asked, unless you serve nothing meanwhile."
        )
        return retrained, reasons
    reasons.append(
        f"Training everything again does not keep the constraints either ({'; '.join(retrained.unmet)}). Allow more "
        "time, more cores or less accuracy, or accept a guarantee weaker than exact."
    )
    return None, reasons


def _on_sums(sums: Option, retrained: Option, better: bool) -> str:
    if not better:
        return f"Exact sums fit the task but cost more work than shards here: {_work(sums)}."
    costs_more = retrained.fits and sums.cost > retrained.cost
    dearer = f"; more than training everything again ({_work(retrained)}), but every request takes effect at once"
    return f"Exact sums fit the task, and shards cost them no accuracy: {_work(sums)}{dearer if costs_more else ''}."


def _on_sharding(sharded: Option, retrained: Option, pays: bool) -> str:
    if not sharded.fits:
        return (
            f"Sharding cannot pay: no design keeps the constraints. The nearest one: {'; '.join(sharded.unmet)}; "
            f"{_hits(sharded)}."
        )
    against = ""
    if retrained.fits and retrained.cost:
        window = spelled(retrained.design.window_hours)
        times = _number(sharded.cost / retrained.cost)
        against = f", {times} times the work of training everything again every {window}"
    if pays:
        return f"Sharding pays: {_work(sharded)}{against}, and a request takes effect at once."
    return (
        f"Sharding cannot pay: its best design takes {_work(sharded)}{against}; {_hits(sharded)}. It would still "
        "let every request take effect at once."
    )


def _on_risks(sharded: Option, blind_ones: Option) -> str:
    """What keeping the classes apart saves."""
    design = sharded.design
    if not design.regions:
        return (
            "Risk classes change next to nothing: the best sharded design is blind to them, so the few who ask often "
            "are spread over shards and slices like everybody; keeping them apart would not be cheaper."
        )
    # The first class stands for all: either every class has shards of its own, or slices.
    where = "late slices" if design.regions[0].shards is None else "shards of their own"
    return (
        f"The best sharded design keeps those who ask often apart, in {where}: {_work(sharded)}, "
        f"{_number(sharded.cost / blind_ones.cost)} times the work of the best one with everybody anywhere, "
        f"which has {blind_ones.design.shards:,} shards. "
        "Each subject's class must be known when its records come (`unlearn ingest --risk`), and accuracies have to be "
        "measured anew: shards then differ in whom they learn from."
    )


def _hits(option: Option) -> str:
    requests, hit = _number(option.predicted.requests), _number(option.predicted.shards_hit)
    return (
        f"{requests} requests every {spelled(option.design.window_hours)} hit {hit} of {option.design.shards:,} shards"
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def _work(option: Option) -> str:
    return f"{spelled(option.cost)} of one core a day"


def _current(constraints: Constraints, shards: int, slices: int) -> Option:
    """The design there is, with its best window."""
    designs = [Design(shards, slices, hours, constraints.current_regions) for hours in _windows(constraints)]
    return _best([_assess(constraints, Family.SHARDED, design) for design in designs], constraints)


def _switching(constraints: Constraints, chosen: Option) -> str:
    design = chosen.design
    if constraints.current == (design.shards, design.slices) and constraints.current_regions == design.regions:
        return "The workspace has these shards and slices already: only the window is to be kept."
    declared = f"unlearn create RUN --learner … --shards {design.shards} --slices {design.slices}"
    for number, region in enumerate(design.regions):
        name = f"class{number + 1}" if number < len(constraints.risks) else "others"
        declared += f" --risk-class {name}:{_spanned(region.shards)}:{_spanned(region.slices)}"
    return (
        "Shards and slices of a workspace never change: placement and every key depend on them. To switch is to create "
        f"another workspace (`{declared}`), to ingest all records again and to train everything (about "
        f"{spelled(chosen.predicted.training_hours)}), and then to delete the old one. Tombstones, receipts and the "
        "log do not move: ingest nobody who was forgotten, and keep the old receipts and key."
    )


def _spanned(numbers: range | None) -> str:
    if numbers is None:
        return "*"
    return f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"


NOTES = {
    Family.SHARDED: (
        "Takes effect at once; until recovery, the shards that were hit serve less than all of their records."
    ),
    Family.SUMS: "One model, that of all records, however many shards: they say how much is summed again.",
    Family.RETRAINING: (
        "One model, as one chain on one core. In a workspace of one shard and one slice nothing is served from the "
        "request until it is trained again."
    ),
}

ALTERNATIVES = (
    Alternative(
        Family.CERTIFIED,
        "certified(ε, δ)",
        "For models with a strongly convex loss: a Newton step and noise. Not exact: what stays behind is bounded by ε "
        "and δ, which many requests use up.",
    ),
    Alternative(
        Family.APPROXIMATE,
        "empirical",
        "For models that cannot be trained again. No bound is proven: claim no more than what an audit measured.",
    ),
)

LEFT_UNDONE = (
    "Exact means exact for requests that do not depend on the published models.",
    "Copies outside of the workspace, models derived from this one, and predictions already made stay.",
    "Accuracy is what you measured, on a line between your points; slices and waiting requests change it as well.",
    "Records are taken to come in one batch: later batches lengthen the chains.",
    "Costs are expectations; `unlearn train` says how many record-visits it makes, and how long it takes.",
)
