"""What all attacks share: a higher score means more likely a member, and a threshold is chosen somewhere else.

An attack is a pure function of arrays that gives one score a record. A `Sample` holds scores of records of which it is
known whether they were members. A `Rule` turns scores into decisions; it remembers the evidence it was chosen on, and
refuses to decide about that: a threshold chosen on the data it is judged on reports an attack that nobody has.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from unlearn.errors import InputError, some

FLOOR = 1e-30
"""Probabilities are at least this much before a logarithm is taken, as in Song & Mittal's code."""

LEAST = 10
"""Fewer members or non-members than this say nothing; what is asked of them is refused."""

_SUM_TOLERANCE = 1e-3
"""Posteriors in float16 or float32 do not sum to 1 exactly."""

Purpose = Literal["membership", "release risk"]
"""Membership: after exact forgetting the attack must fail. Release risk: exact forgetting may even cause it."""

Evidence = frozenset[tuple[str, Hashable]]
"""Pairs of a model and a record: what a score was computed from."""


@dataclass(frozen=True)
class Card:
    """What an attack is.

    Attributes:
        name: Its key in `ATTACKS`.
        title: In words.
        needs: What it takes, each in a few words.
        citation: Who published it, and where.
        purpose: What its success says.
    """

    name: str
    title: str
    needs: tuple[str, ...]
    citation: str
    purpose: Purpose = "membership"


@dataclass(frozen=True)
class Attack:
    """A card, and the function that gives the scores, or fits what gives them.

    Attributes:
        card: What it is.
        function: See its docstring.
    """

    card: Card
    function: Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Sample:
    """Scores of records of which it is known whether they were members.

    Attributes:
        scores: `[n]` float64, finite; higher means more likely a member.
        is_member: `[n]` bool.
        records: n distinct ids; distinct, so that no record is both member and non-member.
        model: Name of the model that was attacked.

    Raises:
        InputError: If a score is not finite, a record occurs twice, or there are too few of either kind.
    """

    scores: np.ndarray
    is_member: np.ndarray
    records: tuple[Hashable, ...]
    model: str

    def __post_init__(self) -> None:
        scores = finite(self.scores, "scores", 1)
        member = np.asarray(self.is_member)
        if member.dtype != np.bool_ or member.shape != scores.shape:
            raise InputError(
                f"is_member must be bool of shape {scores.shape}, as scores are, got {member.dtype} {member.shape}"
            )
        records = tuple(self.records)
        if len(records) != len(scores):
            raise InputError(f"{len(scores)} scores came with {len(records)} record ids: give one id a score")
        _refuse_shared(records, member)
        for name, count in (("members", int(member.sum())), ("non-members", int((~member).sum()))):
            if count < LEAST:
                raise InputError(f"{count} {name} are too few to say anything: give at least {LEAST}")
        for name, value in (("scores", scores), ("is_member", member), ("records", records)):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def members(self) -> np.ndarray:
        """`[n_members]` float64: their scores."""
        return np.asarray(self.scores[self.is_member])

    @property
    def non_members(self) -> np.ndarray:
        """`[n_non_members]` float64: their scores."""
        return np.asarray(self.scores[~self.is_member])

    @property
    def evidence(self) -> Evidence:
        """What the scores were computed from."""
        return frozenset((self.model, record) for record in self.records)


@dataclass(frozen=True, eq=False)
class Decisions:
    """What a rule says of a sample that it was not chosen on.

    Attributes:
        called: `[n]` bool: called a member.
        is_member: `[n]` bool: was one.
        chosen_on: Where the rule comes from.
    """

    called: np.ndarray
    is_member: np.ndarray
    chosen_on: str


@dataclass(frozen=True)
class Rule:
    """A score above the threshold of the record's group is called a member.

    Attributes:
        thresholds: One a group; a single one where there are no groups.
        chosen_on: Where they come from, in words.
        evidence: Models and records that they were chosen on.
    """

    thresholds: tuple[float, ...]
    chosen_on: str
    evidence: Evidence = field(default=frozenset(), repr=False)

    def decide(self, sample: Sample, groups: np.ndarray | None = None) -> Decisions:
        """Decide about records.

        Args:
            sample: Scores of them.
            groups: `[n]` int group of each, such as its class; None: all are of group 0.

        Returns:
            What the rule says.

        Raises:
            InputError: If the rule was chosen on some of these, or there is no threshold for a group.
        """
        shared = self.evidence & sample.evidence
        if shared:
            shown = some(sorted(str(record) for _, record in shared))
            raise InputError(
                f"the threshold was chosen on scores that it is to judge, of records {shown} under model "
                f"{sample.model!r}: choose it on a shadow model, or on other records"
            )
        numbers = np.zeros(len(sample), dtype=np.int64) if groups is None else np.asarray(groups)
        if numbers.shape != sample.scores.shape or numbers.dtype.kind not in "iu":
            raise InputError(
                f"groups must be integers of shape {sample.scores.shape}, got {numbers.dtype} {numbers.shape}"
            )
        if numbers.min() < 0 or numbers.max() >= len(self.thresholds):
            raise InputError(
                f"a group is {numbers.min()} or {numbers.max()}, and there are thresholds for 0 to "
                f"{len(self.thresholds) - 1}: choose them for every group"
            )
        return Decisions(sample.scores > np.asarray(self.thresholds)[numbers], sample.is_member, self.chosen_on)


