"""Known answers: posteriors that Song & Mittal published with their code, undefended and defended by MemGuard."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.benchmark import Figure
from unlearn.audit.attacks.base import Sample, calibrate_per_group, sample_of
from unlearn.audit.attacks.entropy import entropy_score, modified_entropy_score
from unlearn.audit.attacks.label_only import label_gap
from unlearn.audit.attacks.loss import loss_score
from unlearn.audit.metrics import Estimate, auc, judge, largest_advantage

DATA = Path(os.environ.get("UNLEARN_DATA", Path(__file__).parents[3] / "shared" / "data"))
CLASSES = 30

MEMBER_ACCURACY, OTHER_ACCURACY, GAP, LOSS_AUC, MEMGUARD_AUC = 1.000, 0.626, 0.687, 0.870, 0.690
"""What is known of these posteriors, to three digits."""

HALF_DIGIT = 0.0005


@dataclass(frozen=True)
class Posteriors:
    """What one model says of its members and of others.

    Attributes:
        plain: `[n, classes]`.
        defended: `[n, classes]`: with MemGuard's noise.
        labels: `[n]` int.
        is_member: `[n]` bool.
        rows: `[n]` int: numbers of the records in Location-30.
    """

    plain: np.ndarray
    defended: np.ndarray
    labels: np.ndarray
    is_member: np.ndarray
    rows: np.ndarray

    def sample(self, model: str, scores: np.ndarray) -> Sample:
        """Scores of these records."""
        return Sample(scores, self.is_member, tuple(self.rows.tolist()), model)


def location30() -> tuple[np.ndarray, np.ndarray]:
    """Location-30: `[5010, 446]` float32 of zeros and ones, and `[5010]` int64 classes from 0."""
    found = dict(np.load(DATA / "location30" / "location30.npz"))
    bits = np.unpackbits(found["bits"], axis=1)[:, : int(found["n_features"])]
    return np.ascontiguousarray(bits, dtype=np.float32), found["y"].astype(np.int64)


def read(name: str, members: slice, others: slice) -> Posteriors:
    """Read one model's posteriors.

    Args:
        name: `"target"` or `"shadow"`.
        members: Where its members lie in the published shuffle, in the order of its rows.
        others: The same of the non-members, which follow.

    Returns:
        The posteriors.
    """
    folder = DATA / "location30_song_mittal"
    found = dict(np.load(folder / f"location_{name}_predictions.npz"))
    order = dict(np.load(folder / "shuffle_index.npz"))["x"]
    rows = np.concatenate([order[members], order[others]])
    is_member = np.arange(len(rows)) < members.stop - members.start
    return Posteriors(found["tc_output"], found["defense_output"], location30()[1][rows], is_member, rows)


def measure_posteriors() -> list[Figure]:
    """All figures of the published posteriors."""
    target = read("target", slice(0, 1000), slice(2000, 3000))
    shadow = read("shadow", slice(3000, 3500), slice(4000, 4500))
    right = target.plain.argmax(axis=1) == target.labels
    gap = judge_gap(target)
    figures = [
        _known("posteriors.members", "accuracy on members", float(right[target.is_member].mean()), MEMBER_ACCURACY),
        _known("posteriors.others", "accuracy on non-members", float(right[~target.is_member].mean()), OTHER_ACCURACY),
        _known("posteriors.gap", "balanced accuracy of the gap attack", gap, GAP),
    ]
    for name, known in (("plain", LOSS_AUC), ("defended", MEMGUARD_AUC)):
        loss = target.sample(f"target, {name}", loss_score(getattr(target, name), target.labels))
        found = auc(loss)
        figures += [
            _known(f"{name}.loss.auc", f"AUC of the loss, {name}", found.value or 0.0, known),
            *_ends(f"{name}.loss.auc", found),
            Figure(
                f"{name}.loss.hindsight",
                f"balanced accuracy of the loss at the best threshold in hindsight, {name}",
                (1 + (largest_advantage(loss).value or 0.0)) / 2,
                "share",
            ),
        ]
        for attack in ("loss", "entropy", "modified_entropy"):
            figures += _by_class(attack, name, target, shadow)
    return figures


def judge_gap(target: Posteriors) -> float:
    """Balanced accuracy of "predicted right means member", which has no threshold to choose."""
    scores = label_gap(target.plain.argmax(axis=1), target.labels)
    sample = sample_of(scores[target.is_member], scores[~target.is_member], "target")
    return float((sample.members.mean() + 1 - sample.non_members.mean()) / 2)


def _by_class(attack: str, name: str, target: Posteriors, shadow: Posteriors) -> list[Figure]:
    scored = []
    for model, posteriors in (("shadow", shadow), ("target", target)):
        p, y = getattr(posteriors, name), posteriors.labels
        scores = {"loss": loss_score, "modified_entropy": modified_entropy_score}.get(attack, _entropy)(p, y)
        scored.append(posteriors.sample(f"{model}, {name}", scores))
    rule = calibrate_per_group(scored[0], shadow.labels, CLASSES)
    found = judge(rule.decide(scored[1], target.labels)).balanced_accuracy
    what = f"balanced accuracy of {attack}, thresholds by class from the shadow model, {name}"
    return [
        Figure(f"{name}.{attack}.by_class", what, found.value or 0.0, "share"),
        *_ends(f"{name}.{attack}.by_class", found),
    ]


def _entropy(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    del labels
    return entropy_score(probabilities)


def _known(name: str, what: str, value: float, known: float) -> Figure:
    return Figure(
        name,
        f"{what}; known: {known:.3f}",
        value,
        "share",
        at_least=known - HALF_DIGIT,
        at_most=known + HALF_DIGIT,
    )


def _ends(name: str, found: Estimate) -> list[Figure]:
    """The interval of a figure, as two more."""
    return [
        Figure(f"{name}.low", f"its {found.confidence:.0%} interval begins here ({found.method})", found.low, "share"),
        Figure(f"{name}.high", "and ends here", found.high, "share"),
    ]
