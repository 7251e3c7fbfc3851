r"""The audit of a workspace by membership-inference attacks: does what was forgotten look like what never came?

*Exposure.* Members, which are in the data, against those presented, which are not: what an attack tells of who is in
the data. It measures the model, whatever was forgotten; nothing follows from it for unlearning.

*Forgetting.* Forgotten subjects against subjects that were held out and never came. After exact unlearning the model
owes nothing to either, so if both are from one distribution, which of them were forgotten is exchangeable given the
model. With A the AUC of a score of both, \(|A - \tfrac12|\) is held against the same of B rearrangements,

    p = (1 + rearrangements at least as far from 1/2) / (1 + B),

which is exact, and two-sided: a model that suppresses what it forgot knows too much of it as well. Attacks are fixed
before anything is seen, and scores treat forgotten and held-out records alike. Several attacks are Holm's; or one is
declared primary, and the others do not count.

*Canaries.* Where fair coins decided which of the presented subjects were ingested, these assumptions hold by design,
and the set-unlearning test (`set_test`) bounds epsilon besides. It is one more hypothesis for each attack.

Sources: Phipson and Smyth 2010 for the one added; Mann and Whitney 1947 for the spread \(\sqrt{(a+b+1)/(12ab)}\) of A.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np

from shards.digest import Json
from unlearn.audit.attacks import ATTACKS
from unlearn.audit.attacks.base import LEAST, Decisions, Sample, calibrate
from unlearn.audit.epsilon.bound import Verdict
from unlearn.audit.epsilon.multiplicity import HolmResult, holm
from unlearn.audit.metrics.estimate import as_json
from unlearn.audit.metrics.groups import SubjectResult, by_subject, over_subjects
from unlearn.audit.metrics.roc import AttackResult, measure
from unlearn.audit.set_test import SetUnlearningTest, guess_extremes, set_unlearning_test
from unlearn.audit.shown import SERVED, Shown, check_names
from unlearn.audit.workspace_audit import Facts
from unlearn.errors import InputError

ASSUMPTIONS = (
    (
        "Forgotten and held-out records come from one distribution, and neither was chosen by looking at the model: "
        "whoever held them out knows that, the audit does not."
    ),
    "Held-out records never came into the workspace, nor into anything that it was trained on.",
    "The records presented are those that were forgotten: ids can be checked, contents were destroyed.",
    "Attacks were named before anything was seen of the model.",
)
TOSSED = "Fair coins, which nobody but who ingested knew, decided for each presented subject whether it was ingested."
NOT_SHOWN = (
    "That anything was unlearned: a test refutes, or does not refute.",
    "What a stronger attack would find; `unlearn verify --replay` compares bytes instead.",
    "Backups, exports, caches and models elsewhere.",
)

POWER = 0.8
"""With which probability the least difference is found that an audit names."""

_PLANTED = 400
"""How often what is known of members is planted, to say how often that would be found."""

_CHUNK = 1_000_000


@dataclass(frozen=True)
class AttackPlan:
    """What is to be tried, fixed before anything is seen.

    Attributes:
        attacks: Names, in `unlearn.audit.shown.SERVED`.
        primary: The one that counts; None: all do, and share alpha.
        shadows: Shadow models to train for those that compare with some: even, at least 4; 0: none.
        members: Subjects of each shard that are looked at for comparison, and that shadow models are trained on.
        tossed: Fair coins decided which of the presented subjects were ingested, and then forgotten.

    Raises:
        InputError: If attacks cannot be made on a workspace, or a setting does not fit.
    """

    attacks: tuple[str, ...]
    primary: str | None = None
    shadows: int = 0
    members: int = 100
    tossed: bool = False

    def __post_init__(self) -> None:
        check_names(self.attacks, self.shadows)
        if self.primary is not None and self.primary not in self.attacks:
            raise InputError(f"the primary attack {self.primary!r} is not among {', '.join(self.attacks)}: name it too")
        if self.members < 1:
            raise InputError(f"members must be at least 1 a shard, got {self.members}")

    @property
    def counted(self) -> tuple[str, ...]:
        """The attacks whose verdicts count."""
        return self.attacks if self.primary is None else (self.primary,)


@dataclass(frozen=True, eq=False)
class People:
    """Whose the shown records are.

    Attributes:
        subjects: Subject of each record.
        is_forgotten: `[n]` bool.
        is_held_out: `[n]` bool; what is neither is in the data.
    """

    subjects: Sequence[str]
    is_forgotten: np.ndarray
    is_held_out: np.ndarray


@dataclass(frozen=True)
class AttackFinding:
    """What one attack found.

    Attributes:
        attack: Its name.
        exposure: Members of the data against all that is presented, by subject.
        forgetting: Forgotten (in the members' place) against held out, by subject; None: nothing was held out.
        p_value: Of exact unlearning, two-sided; None with nothing held out.
        adjusted: The same, comparable with alpha itself, for all that counts together; None: it does not count.
        verdict: Inapplicable with nothing held out, or where another attack was declared primary.
        detectable: The AUC from which on a difference is found with probability `POWER`, about; the same below 1/2.
        power_if_kept: How often it would be found that the forgotten still look as members do.
        canaries: The set-unlearning test of the coins, where coins were tossed.
    """

    attack: str
    exposure: AttackResult
    forgetting: AttackResult | None
    p_value: float | None
    adjusted: float | None
    verdict: Verdict
    detectable: float | None
    power_if_kept: float | None
    canaries: SetUnlearningTest | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        results = {"exposure": self.exposure, "forgetting": self.forgetting}
        return as_json(self) | {
            "title": ATTACKS[self.attack].card.title,
            "citation": ATTACKS[self.attack].card.citation,
            "verdict": str(self.verdict),
            **{name: None if result is None else result.to_json() for name, result in results.items()},
        }


@dataclass(frozen=True, eq=False)
class AttackAudit:
    """An audit of a workspace by attacks.

    Attributes:
        facts: What was audited.
        plan: What was to be tried.
        findings: Of each attack, in the order of the plan.
        alpha: Probability of refuting exact unlearning at all.
        multiplicity: How that is shared out.
        members: Subjects of the data that were compared.
        forgotten: Forgotten subjects.
        held_out: Held-out subjects.
        permutations: Rearrangements drawn.
        seed: All that is drawn was drawn from it.
        assumptions: What p-values rest on.
        not_shown: What no such audit shows.
        samples: Attack to scores of forgotten and held-out subjects under their names; never part of the JSON.
    """

    facts: Facts
    plan: AttackPlan
    findings: tuple[AttackFinding, ...]
    alpha: float
    multiplicity: str
    members: int
    forgotten: int
    held_out: int
    permutations: int
    seed: int
    assumptions: tuple[str, ...]
    not_shown: tuple[str, ...] = NOT_SHOWN
    samples: Mapping[str, Sample] = field(default_factory=dict, repr=False)

    @property
    def verdict(self) -> Verdict:
        """Of the claim that the served model owes nothing to the forgotten records."""
        found = {finding.verdict for finding in self.findings}
        for verdict in (Verdict.REFUTED, Verdict.NOT_REFUTED):
            if verdict in found:
                return verdict
        return Verdict.INAPPLICABLE

    @property
    def p_value(self) -> float | None:
        """The least adjusted one; None where nothing was tested."""
        return min((one.adjusted for one in self.findings if one.adjusted is not None), default=None)

    @property
    def epsilon_lower(self) -> float | None:
        """With coins: no unlearning of all forgotten subjects together has a lower epsilon, at 1 - alpha; else None."""
        return max((one.canaries.epsilon_lower for one in self.findings if one.canaries is not None), default=None)

    def by_subject(self, attack: str, alpha: float = 0.05) -> tuple[SubjectResult, ...]:
        """Compare each forgotten subject with all that were held out: who stands out?

        Args:
            attack: One of the plan's.
            alpha: Level of each subject's test by itself; `holm` corrects for their number.

        Returns:
            One result a forgotten subject, under its name.

        Raises:
            InputError: If there was no such attack, or nothing was held out.
        """
        if attack not in self.samples:
            raise InputError(
                f"there are scores of {', '.join(self.samples) or 'no attack'} on forgotten and held-out subjects, not "
                f"of {attack!r}: audit with it, and with held-out records"
            )
        return by_subject(self.samples[attack], self.samples[attack].records, alpha)

    def to_json(self) -> dict[str, Json]:
        """All of it as JSON, but for names and scores of subjects."""
        plain: dict[str, Json] = as_json(_Heading(self.facts, self.plan, self.assumptions, self.not_shown))
        return plain | {
            "findings": [finding.to_json() for finding in self.findings],
            "p_value": self.p_value,
            "epsilon_lower": self.epsilon_lower,
            **{
                name: getattr(self, name)
                for name in ("alpha", "multiplicity", "members", "forgotten", "held_out", "permutations", "seed")
            },
        }


@dataclass(frozen=True)
class _Heading:
    """What an audit says beside its figures."""

    facts: Facts
    plan: AttackPlan
    assumptions: tuple[str, ...]
    not_shown: tuple[str, ...]


def audit_by_attacks(
    shown: Shown,
    people: People,
    plan: AttackPlan,
    facts: Facts,
    *,
    alpha: float = 0.05,
    permutations: int,
    seed: int = 0,
) -> AttackAudit:
    """Try every attack of a plan on what is shown.

    Args:
        shown: What the model says of members and of those presented.
        people: Whose the records are.
        plan: What to try.
        facts: What is audited.
        alpha: Probability of refuting exact unlearning, over all attacks.
        permutations: Rearrangements to draw.
        seed: Of them and of what else is drawn.

    Returns:
        The result.

    Raises:
        InputError: If there are too few subjects or rearrangements, or attacks cannot be made; says why.
    """
    hypotheses = len(plan.counted) * (2 if plan.tossed else 1)
    share = alpha / hypotheses
    if not 0 < alpha < 1 or permutations < 1 / share - 1 - 1e-9:
        raise InputError(
            f"{hypotheses} hypotheses at alpha {alpha:g} need p-values of {share:.3g}: draw at least "
            f"{math.ceil(1 / share - 1)} rearrangements, got {permutations}"
        )
    rng = np.random.default_rng(seed)
    trials = [_try(name, shown, people, plan, share, permutations, rng) for name in plan.attacks]
    judged = _judged(trials, plan, alpha)
    return AttackAudit(
        facts=facts,
        plan=plan,
        findings=tuple(_finding(trial, judged) for trial in trials),
        alpha=alpha,
        multiplicity=_said(plan, hypotheses),
        members=trials[0].exposure.members,
        forgotten=_count(people, people.is_forgotten),
        held_out=_count(people, people.is_held_out),
        permutations=permutations,
        seed=seed,
        assumptions=(*ASSUMPTIONS, *((TOSSED,) if plan.tossed else ())),
        samples={trial.attack: trial.sample for trial in trials if trial.sample is not None},
    )


@dataclass(frozen=True, eq=False)
class _Trial:
    """One attack before verdicts are shared out; `sample` is of forgotten and held-out subjects."""

    attack: str
    exposure: AttackResult
    sample: Sample | None = None
    forgetting: AttackResult | None = None
    p_value: float | None = None
    detectable: float | None = None
    power_if_kept: float | None = None
    canaries: SetUnlearningTest | None = None


def _try(
    name: str,
    shown: Shown,
    people: People,
    plan: AttackPlan,
    share: float,
    permutations: int,
    rng: np.random.Generator,
) -> _Trial:
    scores, is_presented = SERVED[name].score(shown), people.is_forgotten | people.is_held_out
    everybody = _by_subject(scores, ~is_presented, people.subjects, "members of the data", "presented")
    exposure = measure(name, everybody, _decisions(everybody, rng))
    if not people.is_held_out.any():
        return _Trial(name, exposure)
    there = np.flatnonzero(is_presented)
    subjects = [people.subjects[row] for row in there.tolist()]
    sample = _by_subject(scores[there], people.is_forgotten[there], subjects, "forgotten", "held-out")
    a, b = len(sample.members), len(sample.non_members)
    test = None
    if plan.tossed:
        # Equal scores are told apart by their order, which must not tell the coins; half of these are guessed.
        order = rng.permutation(len(sample))
        guesses = guess_extremes(sample.scores[order])
        test = set_unlearning_test(sample.is_member[order], guesses, confidence=1 - share)
    return _Trial(
        name,
        exposure,
        sample,
        measure(name, sample, _decisions(sample, rng)),
        rearranged(sample.members, sample.non_members, permutations, rng),
        min(1.0, 0.5 + (_z(1 - share / 2) + _z(POWER)) * spread(a, b)),
        _power(everybody.members, sample, share, rng),
        test,
    )


def _by_subject(scores: np.ndarray, first: np.ndarray, subjects: Sequence[str], one: str, other: str) -> Sample:
    for name, kind in ((one, first), (other, ~first)):
        count = len({subjects[row] for row in np.flatnonzero(kind).tolist()})
        if count < LEAST:
            raise InputError(f"{count} {name} subjects are too few to compare: give at least {LEAST}")
    return over_subjects(Sample(scores, first, tuple(range(len(scores))), "served model"), subjects)


def _decisions(sample: Sample, rng: np.random.Generator) -> Decisions | None:
    """Decisions about a random half of either kind, by a threshold chosen on the other; None if there are too few."""
    aside = np.zeros(len(sample), dtype=np.bool_)
    for kind in (sample.is_member, ~sample.is_member):
        rows = rng.permutation(np.flatnonzero(kind))
        if len(rows) < 2 * LEAST:
            return None
        aside[rows[: len(rows) // 2]] = True
    chosen, judged = (
        Sample(
            sample.scores[rows], sample.is_member[rows], tuple(sample.records[row] for row in rows.tolist()), "served"
        )
        for rows in (np.flatnonzero(aside), np.flatnonzero(~aside))
    )
    return calibrate(chosen).decide(judged)


def rearranged(first: np.ndarray, second: np.ndarray, permutations: int, rng: np.random.Generator) -> float:
    """Exact two-sided p-value of two samples of scores being exchangeable, by their AUC.

    Args:
        first: `[a]`.
        second: `[b]`.
        permutations: B, rearrangements to draw.
        rng: They are drawn from.

    Returns:
        At least 1 / (B + 1).
    """
    from scipy.stats import rankdata

    # Twice the midranks are whole numbers, so that equal sums are equal.
    ranks = np.round(2 * rankdata(np.concatenate([first, second]))).astype(np.int64)
    a, n = len(first), len(ranks)
    middle = a * (n + 1)
    observed = abs(int(ranks[:a].sum()) - middle)
    extreme, rows = 0, max(1, _CHUNK // n)
    for at in range(0, permutations, rows):
        drawn = rng.permuted(np.tile(ranks, (min(rows, permutations - at), 1)), axis=1)[:, :a]
        extreme += int((np.abs(drawn.sum(axis=1) - middle) >= observed).sum())
    return (1 + extreme) / (1 + permutations)


def spread(a: int, b: int) -> float:
    """Standard deviation of the AUC of scores that say nothing: ties make it smaller.

    Args:
        a: Scores of one kind.
        b: Of the other.

    Returns:
        Above 0.
    """
    return math.sqrt((a + b + 1) / (12 * a * b))


def _power(members: np.ndarray, sample: Sample, share: float, rng: np.random.Generator) -> float:
    """How often the test refutes if the forgotten score as members of the data do."""
    outside, a = np.sort(sample.non_members), len(sample.members)
    drawn = rng.choice(members, (_PLANTED, a))
    below = np.searchsorted(outside, drawn, "left") + np.searchsorted(outside, drawn, "right")
    areas = below.mean(axis=1) / (2 * len(outside))
    return float((np.abs(areas - 0.5) >= _z(1 - share / 2) * spread(a, len(outside))).mean())


def _judged(trials: Sequence[_Trial], plan: AttackPlan, alpha: float) -> Mapping[tuple[str, str], HolmResult]:
    """Holm over all that counts, by attack and test."""
    p_values = {}
    for trial in trials:
        if trial.attack in plan.counted and trial.p_value is not None:
            p_values[trial.attack, "ranks"] = trial.p_value
            if trial.canaries is not None:
                p_values[trial.attack, "coins"] = trial.canaries.p_value
    found = holm({"/".join(name): p for name, p in p_values.items()}, alpha=alpha) if p_values else {}
    return {name: found["/".join(name)] for name in p_values}


def _finding(trial: _Trial, judged: Mapping[tuple[str, str], HolmResult]) -> AttackFinding:
    mine = [result for (attack, _), result in judged.items() if attack == trial.attack]
    verdict = Verdict.INAPPLICABLE
    if mine:
        refuted = any(result.verdict is Verdict.REFUTED for result in mine)
        verdict = Verdict.REFUTED if refuted else Verdict.NOT_REFUTED
    return AttackFinding(
        attack=trial.attack,
        exposure=trial.exposure,
        forgetting=trial.forgetting,
        p_value=trial.p_value,
        adjusted=min((result.adjusted for result in mine), default=None),
        verdict=verdict,
        detectable=trial.detectable,
        power_if_kept=trial.power_if_kept,
        canaries=trial.canaries if mine else None,
    )


def _said(plan: AttackPlan, hypotheses: int) -> str:
    tests = f"{hypotheses} hypotheses, Holm" if hypotheses > 1 else "one hypothesis"
    if plan.primary is None:
        return tests
    return f"{tests}; {plan.primary} declared primary beforehand, {len(plan.attacks) - 1} others not counted"


def _count(people: People, chosen: np.ndarray) -> int:
    return len({people.subjects[row] for row in np.flatnonzero(chosen).tolist()})


def _z(probability: float) -> float:
    return NormalDist().inv_cdf(probability)