def sample_of(
    members: np.ndarray,
    non_members: np.ndarray,
    model: str,
    *,
    member_ids: Sequence[Hashable] | None = None,
    non_member_ids: Sequence[Hashable] | None = None,
) -> Sample:
    """Put scores of members and of non-members together.

    Args:
        members: `[n_members]` scores.
        non_members: `[n_non_members]` scores.
        model: Name of the model that was attacked.
        member_ids: Ids; None: `"member-0"` and so on, which says that they are nobody else.
        non_member_ids: Ids; None: `"non-member-0"` and so on.

    Returns:
        The sample, members first.

    Raises:
        InputError: As `Sample`.
    """
    first = member_ids if member_ids is not None else [f"member-{i}" for i in range(len(members))]
    second = non_member_ids if non_member_ids is not None else [f"non-member-{i}" for i in range(len(non_members))]
    return Sample(
        np.concatenate([np.asarray(members), np.asarray(non_members)]),
        np.arange(len(members) + len(non_members)) < len(members),
        (*first, *second),
        model,
    )


def calibrate(sample: Sample) -> Rule:
    """Choose the threshold of the largest TPR - FPR; among equals, the highest one.

    Args:
        sample: Scores of a shadow model, or of records set apart: not of those to be judged.

    Returns:
        The rule, which refuses to decide about this sample.
    """
    return Rule((best_threshold(sample.members, sample.non_members),), _where(sample), sample.evidence)


def calibrate_per_group(sample: Sample, groups: np.ndarray, n_groups: int) -> Rule:
    """Choose a threshold for each group, such as each class [Song & Mittal 2021].

    Args:
        sample: Scores of a shadow model, or of records set apart.
        groups: `[n]` int group of each.
        n_groups: How many groups there are; their numbers are 0 to n_groups - 1.

    Returns:
        The rule.

    Raises:
        InputError: If a group has no member or no non-member here.
    """
    groups = np.asarray(groups)
    if groups.shape != sample.scores.shape:
        raise InputError(f"groups must have shape {sample.scores.shape}, got {groups.shape}")
    thresholds = []
    for group in range(n_groups):
        chosen = groups == group
        inside, outside = sample.scores[chosen & sample.is_member], sample.scores[chosen & ~sample.is_member]
        if not len(inside) or not len(outside):
            raise InputError(
                f"group {group} has {len(inside)} members and {len(outside)} non-members to choose a threshold on: "
                "it needs both, so calibrate on more data, or without groups"
            )
        thresholds.append(best_threshold(inside, outside))
    return Rule(tuple(thresholds), f"{_where(sample)}, by group", sample.evidence)


def best_threshold(members: np.ndarray, non_members: np.ndarray) -> float:
    """The threshold with the largest TPR - FPR, halfway between two scores; among equals, the highest.

    Args:
        members: `[a]` scores.
        non_members: `[b]` scores.

    Returns:
        The threshold; what is above it is called a member.
    """
    values = np.unique(np.concatenate([members, non_members]))
    gain = _share_above(members, values) - _share_above(non_members, values)
    at = len(values) - 1 - int(np.argmax(gain[::-1]))
    if at == len(values) - 1:
        return float(values[at])
    middle = values[at] + (values[at + 1] - values[at]) / 2
    return float(middle if middle < values[at + 1] else values[at])  # between neighbours there is no middle


