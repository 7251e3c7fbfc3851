"""What a workspace can show an attack, and the attacks that need no more.

A row is a record: one of the data, or one that is presented. Scores treat presented records alike, whether they were
forgotten or never came: nothing but the model may tell the two apart. No model is trained on what is presented, so
attacks that need models with each record (`lira_online`) are among those that a workspace cannot serve.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from unlearn.audit.attacks import ATTACKS, ensemble, entropy, label_only, lira, loss, rmia
from unlearn.audit.attacks.base import Attack, confidence, own_class
from unlearn.audit.attacks.confidence_gap import confidence_gap
from unlearn.audit.attacks.difficulty import difficulty_score
from unlearn.audit.attacks.shokri import fit_shokri
from unlearn.errors import InputError, meant


@dataclass(frozen=True, eq=False)
class Shadowing:
    """What shadow models of the served one say; each is trained as it is, on half of the members.

    Attributes:
        probabilities: `[models, n, classes]` float64.
        membership: `[models, n]` bool: the model was trained on the record; never, on one that is presented.
    """

    probabilities: np.ndarray
    membership: np.ndarray


@dataclass(frozen=True, eq=False)
class Shown:
    """What the served model and its parts say of n records.

    Attributes:
        served: `[n, classes]` float64 probabilities of the model that is served.
        parts: `[shards, n, classes]` float64 of the state of each shard that serves one.
        shard: `[n]` int64: which of these has, had or would have had the record; -1: none that serves.
        labels: `[n]` int64, the record's class.
        is_presented: `[n]` bool; the others are in the data.
        shadows: Of shadow models; None: none were trained.
    """

    served: np.ndarray
    parts: np.ndarray
    shard: np.ndarray
    labels: np.ndarray
    is_presented: np.ndarray
    shadows: Shadowing | None = None


Score = Callable[[Shown], np.ndarray]
"""What is shown, to a score `[n]` of each record; higher means more likely a member."""


@dataclass(frozen=True)
class ServedAttack:
    """An attack on a workspace.

    Attributes:
        score: Gives the scores.
        needs_shadows: Whether shadow models must be trained for it.
    """

    score: Score
    needs_shadows: bool = False


def _entropy(shown: Shown) -> np.ndarray:
    return entropy.entropy_score(shown.served)


def _label_gap(shown: Shown) -> np.ndarray:
    return label_only.label_gap(shown.served.argmax(axis=1), shown.labels)


def _posterior(score: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> ServedAttack:
    return ServedAttack(lambda shown: score(shown.served, shown.labels))


def _of_shards(score: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]) -> ServedAttack:
    def scores(shown: Shown) -> np.ndarray:
        if (shown.shard < 0).any() or len(shown.parts) < 2:
            raise InputError(
                "an attack on shards needs two that serve a state, and one for every record: "
                f"{int((shown.shard < 0).sum())} records belong to a shard that serves none; leave this attack out, or "
                "run `unlearn recover`"
            )
        return score(shown.parts, shown.labels, shown.shard)

    return ServedAttack(scores)


def _shadows(shown: Shown) -> Shadowing:
    assert shown.shadows is not None  # noqa: S101 - `check_names` refuses such attacks where none are to be trained
    return shown.shadows


def _difficulty(shown: Shown) -> np.ndarray:
    shadows = _shadows(shown)
    own, reference = (-loss.loss_score(p, shown.labels) for p in (shown.served, shadows.probabilities))
    return difficulty_score(own, reference, shadows.membership)


def _lira(score: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]) -> ServedAttack:
    def scores(shown: Shown) -> np.ndarray:
        shadows = _shadows(shown)
        own, reference = (confidence(p, shown.labels) for p in (shown.served, shadows.probabilities))
        return score(own, reference, shadows.membership)

    return ServedAttack(scores, needs_shadows=True)


def _rmia(shown: Shown) -> np.ndarray:
    """Offline; the population is all that is presented, so that forgotten records and others are treated alike."""
    shadows, there = _shadows(shown), shown.is_presented
    own = own_class(shown.served, shown.labels)
    marginal = rmia.marginal_offline(own_class(shadows.probabilities, shown.labels), shadows.membership)
    return rmia.rmia_score(own, marginal, own[there], marginal[there])


def _shokri(shown: Shown) -> np.ndarray:
    shadows, inside = _shadows(shown), ~shown.is_presented
    attack = fit_shokri(shadows.probabilities[:, inside], shown.labels[inside], shadows.membership[:, inside])
    return attack.scores(shown.served, shown.labels)


SERVED: Mapping[str, ServedAttack] = MappingProxyType(
    {
        "loss": _posterior(loss.loss_score),
        "entropy": ServedAttack(_entropy),
        "modified_entropy": _posterior(entropy.modified_entropy_score),
        "confidence_gap": _posterior(confidence_gap),
        "label_gap": ServedAttack(_label_gap),
        "shard_lira": _of_shards(ensemble.shard_lira),
        "ensemble_jackknife": _of_shards(ensemble.ensemble_jackknife),
        "difficulty": ServedAttack(_difficulty, needs_shadows=True),
        "lira_offline": _lira(lira.lira_offline),
        "lira_offline_fixed": _lira(lira.lira_offline_fixed),
        "rmia": ServedAttack(_rmia, needs_shadows=True),
        "shokri": ServedAttack(_shokri, needs_shadows=True),
    }
)
"""Attacks on a workspace, by their names in `ATTACKS`."""

LEAST_SHADOWS = 4
"""With so many, every record has two without it."""


def check_names(names: Sequence[str], shadows: int) -> None:
    """Refuse attacks that cannot be made on a workspace, all at once, with what each would need.

    Args:
        names: Of attacks, in `ATTACKS`.
        shadows: How many shadow models are to be trained.

    Raises:
        InputError: If there is none, one is unknown or named twice, or one needs what is not there.
    """
    unknown = [name for name in names if name not in ATTACKS]
    if unknown:
        near = meant(unknown[0], ATTACKS)
        raise InputError(f"there is no attack {unknown[0]!r}{near}; there are {', '.join(ATTACKS)}")
    if not names or len(set(names)) < len(names):
        raise InputError(f"name at least one attack, and each once, got {', '.join(names) or 'none'}")
    missing = [f"{name} needs {_needs(ATTACKS[name])}" for name in names if name not in SERVED]
    if missing:
        raise InputError(
            f"a workspace cannot give what these attacks need: {'; '.join(missing)}. Attacks on a workspace are "
            f"{', '.join(SERVED)}"
        )
    shadowed = [name for name in names if SERVED[name].needs_shadows]
    if shadowed and (shadows < LEAST_SHADOWS or shadows % 2):
        raise InputError(
            f"{', '.join(shadowed)} compare with shadow models, which are trained when asked for: give --shadows N "
            f"(AttackPlan(..., shadows=N)), even and at least {LEAST_SHADOWS}, such as 16; got {shadows}"
        )


def _needs(attack: Attack) -> str:
    where = f"{attack.function.__module__}.{attack.function.__name__}"
    return f"{', '.join(attack.card.needs)}: give them to {where}"
