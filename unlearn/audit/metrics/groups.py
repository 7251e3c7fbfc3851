"""An attack by subgroup and by subject: who is less protected than the average says."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unlearn.audit.attacks.base import Sample
from unlearn.audit.metrics.estimate import CONFIDENCE, Estimate, Verdict, as_json, checked_confidence
from unlearn.audit.metrics.roc import auc
from unlearn.errors import InputError, some

FEWEST = 30
"""Members and non-members, each, below which a subgroup is not measured."""


@dataclass(frozen=True)
class GroupResult:
    """An attack on one subgroup.

    Attributes:
        group: Its name.
        members: How many.
        non_members: How many.
        verdict: `"too few samples"`: nothing is reported of it.
        auc: Where it was measured; the intervals of all measured groups hold together.
    """

    group: str
    members: int
    non_members: int
    verdict: Verdict
    auc: Estimate | None

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return as_json(self)


def by_group(
    sample: Sample, groups: Sequence[Hashable], confidence: float = CONFIDENCE, fewest: int = FEWEST
) -> tuple[GroupResult, ...]:
    """Measure each subgroup, such as each class.

    Args:
        sample: Scores.
        groups: The group of each record.
        confidence: With which all intervals hold together, by Bonferroni over the measured groups.
        fewest: Members and non-members, each, that a group needs.

    Returns:
        One result a group, in the order of their names.

    Raises:
        InputError: If there is not one group a record, or `fewest` is less than 10.
    """
    if len(groups) != len(sample) or fewest < 10:
        raise InputError(
            f"give one group for each of {len(sample)} records, got {len(groups)}, and fewest of 10 or more"
        )
    names = np.array([str(group) for group in groups])
    counts = {}
    for name in np.unique(names):
        inside = int((sample.is_member & (names == name)).sum())
        counts[str(name)] = inside, int((names == name).sum()) - inside
    measured = sum(min(count) >= fewest for count in counts.values())
    each = 1 - (1 - checked_confidence(confidence)) / max(1, measured)
    found = []
    for name, (inside, outside) in counts.items():
        if min(inside, outside) < fewest:
            found.append(GroupResult(name, inside, outside, "too few samples", None))
            continue
        rows = np.flatnonzero(names == name)
        part = Sample(
            sample.scores[rows], sample.is_member[rows], tuple(sample.records[row] for row in rows), sample.model
        )
        found.append(GroupResult(name, inside, outside, "measured", auc(part, each)))
    return tuple(found)


def over_subjects(sample: Sample, subjects: Sequence[Hashable]) -> Sample:
    """Turn records into subjects: a subject's score is the mean of its records' scores.

    A subject's records depend on each other, so an interval that counts records is too narrow where the question is
    about people. Measure this sample instead.

    Args:
        sample: Scores of records.
        subjects: The subject of each.

    Returns:
        Scores of subjects; their names are the record ids of this sample.

    Raises:
        InputError: If a subject has members and non-members, or there are too few subjects of either kind.
    """
    if len(subjects) != len(sample):
        raise InputError(f"give one subject for each of {len(sample)} records, got {len(subjects)}")
    rows: dict[Hashable, list[int]] = {}
    for row, subject in enumerate(subjects):
        rows.setdefault(subject, []).append(row)
    mixed = [str(subject) for subject, mine in rows.items() if len(set(sample.is_member[mine].tolist())) > 1]
    if mixed:
        raise InputError(
            f"subjects {some(mixed)} have records that were members and others that were not: a subject is one or the "
            "other"
        )
    return Sample(
        np.array([sample.scores[mine].mean() for mine in rows.values()]),
        np.array([bool(sample.is_member[mine[0]]) for mine in rows.values()]),
        tuple(rows),
        f"{sample.model}, by subject",
    )


@dataclass(frozen=True)
class SubjectResult:
    """How much one subject stands out among those that the model never saw.

    Attributes:
        subject: Its name.
        p_value: Share of non-members that score as high, counting the subject itself: small means it stands out.
            Holds for one subject chosen beforehand; over many, correct for their number.
        verdict: `"too few samples"`: no p-value of these non-members could be small enough.
        stands_out: Whether the p-value is at most alpha; None where there are too few.
    """

    subject: str
    p_value: float
    verdict: Verdict
    stands_out: bool | None

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return as_json(self)


def by_subject(sample: Sample, subjects: Sequence[Hashable], alpha: float = 0.05) -> tuple[SubjectResult, ...]:
    """Compare each member subject with all non-member subjects.

    Args:
        sample: Scores of records.
        subjects: The subject of each.
        alpha: Level of each subject's test by itself.

    Returns:
        One result a member subject.

    Raises:
        InputError: As `over_subjects`, or if alpha is out of range.
    """
    checked_confidence(1 - alpha)
    whole = over_subjects(sample, subjects)
    ordered = np.sort(whole.non_members)
    enough = 1 / (len(ordered) + 1) <= alpha
    found = []
    for subject, score, is_member in zip(whole.records, whole.scores, whole.is_member, strict=True):
        if is_member:
            as_high = len(ordered) - int(np.searchsorted(ordered, score, "left"))
            p = (1 + as_high) / (len(ordered) + 1)
            verdict: Verdict = "measured" if enough else "too few samples"
            found.append(SubjectResult(str(subject), p, verdict, p <= alpha if enough else None))
    return tuple(found)
