"""Which family of model disgorgement fits: what it can claim here, what it takes, and the risk it leaves.

The families are those of Achille, Kearns, Klingenberg and Soatto (*AI model disgorgement: methods and choices*, PNAS
121(18), 2024), and output control, which is not in the paper: it changes what a model says and leaves what it knows.
Each is held against one `Situation`; `disgorge` recommends the cheapest that keeps all of it, and rather one that is
exact than one that proves nothing where a plan shows that the cores there are carry it. What only hides is never called
removal, and never recommended as the answer to a request for deletion. Pure: it looks at no workspace.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from unlearn.errors import ConfigurationError
from unlearn.methods.guarantee import Guarantee, keeps

if TYPE_CHECKING:
    from unlearn.plan import Option, Plan


class Kind(StrEnum):
    """Families of model disgorgement."""

    RETRAINING = "retraining"
    COMPARTMENTS = "compartmentalisation"
    """Shards, or sums that records are taken out of."""
    SELECTIVE = "selective forgetting and editing"
    EMULATION = "dataset emulation"
    PRIVACY = "differential privacy"
    OUTPUT = "output control"


class Trained(StrEnum):
    """How the model was trained, if it was."""

    NOT_YET = "not-yet"
    ONE_MODEL = "one-model"
    SHARDS = "shards"
    PRIVATE = "private"


class Access(StrEnum):
    """What there is to work on; whoever has the weights has the logits."""

    DATA = "data"
    WEIGHTS = "weights"
    LOGITS = "logits"


class Target(StrEnum):
    """What is to go."""

    RECORD = "record"
    SUBJECT = "subject"
    CLASS = "class"
    CONCEPT = "concept"
    FACT = "fact"


class Reason(StrEnum):
    """Why it is to go."""

    PRIVACY = "privacy"
    SECURITY = "security"
    USABILITY = "usability"
    BIAS = "bias"


@dataclass(frozen=True)
class Situation:
    """What is to be decided about.

    Attributes:
        trained: How the model was trained.
        access: What there is to work on.
        least: What must be claimed at least.
        target: What is to go.
        reason: Why.
        records_known: Whether somebody can name the records that hold the target.
        convex: Whether the training loss is strongly convex in the weights, as that of a regularised linear model.
        epsilon: The ε one is willing to pay for in accuracy, or has paid for; None: no privacy is wanted.
        released: Whether others have the weights.
    """

    trained: Trained = Trained.ONE_MODEL
    access: frozenset[Access] = frozenset(Access)
    least: Guarantee = Guarantee.EMPIRICAL
    target: Target = Target.SUBJECT
    reason: Reason = Reason.PRIVACY
    records_known: bool = True
    convex: bool = False
    epsilon: float | None = None
    released: bool = False

    def __post_init__(self) -> None:
        if not self.access:
            raise ConfigurationError(
                "access must name at least one of data, weights, logits: without any nothing helps"
            )
        if self.epsilon is not None and not 0 < self.epsilon < float("inf"):
            raise ConfigurationError(f"epsilon must be a positive number, not {self.epsilon}; leave it out for none")
        if self.trained is Trained.PRIVATE and self.epsilon is None:
            raise ConfigurationError("a model trained with differential privacy has an ε: name it as epsilon")
        if not self.records_known and self.target in {Target.RECORD, Target.SUBJECT}:
            raise ConfigurationError(
                f"who cannot name the records cannot ask for a {self.target} to go: the target is a class, a concept "
                "or a fact"
            )

    @property
    def is_trained(self) -> bool:
        """Whether there is a model."""
        return self.trained is not Trained.NOT_YET

    @property
    def can_train(self) -> bool:
        """Whether a model can be trained on the data."""
        return Access.DATA in self.access


@dataclass(frozen=True)
class Advice:
    """One family in one situation.

    Attributes:
        kind: The family.
        claim: The most that may be claimed for it here.
        unmet: What of the situation it does not keep, in words; none: it fits.
        cost: What a request takes, in words.
        core_hours_per_day: The same in numbers, by the cost model; None where it knows none.
        once: What it takes before the first request, in words; empty: nothing.
        residual: The risk that is left.
        how: Where this library has it.
    """

    kind: Kind
    claim: Guarantee
    unmet: tuple[str, ...]
    cost: str
    core_hours_per_day: float | None
    once: str
    residual: tuple[str, ...]
    how: str

    @property
    def fits(self) -> bool:
        """Whether it keeps the whole situation."""
        return not self.unmet

    @property
    def removes(self) -> bool:
        """Whether it may be called removal: suppression may not."""
        return self.claim is not Guarantee.SUPPRESSION


@dataclass(frozen=True)
class Disgorgement:
    """What is recommended in a situation, and what there is to say of every family.

    Attributes:
        recommended: The family to take; None if none fits.
        why: Why that one, in words; empty if none fits.
        meanwhile: What can hide the target at once, while nothing better has been done; None: nothing can, or that is
            what is recommended.
        advice: Every family, the cheapest request first.
    """

    recommended: Advice | None
    why: str
    meanwhile: Advice | None
    advice: tuple[Advice, ...]


def disgorge(situation: Situation, plan: Plan | None = None) -> Disgorgement:
    """Hold every family against a situation.

    Args:
        situation: What is to be decided about.
        plan: Of the cost model, for prices; its choice between shards and retraining is kept where both fit.

    Returns:
        The recommendation, and what there is to be said of each family.
    """
    advice = tuple(rule(situation, plan) for rule in _RULES)
    recommended, why = _choice(situation, plan, [item for item in advice if item.fits])
    hides = next(item for item in advice if item.kind is Kind.OUTPUT)
    needed = situation.is_trained and recommended is not hides
    possible = bool(situation.access & {Access.LOGITS, Access.WEIGHTS}) and not situation.released
    return Disgorgement(recommended, why, hides if needed and possible else None, advice)


def _choice(situation: Situation, plan: Plan | None, fitting: Sequence[Advice]) -> tuple[Advice | None, str]:
    """Which of the families that fit, the cheapest request first, and why."""
    if not fitting:
        return None, ""
    cheapest = fitting[0]
    why = "the cheapest request of all that fit"
    if plan is None or plan.chosen is None:
        return cheapest, why
    wanted = Kind.RETRAINING if plan.chosen.family == _RETRAINED else Kind.COMPARTMENTS
    planned = next((item for item in fitting if item.kind is wanted), None)
    if planned is None:
        return cheapest, why
    if cheapest.kind in _PLANNED:
        return planned, "the cheapest by the cost model of those that are exact"
    # The plan's price is that of requests of its rate, each for one subject or record.
    counted = situation.target in {Target.RECORD, Target.SUBJECT} and situation.reason in _OWED
    if cheapest.claim is Guarantee.EMPIRICAL and counted:
        return planned, f"the cores there are carry it, and {cheapest.kind} would prove nothing"
    return cheapest, why


# The families, one rule each: what it claims, what it needs, what it leaves.


def _output(situation: Situation, _plan: Plan | None) -> Advice:
    unmet = _unmet(situation, Guarantee.SUPPRESSION)
    if not situation.is_trained:
        unmet += ("there is no model yet whose output could be controlled",)
    if not situation.access & {Access.LOGITS, Access.WEIGHTS}:
        unmet += ("needs the logits of the model",)
    if situation.released:
        unmet += ("whoever has the weights leaves the control out",)
    return Advice(
        Kind.OUTPUT,
        Guarantee.SUPPRESSION,
        unmet,
        "no training; helpers run beside the model",
        None,
        "two small models trained on what to say and what not to say, or a list of edits kept beside the model",
        ("The weights still hold everything: who reads them, fine-tunes them or goes around the control finds it.",),
        "unlearn.language.decoding (proxy-tuning, ULD); unlearn.language.editing (IKE, SERAC)",
    )


def _privacy(situation: Situation, _plan: Plan | None) -> Advice:
    unmet = _unmet(situation, Guarantee.DP)
    if situation.epsilon is None:
        unmet += ("needs an ε that one is willing to pay for in accuracy",)
    if situation.target in {Target.CLASS, Target.CONCEPT, Target.FACT}:
        unmet += (f"protects one record or subject, not a {situation.target} that many share",)
    if situation.trained is not Trained.PRIVATE and not situation.can_train:
        unmet += ("needs the data: the model must be trained with noise",)
    return Advice(
        Kind.PRIVACY,
        Guarantee.DP,
        unmet,
        "nothing, until as many have asked as ε was accounted for; then all is trained again",
        0.0 if situation.trained is Trained.PRIVATE else None,
        "" if situation.trained is Trained.PRIVATE else "one training with noise, several times as slow as without",
        (
            "The record has had an influence, as much as ε and δ say, and keeps it.",
            "ε grows with the number of those who ask: the privacy of a group is weaker than that of one.",
        ),
        "shards.learners.PrivateTorchLearner; unlearn.methods.dp (the bound for k deletions, and the largest k)",
    )


def _selective(situation: Situation, _plan: Plan | None) -> Advice:
    blind = not situation.records_known
    certified = situation.convex and situation.can_train and not blind
    claim = Guarantee.CERTIFIED if certified else Guarantee.SUPPRESSION if blind else Guarantee.EMPIRICAL
    unmet = _unmet(situation, claim)
    if not situation.is_trained:
        unmet += ("there is no model yet to take something out of",)
    if Access.WEIGHTS not in situation.access:
        unmet += ("needs the weights",)
    left = {
        Guarantee.CERTIFIED: "What stays behind is bounded by ε and δ, which many requests use up.",
        Guarantee.EMPIRICAL: "No bound is proven: a stronger attack, relearning or rounding may bring it back.",
    }
    return Advice(
        Kind.SELECTIVE,
        claim,
        unmet,
        "an update of the weights, a small part of a training",
        None,
        "",
        (
            left.get(
                claim, "An edit changes what is said to some prompts: other ways to ask, and attacks, find it still."
            ),
        ),
        "unlearn.methods.certified"
        if certified
        else "unlearn.language.editing (ROME, MEMIT, FT-L …)"
        if blind
        else "unlearn.methods (`unlearn methods`), unlearn.language.losses; `unlearn forget --method`",
    )


def _compartments(situation: Situation, plan: Plan | None) -> Advice:
    in_shards = situation.trained is Trained.SHARDS
    sums = plan is not None and plan.chosen is not None and plan.chosen.family == _SUMS
    apart = _option(plan, _SUMS if sums else _SHARDED)
    return Advice(
        Kind.COMPARTMENTS,
        Guarantee.EXACT,
        _unmet(situation, Guarantee.EXACT) + _needs_records(situation) + _unplanned(apart),
        "the shards that are hit, from the slice that saw the data, or their sums; out of all predictions at once",
        _priced(apart),
        "" if in_shards else "one training in shards; a declared re-creation if there is a model",
        (
            "Each shard learns from a part of the data: measure what that costs in accuracy.",
            "What a class or a concept is spread over hits every shard, and costs what retraining costs.",
            *_INFERABLE,
        ),
        "unlearn.Workspace with n_shards and n_slices; `unlearn plan` chooses both",
    )


def _emulation(situation: Situation, _plan: Plan | None) -> Advice:
    claim = Guarantee.EMPIRICAL if situation.epsilon is None else Guarantee.DP
    unmet = _unmet(situation, claim)
    if situation.target in {Target.CLASS, Target.CONCEPT, Target.FACT} and claim is Guarantee.DP:
        unmet += (f"the noise of the generator protects one record or subject, not a {situation.target}",)
    if not situation.can_train:
        unmet += ("needs the data to draw the emulation from: a model that saw the records hands them on",)
    if not situation.records_known:
        unmet += (f"needs to know which records hold the {situation.target}: it is drawn from those without",)
    how = "what the generator copied of a record stays in every model trained on it"
    return Advice(
        Kind.EMULATION,
        claim,
        unmet,
        "nothing while the emulation holds nobody's record; else it is drawn again, and the model trained on it",
        None,
        "a generator or a distilled set, and one training on it",
        (
            f"Without noise, {how}: audit it as you would a model."
            if claim is Guarantee.EMPIRICAL
            else f"As strong as the generator's ε = {situation.epsilon:g}: what it does not bound, it may copy.",
            "A set distilled from a model that saw the records is derived from them: register it as an artefact.",
        ),
        "unlearn.emulation.emulate, and a workspace of its records; `Workspace.register` for what is derived",
    )


def _retraining(situation: Situation, plan: Plan | None) -> Advice:
    whole = _option(plan, _RETRAINED)
    return Advice(
        Kind.RETRAINING,
        Guarantee.EXACT,
        _unmet(situation, Guarantee.EXACT) + _needs_records(situation) + _unplanned(whole),
        "a whole training, for all requests that wait",
        _priced(whole),
        "",
        ("Until a training ends, what is served still holds the data, unless nothing is served.", *_INFERABLE),
        "unlearn.Workspace with one shard; `unlearn recover` once a window",
    )


_INFERABLE = ("What other records say of the same thing is learnt from them, and what was published stays published.",)

_SHARDED, _SUMS, _RETRAINED = "sharded training", "exact sums", "retraining"
"""Families of the cost model, which is imported by whoever has a plan: it takes time."""

_PLANNED = frozenset({Kind.COMPARTMENTS, Kind.RETRAINING})

_OWED = frozenset({Reason.PRIVACY, Reason.SECURITY})
"""Reasons for which somebody may ask for proof."""

_RULES: tuple[Callable[[Situation, Plan | None], Advice], ...] = (
    _output,
    _privacy,
    _selective,
    _compartments,
    _emulation,
    _retraining,
)
"""The cheapest request first; equal wishes are met by the first that fits."""


def _unmet(situation: Situation, claim: Guarantee) -> tuple[str, ...]:
    """What is asked for and cannot be claimed."""
    found = []
    if claim is Guarantee.SUPPRESSION and situation.reason is Reason.PRIVACY:
        found.append("hides and does not remove: no answer to a request for deletion, only a measure meanwhile")
    if not keeps(claim, situation.least):
        found.append(f"{claim} does not imply {situation.least}, which is asked for")
    return tuple(found)


def _needs_records(situation: Situation) -> tuple[str, ...]:
    """What training without the target takes."""
    found = []
    if not situation.can_train:
        found.append("needs the data that is to stay")
    if not situation.records_known:
        found.append(f"needs to know which records hold the {situation.target}")
    return tuple(found)


def _priced(option: Option | None) -> float | None:
    """Core-hours a day of a family's best design, by the cost model."""
    return None if option is None else option.cost


def _unplanned(option: Option | None) -> tuple[str, ...]:
    """What of the plan's constraints a family's best design breaks."""
    return () if option is None else option.unmet


def _option(plan: Plan | None, family: str) -> Option | None:
    return None if plan is None else next((item for item in plan.options if item.family == family), None)