def posteriors(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Check class probabilities and labels.

    Args:
        probabilities: `[..., n, classes]`.
        labels: `[n]` int, class of each record.

    Returns:
        Both, as float64 and int64.

    Raises:
        InputError: If they are no probabilities, or a label is no class.
    """
    p = finite(probabilities, "probabilities", None)
    y = np.asarray(labels)
    if p.ndim < 2 or p.shape[-1] < 2:
        raise InputError(f"probabilities must be [..., n, classes] with two classes or more, got shape {p.shape}")
    if p.min(initial=0) < 0 or np.abs(p.sum(axis=-1) - 1).max(initial=0) > _SUM_TOLERANCE:
        raise InputError("probabilities must be at least 0 and sum to 1 over the classes: were logits given?")
    return p, classes_of(y, p.shape[-2], p.shape[-1])


def classes_of(labels: np.ndarray, n: int, n_classes: int) -> np.ndarray:
    """Check labels.

    Args:
        labels: `[n]` int.
        n: How many there should be.
        n_classes: They lie below this.

    Returns:
        `[n]` int64.

    Raises:
        InputError: If they are others.
    """
    y = np.asarray(labels)
    if y.shape != (n,) or y.dtype.kind not in "iu":
        raise InputError(f"labels must be {n} integers, one a record, got {y.dtype} of shape {y.shape}")
    if n and (y.min() < 0 or y.max() >= n_classes):
        raise InputError(f"labels must be classes 0 to {n_classes - 1}, got {y.min()} to {y.max()}")
    return y.astype(np.int64)


def own_class(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """What stands at each record's own class.

    Args:
        values: `[..., n, classes]`.
        labels: `[n]` int64.

    Returns:
        `[..., n]`.
    """
    return np.asarray(values[..., np.arange(len(labels)), labels])


def confidence(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    r"""Logit-scaled confidence: \(\varphi = \ln p_y - \ln \sum_{c \ne y} p_c\) [Carlini et al. 2022].

    The sum is taken over the other classes, since 1 - p_y loses all digits where p_y is near 1.

    Args:
        probabilities: `[..., n, classes]`.
        labels: `[n]` int.

    Returns:
        `[..., n]` float64.

    Raises:
        InputError: If they are no probabilities, or a label is no class.
    """
    p, y = posteriors(probabilities, labels)
    others = p.copy()
    others[..., np.arange(len(y)), y] = 0
    return np.asarray(np.log(np.maximum(own_class(p, y), FLOOR)) - np.log(np.maximum(others.sum(axis=-1), FLOOR)))


def confidence_of_logits(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    r"""The same from logits, without rounding: \(\varphi = z_y - \ln \sum_{c \ne y} e^{z_c}\).

    Args:
        logits: `[..., n, classes]`.
        labels: `[n]` int.

    Returns:
        `[..., n]` float64.

    Raises:
        InputError: If a logit is not finite, or a label is no class.
    """
    z = finite(logits, "logits", None)
    if z.ndim < 2 or z.shape[-1] < 2:
        raise InputError(f"logits must be [..., n, classes] with two classes or more, got shape {z.shape}")
    y = classes_of(labels, z.shape[-2], z.shape[-1])
    others = z.copy()
    others[..., np.arange(len(y)), y] = -np.inf
    top = others.max(axis=-1)
    total = np.exp(others - top[..., None]).sum(axis=-1)
    return np.asarray(own_class(z, y) - top - np.log(total))


def finite(values: np.ndarray, name: str, ndim: int | None) -> np.ndarray:
    """Check that an array holds finite numbers.

    Args:
        values: Any shape.
        name: For the message.
        ndim: Number of axes; None: any.

    Returns:
        It as float64.

    Raises:
        InputError: If it does not.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise InputError(f"{name} must be numbers, got {array.dtype}")
    if ndim is not None and array.ndim != ndim:
        raise InputError(f"{name} must have {ndim} axes, got shape {array.shape}")
    bad = int((~np.isfinite(array)).sum())
    if bad:
        raise InputError(f"{bad} of {array.size} {name} are NaN or infinite: find out why before attacking with them")
    return array.astype(np.float64)


def reference_models(values: np.ndarray, membership: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Check values under reference models, and which of them had which record.

    Args:
        values: `[models, n]`.
        membership: `[models, n]` bool: the model was trained on the record.
        n: Number of records.

    Returns:
        Both, the values as float64.

    Raises:
        InputError: If shapes or types are others.
    """
    numbers, member = finite(values, "values under reference models", 2), np.asarray(membership)
    if numbers.shape[1] != n:
        raise InputError(f"reference models give values of {numbers.shape[1]} records, and {n} are attacked")
    if member.dtype != np.bool_ or member.shape != numbers.shape:
        raise InputError(f"membership must be bool of shape {numbers.shape}, got {member.dtype} {member.shape}")
    return numbers, member


def mean_where(values: np.ndarray, chosen: np.ndarray, at_least: int, what: str) -> np.ndarray:
    """Mean over the chosen models of each record.

    Args:
        values: `[models, n]` float64.
        chosen: `[models, n]` bool.
        at_least: Models that each record needs.
        what: They are called, in the message.

    Returns:
        `[n]` float64.

    Raises:
        InputError: If a record has fewer.
    """
    count = chosen.sum(axis=0)
    if len(count) and count.min() < at_least:
        raise InputError(
            f"record number {int(count.argmin())} has {int(count.min())} {what}, and {at_least} are needed: train more "
            "shadow models, each record in exactly half of them"
        )
    return np.asarray(np.where(chosen, values, 0).sum(axis=0) / count)


def _share_above(scores: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.asarray(1 - np.searchsorted(np.sort(scores), values, side="right") / len(scores))


def _where(sample: Sample) -> str:
    n_members = int(sample.is_member.sum())
    return f"{n_members} members and {len(sample) - n_members} non-members under model {sample.model!r}"


def _refuse_shared(records: tuple[Hashable, ...], member: np.ndarray) -> None:
    if len(set(records)) == len(records):
        return
    inside = {record for record, is_in in zip(records, member, strict=True) if is_in}
    outside = {record for record, is_in in zip(records, member, strict=True) if not is_in}
    if inside & outside:
        raise InputError(
            f"records {some(sorted(map(str, inside & outside)))} are given as members and as non-members: a record is "
            "one or the other"
        )
    raise InputError("a record is given twice: its scores depend on each other, so give each record once")
